"""Destinations between bytes and the project's types, both ways. No I/O.

The kernel's side is ip_vs_genl_parse_dest and ip_vs_genl_fill_dest in net/netfilter/ipvs/ip_vs_ctl.c.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from socket import ntohs
from typing import Final

from agent_common.destination import (
    MAX_WEIGHT,
    PLAIN_TUNNEL,
    Destination,
    DestinationKey,
    DestinationStatus,
    Forwarding,
    Tunnel,
    TunnelChecksum,
    TunnelType,
)
from agent_common.netlink_frames import NLA_F_NESTED, CodecError, pack_attribute
from agent_common.virtual_server import Family, family_of
from agent_director import ipvs_numbers as n
from agent_director.ipvs_attributes import ADDRESS_SIZE, FAMILIES, PORT, U16, U32, look_up, place, walk_nested

_DESTINATION_SIZES: Final = {
    n.IPVS_DEST_ATTR_ADDR: ADDRESS_SIZE,
    n.IPVS_DEST_ATTR_PORT: 2,
    n.IPVS_DEST_ATTR_FWD_METHOD: 4,
    n.IPVS_DEST_ATTR_WEIGHT: 4,
    n.IPVS_DEST_ATTR_U_THRESH: 4,
    n.IPVS_DEST_ATTR_L_THRESH: 4,
    n.IPVS_DEST_ATTR_ACTIVE_CONNS: 4,
    n.IPVS_DEST_ATTR_INACT_CONNS: 4,
    n.IPVS_DEST_ATTR_PERSIST_CONNS: 4,
    n.IPVS_DEST_ATTR_ADDR_FAMILY: 2,
    n.IPVS_DEST_ATTR_TUN_TYPE: 1,
    n.IPVS_DEST_ATTR_TUN_PORT: 2,
    n.IPVS_DEST_ATTR_TUN_FLAGS: 2,
}

_FORWARDINGS: Final = {int(member): member for member in Forwarding}
_TUNNEL_TYPES: Final = {int(member): member for member in TunnelType}
_CHECKSUMS: Final = {int(member): member for member in TunnelChecksum}

_DESTINATION_KEY = struct.Struct("=HHH2xHH16sHH2s2x")
_DESTINATION = struct.Struct("=HHIHHIHHIHHIHHB3xHH2s2xHHH2x")

_Values = tuple[bytes, int, int, int, int, int, int, int, int, int, int, int, int]
"""What a destination's message says, as numbers in the order of _DUMPED_ORDER; ports still big-endian."""

_DUMPED_ORDER: Final = (
    n.IPVS_DEST_ATTR_ADDR,
    n.IPVS_DEST_ATTR_PORT,
    n.IPVS_DEST_ATTR_FWD_METHOD,
    n.IPVS_DEST_ATTR_WEIGHT,
    n.IPVS_DEST_ATTR_TUN_TYPE,
    n.IPVS_DEST_ATTR_TUN_PORT,
    n.IPVS_DEST_ATTR_TUN_FLAGS,
    n.IPVS_DEST_ATTR_U_THRESH,
    n.IPVS_DEST_ATTR_L_THRESH,
    n.IPVS_DEST_ATTR_ACTIVE_CONNS,
    n.IPVS_DEST_ATTR_INACT_CONNS,
    n.IPVS_DEST_ATTR_PERSIST_CONNS,
    n.IPVS_DEST_ATTR_ADDR_FAMILY,
)
_PADDED: Final = {16: "16s", 4: "I", 2: "H2x", 1: "B3x"}
_DUMPED: Final = struct.Struct("=HH" + "".join("4s" + _PADDED[_DESTINATION_SIZES[kind]] for kind in _DUMPED_ORDER))
_DUMPED_HEADERS: Final = tuple(struct.pack("=HH", _DESTINATION_SIZES[kind] + 4, kind) for kind in _DUMPED_ORDER)
_U8: Final = struct.Struct("=B")


def pack_destination_key(key: DestinationKey) -> bytes:
    """Write the attribute that names a destination."""
    return pack_attribute(n.IPVS_CMD_ATTR_DEST | NLA_F_NESTED, _destination_key_attributes(key))


def pack_destination(destination: Destination) -> bytes:
    """Write the attribute with a destination's whole configuration, for an add or an edit."""
    tunnel = destination.tunnel
    try:
        attributes = _DESTINATION.pack(
            *(8, n.IPVS_DEST_ATTR_FWD_METHOD, destination.forwarding),
            *(8, n.IPVS_DEST_ATTR_WEIGHT, destination.weight),
            *(8, n.IPVS_DEST_ATTR_U_THRESH, destination.upper_threshold),
            *(8, n.IPVS_DEST_ATTR_L_THRESH, destination.lower_threshold),
            *(5, n.IPVS_DEST_ATTR_TUN_TYPE, tunnel.type),
            *(6, n.IPVS_DEST_ATTR_TUN_PORT, PORT.pack(tunnel.port)),
            *(6, n.IPVS_DEST_ATTR_TUN_FLAGS, tunnel.checksum),
        )
    except struct.error as error:
        raise CodecError(f"cannot write destination {destination.key}: a number does not fit: {error}") from error
    key = _destination_key_attributes(destination.key)
    return pack_attribute(n.IPVS_CMD_ATTR_DEST | NLA_F_NESTED, key + attributes)


def unpack_destination(data: bytes, start: int, end: int, family: Family) -> DestinationStatus:
    """Read a destination from an answer to GET_DEST; the virtual server's family counts where its own is left out."""
    values = _dumped_values(data, start, end) or _walked_values(data, start, end, family)
    address, port, forwarding, weight, kind, tunnel_port, flags, upper, lower, active, inactive, persistent, own = (
        values
    )
    if weight > MAX_WEIGHT:
        raise CodecError(f"cannot read a destination: weight {weight} is out of range (0 to {MAX_WEIGHT})")
    is_ipv4 = look_up(FAMILIES, own, "address family") is Family.IPV4
    key = DestinationKey(address=IPv4Address(address[:4]) if is_ipv4 else IPv6Address(address), port=ntohs(port))
    destination = Destination(
        key=key,
        forwarding=look_up(_FORWARDINGS, forwarding, "forwarding method"),
        weight=weight,
        upper_threshold=upper,
        lower_threshold=lower,
        tunnel=_tunnel(kind, tunnel_port, flags) if kind or tunnel_port or flags else PLAIN_TUNNEL,
    )
    return DestinationStatus(
        destination=destination, current_weight=weight, active=active, inactive=inactive, persistent=persistent
    )


def _dumped_values(data: bytes, start: int, end: int) -> _Values | None:
    """Read all values at once from a message in the order that Linux has had since 5.3; None if it is another.

    Statistics and what newer kernels may add come after them. It takes a fifth of a walk's time.
    """
    if not 0 <= start <= end - _DUMPED.size <= len(data) - _DUMPED.size:
        return None
    fields = _DUMPED.unpack_from(data, start)
    if fields[:2] != (end - start, n.IPVS_CMD_ATTR_DEST) or fields[2::2] != _DUMPED_HEADERS:
        return None
    return fields[3::2]


def _walked_values(data: bytes, start: int, end: int, family: Family) -> _Values:
    """Read the values in whatever order they stand.

    Kernels before 3.18 leave out ADDR_FAMILY, and those before 5.3 the tunnel, which is IPIP there.
    """
    found = walk_nested(data, start, end, n.IPVS_CMD_ATTR_DEST, _DESTINATION_SIZES)

    def number(kind: int, layout: struct.Struct = U32, absent: int | None = None) -> int:
        if absent is not None and kind not in found:
            return absent
        value: int = layout.unpack_from(data, place(found, kind))[0]
        return value

    at = place(found, n.IPVS_DEST_ATTR_ADDR)
    return (
        data[at : at + ADDRESS_SIZE],
        number(n.IPVS_DEST_ATTR_PORT, U16),
        number(n.IPVS_DEST_ATTR_FWD_METHOD),
        number(n.IPVS_DEST_ATTR_WEIGHT),
        number(n.IPVS_DEST_ATTR_TUN_TYPE, _U8, 0),
        number(n.IPVS_DEST_ATTR_TUN_PORT, U16, 0),
        number(n.IPVS_DEST_ATTR_TUN_FLAGS, U16, 0),
        number(n.IPVS_DEST_ATTR_U_THRESH),
        number(n.IPVS_DEST_ATTR_L_THRESH),
        number(n.IPVS_DEST_ATTR_ACTIVE_CONNS),
        number(n.IPVS_DEST_ATTR_INACT_CONNS),
        number(n.IPVS_DEST_ATTR_PERSIST_CONNS),
        number(n.IPVS_DEST_ATTR_ADDR_FAMILY, U16, family),
    )


def _tunnel(kind: int, port: int, flags: int) -> Tunnel:
    tunnel_type = look_up(_TUNNEL_TYPES, kind, "tunnel type")
    return Tunnel(type=tunnel_type, port=ntohs(port), checksum=look_up(_CHECKSUMS, flags, "tunnel flags"))


def _destination_key_attributes(key: DestinationKey) -> bytes:
    try:
        return _DESTINATION_KEY.pack(
            *(6, n.IPVS_DEST_ATTR_ADDR_FAMILY, family_of(key.address)),
            *(20, n.IPVS_DEST_ATTR_ADDR, key.address.packed),  # struct pads an IPv4 address with zeros
            *(6, n.IPVS_DEST_ATTR_PORT, PORT.pack(key.port)),
        )
    except struct.error as error:
        raise CodecError(f"cannot write destination {key}: a number does not fit: {error}") from error
