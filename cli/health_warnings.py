"""What an operator should know of checks that are being set: they work, and are hardly what is meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from agent_common.destination import DestinationKey
from agent_common.health import Effect, HealthPolicy
from agent_common.virtual_server import Protocol, ServiceAddress, VirtualServer
from cli.check_options import INHERIT
from cli.facts import DirectorFacts
from cli.health_options import HealthOptions


def health_warnings(
    options: HealthOptions, was: HealthPolicy | None, policy: HealthPolicy, facts: DirectorFacts
) -> Iterator[str]:
    """Say what is amiss in what was given, on one director."""
    server, agent = facts.server, facts.agent
    if server is None:
        return
    if options.rs is not None and options.check.kind != INHERIT and options.rs not in facts.destinations:
        yield f"{agent}: {options.rs} is no destination of {server.key} yet: its check waits until it is added"
    given = options.policy.fields
    if "sorry" in given and policy.sorry is not None and policy.sorry not in facts.destinations:
        yield (
            f"{agent}: {policy.sorry} is no destination of {server.key} yet: "
            "until it is added, with a weight, nobody serves without quorum"
        )
    if "floor" in given:
        yield from _floor(policy, facts)
    if was is None or "effect" in given:
        yield from _known_clients(policy, server, facts)


def _floor(policy: HealthPolicy, facts: DirectorFacts) -> Iterator[str]:
    counted = [key for key in facts.destinations if _counts(facts, key, policy.sorry)]
    floor = policy.floor.of(len(counted))
    if counted and floor >= len(counted):
        what = "all of them" if len(counted) > 1 else "it"
        yield (
            f"{facts.agent}: a floor of {floor} keeps {what} in ({', '.join(map(str, counted[:3]))}"
            f"{', ...' if len(counted) > 3 else ''}), whatever the checks say; --floor 0 lets them take out all"
        )


def _counts(facts: DirectorFacts, key: DestinationKey, sorry: DestinationKey | None) -> bool:
    destination = facts.destinations[key].destination
    return key != sorry and bool(destination.weight) and not destination.draining


def _known_clients(policy: HealthPolicy, server: VirtualServer, facts: DirectorFacts) -> Iterator[str]:
    """The kernel leads whom it knows to where they were before; here that does not answer."""
    settings = facts.settings()
    if settings.get("ipv4/vs/expire_nodest_conn") == 0:
        yield (
            f"{facts.agent}: net.ipv4.vs.expire_nodest_conn is 0: a client that takes the port of an earlier "
            "connection again, within two minutes, still reaches a destination that is out; set it to 1"
        )
    if policy.effect_under(server) is not Effect.WEIGHT_ZERO:
        return
    if isinstance(server.key, ServiceAddress) and server.key.protocol is Protocol.UDP:
        yield (
            f"{facts.agent}: a client of {server.key} that keeps its port still reaches a destination that is out as "
            "long as it sends; use --effect remove"
        )
    if server.persistence is None:
        return
    if not settings.get("ipv4/vs/expire_quiescent_template"):
        yield (
            f"{facts.agent}: {server.key} is persistent and net.ipv4.vs.expire_quiescent_template is 0: clients that "
            "it knows still reach a destination that is out; set it to 1, or use --effect remove"
        )
