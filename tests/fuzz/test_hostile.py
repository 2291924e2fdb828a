"""Clients that mean no good: an agent keeps its memory and its files, and answers everybody else meanwhile.

The agent is a process, measured from outside. Times are those of a busy machine with two cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from lvsagent.v1 import change_service_pb2, change_service_pb2_grpc, vip_service_pb2, vip_service_pb2_grpc

from tests.fuzz import http2
from tests.fuzz.processes import Agent, good_client, running_agent, until

MEMORY = 450.0
"""MiB that an agent on fakes has at most, whatever one caller does to it: 75 before, and 256 messages of 1 MiB."""

ANSWER = 10.0
"""Seconds within which a good client has its answer, connection included."""

TRY_AGAIN = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}

LIST_VIPS = "/lvsagent.v1.VipService/ListVips"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with running_agent(tmp_path) as agent:
        yield agent


@contextlib.contextmanager
def bounded(agent: Agent, capsys: pytest.CaptureFixture[str], name: str) -> Iterator[None]:
    """What happens inside keeps neither memory nor a good client's answers nor, in the end, the agent's files."""
    files = agent.descriptors()
    with good_client(agent) as took:
        yield
        most = agent.resident()
    assert max(took) < ANSWER
    assert most < MEMORY
    assert until(lambda: agent.descriptors() <= files + 2, 90), (files, agent.descriptors())
    with capsys.disabled():
        print(f"\n{name}: {most:.0f} MiB, {len(took)} answers, the slowest in {max(took):.2f} s")


async def one_call(channel: grpc.aio.Channel, number: int) -> grpc.StatusCode:
    """Read; or try to change something, every tenth time."""
    try:
        if number % 10:
            stub = vip_service_pb2_grpc.VipServiceStub(channel)
            await stub.ListVips(vip_service_pb2.ListVipsRequest(), timeout=60)
        else:
            changes = change_service_pb2_grpc.ChangeServiceStub(channel)
            await changes.RevertChange(change_service_pb2.RevertChangeRequest(change_id=str(number)), timeout=60)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def many_calls(agent: Agent, count: int, *, channels: int, parallel: int) -> Counter[str]:
    """Call so often, so many at a time, as eve: reads, and changes among them that she may not make.

    What was refused for want of room is called again: by gRPC itself with UNAVAILABLE or CANCELLED, before the agent
    has seen it, or by the agent.
    """
    ca, key, cert = (each.read_bytes() for each in agent.files("eve"))
    counted: Counter[str] = Counter()
    left = iter(range(count))

    async def work(channel: grpc.aio.Channel) -> None:
        for number in left:
            while (code := await one_call(channel, number)) in TRY_AGAIN:
                counted[code.name] += 1
                await asyncio.sleep(0.1)
            counted[code.name] += 1

    async with contextlib.AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        credentials = grpc.ssl_channel_credentials(ca, key, cert)
        made = [
            await stack.enter_async_context(grpc.aio.secure_channel(agent.target, credentials, options))
            for _ in range(channels)
        ]
        await asyncio.gather(*(work(made[number % channels]) for number in range(parallel)))
    return counted


def test_calls_leave_nothing_behind(agent: Agent, long: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """After 100,000 calls (5,000 where it is not make fuzz) memory is within 10 % of that after 1,000, files equal."""
    count = 100_000 if long else 5_000
    asyncio.run(many_calls(agent, 1000, channels=1, parallel=64))
    until(lambda: False, 0.5)
    before, files = agent.resident(), agent.descriptors()
    begun = time.monotonic()
    counted = asyncio.run(many_calls(agent, count - 1000, channels=1, parallel=64))
    rate = (count - 1000) / (time.monotonic() - begun)
    after = agent.resident()
    assert counted.keys() == {"OK", "PERMISSION_DENIED"}
    assert until(lambda: agent.descriptors() == files)
    with capsys.disabled():
        print(f"\n{count} calls, {rate:.0f}/s: {before:.1f} MiB after 1,000, {after:.1f} MiB after all, {files} files")
    assert after < before * 1.1


def test_ten_thousand_calls_at_a_time(agent: Agent, long: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one caller, on eight connections (and on one): all are answered, if those come again that had no room."""
    for channels in (1, 8) if long else (8,):
        with bounded(agent, capsys, f"10,000 calls on {channels} connections"):
            counted = asyncio.run(many_calls(agent, 10_000, channels=channels, parallel=10_000))
        assert counted["OK"] == 9000
        assert counted["PERMISSION_DENIED"] == 1000
        assert counted.keys() <= {"OK", "PERMISSION_DENIED", *(each.name for each in TRY_AGAIN)}


def test_a_thousand_idle_connections(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a caller who has proved who he is, and then says nothing."""
    with bounded(agent, capsys, "1,000 idle connections"), ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(agent.connect_with_tls("eve")).sendall(http2.HELLO)
        assert agent.descriptors() > 1000
        time.sleep(1)


def test_handshakes_that_are_never_finished(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    """Connections that say nothing, or one byte of a handshake a second, are closed by the agent after 10 seconds."""
    with bounded(agent, capsys, "slow handshakes"), ExitStack() as stack:
        silent = [stack.enter_context(agent.connect()) for _ in range(300)]
        slow = [stack.enter_context(agent.connect()) for _ in range(300)]
        for byte in bytes.fromhex("16030102000100")[:6]:
            for each in slow:
                with contextlib.suppress(OSError):
                    each.send(bytes([byte]))
            time.sleep(1)
        assert all(is_closed(each, 8) for each in (*silent[::50], *slow[::50]))


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side closes a connection in time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_requests_that_come_a_byte_a_second(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    """128 calls on each of four connections, whose messages never come: the agent is full of one, not of all."""
    call = http2.headers(LIST_VIPS)
    with bounded(agent, capsys, "slow requests"), ExitStack() as stack:
        slow = [stack.enter_context(agent.connect_with_tls("eve")) for _ in range(4)]
        streams = range(1, 257, 2)
        for each in slow:
            asked = (http2.frame(http2.HEADERS, call, flags=http2.END_HEADERS, stream=number) for number in streams)
            each.sendall(http2.HELLO + b"".join(asked))
        for byte in http2.message(b"", claims=3 * 2**20)[:5]:
            for each in slow:
                with contextlib.suppress(OSError):
                    each.sendall(b"".join(http2.frame(http2.DATA, bytes([byte]), stream=number) for number in streams))
            time.sleep(1)


def test_requests_of_the_largest_size_that_are_never_whole(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    """512 messages of 1 MiB, of each of which the last bytes are missing: the agent has what one caller may have."""
    start, data = http2.message(b"", claims=2**20 - 1), bytes(16384)
    with bounded(agent, capsys, "requests that are never whole"), ExitStack() as stack:
        for each in [stack.enter_context(agent.connect_with_tls("eve")) for _ in range(4)]:
            streams = range(1, 257, 2)
            opening = b"".join(
                http2.frame(http2.HEADERS, http2.headers(LIST_VIPS), flags=http2.END_HEADERS, stream=number)
                + http2.frame(http2.DATA, start, stream=number)
                for number in streams
            )
            more = (http2.frame(http2.DATA, data, stream=number) for _ in range(63) for number in streams)
            flood(each, iter([http2.HELLO + opening, *more]), 5)
        time.sleep(1)


def flood(connection: ssl.SSLSocket, parts: Iterator[bytes], seconds: float) -> None:
    """Send for so long, or until the other side has enough."""
    connection.settimeout(1)
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        for part in parts:
            if time.monotonic() > end:
                return
            connection.sendall(part)


def endless_messages() -> Iterator[bytes]:
    """Messages that claim to be as large as can be, and go on and on."""
    yield http2.HELLO
    for number in range(1, 65, 2):
        yield http2.frame(http2.HEADERS, http2.headers(LIST_VIPS), flags=http2.END_HEADERS, stream=number)
        yield http2.frame(http2.DATA, http2.message(b"", claims=2**31 - 1), stream=number)
    while True:
        for number in range(1, 65, 2):
            yield http2.frame(http2.DATA, bytes(16384), stream=number)


def endless_metadata() -> Iterator[bytes]:
    """Headers that have no end."""
    yield http2.HELLO + http2.frame(http2.HEADERS, http2.headers(LIST_VIPS), stream=1)
    while True:
        yield http2.frame(http2.CONTINUATION, http2.header("name", "x" * 8000) * 2, stream=1)


def pings() -> Iterator[bytes]:
    """Pings that want answers."""
    yield http2.HELLO
    while True:
        yield http2.frame(http2.PING, bytes(8)) * 100


def resets() -> Iterator[bytes]:
    """Calls that are taken back as soon as they are made."""
    yield http2.HELLO
    for number in range(1, 2**31, 2):
        asked = http2.frame(http2.HEADERS, http2.headers(LIST_VIPS), flags=http2.END_HEADERS, stream=number)
        yield asked + http2.frame(http2.RST_STREAM, bytes([0, 0, 0, 8]), stream=number)


def settings() -> Iterator[bytes]:
    """Settings that want to be acknowledged."""
    yield http2.HELLO
    while True:
        yield http2.frame(http2.SETTINGS) * 100


@pytest.mark.parametrize("parts", [endless_messages, endless_metadata, pings, resets, settings])
def test_floods(agent: Agent, parts: Any, long: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Of large messages, metadata, pings, calls that are taken back, settings: three connections send what they can."""
    with bounded(agent, capsys, f"flood of {parts.__name__}"), ExitStack() as stack:
        end = time.monotonic() + (20 if long else 2)
        while time.monotonic() < end:
            for each in [stack.enter_context(agent.connect_with_tls("eve")) for _ in range(3)]:
                flood(each, parts(), 0.4)


def test_four_mebibytes_at_a_time(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    """256 messages of 4 MiB, 64 at a time, are refused, and kept nowhere."""

    async def send() -> Counter[str]:
        ca, key, cert = (each.read_bytes() for each in agent.files("eve"))
        counted: Counter[str] = Counter()
        async with grpc.aio.secure_channel(agent.target, grpc.ssl_channel_credentials(ca, key, cert)) as channel:
            call: Any = channel.unary_unary(LIST_VIPS)

            async def one() -> None:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call(bytes(4 * 2**20), timeout=30)
                    counted["OK"] += 1

            for _ in range(4):
                await asyncio.gather(*(one() for _ in range(64)))
        return counted

    with bounded(agent, capsys, "messages of 4 MiB"):
        assert not asyncio.run(send())["OK"]
