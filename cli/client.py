"""Calls to agents over gRPC: connections, time limits, error mapping, and a count of the round trips."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from lvsagent.v1 import (
    change_service_pb2,
    change_service_pb2_grpc,
    health_service_pb2,
    health_service_pb2_grpc,
    host_service_pb2,
    host_service_pb2_grpc,
    ipvs_service_pb2,
    ipvs_service_pb2_grpc,
    ipvs_settings_service_pb2_grpc,
    table_pb2,
    vip_service_pb2_grpc,
)

from agent_common import wire
from agent_common.errors import LvsError, Reason, RefusedError
from agent_common.grpc_errors import from_item, from_rpc_error
from agent_common.operation import Change, Operation
from agent_common.rpc_names import only_reads
from agent_common.version import VERSION
from agent_common.virtual_server import VirtualServerKey
from cli.chunks import table_chunks
from cli.errors import NoAnswerError
from cli.site import AgentName, Role, Site

FRESH_SECONDS = 1.0
"""An agent that answered within so many seconds is not asked whether it is there before it is sent a further change."""

RECONNECT_SECONDS = 1.5
"""gRPC tries again by itself to reach an agent that could not be reached, at most a second later."""

SECONDS_A_CHUNK = 1.0
"""So much longer than any other an answer to a table may take, for each thousand things in it."""

LONGEST_CHECK = 60.0
"""Seconds that a destination may be checked for where nobody says how long."""

LARGEST_TABLE = 50
"""Thousands of things: where a table is replaced, as much may be there and go, however little comes."""

_KINDS = {
    Role.DIRECTOR: host_service_pb2.AGENT_KIND_DIRECTOR,
    Role.REAL_SERVER: host_service_pb2.AGENT_KIND_REALSERVER,
}

_OPTIONS = [
    ("grpc.enable_http_proxy", 0),  # an agent is never behind the operator's web proxy
    ("grpc.enable_retries", 0),  # we decide what is asked again
    ("grpc.use_local_subchannel_pool", 1),  # what another connection of this process has met is not ours
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),  # what a table of any size comes to
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One message to an agent and how long its answer took, in seconds."""

    agent: AgentName
    method: str
    seconds: float
    result: str


class AgentClient:
    """One agent."""

    def __init__(self, agent: AgentName, site: Site, trace: Callable[[Call], None]) -> None:
        self.agent = agent
        self._timeout = site.timeout
        self._trace = trace
        self._answered = float("-inf")
        self._was_changed = False
        self._endpoint = site.endpoint(agent)
        self._tls = site.tls
        self._channel = _open(site, str(self._endpoint), is_unix=bool(self._endpoint.path))
        ipvs = ipvs_service_pb2_grpc.IpvsServiceStub(self._channel)
        vip = vip_service_pb2_grpc.VipServiceStub(self._channel)
        settings = ipvs_settings_service_pb2_grpc.IpvsSettingsServiceStub(self._channel)
        health = health_service_pb2_grpc.HealthServiceStub(self._channel)
        self.ipvs = ipvs
        self.vip = vip
        self.health = health
        self._host = host_service_pb2_grpc.HostServiceStub(self._channel)
        self._changes = change_service_pb2_grpc.ChangeServiceStub(self._channel)
        self._operations: dict[str, Any] = {
            "create_virtual_server": ipvs.CreateVirtualServer,
            "update_virtual_server": ipvs.UpdateVirtualServer,
            "delete_virtual_server": ipvs.DeleteVirtualServer,
            "create_destination": ipvs.CreateDestination,
            "update_destination": ipvs.UpdateDestination,
            "delete_destination": ipvs.DeleteDestination,
            "adopt_virtual_server": ipvs.AdoptVirtualServer,
            "adopt_destination": ipvs.AdoptDestination,
            "create_vip": vip.CreateVip,
            "delete_vip": vip.DeleteVip,
            "update_timeouts": settings.UpdateTimeouts,
            "start_sync_daemon": settings.StartSyncDaemon,
            "stop_sync_daemon": settings.StopSyncDaemon,
            "set_health": health.SetHealth,
            "delete_health": health.DeleteHealth,
        }

    @property
    def channel(self) -> grpc.aio.Channel:
        """The connection, for the services that only one command needs."""
        return self._channel

    async def ask(self, method: Any, request: Message) -> Any:
        """Call a unary RPC; raises LvsError for what the agent says, NoAnswerError if it says nothing."""
        return await self._call(_name(method), lambda: method(request, timeout=self._timeout))

    async def stream(self, method: Any, request: Message) -> AsyncIterator[Any]:
        """Call an RPC that answers with a stream; the time limit is that of each answer."""
        await self._connect()
        call = method(request)
        try:
            while (answer := await self._answer(_name(method), lambda: self._next(call))) is not grpc.aio.EOF:
                yield answer
        finally:
            call.cancel()

    async def host(
        self, routes_to: Iterable[str] = (), key: VirtualServerKey | None = None
    ) -> host_service_pb2.GetHostResponse:
        """Return what the agent is, and a virtual server of it; raises NoAnswerError if it is an agent of another kind.

        What is neither kind's program is told apart by its answer to the first question.
        """
        request = host_service_pb2.GetHostRequest(
            routes_to=routes_to, virtual_server=None if key is None else wire.pack_key(key)
        )
        response: host_service_pb2.GetHostResponse = await self.ask(self._host.GetHost, request)
        if response.kind != _KINDS[self.agent.role]:
            kind = host_service_pb2.AgentKind.Name(response.kind).removeprefix("AGENT_KIND_").lower()
            raise NoAnswerError(str(self.agent), f"the agent at {self._endpoint} is a {kind}'s", sent=True)
        return response

    async def check_listener(
        self, request: host_service_pb2.CheckListenerRequest, wait: float
    ) -> host_service_pb2.CheckListenerResponse:
        """Ask whether something takes connections on the agent's host; it waits so many seconds (at most 60) for it."""
        method = self._host.CheckListener
        request.wait.FromTimedelta(timedelta(seconds=min(wait, 60.0)))
        response: host_service_pb2.CheckListenerResponse = await self._call(
            _name(method), lambda: method(request, timeout=self._timeout + wait)
        )
        return response

    async def check_destination(
        self, request: health_service_pb2.ProbeDestinationRequest, wait: float
    ) -> health_service_pb2.ProbeDestinationResponse:
        """Have a director check a destination; it waits so many seconds (at most 60) for it to pass.

        Without any it is checked as often as has to pass in a row.
        """
        method = self.health.ProbeDestination
        if wait:
            request.wait.FromTimedelta(timedelta(seconds=wait))
        seconds = self._timeout + (wait or LONGEST_CHECK)
        response: health_service_pb2.ProbeDestinationResponse = await self._call(
            _name(method), lambda: method(request, timeout=seconds)
        )
        return response

    async def apply(self, operation: Operation, change_id: str, *, validate_only: bool = False) -> Change:
        """Have one operation carried out, or only validated, by its own RPC."""
        name = operation.WhichOneof("operation")
        assert name is not None  # noqa: S101  # whoever builds an operation fills it
        request = getattr(operation, name)
        request.change_id, request.validate_only = change_id, validate_only
        if not validate_only:
            await self.make_sure()
        if name == "apply_table":
            return await self._apply_table(request)
        change: Change = (await self.ask(self._operations[name], request)).change
        return change

    async def _apply_table(self, request: table_pb2.WantedTable) -> Change:
        """Send a table in chunks; the larger it is the longer its answer may take."""
        chunks = list(table_chunks(request))
        seconds = self._timeout + SECONDS_A_CHUNK * max(len(chunks), LARGEST_TABLE if request.replace else 0)

        async def stream() -> AsyncIterator[ipvs_service_pb2.ApplyTableRequest]:
            for chunk in chunks:
                yield chunk

        method = self.ipvs.ApplyTable
        answer: ipvs_service_pb2.ApplyTableResponse = await self._call(
            _name(method), lambda: method(stream(), timeout=seconds)
        )
        return answer.change

    async def apply_all(
        self, operations: Sequence[Operation], change_id: str, *, validate_only: bool = False
    ) -> list[Change]:
        """Have several operations carried out by a director, all or none; raises the error of the one that failed."""
        changes, error = await self.try_all(operations, change_id, validate_only=validate_only)
        if error is not None:
            raise error
        return changes

    async def try_all(
        self, operations: Sequence[Operation], change_id: str, *, validate_only: bool
    ) -> tuple[list[Change], LvsError | None]:
        """Like apply_all, but return the error beside the changes of the operations before it."""
        chunk = ipvs_service_pb2.BatchApplyRequest(
            operations=operations, change_id=change_id, validate_only=validate_only, last=True
        )

        async def chunks() -> AsyncIterator[ipvs_service_pb2.BatchApplyRequest]:
            yield chunk

        if not validate_only:
            await self.make_sure()
        method = self.ipvs.BatchApply
        response: ipvs_service_pb2.BatchApplyResponse = await self._call(
            _name(method), lambda: method(chunks(), timeout=self._timeout)
        )
        changes = [result.change for result in response.results if result.HasField("change")]
        failed = [from_item(result.error) for result in response.results if result.HasField("error")]
        return changes, failed[0] if failed else None

    async def revert(self, change_id: str, *, is_table: bool = False) -> change_service_pb2.RevertChangeResponse:
        """Have a change taken back; that of a whole table takes longer than others."""
        request = change_service_pb2.RevertChangeRequest(change_id=change_id)
        method = self._changes.RevertChange
        seconds = self._timeout + (SECONDS_A_CHUNK * LARGEST_TABLE if is_table else 0)
        response: change_service_pb2.RevertChangeResponse = await self._call(
            _name(method), lambda: method(request, timeout=seconds)
        )
        return response

    def check_version(self, version: str) -> None:
        """Raise RefusedError if the agent's version is not one that this program can change something with.

        Until 1.0 the second number, from then on the first says what belongs together.
        """
        if _generation(version) != _generation(VERSION):
            raise RefusedError(
                f"{self.agent} runs lvs-agents {version}, and this is {VERSION}: they do not belong together; install "
                "the same version on both",
                Reason.NOT_SUPPORTED,
            )

    async def make_sure(self) -> None:
        """Ask an agent that is silent, or was sent no change yet, whether it is there.

        One that died or stands still since preflight is found out before a change is sent whose end nobody would know.
        """
        if not self._was_changed or time.monotonic() - self._answered > FRESH_SECONDS:
            try:
                self.check_version((await self.host()).version)
            except NoAnswerError as error:
                raise NoAnswerError(error.agent, error.why, sent=False) from error
        self._was_changed = True

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def _next(self, call: Any) -> Any:
        try:
            return await asyncio.wait_for(call.read(), self._timeout)
        except TimeoutError as error:
            why = f"no answer from {self._endpoint} within {self._timeout:g} s"
            raise NoAnswerError(str(self.agent), why, sent=True) from error

    async def _call(self, method: str, start: Callable[[], Any]) -> Any:
        """Ask once; what only reads again over a new connection, if the one that was there ended in the middle.

        So it does where an agent has just been restarted: gRPC has not noticed yet that the old one is gone.
        """
        await self._connect()
        try:
            return await self._answer(method, start)
        except NoAnswerError as error:
            if not error.lost or not only_reads(method.rpartition("/")[2]):
                raise
        with contextlib.suppress(TimeoutError):  # it still counts as open until gRPC has seen its end
            ready = grpc.ChannelConnectivity.READY
            await asyncio.wait_for(self._channel.wait_for_state_change(ready), min(RECONNECT_SECONDS, self._timeout))
        await self._connect()
        return await self._answer(method, start)

    async def _answer(self, method: str, start: Callable[[], Any]) -> Any:
        begun = time.monotonic()
        result = "ok"
        try:
            answer = await start()
        except grpc.aio.AioRpcError as error:
            result = error.code().name
            said = from_rpc_error(error)
            if said is not None:
                self._answered = time.monotonic()
                raise said from error
            raise self._no_answer(error) from error
        else:
            self._answered = time.monotonic()
            return answer
        finally:
            self._trace(Call(agent=self.agent, method=method, seconds=time.monotonic() - begun, result=result))

    async def _connect(self) -> None:
        """Wait for a connection: a question that was never sent did nothing, and that is worth knowing.

        A failure from before says nothing of now, so the next try is waited for; one that happens now ends it.
        """
        begun = time.monotonic()
        state = self._channel.get_state(try_to_connect=True)
        failed_before = state is grpc.ChannelConnectivity.TRANSIENT_FAILURE
        seconds = min(RECONNECT_SECONDS, self._timeout) if failed_before else self._timeout
        while state is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and not failed_before:
                raise NoAnswerError(str(self.agent), await self._cannot_connect(""), sent=False)
            try:
                left = begun + seconds - time.monotonic()
                await asyncio.wait_for(self._channel.wait_for_state_change(state), max(left, 0))
            except TimeoutError as error:
                why = await self._cannot_connect(f" within {seconds:g} s")
                raise NoAnswerError(str(self.agent), why, sent=False) from error
            state = self._channel.get_state(try_to_connect=True)

    async def _cannot_connect(self, within: str) -> str:
        """Say that there is no connection, and why, as far as that can be found out."""
        from cli.tls_probe import explain  # only a failure needs it

        why = await explain(self._endpoint, self._tls)
        return f"cannot connect to {self._endpoint}{within}" + (f": {why}" if why else "")

    def _no_answer(self, error: grpc.aio.AioRpcError) -> NoAnswerError:
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                why = f"no answer from {self._endpoint} within {self._timeout:g} s"
            case grpc.StatusCode.UNIMPLEMENTED:
                why = f"the program at {self._endpoint} is not an agent of this kind"
            case grpc.StatusCode.UNAVAILABLE:
                why = f"lost the connection to {self._endpoint}"
            case _:
                why = f"{self._endpoint} answered {error.code().name}: {error.details()}"
        is_lost = error.code() is grpc.StatusCode.UNAVAILABLE
        is_unknown = error.code() is grpc.StatusCode.UNIMPLEMENTED
        return NoAnswerError(str(self.agent), why, sent=True, lost=is_lost, unknown=is_unknown)


class Clients:
    """The agents of a site, each connected when it is first asked for; closed at the end of the context."""

    def __init__(self, site: Site, trace: Callable[[Call], None]) -> None:
        self.site = site
        self.calls: list[Call] = []
        self._trace = trace
        self._clients: dict[AgentName, AgentClient] = {}

    def __getitem__(self, agent: AgentName) -> AgentClient:
        if agent not in self._clients:
            self._clients[agent] = AgentClient(agent, self.site, self._record)
        return self._clients[agent]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            await client.close()

    def _record(self, call: Call) -> None:
        self.calls.append(call)
        self._trace(call)


def _open(site: Site, target: str, *, is_unix: bool) -> grpc.aio.Channel:
    if site.tls is None or is_unix:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    ca, cert, key = site.tls.read()
    credentials = grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)
    return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)


def _name(method: Any) -> str:
    """Return Service/Method of a stub's callable."""
    path: bytes = method._method  # grpc.aio has no public name for it
    return path.decode().removeprefix("/lvsagent.v1.")


def _generation(version: str) -> tuple[str, ...]:
    numbers = version.split(".")
    return tuple(numbers[:2] if numbers[0] == "0" else numbers[:1])
