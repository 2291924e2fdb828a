"""The limits of an agent (docs/reference/limits.md), each by a client that goes beyond it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from lvsagent.v1 import host_service_pb2, ipvs_service_pb2, operation_pb2, virtual_server_pb2

from agent_common import grpc_errors, limits
from agent_common.access import Access, Caller, Context
from agent_common.errors import ExhaustedError, InvalidInputError, LvsError, Reason
from agent_common.failure import TooLateError
from agent_common.grpc_errors import from_rpc_error
from agent_common.host_service import MAX_ROUTES, MAX_WAITING
from agent_common.identity import Kind, Role
from agent_common.incoming import each_message
from agent_common.limits import MAX_CALLS, MAX_CALLS_OF_ONE, MAX_LIST, MAX_MESSAGE, MAX_STREAM, Seconds
from agent_common.paging import MAX_PAGE, MAX_TABLE_PAGE
from agent_director import health_gate
from agent_director.chunks import MAX_BATCH, MAX_TABLE
from tests.common import asking
from tests.fuzz import http2
from tests.fuzz.agents import serving

GET_HOST, BATCH = "/lvsagent.v1.HostService/GetHost", "/lvsagent.v1.IpvsService/BatchApply"
WATCH, ZERO = "/grpc.health.v1.Health/Watch", "/lvsagent.v1.IpvsService/ZeroCounters"
PAGE = Path(__file__).resolve().parents[2] / "docs/reference/limits.md"
EXHAUSTED, LATE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED


class Named:
    """Callers who say their name."""

    def caller(self, context: Context) -> Caller:
        found = dict(context.invocation_metadata() or ())
        return Caller(name=str(found.get("name", "nobody")), role=Role.ADMIN)


@asynccontextmanager
async def agent(
    folder: Path, seconds: Seconds = limits.SECONDS, changed: Mapping[str, int] | None = None
) -> AsyncIterator[str]:
    """An agent on loopback; changed are options of limits.OPTIONS with other values, so that they can be waited for."""
    shipped = dict(limits.OPTIONS)
    assert (changed or {}).keys() <= shipped.keys()
    options = [*(shipped | dict(changed or {})).items()]
    async with serving(
        *(asking.director(), Kind.DIRECTOR, folder),
        access=Access(Named()),
        door="127.0.0.1:0",
        seconds=seconds,
        options=options,
    ) as target:
        yield target


@asynccontextmanager
async def connected(target: str) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own; grpc shares them otherwise."""
    async with grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


async def ended(call: Any) -> tuple[grpc.StatusCode, LvsError | None, str]:
    """How a call failed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), from_rpc_error(caught.value), caught.value.details() or ""


def get_host(channel: grpc.aio.Channel, data: bytes = b"", name: str = "ada") -> Any:
    make: Any = channel.unary_unary(GET_HOST)
    return make(data, timeout=10, metadata=(("name", name),))


def watching(channel: grpc.aio.Channel, name: str) -> Any:
    make: Any = channel.unary_stream(WATCH)
    return make(health_pb2.HealthCheckRequest().SerializeToString(), metadata=(("name", name),))


async def test_a_message_of_the_largest_size_is_taken_and_a_larger_one_is_not(tmp_path: Path) -> None:
    """1 MiB of what nobody asks for is read; a byte more is refused, and so are 4 MiB and more."""
    async with agent(tmp_path) as target, connected(target) as channel:
        unknown = b"\xfa\x7f" + _varint(MAX_MESSAGE - 5)  # field 2047, of which the agent knows nothing
        fits = unknown + bytes(MAX_MESSAGE - len(unknown))
        assert len(fits) == MAX_MESSAGE
        await get_host(channel, fits)
        for size in (MAX_MESSAGE + 1, 4 * 2**20, 64 * 2**20):
            code, _, _ = await ended(get_host(channel, bytes(size)))
            assert code is EXHAUSTED
        await get_host(channel)


def _varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14])


async def test_a_list_beyond_the_limit_is_refused_with_its_field(tmp_path: Path) -> None:
    async with agent(tmp_path) as target, connected(target) as channel:
        most = host_service_pb2.GetHostRequest(routes_to=["192.168.0.1"] * MAX_ROUTES)
        await get_host(channel, most.SerializeToString())
        most.routes_to.append("192.168.0.1")
        _, error, _ = await ended(get_host(channel, most.SerializeToString()))
        assert isinstance(error, InvalidInputError)
        assert error.field == "routes_to"


async def test_a_stream_is_refused_as_soon_as_it_is_too_large(tmp_path: Path) -> None:
    """Its end is not waited for: that might never come."""
    operation = operation_pb2.Operation()
    operation.create_vip.vip.device = "x" * (MAX_MESSAGE - 100)
    chunk = ipvs_service_pb2.BatchApplyRequest(operations=[operation]).SerializeToString()
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield chunk

    async with agent(tmp_path) as target, connected(target) as channel:
        make: Any = channel.stream_unary(BATCH)
        _, error, details = await ended(make(endless(), timeout=30))
        if details != "Internal error from Core":  # how grpcio's client ends if it fails to send before it reads
            assert isinstance(error, InvalidInputError)
            assert error.field == "operations"
        assert sent < 2 * MAX_STREAM / MAX_MESSAGE


async def test_one_caller_has_so_many_calls_and_others_have_room(tmp_path: Path) -> None:
    """With two callers at their limits the agent is at its own, and refuses in gRPC's words what it has not read."""
    async with agent(tmp_path) as target, contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(connected(target)) for _ in range(5)]
        watches = [watching(channels[number % 2], "eve") for number in range(MAX_CALLS_OF_ONE)]
        await asyncio.gather(*(each.read() for each in watches))
        code, error, _ = await ended(get_host(channels[4], name="eve"))
        assert code is EXHAUSTED
        assert isinstance(error, ExhaustedError)
        assert error.reason is Reason.TOO_MANY_CALLS
        await get_host(channels[4], name="ada")
        more = [watching(channels[2 + number % 2], "mallory") for number in range(MAX_CALLS - MAX_CALLS_OF_ONE)]
        await asyncio.gather(*(each.read() for each in more))
        code, error, _ = await ended(get_host(channels[4], name="ada"))
        assert (code, error) == (EXHAUSTED, None)
        watches[0].cancel()
        await until_answered(channels[4])


async def until_answered(channel: grpc.aio.Channel) -> None:
    for _ in range(100):
        with contextlib.suppress(grpc.aio.AioRpcError):
            await get_host(channel)
            return
        await asyncio.sleep(0.05)
    raise AssertionError("there is no room for a call")


async def test_a_request_that_is_not_there_in_time_is_not_waited_for(tmp_path: Path) -> None:
    """The rest of a stream, and the only message of a call too."""

    async def stalls() -> AsyncIterator[bytes]:
        yield ipvs_service_pb2.BatchApplyRequest().SerializeToString()
        await asyncio.sleep(30)

    async def says_nothing() -> AsyncIterator[bytes]:
        await asyncio.sleep(30)
        yield b""

    async with agent(tmp_path, Seconds(receiving=0.3)) as target, connected(target) as channel:
        for path, messages in ((BATCH, stalls()), (GET_HOST, says_nothing()), (ZERO, says_nothing())):
            make: Any = channel.stream_unary(path)
            code, _, details = await ended(make(messages, timeout=10))
            assert (code, details) == (LATE, "the request was not there within 0.3 s")


async def test_messages_that_come_one_by_one_have_one_time_together() -> None:
    async def drips() -> AsyncIterator[Message]:
        while True:
            await asyncio.sleep(0.05)
            yield host_service_pb2.GetHostRequest()

    with pytest.raises(TooLateError):
        async for _ in each_message(drips(), 0.4):
            pass


async def test_what_reads_ends_at_the_agents_own_deadline(tmp_path: Path) -> None:
    """Whatever deadline the client has set."""
    request = host_service_pb2.CheckListenerRequest(
        protocol=virtual_server_pb2.PROTOCOL_TCP, address="127.0.0.1", port=1
    )
    request.wait.seconds = 20
    async with agent(tmp_path, Seconds(reading=0.3)) as target, connected(target) as channel:
        make: Any = channel.unary_unary("/lvsagent.v1.HostService/CheckListener")
        code, _, details = await ended(make(request.SerializeToString(), timeout=15))
        assert (code, details) == (LATE, "no answer within 0.3 s")


async def test_a_stream_of_answers_ends_at_the_agents_own_deadline(tmp_path: Path) -> None:
    request = b""
    async with agent(tmp_path, Seconds(streaming=0.3)) as target, connected(target) as channel:
        make: Any = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")

        async def waits() -> AsyncIterator[bytes]:
            yield request
            await asyncio.sleep(30)

        call = make(waits(), timeout=15)
        await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is LATE
        watch = watching(channel, "ada")
        await watch.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() is LATE


async def test_metadata_beyond_the_limit_is_refused_before_anybody_looks_at_it(tmp_path: Path) -> None:
    async with agent(tmp_path) as target, connected(target) as channel:
        code, _, _ = await ended(get_host(channel, name="x" * 17 * 1024))
        assert code is EXHAUSTED
        await get_host(channel)


async def said_to(target: str, data: bytes, *, end: float) -> bytes:
    """What a server says to these bytes until it closes the connection, or the time is over."""
    reader, writer = await asyncio.open_connection(*target.rsplit(":", 1))
    writer.write(data)
    said = b""
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        async with asyncio.timeout(end):
            while part := await reader.read(65536):
                said += part
    writer.close()
    return said


async def test_a_connection_is_told_how_many_streams_it_may_have(tmp_path: Path) -> None:
    """And how large headers may be; gRPC's clients wait for their turn then."""
    async with agent(tmp_path) as target:
        told = http2.settings_in(await said_to(target, http2.HELLO, end=0.5))
    assert told[http2.MAX_CONCURRENT_STREAMS] == dict(limits.OPTIONS)["grpc.max_concurrent_streams"] == 128
    assert told[http2.MAX_HEADER_LIST_SIZE] == 16 * 1024


async def test_there_are_so_many_connections_and_no_more(tmp_path: Path) -> None:
    """The one beyond is closed at once; there is room again when one goes."""
    async with agent(tmp_path, changed={"grpc.max_allowed_incoming_connections": 3}) as target:
        here = target.rsplit(":", 1)
        held = [await asyncio.open_connection(*here) for _ in range(3)]
        for reader, writer in held:
            writer.write(http2.HELLO)
            assert await asyncio.wait_for(reader.read(9), 5)
        assert await said_to(target, http2.HELLO, end=2) == b""
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.2)
        assert http2.settings_in(await said_to(target, http2.HELLO, end=0.5))


async def test_a_flood_of_pings_ends_the_connection(tmp_path: Path) -> None:
    async with agent(tmp_path) as target:
        said = await said_to(target, http2.HELLO + http2.frame(http2.PING, bytes(8)) * 50, end=5)
    (goaway, *_) = [payload for kind, _, payload in http2.frames_in(said) if kind == http2.GOAWAY]
    assert b"too_many_pings" in goaway


@pytest.mark.parametrize(
    "changed",
    [
        {"grpc.server_handshake_timeout_ms": 300},
        {"grpc.max_connection_idle_ms": 300},
        {"grpc.max_connection_age_ms": 300, "grpc.max_connection_age_grace_ms": 100},
        {"grpc.keepalive_time_ms": 300, "grpc.keepalive_timeout_ms": 300, "grpc.http2.ping_timeout_ms": 300},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_connections_end_that_say_nothing_or_are_old(tmp_path: Path, changed: dict[str, int]) -> None:
    """Each of these options is set, and with a shorter time it does what it is set for."""
    data = b"" if "grpc.server_handshake_timeout_ms" in changed else http2.HELLO
    async with agent(tmp_path, changed=changed) as target:
        before = asyncio.get_running_loop().time()
        await said_to(target, data, end=8)
        assert asyncio.get_running_loop().time() - before < 6


def test_the_reference_has_the_numbers() -> None:
    """docs/reference/limits.md says what the agent does."""
    page = PAGE.read_text(encoding="utf-8")
    options = dict(limits.OPTIONS)
    cells = {
        "one message to the agent": f"{MAX_MESSAGE >> 20} MiB",
        "elements of any list in a message": f"{MAX_LIST}",
        "chunks of a table together": f"{MAX_TABLE:,} things, {MAX_STREAM >> 20} MiB",
        "operations of a batch": f"{MAX_BATCH:,}",
        "`routes_to` of `GetHost`": f"{MAX_ROUTES}",
        "callers that wait for a listener": f"{MAX_WAITING}",
        "callers that wait for the check of a destination": f"{health_gate.MAX_WAITING}",
        "time for a request to be there as a whole": f"{limits.SECONDS.receiving:g} s",
        "an answer to what only reads": f"{limits.SECONDS.reading:g} s",
        "calls of one caller at a time": f"{MAX_CALLS_OF_ONE}",
        "calls at a time": f"{MAX_CALLS}",
        "calls on one connection at a time": f"{options['grpc.max_concurrent_streams']}",
        "connections": f"{limits.MAX_CONNECTIONS}",
        "a handshake": f"{options['grpc.server_handshake_timeout_ms'] // 1000} s",
        "a message of an error": f"{grpc_errors.MAX_MESSAGE} characters",
        "items in one page of a list": f"{MAX_PAGE}; {MAX_TABLE_PAGE} of a table",
    }
    for what, number in cells.items():
        assert f"| {what} | {number} |" in page
