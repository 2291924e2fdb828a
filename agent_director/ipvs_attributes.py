"""What the IPVS codecs share: numbers, addresses and tables within attributes that were walked. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar

from agent_common.netlink_frames import CodecError, pack_attribute, payload_end, walk
from agent_common.virtual_server import Family, IpAddress

T = TypeVar("T")

U16: Final = struct.Struct("=H")
U32: Final = struct.Struct("=I")
PORT: Final = struct.Struct(">H")
"""Ports, a tunnel's too, are big-endian; all other numbers are in the host's order."""

ADDRESS_SIZE: Final = 16
"""An address is union nf_inet_addr; an IPv4 one has its first four bytes."""

# Tables like this one are asked instead of the enums: a tenth of the time, and 50,000 destinations ask often.
FAMILIES: Final = {int(member): member for member in Family}


def walk_nested(data: bytes, start: int, end: int, kind: int, sizes: Mapping[int, int]) -> dict[int, int]:
    """Walk the attributes within the one attribute of a message that holds an object."""
    at = place(walk(data, start, end, {}), kind)
    return walk(data, at, payload_end(data, at), sizes)


def look_up(table: Mapping[int, T], number: int, what: str) -> T:
    """Return what a number stands for."""
    member = table.get(number)
    if member is None:
        raise CodecError(f"cannot read {what} {number}: it is unknown")
    return member


def pack_u32(kind: int, number: int) -> bytes:
    """Write an attribute of four bytes."""
    return _pack_number(U32, kind, number)


def pack_u16(kind: int, number: int) -> bytes:
    """Write an attribute of two bytes in the host's order."""
    return _pack_number(U16, kind, number)


def _pack_number(layout: struct.Struct, kind: int, number: int) -> bytes:
    try:
        return pack_attribute(kind, layout.pack(number))
    except struct.error as error:
        raise CodecError(f"cannot write attribute {kind}: {number} does not fit") from error


def pack_name(kind: int, name: str, limit: int) -> bytes:
    """Write an attribute with a name that takes fewer than `limit` bytes."""
    if not (name and name.isascii() and "\0" not in name and len(name) < limit):
        raise CodecError(f"cannot write {name!r} as a name: 1 to {limit - 1} ASCII characters fit")
    return pack_attribute(kind, name.encode("ascii") + b"\0")


def place(found: Mapping[int, int], kind: int) -> int:
    """Return where an attribute that must be there begins."""
    at = found.get(kind)
    if at is None:
        raise CodecError(f"cannot read the message: attribute {kind} is missing")
    return at


def u32(data: bytes, found: Mapping[int, int], kind: int) -> int:
    """Read a number that must be there."""
    number: int = U32.unpack_from(data, place(found, kind))[0]
    return number


def address(data: bytes, at: int, family: Family) -> IpAddress:
    """Read an address."""
    if family is Family.IPV4:
        return IPv4Address(data[at : at + 4])
    return IPv6Address(data[at : at + 16])
