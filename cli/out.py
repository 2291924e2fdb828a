"""Destinations that their checks keep from connections, as preflight has read them. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent_common.destination import DestinationKey, DestinationStatus, Verdict, effective
from agent_common.health import Start
from cli.facts import DirectorFacts, change_of
from cli.request import AddBackend


def takes_connections(status: DestinationStatus) -> bool:
    """Whether a destination gets new connections now."""
    return status.current_weight > 0


def is_wanted(status: DestinationStatus) -> bool:
    """Whether a destination gets new connections, or will as soon as its checks let it."""
    return takes_connections(status) or (status.is_out and effective(status.destination).weight > 0)


def is_checked(facts: DirectorFacts, key: DestinationKey) -> bool:
    """Whether a director checks a destination, or will; a sorry server serves without being asked."""
    policy = facts.policy
    return policy is not None and policy.check_of(key) is not None and key != policy.sorry


def is_awaited(request: AddBackend, directors: Iterable[DirectorFacts], key: DestinationKey) -> bool:
    """Whether a director checks a destination before it is added there, so that nothing else need be asked."""
    return request.ready_timeout is not None and any(
        is_checked(facts, key) and change_of(request, facts, key).made for facts in directors
    )


def out_warnings(facts: DirectorFacts, keys: Iterable[DestinationKey]) -> Iterator[str]:
    """Say which destinations get no connections though the operator wants them to, and why."""
    for key in keys:
        status = facts.destinations.get(key)
        if status is not None and status.is_out:
            is_down = status.health is not None and status.health.verdict is Verdict.DOWN
            kernel = "does not have it" if status.health and status.health.removed else "keeps it at weight 0"
            until = " until its check passes" if is_down else ""
            yield f"{facts.agent}: {key} is out, and the kernel {kernel}{until}: {why_out(status)}"


def others_out(facts: DirectorFacts, keys: Iterable[DestinationKey]) -> str:
    """Return which others would serve if their checks let them, to be put behind a sentence; else ""."""
    left = set(facts.destinations) - set(keys)
    out = [str(key) for key in facts.destinations if key in left and is_out_and_wanted(facts.destinations[key])]
    return f" ({', '.join(out)} {'is' if len(out) == 1 else 'are'} out: lvs health show)" if out else ""


def is_out_and_wanted(status: DestinationStatus) -> bool:
    """Whether it is its checks alone that keep a destination from connections."""
    return is_wanted(status) and not takes_connections(status)


def why_out(status: DestinationStatus) -> str:
    """Return what its checks have said."""
    health = status.health
    if health is None:
        return "it is not checked"
    return health.note or health.detail or "no answer yet"


def unproven_warnings(facts: DirectorFacts, key: DestinationKey) -> Iterator[str]:
    """Say that a new destination whose check is not waited for begins as down, where it does."""
    policy = facts.policy
    check = policy.check_of(key) if policy is not None else None
    if policy is not None and check is not None and is_checked(facts, key) and policy.start is Start.DOWN:
        times = "once" if check.rise == 1 else f"{check.rise} times"
        yield f"{facts.agent}: {key} begins as down: it gets no connections until its check has passed {times}"
