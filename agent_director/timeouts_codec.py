"""Timeouts between bytes and the project's type, both ways. No I/O.

The kernel's side is ip_vs_genl_set_config, and ip_vs_genl_get_cmd for IPVS_CMD_GET_CONFIG, in ip_vs_ctl.c.
"""

from __future__ import annotations

from typing import Final

from agent_common.netlink_frames import walk
from agent_common.timeouts import Timeouts
from agent_director import ipvs_numbers as n
from agent_director.ipvs_attributes import pack_u32, u32

_FIELDS: Final = {
    n.IPVS_CMD_ATTR_TIMEOUT_TCP: "tcp",
    n.IPVS_CMD_ATTR_TIMEOUT_TCP_FIN: "tcp_fin",
    n.IPVS_CMD_ATTR_TIMEOUT_UDP: "udp",
}
_SIZES: Final = dict.fromkeys(_FIELDS, 4)


def pack_timeouts(timeouts: Timeouts) -> bytes:
    """Write the attributes for SET_CONFIG; the kernel leaves alone what is left out."""
    meant = timeouts.meant()
    return b"".join(pack_u32(kind, meant[name]) for kind, name in _FIELDS.items() if name in meant)


def unpack_timeouts(data: bytes, start: int, end: int) -> Timeouts:
    """Read an answer to GET_CONFIG."""
    found = walk(data, start, end, _SIZES)
    return Timeouts(**{name: u32(data, found, kind) for kind, name in _FIELDS.items()})
