"""The plan of reconcile: what differs, what brings it back, and which real servers are asked first. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lvsagent.v1 import drift_service_pb2, host_service_pb2

from agent_common import wire
from agent_common.destination import Forwarding, effective
from agent_common.drift import ArpInterface, DestinationName, Drift, DriftKind
from agent_common.errors import LvsError
from agent_common.grpc_errors import from_item
from agent_common.operation import Change, Operation
from agent_common.tunnel import TunnelEnd, ends_for
from agent_common.vip import Vip, VirtualServerHolder, held_for
from agent_common.virtual_server import FirewallMark, IpAddress, ServiceAddress, VirtualServerKey
from agent_common.wire_drift import pack_drift
from cli import operations
from cli.facts import RealServerFacts
from cli.outcome import StepReport, StepResult
from cli.plan import Plan, Step
from cli.site import AgentName
from cli.vip_step import vip_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """What `lvs reconcile` asks for: of one virtual server or of all, and whether real servers are asked.

    vips are those of the virtual server, once they have been read: a firewall mark names none.
    """

    key: VirtualServerKey | None = None
    ask_real_servers: bool = True
    vips: tuple[IpAddress, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One thing that differs, and what its agent would do about it."""

    drift: Drift
    result: drift_service_pb2.RepairResult

    @property
    def error(self) -> LvsError | None:
        """Why it cannot be repaired."""
        return from_item(self.result.error) if self.result.HasField("error") else None

    @property
    def title(self) -> str:
        """What differs, as lvs drift says it."""
        detail = f": {self.drift.detail}" if self.drift.detail else ""
        return f"{self.drift.kind} {self.drift.resource}{detail}"

    def message(self) -> drift_service_pb2.Repair:
        """Return what asks for it, and for nothing else."""
        return drift_service_pb2.Repair(drift=pack_drift(self.drift), etag=self.result.etag)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRepairs:
    """What differs at one agent: what is foreign, and what can be done about the rest."""

    agent: AgentName
    host: host_service_pb2.GetHostResponse
    foreign: tuple[Drift, ...] = ()
    repairs: tuple[Repair, ...] = ()
    vips: tuple[Vip, ...] = ()

    @property
    def possible(self) -> list[Repair]:
        """Return what can be repaired, and still must be."""
        return [each for each in self.repairs if each.error is None and each.result.change.made]


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """A real server that is given connections again, and must have the VIPs first (P1)."""

    key: VirtualServerKey
    address: IpAddress
    vips: tuple[IpAddress, ...]
    tunnels: tuple[TunnelEnd, ...] = ()


def vips_of_key(key: VirtualServerKey, vips: Iterable[Vip]) -> tuple[IpAddress, ...]:
    """Return the VIPs of a virtual server, of those that the directors hold."""
    return (key.address,) if isinstance(key, ServiceAddress) else tuple(dict.fromkeys(held_for(key, vips)))


def concerns(request: Reconcile, drift: Drift) -> bool:
    """Whether a difference has to do with the virtual server that was named; silence has to do with every VIP."""
    key = request.key
    match drift.resource:
        case _ if key is None:
            return True
        case DestinationName(server=server):
            return server == key
        case ArpInterface():
            return True
        case ServiceAddress() as server:
            return server == key
        case address:
            return address == key or address in request.vips


def raised(directors: Sequence[AgentRepairs]) -> list[Raise]:
    """Return the real servers behind dr and tun that repairs give connections that they do not get now."""
    vips = [vip for director in directors for vip in director.vips]
    found = (_raised(each.result.change, vips) for director in directors for each in director.possible)
    return list(dict.fromkeys(each for each in found if each is not None))


def behind(changes: Iterable[Change]) -> Iterator[IpAddress]:
    """Return the real servers that have to have the VIP of a destination which is put back."""
    for change in changes:
        if change.WhichOneof("resource") == "destination":
            after = wire.unpack_destination(change.destination.after)
            if after.forwarding is not Forwarding.MASQUERADING:
                yield after.key.address


def real_server_operations(each: Raise, directors: Sequence[AgentRepairs]) -> list[Operation]:
    """Return what the real server is asked for: the VIPs, as add-backend does."""
    holder = VirtualServerHolder(key=each.key, authority=directors[0].host.agent_id)
    return [operations.create_vip(vip, holder, tunnels=each.tunnels) for vip in each.vips]


def plan(
    request: Reconcile,
    directors: Sequence[AgentRepairs],
    real_servers: Sequence[AgentRepairs],
    asked: Sequence[tuple[Raise, RealServerFacts]],
    warnings: Sequence[str],
) -> Plan:
    """Return the steps, real servers first; raises LvsError for what forbids that one is given connections."""
    for each, facts in asked:
        facts.check(each.address)
    agents = [*real_servers, *directors]
    return Plan(
        purpose=f"reconcile {request.key}" if request.key else "reconcile",
        steps=(
            *(step for each in real_servers for step in _repair_steps(each)),
            *(step for each, facts in asked for step in raise_steps(each, facts, directors)),
            *(step for each in directors for step in _repair_steps(each)),
        ),
        found=tuple(report for each in agents for report in _found(each)),
        warnings=tuple(warnings),
    )


def raise_steps(each: Raise, facts: RealServerFacts, directors: Sequence[AgentRepairs]) -> Iterator[Step]:
    """Return the steps that make sure of the VIPs on a real server that is given connections; none is taken back."""
    for step in vip_steps(facts, real_server_operations(each, directors)):
        yield replace(step, undo="")


def _repair_steps(found: AgentRepairs) -> Iterator[Step]:
    for each in found.possible:
        yield Step(agent=found.agent, title=each.title, details=tuple(each.result.change.actions))


def _found(found: AgentRepairs) -> Iterator[StepReport]:
    for drift in found.foreign:
        yield StepReport(
            agent=found.agent, title=f"{drift.resource} is left alone; lvs adopt takes it in", result=StepResult.FOREIGN
        )
    for each in found.repairs:
        if each.error is not None:
            yield StepReport(
                agent=found.agent, title=each.title, result=StepResult.FAILED, details=(each.error.message,)
            )


def _raised(change: Change, vips: Sequence[Vip]) -> Raise | None:
    if change.WhichOneof("resource") != "destination":
        return None
    after = wire.unpack_destination(change.destination.after)
    if after.forwarding is Forwarding.MASQUERADING or not effective(after).weight:
        return None
    if change.destination.HasField("before"):
        before = wire.unpack_destination(change.destination.before)
        if effective(before).weight and before.forwarding is after.forwarding:
            return None
    key = wire.unpack_key(change.destination.virtual_server)
    return Raise(key=key, address=after.key.address, vips=vips_of_key(key, vips), tunnels=ends_for(after))


def is_foreign(drift: Drift) -> bool:
    """Whether nobody repairs it."""
    return drift.kind is DriftKind.FOREIGN


def in_order(drift: Iterable[Drift]) -> list[Drift]:
    """Return things in the order in which they are safely repaired: silence, virtual servers, destinations, VIPs."""
    return sorted(drift, key=_rank)


def _rank(drift: Drift) -> int:
    match drift.resource:
        case ArpInterface():
            return 0
        case ServiceAddress() | FirewallMark():
            return 1
        case DestinationName():
            return 2
        case _:
            return 3
