"""A director's HealthService in memory, with the rules of its proto: it keeps policies and says what it is told to say.

Stands in until the fakes of tests.hosts have checks of their own; nothing of it touches their kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from lvsagent.v1 import destination_pb2, health_pb2, health_service_pb2, health_service_pb2_grpc

from agent_common import wire
from agent_common.destination import DestinationKey
from agent_common.errors import ConflictError, NotFoundError, Reason
from agent_common.etag import etag_of
from agent_common.handlers import Context, Service
from agent_common.operation import Change
from agent_common.virtual_server import VirtualServerKey
from agent_common.wire_health import unpack_policy


class StandIn(health_service_pb2_grpc.HealthServiceServicer):
    """Policies by virtual server; what is said of destinations, virtual servers, events and checks is set by a test."""

    def __init__(self) -> None:
        self.policies: dict[VirtualServerKey, health_pb2.HealthPolicy] = {}
        self.destinations: list[destination_pb2.DestinationStatus] = []
        self.whole = health_pb2.VirtualServerHealth(has_quorum=True)
        self.events: list[health_pb2.HealthEvent] = []
        self.checks: list[DestinationKey] = []
        self.waits: list[float] = []
        self.answer: Callable[[DestinationKey], tuple[bool, str]] = lambda key: (True, "connected")
        self.before_set: Callable[[], None] = lambda: None

    def service(self) -> Service:
        """Return it as an agent offers it."""
        return Service(
            descriptor=health_service_pb2.DESCRIPTOR.services_by_name["HealthService"],
            servicer=self,
        )

    def _status(self, key: VirtualServerKey) -> health_pb2.HealthStatus:
        if key not in self.policies:
            raise NotFoundError(f"{key} has no health checks", Reason.INTERNAL)
        return health_pb2.HealthStatus(
            virtual_server=wire.pack_key(key),
            policy=self.policies[key],
            etag=etag_of(self.policies[key]),
            health=self.whole,
            destinations=self.destinations,
        )

    async def GetHealth(
        self, request: health_service_pb2.GetHealthRequest, context: Context
    ) -> health_service_pb2.GetHealthResponse:
        """Read one policy."""
        key = wire.unpack_key(request.virtual_server, "virtual_server")
        return health_service_pb2.GetHealthResponse(status=self._status(key))

    async def ListHealth(
        self, request: health_service_pb2.ListHealthRequest, context: Context
    ) -> health_service_pb2.ListHealthResponse:
        """Read all, one on a page."""
        keys = list(self.policies)
        first = int(request.page_token or 0)
        return health_service_pb2.ListHealthResponse(
            statuses=[self._status(each) for each in keys[first : first + 1]],
            next_page_token=str(first + 1) if first + 1 < len(keys) else "",
        )

    async def ListHealthEvents(
        self, request: health_service_pb2.ListHealthEventsRequest, context: Context
    ) -> health_service_pb2.ListHealthEventsResponse:
        """Read events, at most two on a page."""
        wanted = request.virtual_server if request.HasField("virtual_server") else None
        found = [each for each in self.events if wanted is None or each.virtual_server == wanted]
        first, size = int(request.page_token or 0), min(request.page_size, 2)
        return health_service_pb2.ListHealthEventsResponse(
            events=found[first : first + size],
            next_page_token=str(first + size) if first + size < len(found) else "",
        )

    async def SetHealth(
        self, request: health_pb2.SetHealthRequest, context: Context
    ) -> health_service_pb2.SetHealthResponse:
        """Set a policy."""
        self.before_set()
        key = wire.unpack_key(request.virtual_server, "virtual_server")
        wanted = unpack_policy(request.policy).validate()
        current = self.policies.get(key)
        if request.etag and request.etag != ("none" if current is None else etag_of(current)):
            raise ConflictError(f"the checks of {key} have changed", Reason.CHANGED_MEANWHILE)
        made = current is None or unpack_policy(current) != wanted
        if made and not request.validate_only:
            self.policies[key] = request.policy
        return health_service_pb2.SetHealthResponse(change=_change(request.change_id, made, f"check {key}"))

    async def DeleteHealth(
        self, request: health_pb2.DeleteHealthRequest, context: Context
    ) -> health_service_pb2.DeleteHealthResponse:
        """Remove a policy."""
        key = wire.unpack_key(request.virtual_server, "virtual_server")
        made = key in self.policies
        if not request.validate_only:
            self.policies.pop(key, None)
        return health_service_pb2.DeleteHealthResponse(change=_change(request.change_id, made, f"check {key} no more"))

    async def ProbeDestination(
        self, request: health_service_pb2.ProbeDestinationRequest, context: Context
    ) -> health_service_pb2.ProbeDestinationResponse:
        """Say what a test wants to be said."""
        key = wire.unpack_destination_key(request.destination)
        self.checks.append(key)
        self.waits.append(request.wait.ToTimedelta().total_seconds())
        passed, detail = self.answer(key)
        return health_service_pb2.ProbeDestinationResponse(passed=passed, detail=detail, checks=2)


def _change(name: str, made: bool, action: str) -> Change:
    return Change(id=name, made=made, actions=[action] if made else [])
