"""Virtual servers between bytes and the project's types, both ways. No I/O.

The kernel's side is ip_vs_genl_parse_service and ip_vs_genl_fill_service in net/netfilter/ipvs/ip_vs_ctl.c.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Final

from agent_common.errors import InvalidInputError
from agent_common.netlink_frames import NLA_F_NESTED, CodecError, pack_attribute, text_at
from agent_common.scheduler import SchedulerFlags
from agent_common.virtual_server import (
    Family,
    FirewallMark,
    Persistence,
    Protocol,
    ServiceAddress,
    VirtualServer,
    VirtualServerKey,
    longest_prefix,
    netmask_of,
)
from agent_director import ipvs_numbers as n
from agent_director.ipvs_attributes import (
    ADDRESS_SIZE,
    FAMILIES,
    PORT,
    U16,
    U32,
    address,
    look_up,
    pack_name,
    pack_u32,
    place,
    u32,
    walk_nested,
)

_FLAGS = struct.Struct("=II")

_SERVICE_SIZES: Final = {
    n.IPVS_SVC_ATTR_AF: 2,
    n.IPVS_SVC_ATTR_PROTOCOL: 2,
    n.IPVS_SVC_ATTR_ADDR: ADDRESS_SIZE,
    n.IPVS_SVC_ATTR_PORT: 2,
    n.IPVS_SVC_ATTR_FWMARK: 4,
    n.IPVS_SVC_ATTR_FLAGS: 8,
    n.IPVS_SVC_ATTR_TIMEOUT: 4,
    n.IPVS_SVC_ATTR_NETMASK: 4,
}

_FLAG_BITS: Final = (n.IP_VS_SVC_F_SCHED1, n.IP_VS_SVC_F_SCHED2, n.IP_VS_SVC_F_SCHED3)
_OUR_FLAGS: Final = n.IP_VS_SVC_F_PERSISTENT | n.IP_VS_SVC_F_ONEPACKET | sum(_FLAG_BITS)

_PROTOCOLS: Final = {int(member): member for member in Protocol}


def pack_key(key: VirtualServerKey) -> bytes:
    """Write the attribute that names a virtual server."""
    return pack_attribute(n.IPVS_CMD_ATTR_SERVICE | NLA_F_NESTED, _key_attributes(key))


def pack_virtual_server(virtual_server: VirtualServer) -> bytes:
    """Write the attribute with a virtual server's whole configuration, for an add or an edit."""
    family, persistence = virtual_server.key.family, virtual_server.persistence
    flags = _pack_flags(virtual_server)
    parts = [
        _key_attributes(virtual_server.key),
        pack_name(n.IPVS_SVC_ATTR_SCHED_NAME, virtual_server.scheduler, n.IP_VS_SCHEDNAME_MAXLEN),
        # Only the flags that we know: on an edit the kernel keeps those outside the mask.
        pack_attribute(n.IPVS_SVC_ATTR_FLAGS, _FLAGS.pack(flags, _OUR_FLAGS)),
        pack_u32(n.IPVS_SVC_ATTR_TIMEOUT, persistence.timeout if persistence else 0),
        pack_attribute(n.IPVS_SVC_ATTR_NETMASK, _pack_netmask(family, persistence)),
    ]
    if virtual_server.persistence_engine:
        parts.append(pack_name(n.IPVS_SVC_ATTR_PE_NAME, virtual_server.persistence_engine, n.IP_VS_PENAME_MAXLEN))
    return pack_attribute(n.IPVS_CMD_ATTR_SERVICE | NLA_F_NESTED, b"".join(parts))


def unpack_virtual_server(data: bytes, start: int, end: int) -> VirtualServer:
    """Read a virtual server from an answer to GET_SERVICE.

    A state that VirtualServer cannot express is a CodecError: a flag that is not in ip_vs.h.
    """
    found = walk_nested(data, start, end, n.IPVS_CMD_ATTR_SERVICE, _SERVICE_SIZES)
    key = _unpack_key(data, found)
    flags = u32(data, found, n.IPVS_SVC_ATTR_FLAGS)
    if flags & ~(_OUR_FLAGS | n.IP_VS_SVC_F_HASHED):
        raise CodecError(f"cannot read virtual server {key}: its flags {flags:#x} hold an unknown one")
    scheduler = text_at(data, place(found, n.IPVS_SVC_ATTR_SCHED_NAME), n.IP_VS_SCHEDNAME_MAXLEN)
    engine = found.get(n.IPVS_SVC_ATTR_PE_NAME)
    return VirtualServer(
        key=key,
        scheduler=scheduler,
        scheduler_flags=SchedulerFlags(
            flag_1=bool(flags & n.IP_VS_SVC_F_SCHED1),
            flag_2=bool(flags & n.IP_VS_SVC_F_SCHED2),
            flag_3=bool(flags & n.IP_VS_SVC_F_SCHED3),
        ),
        persistence=_unpack_persistence(data, found, key, bool(flags & n.IP_VS_SVC_F_PERSISTENT)),
        persistence_engine="" if engine is None else text_at(data, engine, n.IP_VS_PENAME_MAXLEN),
        one_packet=bool(flags & n.IP_VS_SVC_F_ONEPACKET),
    )


def _key_attributes(key: VirtualServerKey) -> bytes:
    family = pack_attribute(n.IPVS_SVC_ATTR_AF, U16.pack(key.family))
    if isinstance(key, FirewallMark):
        return family + pack_u32(n.IPVS_SVC_ATTR_FWMARK, key.mark)
    return b"".join(
        (
            family,
            pack_attribute(n.IPVS_SVC_ATTR_PROTOCOL, U16.pack(key.protocol)),
            pack_attribute(n.IPVS_SVC_ATTR_ADDR, key.address.packed.ljust(ADDRESS_SIZE, b"\0")),
            pack_attribute(n.IPVS_SVC_ATTR_PORT, PORT.pack(key.port)),
        )
    )


def _pack_flags(virtual_server: VirtualServer) -> int:
    chosen = virtual_server.scheduler_flags
    wanted = zip((chosen.flag_1, chosen.flag_2, chosen.flag_3), _FLAG_BITS, strict=True)
    flags = sum(bit for is_set, bit in wanted if is_set)
    flags |= n.IP_VS_SVC_F_PERSISTENT if virtual_server.persistence is not None else 0
    return flags | (n.IP_VS_SVC_F_ONEPACKET if virtual_server.one_packet else 0)


def _pack_netmask(family: Family, persistence: Persistence | None) -> bytes:
    """Write a mask, for IPv6 a prefix length; the kernel wants one without persistence too."""
    longest = longest_prefix(family)
    if persistence is not None and persistence.netmask is not None and family is Family.IPV4:
        return persistence.netmask.packed
    length = longest if persistence is None or persistence.prefix_length is None else persistence.prefix_length
    if not 0 <= length <= longest:
        raise CodecError(f"cannot write a prefix length of {length}: out of range (0 to {longest})")
    if family is Family.IPV6:
        return U32.pack(length)
    return netmask_of(length).packed


def _unpack_persistence(
    data: bytes, found: Mapping[int, int], key: VirtualServerKey, persistent: bool
) -> Persistence | None:
    timeout = u32(data, found, n.IPVS_SVC_ATTR_TIMEOUT)
    at = place(found, n.IPVS_SVC_ATTR_NETMASK)
    if not persistent:
        return None  # timeout and netmask mean nothing then
    is_ipv6 = key.family is Family.IPV6
    try:
        return Persistence(
            timeout=timeout,
            prefix_length=U32.unpack_from(data, at)[0] if is_ipv6 else None,
            netmask=None if is_ipv6 else IPv4Address(data[at : at + 4]),
        ).of(key.family)
    except InvalidInputError as error:
        raise CodecError(f"cannot read virtual server {key}: {error}") from error


def _unpack_key(data: bytes, found: Mapping[int, int]) -> VirtualServerKey:
    number = U16.unpack_from(data, place(found, n.IPVS_SVC_ATTR_AF))[0]
    family = look_up(FAMILIES, number, "address family")
    if n.IPVS_SVC_ATTR_FWMARK in found:
        mark = u32(data, found, n.IPVS_SVC_ATTR_FWMARK)
        if mark == 0:
            raise CodecError("cannot read a virtual server: firewall mark 0")
        return FirewallMark(mark=mark, family=family)
    number = U16.unpack_from(data, place(found, n.IPVS_SVC_ATTR_PROTOCOL))[0]
    return ServiceAddress(
        protocol=look_up(_PROTOCOLS, number, "protocol"),
        address=address(data, place(found, n.IPVS_SVC_ATTR_ADDR), family),
        port=PORT.unpack_from(data, place(found, n.IPVS_SVC_ATTR_PORT))[0],
    )
