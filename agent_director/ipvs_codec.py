"""The IPVS netlink codec as a whole: bytes to the project's types and back. No I/O.

What unpacks takes the attributes of one message: the bytes, where they begin and where they end. What packs gives the
attribute that goes into a request. Whatever cannot be read or written, an unknown number too, is a CodecError.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from agent_common.netlink_frames import CodecError, payload_end, walk
from agent_common.statistics import Statistics
from agent_director import ipvs_numbers as n
from agent_director.destination_codec import pack_destination, pack_destination_key, unpack_destination
from agent_director.ipvs import Info
from agent_director.ipvs_attributes import place, u32, walk_nested
from agent_director.sync_daemon_codec import pack_sync_daemon, pack_sync_role, unpack_sync_daemon
from agent_director.timeouts_codec import pack_timeouts, unpack_timeouts
from agent_director.virtual_server_codec import pack_key, pack_virtual_server, unpack_virtual_server

__all__ = [
    "CodecError",
    "pack_destination",
    "pack_destination_key",
    "pack_key",
    "pack_sync_daemon",
    "pack_sync_role",
    "pack_timeouts",
    "pack_virtual_server",
    "unpack_destination",
    "unpack_destination_statistics",
    "unpack_info",
    "unpack_sync_daemon",
    "unpack_timeouts",
    "unpack_virtual_server",
    "unpack_virtual_server_statistics",
]

_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")

_COUNTERS: Final = {
    n.IPVS_STATS_ATTR_CONNS: "connections",
    n.IPVS_STATS_ATTR_INPKTS: "packets_in",
    n.IPVS_STATS_ATTR_OUTPKTS: "packets_out",
    n.IPVS_STATS_ATTR_INBYTES: "bytes_in",
    n.IPVS_STATS_ATTR_OUTBYTES: "bytes_out",
    n.IPVS_STATS_ATTR_CPS: "connection_rate",
    n.IPVS_STATS_ATTR_INPPS: "packet_rate_in",
    n.IPVS_STATS_ATTR_OUTPPS: "packet_rate_out",
    n.IPVS_STATS_ATTR_INBPS: "byte_rate_in",
    n.IPVS_STATS_ATTR_OUTBPS: "byte_rate_out",
}
_STATS64_SIZES: Final = dict.fromkeys(_COUNTERS, 8)
_STATS_SIZES: Final = dict.fromkeys(_COUNTERS, 4) | {n.IPVS_STATS_ATTR_INBYTES: 8, n.IPVS_STATS_ATTR_OUTBYTES: 8}


def unpack_info(data: bytes, start: int, end: int) -> Info:
    """Read an answer to GET_INFO; the kernel packs the version by NVERSION, a byte a part."""
    found = walk(data, start, end, {n.IPVS_INFO_ATTR_VERSION: 4, n.IPVS_INFO_ATTR_CONN_TAB_SIZE: 4})
    number = u32(data, found, n.IPVS_INFO_ATTR_VERSION)
    return Info(
        version=f"{number >> 16}.{number >> 8 & 0xFF}.{number & 0xFF}",
        connection_table_size=u32(data, found, n.IPVS_INFO_ATTR_CONN_TAB_SIZE),
    )


def unpack_virtual_server_statistics(data: bytes, start: int, end: int) -> Statistics:
    """Read the counters of a virtual server from an answer to GET_SERVICE."""
    found = walk_nested(data, start, end, n.IPVS_CMD_ATTR_SERVICE, {})
    return _unpack_statistics(data, found, n.IPVS_SVC_ATTR_STATS64, n.IPVS_SVC_ATTR_STATS)


def unpack_destination_statistics(data: bytes, start: int, end: int) -> Statistics:
    """Read the counters of a destination from an answer to GET_DEST."""
    found = walk_nested(data, start, end, n.IPVS_CMD_ATTR_DEST, {})
    return _unpack_statistics(data, found, n.IPVS_DEST_ATTR_STATS64, n.IPVS_DEST_ATTR_STATS)


def _unpack_statistics(data: bytes, found: Mapping[int, int], wide: int, narrow: int) -> Statistics:
    """Read STATS64, or STATS (all but the bytes 32 bits wide) from kernels before 4.1 that do not send it."""
    is_wide = wide in found
    at = found[wide] if is_wide else place(found, narrow)
    counters = walk(data, at, payload_end(data, at), _STATS64_SIZES if is_wide else _STATS_SIZES)
    values = {}
    for kind, name in _COUNTERS.items():
        start = place(counters, kind)
        is_long = is_wide or _STATS_SIZES[kind] == 8
        values[name] = (_U64 if is_long else _U32).unpack_from(data, start)[0]
    return Statistics(**values)
