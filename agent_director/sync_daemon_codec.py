"""Sync daemons between bytes and the project's type, both ways. No I/O.

The kernel's side is ip_vs_genl_new_daemon and ip_vs_genl_fill_daemon in net/netfilter/ipvs/ip_vs_ctl.c. Unlike other
ports, that of a daemon is in the host's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Final

from agent_common.netlink_frames import NLA_F_NESTED, pack_attribute, text_at
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.virtual_server import Family, IpAddress
from agent_director import ipvs_numbers as n
from agent_director.ipvs_attributes import U16, address, look_up, pack_name, pack_u16, pack_u32, place, u32, walk_nested

_SIZES: Final = {
    n.IPVS_DAEMON_ATTR_STATE: 4,
    n.IPVS_DAEMON_ATTR_SYNC_ID: 4,
    n.IPVS_DAEMON_ATTR_SYNC_MAXLEN: 2,
    n.IPVS_DAEMON_ATTR_MCAST_GROUP: 4,
    n.IPVS_DAEMON_ATTR_MCAST_GROUP6: 16,
    n.IPVS_DAEMON_ATTR_MCAST_PORT: 2,
    n.IPVS_DAEMON_ATTR_MCAST_TTL: 1,
}
_ROLES: Final = {int(member): member for member in SyncRole}


def pack_sync_role(role: SyncRole) -> bytes:
    """Write the attribute that names a daemon, for DEL_DAEMON."""
    return _nested(pack_u32(n.IPVS_DAEMON_ATTR_STATE, role))


def pack_sync_daemon(daemon: SyncDaemon) -> bytes:
    """Write the attribute with a daemon's whole configuration, for NEW_DAEMON; what is None is left out."""
    parts = [
        pack_u32(n.IPVS_DAEMON_ATTR_STATE, daemon.role),
        pack_name(n.IPVS_DAEMON_ATTR_MCAST_IFN, daemon.interface, n.IP_VS_IFNAME_MAXLEN),
        pack_u32(n.IPVS_DAEMON_ATTR_SYNC_ID, daemon.sync_id),
    ]
    if daemon.max_length is not None:
        parts.append(pack_u16(n.IPVS_DAEMON_ATTR_SYNC_MAXLEN, daemon.max_length))
    if daemon.group is not None:
        is_ipv4 = isinstance(daemon.group, IPv4Address)
        kind = n.IPVS_DAEMON_ATTR_MCAST_GROUP if is_ipv4 else n.IPVS_DAEMON_ATTR_MCAST_GROUP6
        parts.append(pack_attribute(kind, daemon.group.packed))
    if daemon.port is not None:
        parts.append(pack_u16(n.IPVS_DAEMON_ATTR_MCAST_PORT, daemon.port))
    if daemon.ttl is not None:
        parts.append(pack_attribute(n.IPVS_DAEMON_ATTR_MCAST_TTL, bytes([daemon.ttl])))
    return _nested(b"".join(parts))


def unpack_sync_daemon(data: bytes, start: int, end: int) -> SyncDaemon:
    """Read a daemon that runs from an answer to GET_DAEMON; kernels before 4.3 send the first three fields only."""
    found = walk_nested(data, start, end, n.IPVS_CMD_ATTR_DAEMON, _SIZES)
    ttl = found.get(n.IPVS_DAEMON_ATTR_MCAST_TTL)
    return SyncDaemon(
        role=look_up(_ROLES, u32(data, found, n.IPVS_DAEMON_ATTR_STATE), "state of a sync daemon"),
        interface=text_at(data, place(found, n.IPVS_DAEMON_ATTR_MCAST_IFN), n.IP_VS_IFNAME_MAXLEN),
        sync_id=u32(data, found, n.IPVS_DAEMON_ATTR_SYNC_ID),
        max_length=_u16(data, found, n.IPVS_DAEMON_ATTR_SYNC_MAXLEN),
        group=_group(data, found),
        port=_u16(data, found, n.IPVS_DAEMON_ATTR_MCAST_PORT),
        ttl=None if ttl is None else data[ttl],
    )


def _nested(attributes: bytes) -> bytes:
    return pack_attribute(n.IPVS_CMD_ATTR_DAEMON | NLA_F_NESTED, attributes)


def _u16(data: bytes, found: Mapping[int, int], kind: int) -> int | None:
    if kind not in found:
        return None
    number: int = U16.unpack_from(data, found[kind])[0]
    return number


def _group(data: bytes, found: Mapping[int, int]) -> IpAddress | None:
    for kind, family in (
        (n.IPVS_DAEMON_ATTR_MCAST_GROUP, Family.IPV4),
        (n.IPVS_DAEMON_ATTR_MCAST_GROUP6, Family.IPV6),
    ):
        if kind in found:
            return address(data, found[kind], family)
    return None
