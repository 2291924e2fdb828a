"""What follows from the verdicts on the destinations of a virtual server: who is in, and with what weight. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from agent_common.destination import WHOLE, DestinationKey, Standing
from agent_common.health import Effect, HealthPolicy

SLOW_STEPS = 20
"""In so many steps a weight rises that starts slowly."""

_ALONE = "the sorry server serves, alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A destination as it is judged. Times are in seconds.

    weight is what the operator wants, 0 while it drains. is_removed: the kernel does not have it. down_since orders
    those that are down. held: for so long it is held out because it flaps. up_for: since it came back in, 0 if it is
    out; None: it never was out.
    """

    key: DestinationKey
    weight: int
    is_up: bool
    proven: bool = True
    is_out: bool = False
    is_removed: bool = False
    down_since: float = 0.0
    held: float = 0.0
    up_for: float | None = None
    percent: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """How a destination is to stand; note says why, where the verdict alone does not."""

    standing: Standing
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How all of them are to stand; again: the seconds after which time alone makes another decision."""

    standings: dict[DestinationKey, Decided]
    has_quorum: bool
    weight_up: int
    alarm: str = ""
    again: float | None = None


def decide(policy: HealthPolicy, effect: Effect, members: Sequence[Member], *, has_quorum: bool) -> Decision:
    """Decide how destinations are to stand; has_quorum: whether the virtual server had it until now."""
    others = [each for each in members if each.key != policy.sorry]
    sorry = next((each for each in members if each.key == policy.sorry), None)
    others = list(_released(others, policy.floor.of(sum(each.weight > 0 for each in others))))
    weight_up = sum(each.weight for each in others if _is_good(each))
    if members:
        has_quorum = _has_quorum(policy, others, weight_up, had=has_quorum)
    out = Standing(percent=0, removed=effect is Effect.REMOVE)
    standings = dict(_stand(policy, others, out))
    idle = ""
    if sorry is not None:
        idle = _why_idle(sorry, has_quorum=has_quorum)
        if not idle:
            standings = dict(_displace(others, out))
        standings[sorry.key] = Decided(standing=_out(sorry, out) if idle else WHOLE, note=idle or _ALONE)
    alarm = _alarm(policy, others, standings, has_quorum=has_quorum, weight_up=weight_up)
    return Decision(
        standings=standings,
        has_quorum=has_quorum,
        weight_up=weight_up,
        alarm=f"{alarm}; {idle}" if alarm and idle and not has_quorum else alarm,
        again=min(_moments(policy, others), default=None),
    )


def _why_idle(sorry: Member, *, has_quorum: bool) -> str:
    """Return why the sorry server does not serve; "" if it does."""
    if not sorry.weight:
        return "the sorry server has no weight, so it does not serve"
    if sorry.proven and not sorry.is_up:
        return "the sorry server is down, so it does not serve"
    return "the sorry server serves while the quorum is lost" if has_quorum else ""


def _displace(members: Sequence[Member], out: Standing) -> Iterator[tuple[DestinationKey, Decided]]:
    """Take everybody out: the sorry server serves alone."""
    for each in members:
        yield each.key, Decided(standing=_out(each, out), note=_ALONE if _is_good(each) else "")


def _out(member: Member, out: Standing) -> Standing:
    """Return how one is out: what it has is left to whom a drain or a weight of 0 keeps from connections already."""
    return out if member.weight or member.is_removed else replace(out, removed=False)


def _is_good(member: Member) -> bool:
    return member.is_up and not member.held


def _released(members: Sequence[Member], floor: int) -> Iterator[Member]:
    """Hold nobody out for flapping whom the floor needs."""
    is_needed = sum(_is_good(each) for each in members if each.weight) < floor
    for each in members:
        yield replace(each, held=0.0) if is_needed and each.held else each


def _has_quorum(policy: HealthPolicy, members: Sequence[Member], weight_up: int, *, had: bool) -> bool:
    """Judge the quorum; who has not been checked often enough yet may still be up."""
    if not had:
        return weight_up >= policy.quorum + policy.hysteresis
    possible = weight_up + sum(each.weight for each in members if not each.is_up and not each.proven)
    return possible >= policy.quorum - policy.hysteresis


def _stand(policy: HealthPolicy, members: Sequence[Member], out: Standing) -> Iterator[tuple[DestinationKey, Decided]]:
    """Take out who is down, the first that went down first, as long as enough stay in."""
    counted = [each for each in members if each.weight]
    floor = policy.floor.of(len(counted))
    staying = sum(_is_good(each) or not each.is_out for each in counted)
    for each in sorted(members, key=lambda each: (not each.is_out, each.down_since)):
        if _is_good(each):
            yield each.key, _let_in(policy, each)
        elif each.is_up:
            yield each.key, Decided(standing=_out(each, out), note=f"held out for {each.held:.0f} s: it flaps")
        elif each.is_out or not each.weight:
            yield each.key, Decided(standing=_out(each, out))
        elif staying > floor:
            staying -= 1
            yield each.key, Decided(standing=out)
        else:
            yield each.key, replace(_let_in(policy, each), note=f"kept in: {floor} of {len(counted)} must stay")


def _let_in(policy: HealthPolicy, member: Member) -> Decided:
    percent = member.percent if policy.dynamic_weight is not None else 100
    notes = [f"weight {percent} %, by its answer"] if percent != 100 else []
    if policy.slow_start and member.up_for is not None and member.up_for < policy.slow_start:
        step = int(SLOW_STEPS * member.up_for / policy.slow_start) + 1
        slow = 100 * step // SLOW_STEPS
        notes.append(f"slow start: {slow} %")
        percent = max(1, percent * slow // 100)
    return Decided(standing=replace(WHOLE, percent=percent), note="; ".join(notes))


def _alarm(
    policy: HealthPolicy,
    members: Sequence[Member],
    standings: dict[DestinationKey, Decided],
    *,
    has_quorum: bool,
    weight_up: int,
) -> str:
    down = [each for each in members if not each.is_up and each.proven]
    kept = [each for each in down if standings[each.key].standing.percent]
    if kept:
        which = "all" if len(down) == len(members) else f"{len(down)} of {len(members)}"
        names = ", ".join(str(each.key) for each in kept[:3]) + ("" if len(kept) <= 3 else " and others")
        return f"{which} destinations are down, so {names} stay{'' if len(kept) > 1 else 's'} in: is it the checks?"
    if not has_quorum:
        return f"no quorum: weight {weight_up} is up, and {policy.quorum + policy.hysteresis} is needed"
    return ""


def _moments(policy: HealthPolicy, members: Sequence[Member]) -> Iterator[float]:
    """Say in how many seconds somebody is held no more, or the next step of a slow start is due."""
    for each in members:
        if each.held:
            yield each.held
        if policy.slow_start and each.up_for is not None and each.up_for < policy.slow_start:
            step = policy.slow_start / SLOW_STEPS
            yield step - each.up_for % step
