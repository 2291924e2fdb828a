"""Messages of (generic) netlink between bytes and numbers: headers, attributes, errors, the family lookup. No I/O.

Layouts and numbers are those of include/uapi/linux/netlink.h and genetlink.h; integers are in the host's byte order.
Whatever cannot be read or written is a CodecError, and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from agent_common.errors import InternalError, Reason

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x001
NLM_F_MULTI: Final = 0x002
NLM_F_ACK: Final = 0x004
NLM_F_DUMP_INTR: Final = 0x010
NLM_F_DUMP: Final = 0x300
NLM_F_CAPPED: Final = 0x100
NLM_F_ACK_TLVS: Final = 0x200
NLMSGERR_ATTR_MSG: Final = 1

NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF
"""An attribute's type without the flags for nesting and byte order."""

GENL_ID_CTRL: Final = 16
CTRL_VERSION: Final = 2
CTRL_CMD_GETFAMILY: Final = 3
CTRL_ATTR_FAMILY_ID: Final = 1
CTRL_ATTR_FAMILY_NAME: Final = 2

_REQUEST = struct.Struct("=IHHIIBBxx")
_HEADER = struct.Struct("=IHHI4x")
_ATTRIBUTE = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")
_LENGTH = struct.Struct("=I")
_U16 = struct.Struct("=H")
_GENL_HEADER_SIZE = 4

REQUEST_SIZE: Final = _REQUEST.size
"""Bytes of a request's headers."""


class CodecError(InternalError):
    """Bytes that are no message of ours, or a value that has no place in one."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Reason.INTERNAL)


class Frame(NamedTuple):
    """One message in a datagram: header fields, and where its payload begins and ends."""

    kind: int
    flags: int
    sequence: int
    start: int
    end: int


def pack_request(
    family: int, command: int, attributes: bytes = b"", *, sequence: int, flags: int = 0, version: int = 1
) -> bytes:
    """Write one generic netlink request; several may stand one after the other in a datagram."""
    length = _REQUEST.size + len(attributes)
    return _REQUEST.pack(length, family, NLM_F_REQUEST | flags, sequence, 0, command, version) + attributes


def pack_attribute(kind: int, payload: bytes) -> bytes:
    """Write one attribute, padded to four bytes."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length & 3)


def unpack_frames(data: bytes) -> Iterator[Frame]:
    """Read the headers of all messages in a datagram."""
    start, total = 0, len(data)
    while start < total:
        if total - start < _HEADER.size:
            raise CodecError(f"cannot read a netlink header: {total - start} bytes are left of {_HEADER.size}")
        length, kind, flags, sequence = _HEADER.unpack_from(data, start)
        if not _HEADER.size <= length <= total - start:
            raise CodecError(f"cannot read a netlink message: it claims {length} bytes, {total - start} are there")
        yield Frame(kind, flags, sequence, start + _HEADER.size, start + length)
        start += (length + 3) & ~3


def attributes_start(frame: Frame) -> int:
    """Return where a generic netlink message's attributes begin, after its own header."""
    if frame.end - frame.start < _GENL_HEADER_SIZE:
        raise CodecError(f"cannot read a generic netlink header: {frame.end - frame.start} bytes are there")
    return frame.start + _GENL_HEADER_SIZE


def walk(data: bytes, start: int, end: int, sizes: Mapping[int, int]) -> dict[int, int]:
    """Return where the payload of each attribute begins, by type; those named in `sizes` must have that many bytes.

    Types that nobody asks for are passed over, as netlink wants it: newer kernels send more.
    """
    if not 0 <= start <= end <= len(data):
        raise CodecError(f"cannot read attributes: {start} to {end} is not within {len(data)} bytes")
    found: dict[int, int] = {}
    unpack, size_of = _ATTRIBUTE.unpack_from, sizes.get
    while start < end:
        if end - start < 4:
            raise CodecError(f"cannot read an attribute: {end - start} bytes are left")
        length, kind = unpack(data, start)
        if length < 4 or start + length > end:
            raise CodecError(f"cannot read an attribute: it claims {length} bytes, {end - start} are there")
        kind &= NLA_TYPE_MASK
        start += 4
        if size_of(kind, length - 4) != length - 4:
            raise CodecError(f"cannot read attribute {kind}: it has {length - 4} bytes instead of {sizes[kind]}")
        found[kind] = start
        start += (length - 1) & ~3
    return found


def payload_end(data: bytes, start: int) -> int:
    """Return where a payload that `walk` found ends."""
    length: int = _U16.unpack_from(data, start - 4)[0]
    return start - 4 + length


def text_at(data: bytes, start: int, limit: int) -> str:
    """Read the string of a payload that `walk` found: ASCII, with or without its NUL, fewer than `limit` bytes."""
    raw = data[start : payload_end(data, start)].split(b"\0", 1)[0]
    if len(raw) >= limit or not raw.isascii():
        raise CodecError(f"cannot read {raw!r} as a name")
    return raw.decode("ascii")


def unpack_error(data: bytes, frame: Frame) -> tuple[int, str]:
    """Read the errno (0 is an acknowledgement) and the kernel's sentence, if any, of an NLMSG_ERROR or NLMSG_DONE."""
    start = frame.start
    if frame.end - start < _ERRNO.size:
        raise CodecError("cannot read a netlink error: its number is missing")
    number = -_ERRNO.unpack_from(data, start)[0]
    if number < 0:
        raise CodecError(f"cannot read a netlink error: {-number} is not an errno")
    start += _ERRNO.size
    if frame.kind == NLMSG_ERROR:  # the header of the request follows, and without NLM_F_CAPPED all of it
        if frame.end - start < _HEADER.size:
            raise CodecError("cannot read a netlink error: the header of its request is missing")
        length = _HEADER.size if frame.flags & NLM_F_CAPPED else _LENGTH.unpack_from(data, start)[0]
        start += (length + 3) & ~3
    if not frame.flags & NLM_F_ACK_TLVS:
        return number, ""
    found = walk(data, start, frame.end, {})
    if NLMSGERR_ATTR_MSG not in found:
        return number, ""
    at = found[NLMSGERR_ATTR_MSG]
    return number, data[at : payload_end(data, at)].split(b"\0", 1)[0].decode("utf-8", "replace")


def pack_family_lookup(sequence: int, name: str) -> bytes:
    """Write the question for a family's number; the kernel loads the module of that family when it is asked."""
    attribute = pack_attribute(CTRL_ATTR_FAMILY_NAME, name.encode("ascii") + b"\0")
    return pack_request(
        GENL_ID_CTRL, CTRL_CMD_GETFAMILY, attribute, sequence=sequence, flags=NLM_F_ACK, version=CTRL_VERSION
    )


def unpack_family_lookup(data: bytes, start: int, end: int) -> int:
    """Read a family's number from the attributes of the answer."""
    found = walk(data, start, end, {CTRL_ATTR_FAMILY_ID: 2})
    if CTRL_ATTR_FAMILY_ID not in found:
        raise CodecError("cannot read the answer to a family lookup: the number is missing")
    number: int = _U16.unpack_from(data, found[CTRL_ATTR_FAMILY_ID])[0]
    return number
