"""What add-backend says beside its plan: settings that can lose packets, and what is not checked. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lvsagent.v1 import host_service_pb2

from agent_common import wire
from agent_common.destination import Forwarding
from agent_common.scheduler import DEFAULT_SCHEDULER
from agent_common.virtual_server import IpAddress, ServiceAddress, VirtualServerKey, family_of
from cli.facts import (
    DirectorFacts,
    RealServerFacts,
    change_of,
    destination_of,
    method_of,
    needs_vip,
    vips_of,
    without_vip,
)
from cli.out import is_awaited, out_warnings, unproven_warnings
from cli.request import AddBackend, Backend
from cli.typed import NextCommand, target

ETHERNET_MTU = 1500
"""Bytes; what clients send at most, almost everywhere."""

_NEWCOMER_FIRST = frozenset({"lc", "wlc", "sed", "nq"})


def warnings(
    request: AddBackend, directors: Sequence[DirectorFacts], real_servers: Mapping[IpAddress, RealServerFacts]
) -> Iterator[str]:
    """Say what may surprise the operator, though it forbids nothing (KERNEL.md has the reasons)."""
    for facts in directors:
        yield from leftover_warnings(facts, request.backend)
        for change in facts.changes:
            yield from (f"{facts.agent}: {warning}" for warning in change.warnings)
        yield from _newcomer_warnings(request, facts)
    yield from _health_warnings(request, directors)
    for facts, other, vip in without_vip(request, directors):
        yield f"{facts.agent}: {other} is not known to have VIP {vip}: clients that come for it may get no answer there"
    for destination in request.backend.real_servers:
        address = destination.address
        if any(facts.route(address).local for facts in directors):
            yield f"{address} is the director itself: nothing is prepared there"
        elif address not in real_servers:
            what = "VIP and ARP" if is_awaited(request, directors, destination) else "VIP, ARP and application"
            yield f"{address}: its agent is not asked (--no-rs-agent); {what} are not checked"
        elif (
            request.backend.takes_every_port
            and request.ready_timeout is not None
            and not is_awaited(request, directors, destination)
        ):
            what = (
                "port 0 means every port" if isinstance(request.backend.key, ServiceAddress) else "a mark has no port"
            )
            yield f"{address}: whether something listens is not checked, since {what}"
        if address in real_servers:
            if not vips_of(request.backend, directors) and needs_vip(request, directors, address):
                yield f"{address}: no VIP is known for {request.backend.key}, so none is prepared there"
            yield from _host_warnings(request, directors, address, real_servers[address])


def _newcomer_warnings(request: AddBackend, facts: DirectorFacts) -> Iterator[str]:
    """Say who gets all connections at first; a sorry server gets none."""
    scheduler = facts.server.scheduler if facts.server else request.scheduler or DEFAULT_SCHEDULER
    sorry = facts.policy.sorry if facts.policy is not None else None
    others = set(facts.destinations) - set(request.backend.real_servers)
    newcomers = set(request.backend.real_servers) - set(facts.destinations) - {sorry}
    if scheduler in _NEWCOMER_FIRST and others and newcomers:
        yield f"{facts.agent}: under {scheduler} a newcomer gets all new connections until it has caught up"


def _health_warnings(request: AddBackend, directors: Sequence[DirectorFacts]) -> Iterator[str]:
    """Say what gets no connections though it is there, or will be."""
    for facts in directors:
        yield from out_warnings(facts, request.backend.real_servers)
        for key in request.backend.real_servers if request.ready_timeout is None else ():
            if change_of(request, facts, key).made:
                yield from unproven_warnings(facts, key)


def _host_warnings(
    request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress, facts: RealServerFacts
) -> Iterator[str]:
    """Say what KERNEL.md warns of: settings that can lose packets on the way."""
    settings, method = facts.settings(), method_of(request, directors, address)
    yield from (f"{facts.agent}: {warning}" for change in facts.changes for warning in change.warnings)
    if method is Forwarding.TUNNELING:
        yield from _mtu_warnings(request, directors, address)
    if method is Forwarding.MASQUERADING:
        yield from _nat_warnings(directors, facts, address)
        return
    devices = {each.device for each in facts.host.addresses if each.device != "lo"}
    strict = [
        device
        for device in sorted(devices)
        if max(settings.get("ipv4/conf/all/rp_filter", 0), settings.get(f"ipv4/conf/{device}/rp_filter", 0)) == 1
    ]
    forward = forwarding_setting(address)
    if method is Forwarding.DIRECT_ROUTING and settings.get(forward):
        yield (
            f"{facts.agent}: net/{forward} is 1: should the VIP ever be missing there, packets for it go back to the "
            "director and round again"
        )
    if address.version == 4 and len(devices) > 1 and strict:
        yield (
            f"{facts.agent}: rp_filter is strict on {', '.join(strict)}: clients whose route back leaves by another "
            "interface are dropped"
        )


def _mtu_warnings(request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> Iterator[str]:
    """Say what is the largest packet that still fits into the tunnel, where that is less than Ethernet's."""
    keys = [key for key in request.backend.real_servers if key.address == address]
    for director in directors:
        mtu = director.route(address).mtu
        overhead = max(destination_of(request, [director], key).tunnel.overhead(family_of(address)) for key in keys)
        if mtu and mtu - overhead < ETHERNET_MTU:
            yield (
                f"{director.agent}: its way to {address} takes {mtu} bytes, {overhead} of them for the tunnel: larger "
                f"packets of clients than {mtu - overhead} bytes come back as ICMP 'fragmentation needed', which "
                "firewalls must let through; or give that way a larger MTU"
            )


def forwarding_setting(address: IpAddress) -> str:
    """Return the setting, below /proc/sys/net, that makes a host a router for addresses of this family."""
    return "ipv4/ip_forward" if address.version == 4 else "ipv6/conf/all/forwarding"


def _nat_warnings(directors: Sequence[DirectorFacts], facts: RealServerFacts, address: IpAddress) -> Iterator[str]:
    forward = forwarding_setting(address)
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


def leftover_warnings(facts: DirectorFacts, backend: Backend) -> Iterator[str]:
    """Say of real servers that are asked what an earlier removal has left there."""
    for key, rs in _leftovers(facts, backend):
        yield f"{facts.agent} notes that real server {rs} may still hold the VIP of {key}"


def leftover_commands(directors: Sequence[DirectorFacts], backend: Backend) -> Iterator[NextCommand]:
    """Return the commands that end what those warnings are about."""
    for key, rs in dict.fromkeys(each for facts in directors for each in _leftovers(facts, backend)):
        yield NextCommand(
            purpose=f"to finish the removal of {rs} from {key}", command=f"lvs remove-backend {target(key)} --rs {rs}"
        )


def _leftovers(facts: DirectorFacts, backend: Backend) -> Iterator[tuple[VirtualServerKey, str]]:
    """Return of which other virtual servers the real servers that are asked may still hold the VIP."""
    asked = {str(key.address) for key in backend.real_servers}
    for each in facts.host.leftovers:
        key = wire.unpack_key(each.virtual_server)
        if each.real_server in asked and key != backend.key:
            yield key, each.real_server
