"""Virtual servers and destinations as ipvsadm 1.31 writes and reads them, by its manual page and not by our code."""

from __future__ import annotations

from ipaddress import IPv4Network

from agent_common.destination import Destination, Forwarding, TunnelChecksum, TunnelType
from agent_common.virtual_server import Family, FirewallMark, VirtualServer, VirtualServerKey, format_endpoint

METHODS = {Forwarding.DIRECT_ROUTING: "-g", Forwarding.MASQUERADING: "-m", Forwarding.TUNNELING: "-i"}
CHECKSUMS = {TunnelChecksum.NONE: "nocsum", TunnelChecksum.FULL: "csum", TunnelChecksum.REMOTE: "remcsum"}
FLAG_NAMES = {"sh": ("sh-fallback", "sh-port"), "mh": ("mh-fallback", "mh-port")}


def add_virtual_server(server: VirtualServer) -> str:
    """Return the line that adds a virtual server."""
    return f"-A {_key(server.key)} {_configuration(server, _flags(server))}"


def saved_virtual_server(server: VirtualServer) -> str:
    """Return the line that ipvsadm -S prints for a virtual server.

    Two of these cannot be read by its own -R: a mark from 2147483648 on is printed as a negative number, and flag-3 of
    sh and mh not at all, which leaves "-b" without an argument where it is the only flag (checked by a test).
    """
    key = _key(server.key)
    if isinstance(server.key, FirewallMark) and server.key.mark >= 2**31:
        key = key.replace(str(server.key.mark), str(server.key.mark - 2**32))
    flags = _flags(server)
    if server.scheduler in FLAG_NAMES and "flag-3" in flags:
        flags = flags.replace("flag-3", "").rstrip(",") or " "
    return f"-A {key} {_configuration(server, flags)}".rstrip()


def saved_destination(key: VirtualServerKey, destination: Destination) -> str:
    """Return the line that ipvsadm -S prints for a destination: one that adds it, but for its thresholds."""
    line = f"-a {_key(key)} -r {destination.key} {METHODS[destination.forwarding]} -w {destination.weight}"
    tunnel = destination.tunnel
    if destination.forwarding is not Forwarding.TUNNELING:
        return line
    line += f" --tun-type {tunnel.type.name.lower()}"
    line += f" --tun-port {tunnel.port}" if tunnel.type is TunnelType.GUE else ""
    return line + (f" --tun-{CHECKSUMS[tunnel.checksum]}" if tunnel.type is not TunnelType.IPIP else "")


def add_destination(key: VirtualServerKey, destination: Destination) -> str:
    """Return the line that adds a destination."""
    line = saved_destination(key, destination)
    return f"{line} -x {destination.upper_threshold} -y {destination.lower_threshold}"


def _key(key: VirtualServerKey) -> str:
    if isinstance(key, FirewallMark):
        return f"-f {key.mark}" + (" -6" if key.family is Family.IPV6 else "")
    option = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}[key.protocol.name]
    return f"{option} {format_endpoint(key.address, key.port)}"


def _configuration(server: VirtualServer, flags: str) -> str:
    parts = [f"-s {server.scheduler}"]
    if server.persistence is not None:
        parts.append(f"-p {server.persistence.timeout}")
        length = server.persistence.prefix_length
        if length is not None:
            is_ipv4 = server.key.family is Family.IPV4
            parts.append(f"-M {IPv4Network((0, length)).netmask if is_ipv4 else length}")
        if server.persistence.netmask is not None:
            parts.append(f"-M {server.persistence.netmask}")
    if server.persistence_engine:
        parts.append(f"--pe {server.persistence_engine}")
    if server.one_packet:
        parts.append("-o")
    if flags:
        parts.append(f"-b {flags}")
    return " ".join(parts)


def _flags(server: VirtualServer) -> str:
    first, second = FLAG_NAMES.get(server.scheduler, ("flag-1", "flag-2"))
    flags = server.scheduler_flags
    chosen = ((first, flags.flag_1), (second, flags.flag_2), ("flag-3", flags.flag_3))
    return ",".join(name for name, is_set in chosen if is_set)
