"""DriftService of both agents. Unpack, call, pack."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lvsagent.v1 import drift_service_pb2, drift_service_pb2_grpc

from agent_common.drift import Drift
from agent_common.handlers import Context
from agent_common.paging import page
from agent_common.wire_drift import pack_drift


class DriftServicer(drift_service_pb2_grpc.DriftServiceServicer):
    """Serves DriftService."""

    def __init__(self, confirmed: Callable[[], Sequence[Drift]]) -> None:
        self._confirmed = confirmed

    async def ListDrift(
        self, request: drift_service_pb2.ListDriftRequest, context: Context
    ) -> drift_service_pb2.ListDriftResponse:
        """List what the last two readings have found."""
        drift = sorted(self._confirmed(), key=_name)
        part, token = page(drift, request.page_size, request.page_token, _name)
        return drift_service_pb2.ListDriftResponse(drift=[pack_drift(each) for each in part], next_page_token=token)


def _name(drift: Drift) -> str:
    return str(drift.resource)
