"""The agents' RPCs as functions of an operation or a name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

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
from agent_common.grpc_errors import from_item
from agent_common.operation import Change, Operation
from agent_common.version import VERSION
from agent_common.virtual_server import VirtualServerKey
from cli.chunks import table_chunks
from cli.connection import Call, Connection
from cli.errors import NoAnswerError
from cli.site import AgentName, Role, Site

FRESH_SECONDS = 1.0
"""An agent that answered within so many seconds is not asked whether it is there before it is sent a further change."""

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


class AgentClient(Connection):
    """One agent, with what both kinds or several commands ask of it."""

    def __init__(self, agent: AgentName, site: Site, trace: Callable[[Call], None]) -> None:
        super().__init__(agent, site, trace)
        self._was_changed = False
        ipvs = ipvs_service_pb2_grpc.IpvsServiceStub(self.channel)
        vip = vip_service_pb2_grpc.VipServiceStub(self.channel)
        settings = ipvs_settings_service_pb2_grpc.IpvsSettingsServiceStub(self.channel)
        health = health_service_pb2_grpc.HealthServiceStub(self.channel)
        self.ipvs = ipvs
        self.vip = vip
        self.health = health
        self._host = host_service_pb2_grpc.HostServiceStub(self.channel)
        self._changes = change_service_pb2_grpc.ChangeServiceStub(self.channel)
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
            raise NoAnswerError(str(self.agent), f"the agent at {self.endpoint} is a {kind}'s", sent=True)
        return response

    async def check_listener(
        self, request: host_service_pb2.CheckListenerRequest, wait: float
    ) -> host_service_pb2.CheckListenerResponse:
        """Ask whether something takes connections on the agent's host; it waits so many seconds (at most 60) for it."""
        request.wait.FromTimedelta(timedelta(seconds=min(wait, 60.0)))
        response: host_service_pb2.CheckListenerResponse = await self.ask(
            self._host.CheckListener, request, longer=wait
        )
        return response

    async def check_destination(
        self, request: health_service_pb2.ProbeDestinationRequest, wait: float
    ) -> health_service_pb2.ProbeDestinationResponse:
        """Have a director check a destination; it waits so many seconds (at most 60) for it to pass.

        Without any it is checked as often as has to pass in a row.
        """
        if wait:
            request.wait.FromTimedelta(timedelta(seconds=wait))
        response: health_service_pb2.ProbeDestinationResponse = await self.ask(
            self.health.ProbeDestination, request, longer=wait or LONGEST_CHECK
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
        seconds = SECONDS_A_CHUNK * max(len(chunks), LARGEST_TABLE if request.replace else 0)

        async def stream() -> AsyncIterator[ipvs_service_pb2.ApplyTableRequest]:
            for chunk in chunks:
                yield chunk

        answer: ipvs_service_pb2.ApplyTableResponse = await self.ask(self.ipvs.ApplyTable, stream(), longer=seconds)
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
        response: ipvs_service_pb2.BatchApplyResponse = await self.ask(self.ipvs.BatchApply, chunks())
        changes = [result.change for result in response.results if result.HasField("change")]
        failed = [from_item(result.error) for result in response.results if result.HasField("error")]
        return changes, failed[0] if failed else None

    async def revert(self, change_id: str, *, is_table: bool = False) -> change_service_pb2.RevertChangeResponse:
        """Have a change taken back; that of a whole table takes longer than others."""
        request = change_service_pb2.RevertChangeRequest(change_id=change_id)
        response: change_service_pb2.RevertChangeResponse = await self.ask(
            self._changes.RevertChange, request, longer=SECONDS_A_CHUNK * LARGEST_TABLE if is_table else 0
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
        if not self._was_changed or self.silent_seconds > FRESH_SECONDS:
            try:
                self.check_version((await self.host()).version)
            except NoAnswerError as error:
                raise NoAnswerError(error.agent, error.why, sent=False) from error
        self._was_changed = True


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


def _generation(version: str) -> tuple[str, ...]:
    numbers = version.split(".")
    return tuple(numbers[:2] if numbers[0] == "0" else numbers[:1])
