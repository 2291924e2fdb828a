"""A director's table as ipvsadm -Ln and its other views print it. Pure functions."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence

from lvsagent.v1 import destination_pb2, ipvs_service_pb2, statistics_pb2

from agent_common import wire
from agent_common.destination import Destination, Forwarding, TunnelChecksum, TunnelType
from agent_common.scheduler import flag_names
from agent_common.virtual_server import (
    Family,
    FirewallMark,
    Protocol,
    VirtualServer,
    VirtualServerKey,
    format_endpoint,
    parse_address,
)
from cli.rule_order import destination_order, server_order
from cli.rule_writer import clients_mask

Naming = Callable[[str, int, str], str]
"""Returns what is printed for an address, a port, and a protocol in small letters ("": of a firewall mark)."""

Server = ipvs_service_pb2.GetVirtualServerResponse


class View(enum.Enum):
    """What is printed of each destination; the values are the options of lvs list and, but for one, of ipvsadm."""

    CONNECTIONS = ""
    STATS = "stats"
    RATE = "rate"
    THRESHOLDS = "thresholds"
    PERSISTENT = "persistent"
    TUNNELS = "tunnels"


_COLUMNS = {
    View.STATS: ("Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"),
    View.RATE: ("CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"),
    View.THRESHOLDS: ("Uthreshold", "Lthreshold", "ActiveConn", "InActConn"),
    View.PERSISTENT: ("Weight", "PersistConn", "ActiveConn", "InActConn"),
}
_WIDTHS = {View.THRESHOLDS: (10, 10, 10, 10), View.PERSISTENT: (9, 11, 10, 10)}
_HEADS = {
    View.CONNECTIONS: "Forward Weight ActiveConn InActConn",
    View.TUNNELS: "Forward TunnelInfo    Weight ActiveConn InActConn",
}
_METHODS = {
    Forwarding.MASQUERADING: "Masq",
    Forwarding.LOCAL_NODE: "Local",
    Forwarding.TUNNELING: "Tunnel",
    Forwarding.DIRECT_ROUTING: "Route",
    Forwarding.BYPASS: "Bypass",
}
_CHECKSUMS = {TunnelChecksum.NONE: "-c", TunnelChecksum.FULL: "+c", TunnelChecksum.REMOTE: "r+c"}
_LARGE = ((10**14, 10**12, "T"), (10**11, 10**9, "G"), (10**9, 10**6, "M"), (10**8, 10**3, "K"))
"""From how much on a number is cut, to what, and the letter behind it."""


def numeric(address: str, port: int, protocol: str) -> str:
    """Return address and port as they are."""
    return format_endpoint(parse_address(address, "address"), port)


def title(info: ipvs_service_pb2.GetIpvsResponse) -> str:
    """Return the first line."""
    return f"IP Virtual Server version {info.version} (size={info.connection_table_size})"


def table_lines(
    servers: Sequence[Server], view: View, *, exact: bool = False, naming: Naming = numeric
) -> Iterator[str]:
    """Return the lines below the title, in ipvsadm's order; exact: no number is cut.

    What its checks have out of the kernel is not in ipvsadm's table, and not in this one.
    """
    yield from _head(view)
    configured = {id(each): wire.unpack_virtual_server(each.status.virtual_server) for each in servers}
    for each in sorted(servers, key=lambda each: server_order(configured[id(each)].key)):
        server = configured[id(each)]
        yield _server_line(server, each.status.statistics, view, exact, naming)
        unpacked = [
            (wire.unpack_destination_key(status.destination.key), status)
            for status in each.destinations
            if not status.health.removed
        ]
        protocol = _protocol(server.key)
        for key, status in sorted(unpacked, key=lambda pair: destination_order(pair[0])):
            yield f"  -> {naming(str(key.address), key.port, protocol):<28}{_row(status, view, exact)}"


def _head(view: View) -> list[str]:
    if view in _HEADS:
        return ["Prot LocalAddress:Port Scheduler Flags", f"  -> {'RemoteAddress:Port':<29}{_HEADS[view]}"]
    widths = _WIDTHS.get(view)
    columns = _COLUMNS[view]
    cells = [f"{each:>8}" for each in columns]
    if widths is not None:
        cells = [f"{each:<{width}}" for each, width in zip(columns, widths, strict=True)]
    return [f"{'Prot LocalAddress:Port':<33} {' '.join(cells)}", "  -> RemoteAddress:Port"]


def _server_line(
    server: VirtualServer, statistics: statistics_pb2.Statistics, view: View, exact: bool, naming: Naming
) -> str:
    name = _name(server.key, naming)
    match view:
        case View.STATS:
            return f"{name:<33}{_numbers(_counters(statistics), exact)}"
        case View.RATE:
            return f"{name:<33}{_numbers(_rates(statistics), exact)}"
    words = [name, server.scheduler]
    flags = ",".join(flag_names(server.scheduler_flags, server.scheduler))
    if flags:
        words.append(f"({flags})")
    persistence = server.persistence
    if persistence is not None:
        words.append(f"persistent {persistence.timeout}")
        words += [f"mask {mask}"] if (mask := clients_mask(persistence, server.key.family)) else []
        if server.persistence_engine:
            words.append(f"pe {server.persistence_engine}")
    if server.one_packet:
        words.append("ops")
    return " ".join(words)


def _name(key: VirtualServerKey, naming: Naming) -> str:
    if isinstance(key, FirewallMark):
        return f"{'FWM':<4} {key.mark}" + (" IPv6" if key.family is Family.IPV6 else "")
    return f"{key.protocol.name:<4} {naming(str(key.address), key.port, _protocol(key))}"


def _protocol(key: VirtualServerKey) -> str:
    return "" if isinstance(key, FirewallMark) else Protocol(key.protocol).name.lower()


def _row(status: destination_pb2.DestinationStatus, view: View, exact: bool) -> str:
    destination = status.destination
    counts = f"{status.active_connections:<10} {status.inactive_connections:<10}"
    match view:
        case View.STATS:
            return _numbers(_counters(status.statistics), exact)
        case View.RATE:
            rates = _rates(status.statistics)
            return "".join(f" {each:>8}" for each in rates[:3]) + _numbers(rates[3:], exact)
        case View.THRESHOLDS:
            return f" {destination.upper_threshold:<10} {destination.lower_threshold:<10} {counts}"
        case View.PERSISTENT:
            return f" {status.current_weight:<9} {status.persistent_connections:<11} {counts}"
    unpacked = wire.unpack_destination(destination)
    tunnel = f" {_tunnel(unpacked):<13}" if view is View.TUNNELS else ""
    return f" {_METHODS[unpacked.forwarding]:<7}{tunnel} {status.current_weight:<6} {counts}"


def _tunnel(destination: Destination) -> str:
    if destination.forwarding is not Forwarding.TUNNELING:
        return "n/a"
    tunnel = destination.tunnel
    words = [tunnel.type.name.lower()]
    if tunnel.type is TunnelType.GUE:
        words.append(str(tunnel.port))
    if tunnel.type is not TunnelType.IPIP:
        words.append(_CHECKSUMS[tunnel.checksum])
    return ":".join(words)


def _counters(statistics: statistics_pb2.Statistics) -> list[int]:
    return [
        statistics.connections,
        statistics.packets_in,
        statistics.packets_out,
        statistics.bytes_in,
        statistics.bytes_out,
    ]


def _rates(statistics: statistics_pb2.Statistics) -> list[int]:
    return [
        statistics.connection_rate,
        statistics.packet_rate_in,
        statistics.packet_rate_out,
        statistics.byte_rate_in,
        statistics.byte_rate_out,
    ]


def _numbers(values: Sequence[int], exact: bool) -> str:
    return "".join(_number(value, exact) for value in values)


def _number(value: int, exact: bool) -> str:
    """Return a number with at least a space before it, in nine columns, cut where it does not fit."""
    if not exact:
        for least, unit, letter in _LARGE:
            if value >= least:
                return f"{value // unit:>8}{letter}"
    return f" {value:>8}"
