"""How a call ends that failed: with an error of ours, or with what its client may know of anything else."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

import grpc
from grpc_status import rpc_status

from agent_common.errors import InternalError, LvsError, Reason
from agent_common.grpc_errors import to_status

Context = grpc.aio.ServicerContext[Any, Any]

_log = logging.getLogger(__name__)


class TooLateError(Exception):
    """Something was not there in time (DEADLINE_EXCEEDED)."""


async def abort(name: str, error: Exception, context: Context) -> None:
    """End a call by the full name of its RPC; always raises. With a client that has gone it is cancelled."""
    try:
        await _abort(name, error, context)
    except grpc.aio.InternalError as gone:  # nothing can be sent any more
        raise asyncio.CancelledError from gone


async def _abort(name: str, error: Exception, context: Context) -> None:
    match error:
        case grpc.aio.AbortError() | grpc.aio.InternalError():
            raise error
        case NotImplementedError():  # what a generated servicer raises for what its heir does not have
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{name} is not served here")
        case TooLateError():
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(error))
        case LvsError():
            await context.abort_with_status(rpc_status.to_status(to_status(error)))
        case _:
            await context.abort_with_status(rpc_status.to_status(to_status(hide(name, error))))


def hide(name: str, error: BaseException) -> InternalError:
    """Log an unexpected exception, and return what the client may know of it."""
    incident = uuid.uuid4().hex[:12]
    _log.error("unexpected failure in %s, incident %s", name, incident, exc_info=error)
    return InternalError(
        f"cannot finish {name}: unexpected failure, incident {incident}; the agent's log has the details",
        Reason.INTERNAL,
        incident=incident,
    )
