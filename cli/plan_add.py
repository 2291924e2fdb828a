"""The plan of add-backend: a pure function of the request and of what preflight has read.

The order is that of DESIGN.md section 3: the real servers first, then that something listens there, then the directors,
and in the end the destinations, each once and with its final weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lvsagent.v1 import host_service_pb2

from agent_common import wire
from agent_common.destination import DestinationKey, Forwarding, forwarding_name
from agent_common.errors import InvalidInputError, LvsError, NotFoundError, Reason, RefusedError
from agent_common.operation import Change, Operation
from agent_common.vip import VipMode, VirtualServerHolder
from agent_common.virtual_server import DEFAULT_SCHEDULER, IpAddress, Protocol, VirtualServer
from cli import operations
from cli.facts import DirectorFacts, RealServerFacts
from cli.plan import Plan, Step
from cli.request import AddBackend
from cli.site import real_server

_NEWCOMER_FIRST = frozenset({"lc", "wlc", "sed", "nq"})


def director_operations(request: AddBackend, authority: str, directors: int) -> list[Operation]:
    """Return what every director is asked for, in order: virtual server, VIP, destinations."""
    backend = request.backend
    holder = VirtualServerHolder(key=backend.key, authority=authority)
    mode = request.vip_mode
    if mode is None and directors > 1:
        mode = VipMode.EXTERNAL
    return [
        operations.create_virtual_server(backend.key, request.scheduler, request.persistence),
        operations.create_vip(backend.key.address, holder, mode=mode, device=request.vip_device),
        *(
            operations.create_destination(backend.key, key, request.forwarding, request.weight)
            for key in backend.real_servers
        ),
    ]


def real_server_operation(
    request: AddBackend, authority: str, directors: Sequence[DirectorFacts], address: IpAddress
) -> Operation | None:
    """Return what a real server is asked for; None if nothing goes onto it (nat, or it is the director itself)."""
    if not needs_vip(request, directors, address):
        return None
    holder = VirtualServerHolder(key=request.backend.key, authority=authority)
    sources = tuple(route.source for facts in directors if (route := facts.route(address)).source)
    return operations.create_vip(request.backend.key.address, holder, director_addresses=sources, force=request.force)


def needs_vip(request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> bool:
    """Whether the VIP goes onto this real server."""
    if any(facts.route(address).local for facts in directors):
        return False
    return method_of(request, directors, address) is not Forwarding.MASQUERADING


def method_of(request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> Forwarding:
    """Return the forwarding method asked for, else that of the destination that is there, else dr."""
    if request.forwarding is None:
        for facts in directors:
            for key, status in facts.destinations.items():
                if key.address == address and key in request.backend.real_servers:
                    return status.destination.forwarding
    return request.method


def plan(
    request: AddBackend, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Plan:
    """Return the steps; raises LvsError for the first thing that forbids them."""
    for facts in directors:
        _check_director(request, facts)
    for address, found in real_servers.items():
        _check_real_server(address, found)
    steps = [*_real_server_steps(request, directors, real_servers), *_director_steps(request, directors)]
    return Plan(
        steps=tuple(steps),
        in_place=tuple(_in_place(request, directors)),
        warnings=tuple(_warnings(request, directors, real_servers)),
    )


def _check_director(request: AddBackend, facts: DirectorFacts) -> None:
    key = request.backend.key
    if facts.server is None and not request.create:
        raise NotFoundError(
            f"{facts.agent}: there is no virtual server {key}, and --no-create was given",
            Reason.VIRTUAL_SERVER_NOT_FOUND,
        )
    if facts.server is None and key.port == 0 and request.persistence is None:
        raise InvalidInputError("persistent", "persistent: a new virtual server with port 0 needs --persistent")
    if facts.error is not None:
        raise _explained(request, facts, facts.error)
    _refuse_weight_zero(request, facts)
    for destination in request.backend.real_servers:
        route = facts.route(destination.address)
        method = method_of(request, [facts], destination.address)
        if route.local:
            continue
        if not route.reachable or (route.gateway and method is Forwarding.DIRECT_ROUTING):
            how = f"through {route.gateway}" if route.reachable else "not at all"
            raise RefusedError(
                f"{facts.agent} reaches {destination.address} {how}; {forwarding_name(method)} needs "
                + ("a route" if method is not Forwarding.DIRECT_ROUTING else "it on link, in a subnet of the director"),
                Reason.NOT_ON_LINK,
                destination=str(destination),
            )


def _refuse_weight_zero(request: AddBackend, facts: DirectorFacts) -> None:
    """A newcomer at weight 0 takes hash buckets under sh and dh, and refuses their clients; under mh it does not."""
    server = facts.server or VirtualServer(key=request.backend.key, scheduler=request.scheduler or DEFAULT_SCHEDULER)
    if request.weight == 0 and server.refuses_at_weight_zero and server.scheduler != "mh":
        raise RefusedError(
            f"{facts.agent}: under scheduler {server.scheduler} a new destination with weight 0 takes a share of the "
            "clients and refuses them; give it a weight, or use another scheduler",
            Reason.WEIGHT_ZERO_REFUSES,
            virtual_server=str(server.key),
        )


def _explained(request: AddBackend, facts: DirectorFacts, error: LvsError) -> LvsError:
    """Add to what a director refuses the command that changes it."""
    rs, vip = error.metadata.get("destination", ""), request.backend.key
    hints = {
        Reason.DESTINATION_DRAINING: f"end the drain with: lvs undrain {target(vip)} --rs {rs}",
        Reason.DESTINATION_DIFFERS: f"see: lvs service show {vip}",
        Reason.VIRTUAL_SERVER_DIFFERS: f"change it with: lvs service edit {vip}, or leave the option out",
    }
    hint = hints.get(error.reason, "")
    if error.reason is Reason.DESTINATION_DIFFERS and "weight" in error.message:
        weight = 1 if request.weight is None else request.weight
        hint = f"change it with: lvs weight {target(vip)} --rs {rs} {weight}"
    error.message = f"{facts.agent}: {error.message}" + (f"; {hint}" if hint else "")
    return error


def target(key: object) -> str:
    """Return the options that name a virtual server on the command line."""
    protocol, _, endpoint = str(key).partition("/")
    return f"--vip {endpoint}" + (f" --protocol {protocol}" if protocol != "tcp" else "")


def _check_real_server(address: IpAddress, facts: RealServerFacts) -> None:
    if str(address) not in facts.addresses():
        raise RefusedError(
            f"the agent of {facts.agent} runs on another host ({facts.host.hostname}), which does not have {address}",
            Reason.NOT_ON_LINK,
            real_server=str(address),
        )
    if facts.error is not None:
        facts.error.message = f"{facts.agent}: {facts.error.message}"
        raise facts.error


def _real_server_steps(
    request: AddBackend, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Iterator[Step]:
    authority = directors[0].host.agent_id
    for address, facts in real_servers.items():
        operation = real_server_operation(request, authority, directors, address)
        foreign = all(change.foreign and not change.made for change in _changes_of(request, directors, address))
        if operation is not None and facts.change is not None and facts.change.made and not foreign:
            yield Step(
                agent=facts.agent,
                title=f"prepare VIP {request.backend.key.address} on lo",
                undo="give the VIP back, with what this made",
                details=tuple(facts.change.actions),
                operations=(operation,),
            )
        yield from _ready_steps(request, directors, address)


def _ready_steps(request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> Iterator[Step]:
    """Wait for the application, before a destination that is not there yet gets connections."""
    key = request.backend.key
    if request.ready_timeout is None:
        return
    for destination in request.backend.real_servers:
        new = any(_change_of(request, facts, destination).made for facts in directors)
        if destination.address != address or not new or key.port == 0:
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


def _director_steps(request: AddBackend, directors: Sequence[DirectorFacts]) -> Iterator[Step]:
    """Virtual servers and VIPs of every director, the authority first; then the destinations in the same order."""
    wanted = director_operations(request, directors[0].host.agent_id, len(directors))
    key = request.backend.key
    titles = (
        (f"add virtual server {key}", f"remove virtual server {key}"),
        (f"add VIP {key.address}", f"give VIP {key.address} back"),
    )
    for facts in directors:
        for operation, change, (title, undo) in zip(wanted[:2], facts.changes[:2], titles, strict=True):
            if change.made and not (change.foreign and _all_foreign(request, facts)):
                yield Step(
                    agent=facts.agent, title=title, undo=undo, operations=(operation,), details=tuple(change.actions)
                )
    for facts in directors:
        made = [(op, change) for op, change in zip(wanted[2:], facts.changes[2:], strict=True) if change.made]
        if made:
            names = ", ".join(str(wire.unpack_destination_key(each.destination.after.key)) for _, each in made)
            yield Step(
                agent=facts.agent,
                title=f"add {names} to {key}",
                undo=f"remove {names}",
                operations=tuple(operation for operation, _ in made),
                details=tuple(action for _, change in made for action in change.actions),
            )


def _all_foreign(request: AddBackend, facts: DirectorFacts) -> bool:
    """Whether everything asked for is there and was made by somebody else: nothing of ours needs a hold on the VIP."""
    changes = [facts.changes[0], *(_change_of(request, facts, each) for each in request.backend.real_servers)]
    return all(change.foreign and not change.made for change in changes)


def _in_place(request: AddBackend, directors: Sequence[DirectorFacts]) -> Iterator[str]:
    for facts in directors:
        for destination in request.backend.real_servers:
            change = _change_of(request, facts, destination)
            if not change.made:
                whose = ", foreign (not made by lvs), and stays so" if change.foreign else ""
                yield f"{facts.agent}: {destination} in {request.backend.key}{whose}"


def _changes_of(request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> Iterator[Change]:
    """Return what the directors would do for the destinations of one real server."""
    for facts in directors:
        for destination in request.backend.real_servers:
            if destination.address == address:
                yield _change_of(request, facts, destination)


def _change_of(request: AddBackend, facts: DirectorFacts, destination: DestinationKey) -> Change:
    """Return what a director would do for one destination."""
    return facts.changes[2 + request.backend.real_servers.index(destination)]


def _warnings(
    request: AddBackend, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Iterator[str]:
    key = request.backend.key
    for facts in directors:
        for change in facts.changes:
            yield from (f"{facts.agent}: {warning}" for warning in change.warnings)
        scheduler = facts.server.scheduler if facts.server else request.scheduler or DEFAULT_SCHEDULER
        others = set(facts.destinations) - set(request.backend.real_servers)
        if scheduler in _NEWCOMER_FIRST and others:
            yield f"{facts.agent}: under {scheduler} a newcomer gets all new connections until it has caught up"
    for destination in request.backend.real_servers:
        address = destination.address
        if any(facts.route(address).local for facts in directors):
            yield f"{address} is the director itself: nothing is prepared there"
        elif address not in real_servers:
            yield f"{address}: its agent is not asked (--no-rs-agent); VIP, ARP and application are not checked"
        elif key.port == 0 and request.ready_timeout is not None:
            yield f"{address}: whether something listens is not checked, since port 0 means every port"
        if address in real_servers:
            yield from _host_warnings(request, directors, address, real_servers[address])


def _host_warnings(
    request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress, facts: RealServerFacts
) -> Iterator[str]:
    """Say what KERNEL.md warns of: settings that can lose packets on the way."""
    settings, method = facts.settings(), method_of(request, directors, address)
    if facts.change is not None:
        yield from (f"{facts.agent}: {warning}" for warning in facts.change.warnings)
    if method is Forwarding.TUNNELING:
        yield f"{facts.agent}: the tunnel device (tunl0 or another) and its rp_filter are not set up or checked there"
    if method is Forwarding.MASQUERADING:
        yield from _nat_warnings(directors, facts, address)
        return
    devices = {each.device for each in facts.host.addresses if each.device != "lo"}
    strict = [
        device
        for device in sorted(devices)
        if max(settings.get("ipv4/conf/all/rp_filter", 0), settings.get(f"ipv4/conf/{device}/rp_filter", 0)) == 1
    ]
    if address.version == 4 and len(devices) > 1 and strict:
        yield (
            f"{facts.agent}: rp_filter is strict on {', '.join(strict)}: clients whose route back leaves by another "
            "interface are dropped"
        )


def _nat_warnings(directors: Sequence[DirectorFacts], facts: RealServerFacts, address: IpAddress) -> Iterator[str]:
    forward = "ipv4/ip_forward" if address.version == 4 else "ipv6/conf/all/forwarding"
    for director in directors:
        values = {each.name: each.value for each in director.host.settings}
        if not values.get(forward):
            yield f"{director.agent}: net/{forward} is 0: packets of nat are not forwarded"
        device = director.route(address).device
        redirects = max(values.get(f"ipv4/conf/{each}/send_redirects", 0) for each in ("all", device))
        if address.version == 4 and redirects:
            yield f"{director.agent}: send_redirects is on for {device}: real servers learn a way past the director"
    route = facts.host.routes[0] if facts.host.routes else host_service_pb2.Route()
    if not any(route.gateway in director.addresses() for director in directors):
        via = route.gateway or "no gateway"
        yield f"{facts.agent}: its way to clients goes by {via}, not by a director: answers of nat get lost"
    # IPv6 has no send_redirects: the director always tells, so the real server must not listen (seen in the lab).
    if address.version == 6 and facts.settings().get(f"ipv6/conf/{route.device}/accept_redirects"):
        yield f"{facts.agent}: accept_redirects is on for {route.device}: it learns a way to clients past the director"


def _wildcard_warning(request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> str:
    """Return what to say of a UDP server on the wildcard address, or "" where it does no harm."""
    if request.backend.key.protocol is not Protocol.UDP:
        return ""
    if method_of(request, directors, address) is Forwarding.MASQUERADING:
        return ""
    return (
        f"{real_server(address)}: the UDP server is bound to the wildcard address: its answers carry another "
        "source than the VIP unless it takes care of that"
    )
