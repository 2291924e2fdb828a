"""Checks by UDP: silence, replies, and ICMP errors."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import cast

import pytest

from agent_common.check import UdpCheck
from agent_common.check_socket import CheckSocket
from tests.common.checking import PLENTY, SECONDS, ask, detail, unused_port

Replies = Callable[[bytes], list[bytes]]


class _Server(asyncio.DatagramProtocol):
    def __init__(self, replies: Replies) -> None:
        self._replies = replies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for each in self._replies(data):
            self._transport.sendto(each, addr)


@asynccontextmanager
async def answering(replies: Replies) -> AsyncIterator[int]:
    """Serve datagrams on a port of loopback."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Server(replies), local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


async def test_silence_passes_when_no_reply_is_expected() -> None:
    """After all of the time: until then an ICMP error may come."""
    heard: list[bytes] = []

    def hears(data: bytes) -> list[bytes]:
        heard.append(data)
        return []

    async with answering(hears) as port:
        answer = await ask(UdpCheck(payload=b"ping"), port, SECONDS)
    assert (answer.passed, answer.detail) == (True, f"no ICMP error within {SECONDS:g} s")
    assert heard == [b"ping"]


async def test_silence_fails_when_a_reply_is_expected() -> None:
    async with answering(lambda data: []) as port:
        for reply in (b"", b"pong"):
            assert await detail(UdpCheck(reply=reply), port, SECONDS) == f"no reply within {SECONDS:g} s"


@pytest.mark.parametrize("payload", [b"", b"ping", b"x" * 1024])
async def test_a_reply_that_begins_as_expected_passes_at_once(payload: bytes) -> None:
    async with answering(lambda data: [b"pong " + data]) as port:
        for reply in (None, b"", b"pong"):
            found = await ask(UdpCheck(payload=payload, reply=reply), port, PLENTY)
            assert (found.passed, found.detail) == (True, f"reply of {5 + len(payload)} octets")


async def test_another_reply_fails_and_is_shown() -> None:
    for sent, said in ((b"\x00nope", "\\x00nope"), (b"pon", "pon")):
        async with answering(lambda data, sent=sent: [sent]) as port:  # type: ignore[misc]
            assert await detail(UdpCheck(reply=b"pong"), port) == f"the reply begins otherwise: {said}"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_icmp_error_fails_whatever_is_expected(address: str) -> None:
    port = unused_port(socket.SOCK_DGRAM)
    for reply in (None, b"", b"pong"):
        assert await detail(UdpCheck(reply=reply), port, address=address) == "no reply: port unreachable"


async def test_other_icmp_errors_are_heard_of_too() -> None:
    """A host that cannot be reached is no error of a socket unless it asks for that (IP_RECVERR)."""
    for address, level, name in (("127.0.0.1", socket.IPPROTO_IP, 11), ("::1", socket.IPPROTO_IPV6, 25)):
        with CheckSocket(ip_address(address), 1, socket.SOCK_DGRAM) as opened:
            assert opened.socket.getsockopt(level, name) == 1
            assert opened.failure(OSError(errno.EHOSTUNREACH, "")) == "no answer: no route to host"
