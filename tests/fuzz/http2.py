"""HTTP/2 and gRPC by hand (RFC 9113; grpc/doc/PROTOCOL-HTTP2.md), to send what no client would. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE = 3, 6

HELLO = PREFACE + b"\0\0\0" + bytes([SETTINGS]) + b"\0\0\0\0\0"
"""How a connection begins: the preface, and settings that set nothing."""


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """Return a frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name: str, value: str) -> bytes:
    """Return a header field, never indexed, without Huffman (RFC 7541, 6.2.3)."""
    return b"\x10" + _text(name) + _text(value)


def headers(path: str, *, more: bytes = b"") -> bytes:
    """Return the header block of a call."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "a", "te": "trailers"}
    fields["content-type"] = "application/grpc"
    return b"".join(header(name, value) for name, value in fields.items()) + more


def message(data: bytes, *, claims: int | None = None) -> bytes:
    """Return a message with its prefix, which may claim another length."""
    return b"\0" + struct.pack(">I", len(data) if claims is None else claims) + data


def frames_in(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Return the whole frames in what a server has sent: kind, flags, payload."""
    while len(data) >= 9:
        length = int.from_bytes(data[:3], "big")
        if len(data) < 9 + length:
            return
        yield data[3], data[4], data[9 : 9 + length]
        data = data[9 + length :]


def settings_in(data: bytes) -> dict[int, int]:
    """Return the settings that a server has sent."""
    found: dict[int, int] = {}
    for kind, flags, payload in frames_in(data):
        if kind == SETTINGS and not flags & ACK:
            found.update(struct.iter_unpack(">HI", payload))
    return found


def _text(text: str) -> bytes:
    data = text.encode()
    length = bytes([len(data)]) if len(data) < 127 else b"\x7f" + _varint(len(data) - 127)
    return length + data


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 128:
        found.append(number % 128 + 128)
        number //= 128
    return bytes([*found, number])
