"""What forbids an add-backend on the side of the directors. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from agent_common.destination import DestinationKey, Forwarding, TunnelChecksum, TunnelType, forwarding_name
from agent_common.errors import InvalidInputError, LvsError, NotFoundError, Reason, RefusedError
from agent_common.scheduler import DEFAULT_SCHEDULER
from agent_common.virtual_server import FirewallMark, ServiceAddress, VirtualServer
from cli.add_warnings import forwarding_setting
from cli.facts import DirectorFacts, change_of, destination_of, method_of, needs_vip, vips_of, without_vip
from cli.request import AddBackend
from cli.typed import suggest, target


def check_director(request: AddBackend, facts: DirectorFacts) -> None:
    """Raise LvsError for the first thing of a director that forbids the addition."""
    key = request.backend.key
    if facts.server is None and not request.create:
        raise NotFoundError(
            f"{facts.agent}: there is no virtual server {key}, and --no-create was given",
            Reason.VIRTUAL_SERVER_NOT_FOUND,
        )
    is_port_zero = isinstance(key, ServiceAddress) and key.port == 0
    if facts.server is None and is_port_zero and request.persistence is None:
        raise InvalidInputError("persistent", "persistent: a new virtual server with port 0 needs --persistent")
    if facts.error is not None:
        raise _explained(request, facts, facts.error)
    _refuse_weight_zero(request, facts)
    for destination in request.backend.real_servers:
        _refuse_port(request, facts, destination)
        route = facts.route(destination.address)
        method = method_of(request, [facts], destination.address)
        if route.local:
            continue
        _refuse_checksum(request, facts, destination)
        if method is Forwarding.MASQUERADING and change_of(request, facts, destination).made:
            _refuse_without_forwarding(request, facts, destination)
        if not route.reachable or (route.gateway and method is Forwarding.DIRECT_ROUTING):
            how = f"through {route.gateway}" if route.reachable else "not at all"
            raise RefusedError(
                f"{facts.agent} reaches {destination.address} {how}; {forwarding_name(method)} needs "
                + ("a route" if method is not Forwarding.DIRECT_ROUTING else "it on link, in a subnet of the director"),
                Reason.NOT_ON_LINK,
                destination=str(destination),
            )


def check_vips(request: AddBackend, directors: Sequence[DirectorFacts]) -> None:
    """Raise RefusedError where a mark leaves open which VIPs real servers must have, or some would lack one."""
    key, vips = request.backend.key, vips_of(request.backend, directors)
    if not isinstance(key, FirewallMark) or not request.ask_real_servers:
        return
    behind = [each for each in request.backend.real_servers if needs_vip(request, directors, each.address)]
    if behind and not vips:
        raise RefusedError(
            f"no director holds a VIP for {key}, and real servers behind "
            f"{forwarding_name(method_of(request, directors, behind[0].address))} need it; name those that carry the "
            "mark with --vip-address, or use --no-rs-agent",
            Reason.VIP_NOT_FOUND,
            virtual_server=str(key),
        )
    for facts, other, vip in without_vip(request, directors) if not request.force else ():
        raise RefusedError(
            f"{facts.agent}: {other} is behind {key}, too, and is not known to have VIP {vip}; name it with --rs "
            f"{other}, or use --force",
            Reason.VIP_NOT_FOUND,
            destination=str(other),
            vip=str(vip),
        )


def _refuse_without_forwarding(request: AddBackend, facts: DirectorFacts, key: DestinationKey) -> None:
    """With nat every packet passes the director as a router: where that is off, no client gets an answer."""
    name = forwarding_setting(key.address)
    if facts.settings().get(name) == 0 and not request.force:
        raise RefusedError(
            f"{facts.agent}: net/{name} is 0: packets of nat are not forwarded; type: sysctl -w net/{name}=1, or use "
            "--force",
            Reason.FORWARDING_OFF,
            destination=str(key),
        )


def _refuse_port(request: AddBackend, facts: DirectorFacts, key: DestinationKey) -> None:
    """Behind a mark only nat can change the port; one that somebody has added with a port is there, and stays so."""
    method = method_of(request, [facts], key.address)
    if key in facts.destinations or not isinstance(request.backend.key, FirewallMark):
        return
    if key.port and method is not Forwarding.MASQUERADING:
        raise InvalidInputError(
            "rs", f"rs: {key}: {forwarding_name(method)} keeps the client's port: leave it out, or use nat"
        )


def _refuse_checksum(request: AddBackend, facts: DirectorFacts, key: DestinationKey) -> None:
    """Real servers take GRE by gre0 or ip6gre0, which drop packets with a checksum (ip_tunnel_rcv: i_flags)."""
    tunnel = destination_of(request, [facts], key).tunnel
    if request.ask_real_servers and tunnel.type is TunnelType.GRE and tunnel.checksum is not TunnelChecksum.NONE:
        raise RefusedError(
            f"{key.address}: the device that lvs sets up for gre takes no packets with a checksum; leave "
            "--tunnel-checksum out, or set the real server up by hand (icsum) and use --no-rs-agent",
            Reason.NOT_SUPPORTED,
            destination=str(key),
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
    """Add to what a director refuses who it is, and the command that changes it."""
    rs, vip = error.metadata.get("destination", ""), request.backend.key
    error.message = f"{facts.agent}: {error.message}"
    match error.reason:
        case Reason.DESTINATION_DRAINING:
            suggest(error, "to end the drain", f"lvs undrain {target(vip)} --rs {rs}")
        case Reason.DESTINATION_DIFFERS if "weight" in error.message:
            weight = 1 if request.weight is None else request.weight
            suggest(error, "to change the weight", f"lvs weight {target(vip)} --rs {rs} {weight}")
        case Reason.DESTINATION_DIFFERS:
            suggest(error, "to see it", f"lvs service show {vip}")
        case Reason.VIRTUAL_SERVER_DIFFERS:
            given = f" --scheduler {request.scheduler}" if request.scheduler is not None else ""
            given += f" --persistent {request.persistence.timeout}" if request.persistence is not None else ""
            suggest(error, "leave the option out, or change the virtual server", f"lvs service edit {vip}{given}")
    return error
