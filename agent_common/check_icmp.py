"""A check by ICMP: passes when an echo is answered (RFC 792, RFC 4443).

By a ping socket where net.ipv4.ping_group_range allows it, else by a raw one, for which the agent has CAP_NET_RAW.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
from dataclasses import dataclass

from agent_common.check import IcmpCheck
from agent_common.check_socket import CheckSocket, FailedError, over
from agent_common.checker import Answer, Target
from agent_common.virtual_server import IpAddress

_PROTOCOL = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
_HEADER = struct.Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence."""


async def check_icmp(kind: IcmpCheck, target: Target, seconds: float) -> Answer:
    """Ask for one echo."""
    echo = Echo(version=target.address.version, identifier=secrets.randbelow(2**16), payload=secrets.token_bytes(32))

    async def talk(connection: CheckSocket) -> Answer:
        connection.awaits = "echo"
        is_raw = connection.socket.type == socket.SOCK_RAW
        await connection.send(echo.request())
        while not echo.is_answered_by(await connection.receive(), is_raw=is_raw):
            pass  # of another program, or an error that the kernel tells, too
        return Answer(passed=True, detail="echo")

    return await over(lambda: _open(target.address, seconds), 0, talk)


def _open(address: IpAddress, seconds: float) -> CheckSocket:
    protocol = _PROTOCOL[address.version]
    try:
        return CheckSocket(address, seconds, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        pass  # the raw one is the other way
    try:
        return CheckSocket(address, seconds, socket.SOCK_RAW, protocol)
    except PermissionError as error:
        raise FailedError(
            f"cannot open a socket for ICMP: {os.strerror(error.errno or 0).lower()}; give the agent CAP_NET_RAW, or "
            "its group net.ipv4.ping_group_range"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """An echo of one IP version. A ping socket has an identifier of its own, by which the kernel finds answers."""

    version: int
    identifier: int
    payload: bytes
    sequence: int = 1

    def request(self) -> bytes:
        """Return the message; the kernel writes the checksum of ICMPv6, and that of a ping socket."""
        kind = _REQUEST[self.version]
        message = _HEADER.pack(kind, 0, 0, self.identifier, self.sequence) + self.payload
        return _HEADER.pack(kind, 0, _checksum(message), self.identifier, self.sequence) + self.payload

    def is_answered_by(self, data: bytes, *, is_raw: bool) -> bool:
        """Whether this is its answer; an IPv4 raw socket gives the IP header, too."""
        if is_raw and self.version == 4:
            data = data[(data[0] & 0x0F) * 4 :] if data else data
        if len(data) < _HEADER.size:
            return False
        kind, code, _, identifier, sequence = _HEADER.unpack_from(data)
        return (kind, code, sequence, data[_HEADER.size :]) == (
            _REPLY[self.version],
            0,
            self.sequence,
            self.payload,
        ) and (identifier == self.identifier or not is_raw)


def _checksum(message: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of octets."""
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
