"""DriftService of both agents. Unpack, call, pack."""

from __future__ import annotations

from collections.abc import Callable

from lvsagent.v1 import drift_service_pb2, drift_service_pb2_grpc

from agent_common.drift import Drift
from agent_common.drift_watch import DriftWatch
from agent_common.grpc_errors import to_item
from agent_common.handlers import Context
from agent_common.paging import page
from agent_common.repair import Repair, Repaired, Repairs
from agent_common.wire_drift import pack_drift, unpack_drift


class DriftServicer(drift_service_pb2_grpc.DriftServiceServicer):
    """Serves DriftService; check_intact raises RefusedError where the records cannot be believed."""

    def __init__(self, watch: DriftWatch, repairs: Repairs, check_intact: Callable[[], None]) -> None:
        self._check_intact = check_intact
        self._watch = watch
        self._repairs = repairs

    async def ListDrift(
        self, request: drift_service_pb2.ListDriftRequest, context: Context
    ) -> drift_service_pb2.ListDriftResponse:
        """List what the last two readings have found, or two that are taken now."""
        self._check_intact()
        found = await self._watch.look_twice() if request.look_now else self._watch.confirmed()
        drift = sorted(found, key=_name)
        part, token = page(drift, request.page_size, request.page_token, _name)
        return drift_service_pb2.ListDriftResponse(drift=[pack_drift(each) for each in part], next_page_token=token)

    async def RepairDrift(
        self, request: drift_service_pb2.RepairDriftRequest, context: Context
    ) -> drift_service_pb2.RepairDriftResponse:
        """Bring things back to what was committed."""
        self._check_intact()
        wanted = [Repair(drift=unpack_drift(each.drift), etag=each.etag) for each in request.repairs]
        results = await self._repairs.repair(wanted, validate_only=request.validate_only)
        return drift_service_pb2.RepairDriftResponse(results=[_pack(each) for each in results])


def _pack(repaired: Repaired) -> drift_service_pb2.RepairResult:
    if repaired.error is not None:
        return drift_service_pb2.RepairResult(error=to_item(repaired.error))
    return drift_service_pb2.RepairResult(change=repaired.change, etag=repaired.etag)


def _name(drift: Drift) -> str:
    return str(drift.resource)
