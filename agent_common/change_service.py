"""ChangeService of both agents. Unpack, call, pack."""

from __future__ import annotations

from lvsagent.v1 import change_service_pb2, change_service_pb2_grpc

from agent_common.changes import Changes, Outcome
from agent_common.errors import InvalidInputError
from agent_common.handlers import Context

OUTCOMES: dict[change_service_pb2.RevertOutcome.ValueType, Outcome] = {
    change_service_pb2.REVERT_OUTCOME_REVERTED: Outcome.REVERTED,
    change_service_pb2.REVERT_OUTCOME_NOTHING: Outcome.NOTHING,
    change_service_pb2.REVERT_OUTCOME_KEPT: Outcome.KEPT,
}


class ChangeServicer(change_service_pb2_grpc.ChangeServiceServicer):
    """Serves ChangeService."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def RevertChange(
        self, request: change_service_pb2.RevertChangeRequest, context: Context
    ) -> change_service_pb2.RevertChangeResponse:
        """Take a change back."""
        if not request.change_id:
            raise InvalidInputError("change_id", "change_id: must be set")
        ended = await self._changes.revert(request.change_id)
        outcome = next(number for number, meaning in OUTCOMES.items() if meaning is ended.outcome)
        return change_service_pb2.RevertChangeResponse(outcome=outcome, details=ended.details)
