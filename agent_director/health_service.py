"""HealthService. Unpack, call, pack."""

from __future__ import annotations

import asyncio

from lvsagent.v1 import health_pb2, health_service_pb2, health_service_pb2_grpc, operation_pb2

from agent_common import wire
from agent_common.changes import Changes
from agent_common.errors import InvalidInputError
from agent_common.handlers import Context
from agent_common.paging import MAX_TABLE_PAGE, page
from agent_common.virtual_server import VirtualServerKey, key_order
from agent_common.wire_check import seconds_of
from agent_common.wire_health import pack_policy
from agent_common.wire_status import timestamp
from agent_common.worker import Run
from agent_director.destination import Destinations
from agent_director.health import Healths, etag_of_policy
from agent_director.health_gate import HealthGate
from agent_director.health_log import HealthLog
from agent_director.health_watch import HealthWatch
from agent_director.wire_destination import pack_destination_status

Operation = operation_pb2.Operation

MAX_WAIT_SECONDS = 60.0
_MAX_UINT32 = 2**32 - 1


class HealthServicer(health_service_pb2_grpc.HealthServiceServicer):
    """Serves HealthService."""

    def __init__(
        self,
        healths: Healths,
        destinations: Destinations,
        watch: HealthWatch,
        gate: HealthGate,
        log: HealthLog,
        changes: Changes,
        run: Run,
    ) -> None:
        self._healths = healths
        self._destinations = destinations
        self._watch = watch
        self._gate = gate
        self._log = log
        self._changes = changes
        self._run = run
        self._one = asyncio.Semaphore(1)

    async def GetHealth(
        self, request: health_service_pb2.GetHealthRequest, context: Context
    ) -> health_service_pb2.GetHealthResponse:
        """Read one policy, and what its checks say."""
        key = wire.unpack_key(request.virtual_server, "virtual_server")
        return health_service_pb2.GetHealthResponse(status=await self._run(lambda: self._status(key)))

    async def ListHealth(
        self, request: health_service_pb2.ListHealthRequest, context: Context
    ) -> health_service_pb2.ListHealthResponse:
        """Read all policies, and what their checks say."""

        def read() -> health_service_pb2.ListHealthResponse:
            keys = sorted(self._healths.keys(), key=key_order)
            part, token = page(keys, request.page_size, request.page_token, str)
            response = health_service_pb2.ListHealthResponse(next_page_token=token)
            room = MAX_TABLE_PAGE
            for key in part:
                response.statuses.append(self._status(key))
                room -= 1 + len(response.statuses[-1].destinations)
                if room <= 0 and key != part[-1]:
                    response.next_page_token = str(key)
                    break
            return response

        return await self._run(read)

    async def ListHealthEvents(
        self, request: health_service_pb2.ListHealthEventsRequest, context: Context
    ) -> health_service_pb2.ListHealthEventsResponse:
        """Read what has happened; not in the thread of kernel and state, which it would keep waiting."""
        if request.HasField("virtual_server"):
            wire.unpack_key(request.virtual_server, "virtual_server")
        async with self._one:  # each reads all that is kept
            return await asyncio.to_thread(self._read_events, request)

    async def SetHealth(
        self, request: health_pb2.SetHealthRequest, context: Context
    ) -> health_service_pb2.SetHealthResponse:
        """Set how the destinations of a virtual server are checked."""
        change = await self._changes.apply(
            Operation(set_health=request), request.change_id, validate_only=request.validate_only
        )
        return health_service_pb2.SetHealthResponse(change=change)

    async def DeleteHealth(
        self, request: health_pb2.DeleteHealthRequest, context: Context
    ) -> health_service_pb2.DeleteHealthResponse:
        """End the checks of a virtual server."""
        change = await self._changes.apply(
            Operation(delete_health=request), request.change_id, validate_only=request.validate_only
        )
        return health_service_pb2.DeleteHealthResponse(change=change)

    async def ProbeDestination(
        self, request: health_service_pb2.ProbeDestinationRequest, context: Context
    ) -> health_service_pb2.ProbeDestinationResponse:
        """Check a destination, until it has passed or the time is over."""
        wait = seconds_of(request, "wait", -1.0) if request.HasField("wait") else None
        if wait is not None and not 0 <= wait <= MAX_WAIT_SECONDS:
            raise InvalidInputError("wait", f"wait: {wait:g} s is out of range (0 to {MAX_WAIT_SECONDS:g} s)")
        method = request.forwarding_method
        passage = await self._gate.check(
            wire.unpack_key(request.virtual_server, "virtual_server"),
            wire.unpack_destination_key(request.destination, "destination"),
            wire.unpack_enum(wire.FORWARDINGS, method, "forwarding_method") if method else None,
            wait,
            tunnel=wire.unpack_tunnel(request.tunnel),
        )
        return health_service_pb2.ProbeDestinationResponse(
            passed=passage.passed, detail=passage.detail, checks=passage.checks
        )

    def _status(self, key: VirtualServerKey) -> health_pb2.HealthStatus:
        policy, watched = self._healths.get(key), self._watch.server(key)
        status = health_pb2.HealthStatus(
            virtual_server=wire.pack_key(key),
            policy=pack_policy(policy),
            etag=etag_of_policy(policy),
            destinations=map(pack_destination_status, self._destinations.list_all(key)),
        )
        if watched is not None:
            status.health.has_quorum = watched.has_quorum
            status.health.since.CopyFrom(timestamp(watched.since))
            status.health.weight_up = min(watched.weight_up, _MAX_UINT32)  # each weight may be half of that
            status.health.alarm = watched.alarm
        return status

    def _read_events(
        self, request: health_service_pb2.ListHealthEventsRequest
    ) -> health_service_pb2.ListHealthEventsResponse:
        wanted = request.virtual_server if request.HasField("virtual_server") else None
        events, more = self._log.page(
            request.page_size, request.page_token, lambda event: wanted is None or event.virtual_server == wanted
        )
        return health_service_pb2.ListHealthEventsResponse(events=events, next_page_token=more)
