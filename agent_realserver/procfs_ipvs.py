"""Whether IPVS on this very host serves a key: from /proc/net/ip_vs, which needs no capability."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from agent_common.errors import InternalError, Reason
from agent_common.virtual_server import FirewallMark, VirtualServerKey

_TABLE = Path("/proc/net/ip_vs")


def serves(key: VirtualServerKey, table: Path = _TABLE) -> bool:
    """Whether the key stands in the table; a kernel without IPVS serves nothing."""
    try:
        lines = table.read_text(encoding="ascii", errors="backslashreplace").splitlines()
    except FileNotFoundError:
        return False
    if isinstance(key, FirewallMark):
        return any(re.match(rf"FWM\s+{key.mark:08X}\s", line) for line in lines)
    return any(_is(line, key.protocol.name, key.address, key.port) for line in lines)


def _is(line: str, protocol: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bool:
    """Whether a line such as `TCP  C0A800C8:2710 rr` or `TCP  [2001:0db8::00c8]:2710 rr` names this virtual server."""
    found = re.match(r"(TCP|UDP|SCTP)\s+(?:([0-9A-F]{8})|\[([0-9a-f:]+)\]):([0-9A-F]{4})\s", line)
    if found is None or found[1] != protocol or int(found[4], 16) != port:
        return False
    try:
        there = ipaddress.IPv4Address(int(found[2], 16)) if found[2] else ipaddress.IPv6Address(found[3])
    except ValueError as error:
        raise InternalError(f"cannot read the kernel's table of virtual servers: {error}", Reason.INTERNAL) from error
    return there == address
