"""The plan of add-backend: a pure function of the request and of what preflight has read.

The order is that of DESIGN.md section 3: the real servers first, then that something listens there or passes its check,
then the directors, and in the end the destinations, each once and with its final weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from lvsagent.v1 import health_service_pb2, host_service_pb2

from agent_common import wire
from agent_common.destination import (
    DestinationKey,
    Forwarding,
    Tunnel,
)
from agent_common.operation import Change, Operation
from agent_common.vip import VipMode, VirtualServerHolder
from agent_common.virtual_server import IpAddress, Protocol, ServiceAddress
from cli import operations
from cli.add_refusals import check_director, check_vips
from cli.add_warnings import leftover_commands, warnings
from cli.facts import DirectorFacts, RealServerFacts, change_of, destination_of, ends_at, method_of, needs_vip, vips_of
from cli.out import is_awaited, is_checked
from cli.outcome import StepReport, StepResult
from cli.plan import Plan, Step
from cli.request import AddBackend
from cli.site import real_server
from cli.vip_step import vip_steps


def director_operations(
    request: AddBackend, directors: Sequence[DirectorFacts], facts: DirectorFacts
) -> list[Operation]:
    """Return what one director is asked for, in order: virtual server, VIPs, destinations.

    What is not given and missing on this director is made as another director has it.
    """
    backend = request.backend
    mode = request.vip_mode
    if mode is None and len(directors) > 1:
        mode = VipMode.EXTERNAL
    return [
        _server_operation(request, directors, facts),
        *(
            operations.create_vip(
                vip, _holder(request, directors), mode=mode, device=request.vip_device, force=request.force
            )
            for vip in vips_of(backend, directors)
        ),
        *(_destination_operation(request, directors, facts, key) for key in backend.real_servers),
    ]


def _server_operation(request: AddBackend, directors: Sequence[DirectorFacts], facts: DirectorFacts) -> Operation:
    like = next((each.server for each in directors if each.server is not None), None)
    if facts.server is not None or like is None:
        return operations.create_virtual_server(request.backend.key, request.scheduler, request.persistence)
    wanted = replace(
        like, scheduler=request.scheduler or like.scheduler, persistence=request.persistence or like.persistence
    )
    return operations.create_whole_virtual_server(wanted)


def _destination_operation(
    request: AddBackend, directors: Sequence[DirectorFacts], facts: DirectorFacts, key: DestinationKey
) -> Operation:
    forwarding, weight, tunnel = request.forwarding, request.weight, request.tunnel
    like = next((each.destinations[key].destination for each in directors if key in each.destinations), None)
    if key not in facts.destinations and like is not None:
        forwarding = like.forwarding if forwarding is None else forwarding
        weight = like.weight if weight is None and not like.draining else weight
        tunnel = like.tunnel if tunnel is None and like.tunnel != Tunnel() else tunnel
    return operations.create_destination(request.backend.key, key, forwarding, weight, tunnel)


def _holder(request: AddBackend, directors: Sequence[DirectorFacts]) -> VirtualServerHolder:
    return VirtualServerHolder(key=request.backend.key, authority=directors[0].host.agent_id)


def real_server_operations(
    request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress
) -> list[Operation]:
    """Return what a real server is asked for: the VIPs; nothing with nat, or where it is the director itself."""
    if not needs_vip(request, directors, address):
        return []
    sources = tuple(route.source for facts in directors if (route := facts.route(address)).source)
    wanted = [destination_of(request, directors, key) for key in request.backend.real_servers]
    return [
        operations.create_vip(
            vip,
            _holder(request, directors),
            director_addresses=sources,
            force=request.force,
            tunnels=ends_at(wanted, address),
        )
        for vip in vips_of(request.backend, directors)
    ]


def plan(
    request: AddBackend, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Plan:
    """Return the steps; raises LvsError for the first thing that forbids them.

    The first director's destinations are the decision: clients are sent there from then on, and no undo takes that
    away again. Other directors follow.
    """
    check_vips(request, directors)
    for facts in directors:
        check_director(request, facts)
    for address, found in real_servers.items():
        found.check(address)
    destinations = tuple(_destination_steps(request, directors))
    names = ", ".join(str(each) for each in request.backend.real_servers)
    return Plan(
        purpose=f"add {names} to {request.backend.key}",
        agents={each.agent: each.host.agent_id for each in directors}
        | {each.agent: each.host.agent_id for each in real_servers.values()},
        steps=(
            *_real_server_steps(request, directors, real_servers),
            *_gate_steps(request, directors),
            *_director_steps(request, directors),
            *destinations[:1],
        ),
        following=destinations[1:],
        found=tuple(_in_place(request, directors)),
        warnings=tuple(warnings(request, directors, real_servers)),
        commands=tuple(leftover_commands(directors, request.backend)),
    )


def _real_server_steps(
    request: AddBackend, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Iterator[Step]:
    for address, facts in real_servers.items():
        changes = list(_changes_of(request, directors, address))
        foreign = all(change.foreign and not change.made for change in changes)
        if not facts.changes or (foreign and not _adds_vip(request, directors)):
            pass
        elif facts.made or any(change.made for change in changes):  # it keeps the VIPs until that is decided
            yield from vip_steps(facts, real_server_operations(request, directors, address))
        yield from _ready_steps(request, directors, address)


def _ready_steps(request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> Iterator[Step]:
    """Wait for the application, before a destination that is not there yet gets connections.

    Where directors check it, they ask: whether something listens says less than its check.
    """
    key = request.backend.key
    if request.ready_timeout is None or not isinstance(key, ServiceAddress) or key.port == 0:
        return
    for destination in request.backend.real_servers:
        new = any(change_of(request, facts, destination).made for facts in directors)
        if destination.address != address or not new or is_awaited(request, directors, destination):
            continue
        translated = method_of(request, directors, address) is Forwarding.MASQUERADING
        where = destination if translated else DestinationKey(address=key.address, port=key.port)
        listener = host_service_pb2.CheckListenerRequest(
            protocol=wire.pack_enum(wire.PROTOCOLS, key.protocol), address=str(where.address), port=where.port
        )
        yield Step(
            agent=real_server(address),
            title=f"wait until something takes {key.protocol.name} on {where}",
            listener=listener,
            seconds=request.ready_timeout,
            wildcard_warning=_wildcard_warning(request, directors, address),
        )


def _gate_steps(request: AddBackend, directors: Sequence[DirectorFacts]) -> Iterator[Step]:
    """Have every director that checks a new destination do so before it is added: one that has passed begins as up."""
    if request.ready_timeout is None:
        return
    for facts in directors:
        for destination in request.backend.real_servers:
            if not (is_checked(facts, destination) and change_of(request, facts, destination).made):
                continue
            method = method_of(request, directors, destination.address)
            yield Step(
                agent=facts.agent,
                title=f"wait until the check of {destination} passes",
                check=health_service_pb2.ProbeDestinationRequest(
                    virtual_server=wire.pack_key(request.backend.key),
                    destination=wire.pack_destination_key(destination),
                    forwarding_method=wire.pack_enum(wire.FORWARDINGS, method),
                    tunnel=wire.pack_tunnel(destination_of(request, directors, destination).tunnel),
                ),
                seconds=request.ready_timeout,
            )


def _director_steps(request: AddBackend, directors: Sequence[DirectorFacts]) -> Iterator[Step]:
    """Virtual servers and VIPs of every director, the authority first."""
    key = request.backend.key
    titles = [
        (f"add virtual server {key}", f"remove virtual server {key}"),
        *((f"add VIP {vip}", f"give VIP {vip} back") for vip in vips_of(request.backend, directors)),
    ]
    for facts in directors:
        wanted = director_operations(request, directors, facts)
        for (title, undo), operation, change in zip(titles, wanted, facts.changes, strict=False):  # destinations follow
            if change.made and not (change.foreign and _all_foreign(request, facts)):
                yield Step(
                    agent=facts.agent,
                    title=title,
                    undo=undo,
                    operations=(operation,),
                    planned=(change,),
                    details=tuple(change.actions),
                )


def _destination_steps(request: AddBackend, directors: Sequence[DirectorFacts]) -> Iterator[Step]:
    """The destinations of every director, the authority first; each director all of its own, or none."""
    count = len(request.backend.real_servers)
    for facts in directors:
        wanted = director_operations(request, directors, facts)[-count:]
        made = [(op, change) for op, change in zip(wanted, facts.changes[-count:], strict=True) if change.made]
        if made:
            names = ", ".join(str(wire.unpack_destination_key(each.destination.after.key)) for _, each in made)
            yield Step(
                agent=facts.agent,
                title=f"add {names} to {request.backend.key}",
                undo=f"remove {names}",
                operations=tuple(operation for operation, _ in made),
                planned=tuple(change for _, change in made),
                details=tuple(action for _, change in made for action in change.actions),
            )


def _adds_vip(request: AddBackend, directors: Sequence[DirectorFacts]) -> bool:
    """Whether a director gets a VIP of a mark: clients that come for it are sent to foreign destinations, too."""
    if isinstance(request.backend.key, ServiceAddress):
        return False
    last = -len(request.backend.real_servers)
    return any(change.made for facts in directors for change in facts.changes[1:last])


def _all_foreign(request: AddBackend, facts: DirectorFacts) -> bool:
    """Whether everything asked for is there and was made by somebody else: nothing of ours needs a hold on the VIP."""
    changes = [facts.changes[0], *(change_of(request, facts, each) for each in request.backend.real_servers)]
    return all(change.foreign and not change.made for change in changes)


def _in_place(request: AddBackend, directors: Sequence[DirectorFacts]) -> Iterator[StepReport]:
    for facts in directors:
        for destination in request.backend.real_servers:
            change = change_of(request, facts, destination)
            if not change.made:
                whose = " was not made by lvs, and stays so" if change.foreign else ""
                yield StepReport(
                    agent=facts.agent,
                    title=f"{destination} in {request.backend.key}{whose}",
                    result=StepResult.FOREIGN if change.foreign else StepResult.IN_PLACE,
                )


def _changes_of(request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> Iterator[Change]:
    """Return what the directors would do for the destinations of one real server."""
    for facts in directors:
        for destination in request.backend.real_servers:
            if destination.address == address:
                yield change_of(request, facts, destination)


def _wildcard_warning(request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> str:
    """Return what to say of a UDP server on the wildcard address, or "" where it does no harm."""
    key = request.backend.key
    if not isinstance(key, ServiceAddress) or key.protocol is not Protocol.UDP:
        return ""
    if method_of(request, directors, address) is Forwarding.MASQUERADING:
        return ""
    return (
        f"{real_server(address)}: the UDP server is bound to the wildcard address: its answers carry another "
        "source than the VIP unless it takes care of that"
    )
