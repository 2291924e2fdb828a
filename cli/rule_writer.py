"""Writes the rules of ipvsadm -S -n, and what a step of a table does in words of them. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from agent_common.destination import Destination, Forwarding, TunnelType, effective
from agent_common.scheduler import flag_names
from agent_common.table import Table, TableStep, verb_of
from agent_common.virtual_server import (
    Family,
    FirewallMark,
    Persistence,
    VirtualServer,
    VirtualServerKey,
    format_endpoint,
    netmask_of,
)
from cli.rule_order import destination_order, server_order
from cli.rules import CHECKSUMS, METHODS, PROTOCOLS


def write_rules(table: Table) -> Iterator[str]:
    """Return the lines that ipvsadm -S -n prints for a table, in its order.

    Thresholds have no place in them, nor that a destination drains: its weight is the kernel's.
    """
    for key in sorted(table, key=server_order):
        entry = table[key]
        if entry.virtual_server is not None:
            yield server_rule(entry.virtual_server)
        for destination in sorted(entry.destinations.values(), key=lambda each: destination_order(each.key)):
            yield destination_rule(key, effective(destination))


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


def clients_mask(persistence: Persistence, family: Family) -> str:
    """Return which clients are one, as ipvsadm writes it: a mask with IPv4, bits with IPv6; "" for one address each."""
    if persistence.netmask is not None:
        return str(persistence.netmask)
    if persistence.prefix_length is None:
        return ""
    return str(netmask_of(persistence.prefix_length) if family is Family.IPV4 else persistence.prefix_length)


def _server_words(server: VirtualServer) -> str:
    words = [f"-s {server.scheduler}"]
    persistence = server.persistence
    if persistence is not None:
        words.append(f"-p {persistence.timeout}")
        words += [f"-M {mask}"] if (mask := clients_mask(persistence, server.key.family)) else []
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
