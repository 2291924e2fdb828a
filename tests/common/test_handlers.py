"""The wrapping of every RPC: errors mapped, defects hidden and logged, work finished without its client."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from lvsagent.v1 import (
    change_service_pb2,
    change_service_pb2_grpc,
    host_service_pb2,
    host_service_pb2_grpc,
)

from agent_common.errors import ConflictError, InternalError, InvalidInputError, LvsError, Reason
from agent_common.grpc_errors import from_rpc_error
from agent_common.handlers import Context, Handlers, Service
from tests.serving import ADMINS

Request = change_service_pb2.RevertChangeRequest
Response = change_service_pb2.RevertChangeResponse


class Tiny:
    """A service whose one method does what a test says."""

    def __init__(self) -> None:
        self.work: Callable[[Request, Context], Awaitable[Response]] = self.answer
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.finished = 0

    async def answer(self, request: Request, context: Context) -> Response:
        return Response(details=[request.change_id])

    async def take_long(self, request: Request, context: Context) -> Response:
        self.begun.set()
        await self.go_on.wait()
        self.finished += 1
        return Response()

    async def RevertChange(self, request: Request, context: Context) -> Response:  # noqa: N802
        return await self.work(request, context)


class Stage:
    """A server with the tiny service, and a client."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tiny = Tiny()
        self.handlers = Handlers()
        service = change_service_pb2.DESCRIPTOR.services_by_name["ChangeService"]
        self.server = self.handlers.make_server(ADMINS, [Service(descriptor=service, servicer=self.tiny)])
        self.server.add_insecure_port(f"unix:{path}")

    def fails(self, error: Exception) -> None:
        async def fail(request: Request, context: Context) -> Response:
            raise error

        self.tiny.work = fail

    async def call(self, change_id: str = "c1", seconds: float | None = 5.0) -> Response:
        async with grpc.aio.insecure_channel(f"unix:{self.path}") as channel:
            stub = change_service_pb2_grpc.ChangeServiceStub(channel)
            return await stub.RevertChange(Request(change_id=change_id), timeout=seconds)

    async def error(self) -> tuple[grpc.aio.AioRpcError, LvsError]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call()
        ours = from_rpc_error(caught.value)
        assert ours is not None
        return caught.value, ours


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path / "api.sock")
    await stage.server.start()
    yield stage
    stage.tiny.go_on.set()
    await stage.server.stop(grace=None)
    await stage.handlers.finish()


async def test_an_answer_is_passed_on(stage: Stage) -> None:
    assert list((await stage.call("c7")).details) == ["c7"]


async def test_an_error_of_ours_comes_with_code_field_reason_and_names(stage: Stage) -> None:
    stage.fails(InvalidInputError("change_id", "change_id: must be set"))
    raw, ours = await stage.error()
    assert raw.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(ours, InvalidInputError)
    assert (ours.field, ours.message) == ("change_id", "change_id: must be set")
    stage.fails(ConflictError("it is locked", Reason.CHANGED_MEANWHILE, holder="somebody"))
    raw, ours = await stage.error()
    assert raw.code() is grpc.StatusCode.ABORTED
    assert (ours.reason, ours.metadata) == (Reason.CHANGED_MEANWHILE, {"holder": "somebody"})


async def test_the_text_of_a_defect_never_reaches_the_client_but_its_incident_is_in_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.fails(ValueError("the secret is xyzzy"))
    raw, ours = await stage.error()
    assert raw.code() is grpc.StatusCode.INTERNAL
    assert isinstance(ours, InternalError)
    said = f"{raw.details()} {raw.trailing_metadata()} {raw.debug_error_string()}"
    assert "xyzzy" not in said
    assert "ValueError" not in said
    assert re.fullmatch(
        r"cannot finish lvsagent\.v1\.ChangeService\.RevertChange: unexpected failure, incident [0-9a-f]{12}; "
        r"the agent's log has the details",
        ours.message,
    )
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR and each.exc_info]
    assert ours.metadata["incident"] in record.getMessage()
    assert "xyzzy" in caplog.text


async def test_every_defect_is_an_incident_of_its_own(stage: Stage) -> None:
    stage.fails(KeyError("x"))
    _, one = await stage.error()
    _, other = await stage.error()
    assert one.metadata["incident"] != other.metadata["incident"]


async def test_after_a_defect_the_next_call_is_answered(stage: Stage) -> None:
    stage.fails(ValueError())
    await stage.error()
    stage.tiny.work = stage.tiny.answer
    assert await stage.call()


async def test_a_client_that_goes_away_does_not_stop_what_has_begun(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stage.tiny.work = stage.tiny.take_long
    calling = asyncio.ensure_future(stage.call())
    await stage.tiny.begun.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await asyncio.sleep(0.1)
    assert stage.tiny.finished == 0
    stage.tiny.go_on.set()
    await asyncio.wait_for(stage.handlers.finish(), 2)
    assert stage.tiny.finished == 1
    assert "was done, but its client had gone" in caplog.text


async def test_how_a_call_failed_whose_client_went_away_is_in_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (ConflictError("it is locked", Reason.CHANGED_MEANWHILE), ValueError("a defect")):
        stage.tiny.begun.clear()
        stage.tiny.go_on.clear()

        async def fail(request: Request, context: Context, error: Exception = error) -> Response:
            await stage.tiny.take_long(request, context)
            raise error

        stage.tiny.work = fail
        calling = asyncio.ensure_future(stage.call())
        await stage.tiny.begun.wait()
        calling.cancel()
        await asyncio.wait([calling])
        await asyncio.sleep(0.1)
        stage.tiny.go_on.set()
        await asyncio.wait_for(stage.handlers.finish(), 2)
        await asyncio.sleep(0)
        assert str(error) in caplog.text


async def test_a_client_that_gives_up_waiting_does_not_stop_what_has_begun(stage: Stage) -> None:
    stage.tiny.work = stage.tiny.take_long
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.call(seconds=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    stage.tiny.go_on.set()
    await asyncio.wait_for(stage.handlers.finish(), 2)
    assert stage.tiny.finished == 1


async def test_the_end_of_an_agent_waits_for_what_runs(stage: Stage) -> None:
    """As at SIGTERM: the server stops, the change is finished, and only then the kernel is let go."""
    stage.tiny.work = stage.tiny.take_long
    calling = asyncio.ensure_future(stage.call())
    await stage.tiny.begun.wait()
    await stage.server.stop(grace=0.05)
    finishing = asyncio.ensure_future(stage.handlers.finish())
    await asyncio.sleep(0.1)
    assert not finishing.done()
    stage.tiny.go_on.set()
    await asyncio.wait_for(finishing, 2)
    assert stage.tiny.finished == 1
    await asyncio.wait([calling])
    calling.exception()


async def test_without_running_calls_there_is_nothing_to_wait_for(stage: Stage) -> None:
    await asyncio.wait_for(stage.handlers.finish(), 0.5)


AGENT = """
import asyncio, pathlib, sys
from lvsagent.v1 import change_service_pb2
from agent_common.access import Access, Everybody
from agent_common.identity import Role
from agent_common.handlers import Handlers, Service

class Tiny:
    async def RevertChange(self, request, context):
        with pathlib.Path(sys.argv[2]).open("a") as file:
            file.write(request.change_id + "\\n")
        return change_service_pb2.RevertChangeResponse()

async def main():
    service = change_service_pb2.DESCRIPTOR.services_by_name["ChangeService"]
    admins = Access(Everybody(name="a test", role=Role.ADMIN))
    server = Handlers().make_server(admins, [Service(descriptor=service, servicer=Tiny())])
    server.add_insecure_port("unix:" + sys.argv[1])
    await server.start()
    await server.wait_for_termination()

asyncio.run(main())
"""


def test_a_call_that_comes_after_its_deadline_is_refused_and_does_nothing(tmp_path: Path) -> None:
    """It waited in the socket of an agent that was stopped: its client has long given up, and may have undone it."""
    path, done = tmp_path / "api.sock", tmp_path / "done"
    agent = subprocess.Popen([sys.executable, "-c", AGENT, str(path), str(done)])
    try:
        with grpc.insecure_channel(f"unix:{path}", options=[("grpc.initial_reconnect_backoff_ms", 50)]) as channel:
            stub = change_service_pb2_grpc.ChangeServiceStub(channel)
            stub.RevertChange(Request(change_id="first"), timeout=10, wait_for_ready=True)
            agent.send_signal(signal.SIGSTOP)
            for number in range(20):
                with pytest.raises(grpc.RpcError) as caught:
                    stub.RevertChange(Request(change_id=f"late-{number}"), timeout=0.01)
                assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            agent.send_signal(signal.SIGCONT)
            stub.RevertChange(Request(change_id="last"), timeout=10)
        assert done.read_text().splitlines() == ["first", "last"]
    finally:
        agent.kill()
        agent.wait()


async def test_every_change_is_in_the_log_with_who_asked_and_how_it_ended(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await stage.call()
    stage.fails(ConflictError('it is "locked"', Reason.CHANGED_MEANWHILE))
    await stage.error()
    await asyncio.sleep(0)
    lines = [each.getMessage() for each in caplog.records if each.getMessage().startswith("change ")]
    assert [line.partition(" outcome=")[2].partition(" ")[0] for line in lines] == ["ok", "CHANGED_MEANWHILE"]
    assert all("method=ChangeService/RevertChange peer=unix" in line for line in lines)
    assert lines[1].endswith('message="it is \\"locked\\""')


async def test_reading_is_not_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Host:
        async def GetHost(  # noqa: N802
            self, request: host_service_pb2.GetHostRequest, context: Context
        ) -> host_service_pb2.GetHostResponse:
            return host_service_pb2.GetHostResponse(hostname="h")

        CheckListener = GetHost

    caplog.set_level(logging.INFO)
    handlers = Handlers()
    service = host_service_pb2.DESCRIPTOR.services_by_name["HostService"]
    server = handlers.make_server(ADMINS, [Service(descriptor=service, servicer=Host())])
    server.add_insecure_port(f"unix:{tmp_path}/x")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/x") as channel:
        answer = await host_service_pb2_grpc.HostServiceStub(channel).GetHost(host_service_pb2.GetHostRequest())
    await server.stop(grace=None)
    assert answer.hostname == "h"
    assert "GetHost" not in caplog.text


async def test_a_reading_ends_with_its_client(tmp_path: Path) -> None:
    """A question that waits, as CheckListener does, goes on asking for nobody otherwise."""
    ended = asyncio.Event()

    class Host:
        async def GetHost(self, request: object, context: Context) -> host_service_pb2.GetHostResponse:  # noqa: N802
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            return host_service_pb2.GetHostResponse()

        CheckListener = GetHost

    handlers = Handlers()
    service = host_service_pb2.DESCRIPTOR.services_by_name["HostService"]
    server = handlers.make_server(ADMINS, [Service(descriptor=service, servicer=Host())])
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        call = host_service_pb2_grpc.HostServiceStub(channel).GetHost(host_service_pb2.GetHostRequest())
        await asyncio.sleep(0.2)
        call.cancel()
        await asyncio.wait_for(ended.wait(), 2)
    await asyncio.wait_for(handlers.finish(), 2)
    await server.stop(None)
