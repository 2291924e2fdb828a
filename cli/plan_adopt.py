"""The plan of adopt: what is foreign of a virtual server, on directors and real servers. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent_common.destination import DestinationKey, DestinationStatus, Forwarding, destination_order
from agent_common.errors import InvalidInputError, NotFoundError, Reason, RefusedError
from agent_common.operation import Operation
from agent_common.vip import VipMode, VirtualServerHolder
from agent_common.virtual_server import Family, IpAddress, ServiceAddress, VirtualServerKey
from cli import operations
from cli.facts import DirectorFacts, RealServerFacts, ends_at
from cli.outcome import StepReport, StepResult
from cli.plan import Plan, Step
from cli.vip_step import vip_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """What `lvs adopt` asks for: a virtual server with all its destinations, or only those that are named.

    A firewall mark does not say which VIPs carry it: marked_vips does, beside those that directors hold for it.
    """

    key: VirtualServerKey
    destinations: tuple[DestinationKey, ...] = ()
    marked_vips: tuple[IpAddress, ...] = ()
    vip_mode: VipMode | None = None
    ask_real_servers: bool = True

    def __post_init__(self) -> None:
        for key in self.destinations:
            if self.destinations.count(key) > 1:
                raise InvalidInputError("rs", f"rs: {key} is given twice")

    @property
    def vips(self) -> tuple[IpAddress, ...]:
        """The VIPs that are taken in, on directors and real servers."""
        return (self.key.address,) if isinstance(self.key, ServiceAddress) else self.marked_vips


def check(request: Adopt, directors: Sequence[DirectorFacts]) -> None:
    """Raise NotFoundError for what no director has."""
    if all(facts.server is None for facts in directors):
        raise NotFoundError(
            f"there is no virtual server {request.key} on any director", Reason.VIRTUAL_SERVER_NOT_FOUND
        )
    for key in request.destinations:
        if all(key not in facts.destinations for facts in directors):
            raise NotFoundError(
                f"there is no destination {key} in {request.key} on any director", Reason.DESTINATION_NOT_FOUND
            )


def with_held_vips(request: Adopt, directors: Sequence[DirectorFacts]) -> Adopt:
    """Return the request with the VIPs that directors hold for a firewall mark."""
    held = (vip for facts in directors for vip in facts.vips)
    return replace(request, marked_vips=tuple(dict.fromkeys((*request.marked_vips, *held))))


def director_operations(request: Adopt, directors: Sequence[DirectorFacts], facts: DirectorFacts) -> list[Operation]:
    """Return what a director is asked to take in: the virtual server, its destinations, the VIP if it is there."""
    if facts.server is None:
        return []
    found = [] if request.destinations else [operations.adopt_virtual_server(request.key)]
    found.extend(operations.adopt_destination(request.key, key) for key in _keys(request, facts))
    found.extend(
        operations.create_vip(vip, _holder(request, directors), mode=_mode(request, directors), adopt=True)
        for vip in request.vips
        if not request.destinations and _takes_vip(request, directors, facts, vip)
    )
    return found


def real_servers(request: Adopt, directors: Sequence[DirectorFacts]) -> list[IpAddress]:
    """Return the real servers that need the VIP on lo: those behind dr and tun that are not the director itself."""
    if not request.vips:
        return []
    found = {
        key.address: None
        for facts in directors
        for key in _keys(request, facts)
        if facts.destinations[key].destination.forwarding is not Forwarding.MASQUERADING
        if not facts.route(key.address).local
    }
    return list(found)


def real_server_operations(request: Adopt, directors: Sequence[DirectorFacts], address: IpAddress) -> list[Operation]:
    """Return what a real server is asked to take in."""
    found = [facts.destinations[key].destination for facts in directors for key in _keys(request, facts)]
    holder = _holder(request, directors)
    return [operations.create_vip(vip, holder, adopt=True, tunnels=ends_at(found, address)) for vip in request.vips]


def addresses(request: Adopt, directors: Sequence[DirectorFacts]) -> list[IpAddress]:
    """Return the addresses of all destinations in question."""
    return list(dict.fromkeys(key.address for facts in directors for key in _keys(request, facts)))


def plan(request: Adopt, directors: Sequence[DirectorFacts], found: Mapping[IpAddress, RealServerFacts]) -> Plan:
    """Return the steps, real servers first: a director that decides about a VIP is a holder there by then."""
    for facts in directors:
        if facts.error is not None:
            facts.error.message = f"{facts.agent}: {facts.error.message}"
            raise facts.error
    steps = [
        *_real_server_steps(request, directors, found),
        *(step for facts in directors for step in _director_steps(request, directors, facts)),
    ]
    return Plan(
        purpose=f"adopt {request.key}",
        steps=tuple(steps),
        found=tuple(report for facts in directors for report in _ours(request, facts)),
        warnings=tuple(_warnings(request, directors, found)),
    )


def _keys(request: Adopt, facts: DirectorFacts) -> list[DestinationKey]:
    wanted = request.destinations or tuple(facts.destinations)
    return sorted((key for key in wanted if key in facts.destinations), key=destination_order)


def _holder(request: Adopt, directors: Sequence[DirectorFacts]) -> VirtualServerHolder:
    return VirtualServerHolder(key=request.key, authority=directors[0].host.agent_id)


def _mode(request: Adopt, directors: Sequence[DirectorFacts]) -> VipMode | None:
    """As add-backend: with several directors something else moves the VIP."""
    return request.vip_mode or (VipMode.EXTERNAL if len(directors) > 1 else None)


def _takes_vip(request: Adopt, directors: Sequence[DirectorFacts], facts: DirectorFacts, vip: IpAddress) -> bool:
    """An external one is recorded wherever it is now; one that the agent would put there must be there."""
    return _mode(request, directors) is VipMode.EXTERNAL or str(vip) in facts.addresses()


def _real_server_steps(
    request: Adopt, directors: Sequence[DirectorFacts], found: Mapping[IpAddress, RealServerFacts]
) -> Iterator[Step]:
    for address, facts in found.items():
        if not facts.changes:
            continue
        for step in vip_steps(facts, real_server_operations(request, directors, address)):
            vip = step.operations[0].create_vip.vip.address
            if step.planned[0].made:
                yield replace(step, title=f"adopt VIP {vip} on lo", undo=f"give VIP {vip} up again, and leave it there")


def _director_steps(request: Adopt, directors: Sequence[DirectorFacts], facts: DirectorFacts) -> Iterator[Step]:
    if any(change.made for change in facts.changes):
        yield Step(
            agent=facts.agent,
            title=f"adopt {'destinations of ' if request.destinations else ''}{request.key}",
            undo="make it foreign again, and leave it there",
            operations=tuple(director_operations(request, directors, facts)),
            planned=facts.changes,
            details=tuple(line for change in facts.changes for line in change.actions),
        )


def _ours(request: Adopt, facts: DirectorFacts) -> Iterator[StepReport]:
    """Say what is ours already."""
    if facts.managed and not request.destinations:
        yield StepReport(agent=facts.agent, title=f"virtual server {request.key}", result=StepResult.IN_PLACE)
    statuses: Mapping[DestinationKey, DestinationStatus] = facts.destinations
    for key in _keys(request, facts):
        if statuses[key].managed:
            yield StepReport(agent=facts.agent, title=f"{key} in {request.key}", result=StepResult.IN_PLACE)


def _warnings(
    request: Adopt, directors: Sequence[DirectorFacts], found: Mapping[IpAddress, RealServerFacts]
) -> Iterator[str]:
    for facts in directors:
        if facts.server is None:
            yield f"{facts.agent}: there is no virtual server {request.key}; nothing is adopted there"
        for vip in request.vips if facts.server is not None and not request.destinations else ():
            if not _takes_vip(request, directors, facts, vip):
                yield f"{facts.agent}: VIP {vip} is not there, and is not adopted; lvs add-backend adds it"
    if not request.vips and request.ask_real_servers:
        yield f"no VIP is known for {request.key}: no real server is asked; name those that carry it (--vip-address)"
    if not request.ask_real_servers:
        yield "the real servers are not asked: a VIP that they have stays foreign there"
    for each in found.values():
        if each.error is not None:
            yield f"{each.agent}: {each.error.message}; nothing is adopted there, lvs add-backend prepares it"
        elif each.made and request.key.family is Family.IPV4:
            yield (
                f"{each.agent}: what the ARP sysctls were before VIP {', '.join(map(str, request.vips))} came is not "
                "known: they stay as they are when it goes"
            )


def is_left_out(facts: RealServerFacts) -> bool:
    """Whether a real server only says that there is nothing which it could take in as it is."""
    return isinstance(facts.error, RefusedError)
