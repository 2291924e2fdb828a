"""What servers answer to checks, at random: a check comes to an end in time, with a detail that can be printed."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator

import dns.message
import dns.rrset
import pytest
from hypothesis import strategies as st

from agent_common.check import Check, DnsCheck, HttpCheck, Kind, SmtpCheck, UdpCheck
from agent_common.check_icmp import Echo
from agent_common.checks import NetworkChecks
from agent_common.health import DynamicWeight, WeightSource
from tests.common.checking import serving, target
from tests.common.test_check_udp import answering
from tests.fuzz.fuzzing import Fuzz

SECONDS = 0.05
GRACE = 2.0
BODY = DynamicWeight(source=WeightSource.HTTP_BODY)

PARTS = st.sampled_from(
    (
        *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 503 \r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 X\r\n"),
        *(
            b"Content-Length: 5\r\n",
            b"Content-Length: -1\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"X-W: 7\r\n",
            b" x\r\n",
        ),
        *(b" x\r\n", b"\r\n", b"\n", b"\r", b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffff\r\n", b"hello", b"77"),
        *(b"220 x\r\n", b"220-x\r\n", b"250 x\r\n", b"250-", b"\x00", b"\xff" * 40, b"x" * 5000),
    )
)
STREAMS = st.lists(PARTS | st.binary(max_size=40), max_size=12)
STREAM_KINDS: list[Kind] = [
    HttpCheck(),
    HttpCheck(body="hello"),
    HttpCheck(method="HEAD", statuses=((200, 599),)),
    SmtpCheck(),
    DnsCheck(name="www.example", tcp=True),
]


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def check(kind: Kind, port: int, dynamic: DynamicWeight | None = None) -> None:
    """Make a check that may pass or fail."""
    Check(kind=kind).check()
    async with asyncio.timeout(SECONDS + GRACE):
        answer = await NetworkChecks()(kind, target(port, dynamic_weight=dynamic), SECONDS)
    assert answer.detail.isprintable()
    assert answer.detail


def test_any_stream_of_bytes_is_an_answer(fuzz: Fuzz, loop: asyncio.Runner) -> None:
    """In pieces, and then the end of the connection, or silence."""

    async def once(kind: Kind, parts: list[bytes], ends: bool, dynamic: DynamicWeight | None) -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for part in parts:
                writer.write(part)
                await writer.drain()
            while not ends and await reader.read(1000):
                pass

        async with serving(handle) as port:
            await check(kind, port, dynamic)

    fuzz(
        lambda *drawn: loop.run(once(*drawn)),
        st.sampled_from(STREAM_KINDS),
        STREAMS,
        st.booleans(),
        st.sampled_from((None, BODY)),
        examples=150,
    )


@st.composite
def damaged(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Places of a message, and what stands there in place of what is right."""
    return draw(st.lists(st.tuples(st.integers(2, 80), st.integers(0, 255)), max_size=6))


def test_any_datagram_is_an_answer_or_none(fuzz: Fuzz, loop: asyncio.Runner) -> None:
    """Of DNS one that is nearly right, too."""

    async def once(damage: list[tuple[int, int]], cut: int, noise: bytes) -> None:
        def reply(wire: bytes) -> list[bytes]:
            answer = dns.message.make_response(dns.message.from_wire(wire))
            answer.answer.append(dns.rrset.from_text("www.example.", 60, "IN", "A", "192.168.0.1"))
            data = bytearray(answer.to_wire())
            for place, value in damage:
                data[place % len(data)] = value
            return [noise, bytes(data[:cut])]

        async with answering(reply) as port:
            await check(DnsCheck(name="www.example"), port)
        async with answering(lambda data: [noise]) as port:
            await check(UdpCheck(reply=b"x"), port)

    fuzz(lambda *drawn: loop.run(once(*drawn)), damaged(), st.integers(0, 100), st.binary(max_size=60), examples=100)


def test_any_icmp_message_is_read(fuzz: Fuzz) -> None:
    """And none but the right one is an answer."""

    def once(data: bytes, version: int, is_raw: bool) -> None:
        echo = Echo(version=version, identifier=7, payload=b"0123456789abcdef")
        assert not echo.is_answered_by(data, is_raw=is_raw)
        reply = struct.pack("!BBHHH", {4: 0, 6: 129}[version], 0, 0, 7, 1) + echo.payload
        assert echo.is_answered_by(reply, is_raw=False)

    fuzz(once, st.binary(max_size=80), st.sampled_from((4, 6)), st.booleans(), examples=200)
