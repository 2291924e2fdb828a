"""Writes the rules of ipvsadm -S -n, and what a step of a table does in words of them. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cmp_to_key

from agent_common.destination import Destination, Forwarding, TunnelType, effective
from agent_common.scheduler import flag_names
from agent_common.table import Table, TableStep, verb_of
from agent_common.virtual_server import (
    Family,
    FirewallMark,
    IpAddress,
    VirtualServer,
    VirtualServerKey,
    format_endpoint,
    netmask_of,
)
from cli.rules import CHECKSUMS, METHODS, PROTOCOLS


def write_rules(table: Table) -> Iterator[str]:
    """Return the lines that ipvsadm -S -n prints for a table, in its order.

    Thresholds have no place in them, nor that a destination drains: its weight is the kernel's.
    """
    for key in sorted(table, key=_SERVER_ORDER):
        entry = table[key]
        if entry.virtual_server is not None:
            yield server_rule(entry.virtual_server)
        for destination in sorted(entry.destinations.values(), key=_DESTINATION_ORDER):
            yield destination_rule(key, effective(destination))


def _compare_servers(one: VirtualServerKey, other: VirtualServerKey) -> int:
    """Compare as ipvs_cmp_services of ipvsadm's libipvs does: by mark, family, protocol, address and port."""
    marks = [each.mark if isinstance(each, FirewallMark) else 0 for each in (one, other)]
    difference = _wrapped(*marks) or one.family - other.family
    if difference or isinstance(one, FirewallMark) or isinstance(other, FirewallMark):
        return difference
    return one.protocol - other.protocol or _compare_addresses(one.address, other.address) or one.port - other.port


def _compare_destinations(one: Destination, other: Destination) -> int:
    return _compare_addresses(one.key.address, other.key.address) or one.key.port - other.key.port


def _compare_addresses(one: IpAddress, other: IpAddress) -> int:
    """Compare 32 bits at a time."""
    words = zip(_words(one), _words(other), strict=False)
    return next((difference for each in words if (difference := _wrapped(*each))), 0)


def _words(address: IpAddress) -> list[int]:
    packed = address.packed
    return [int.from_bytes(packed[start : start + 4], "big") for start in range(0, len(packed), 4)]


def _wrapped(one: int, other: int) -> int:
    """Return a difference as C has it in an int: 192.0.2.1 comes before 10.0.0.1."""
    difference = (one - other) & 0xFFFFFFFF
    return difference - 2**32 if difference >= 2**31 else difference


_SERVER_ORDER = cmp_to_key(_compare_servers)
_DESTINATION_ORDER = cmp_to_key(_compare_destinations)


def server_rule(server: VirtualServer) -> str:
    """Return the line that adds a virtual server."""
    return f"-A {_key_words(server.key)} {_server_words(server)}"


def destination_rule(key: VirtualServerKey, destination: Destination) -> str:
    """Return the line that adds a destination, but for its thresholds."""
    return f"-a {_key_words(key)} -r {destination.key} {_destination_words(destination)}"


def describe(step: TableStep) -> str:
    """Return what a step does, in rules: add, remove or adopt one, or edit it, which names the old and the new one."""
    sides = (_side(step, step.before), _side(step, step.after))
    verb = verb_of(step)
    return f"{verb}: {' -> '.join(sides) if verb == 'edit' else sides[1] or sides[0]}"


def _side(step: TableStep, side: VirtualServer | Destination | None) -> str:
    if isinstance(side, Destination):
        upper, lower = side.upper_threshold, side.lower_threshold
        thresholds = (f" -x {upper}" if upper else "") + (f" -y {lower}" if lower else "")
        drains = " (draining)" if side.draining else ""
        return destination_rule(step.server, side) + thresholds + drains
    return "" if side is None else server_rule(side)


def _key_words(key: VirtualServerKey) -> str:
    if isinstance(key, FirewallMark):
        return f"-f {key.mark}" + (" -6" if key.family is Family.IPV6 else "")
    option = next(name for name, protocol in PROTOCOLS.items() if protocol is key.protocol)
    return f"{option} {format_endpoint(key.address, key.port)}"


def _server_words(server: VirtualServer) -> str:
    words = [f"-s {server.scheduler}"]
    persistence = server.persistence
    if persistence is not None:
        words.append(f"-p {persistence.timeout}")
        if persistence.netmask is not None:
            words.append(f"-M {persistence.netmask}")
        elif persistence.prefix_length is not None:
            is_ipv4 = server.key.family is Family.IPV4
            words.append(f"-M {netmask_of(persistence.prefix_length) if is_ipv4 else persistence.prefix_length}")
    if server.persistence_engine:
        words.append(f"--pe {server.persistence_engine}")
    if server.one_packet:
        words.append("-o")
    flags = ",".join(flag_names(server.scheduler_flags, server.scheduler))
    if flags:
        words.append(f"-b {flags}")
    return " ".join(words)


def _destination_words(destination: Destination) -> str:
    method = next((name for name, each in METHODS.items() if each is destination.forwarding), "")
    words = [method or "-g", f"-w {destination.weight}"]
    tunnel = destination.tunnel
    if destination.forwarding is Forwarding.TUNNELING:
        words.append(f"--tun-type {tunnel.type.name.lower()}")
        if tunnel.type is TunnelType.GUE:
            words.append(f"--tun-port {tunnel.port}")
        if tunnel.type is not TunnelType.IPIP:
            words.append(next(name for name, each in CHECKSUMS.items() if each is tunnel.checksum))
    return " ".join(words)
