"""What every call passes, whatever service it is for: not too late, from somebody known, who may call that RPC.

An interceptor, so that a service that is added to a server cannot be forgotten here; it wraps the handler, since
gRPC tells the handler alone who is at the other end.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from grpc_status import rpc_status

from agent_common.access import Access, Caller, Context
from agent_common.errors import LvsError
from agent_common.grpc_errors import to_status

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[Any, Context], Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is known of the other end, asked in time: when the client is gone, grpcio 1.85 dies of the question."""

    caller: Caller
    peer: str


_call: ContextVar[Call] = ContextVar("call")


def call() -> Call:
    """Return who called and from where, inside of a handler."""
    return _call.get()


class Gate(grpc.aio.ServerInterceptor):
    """The gate of one server."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler behind the gate; an RPC that nobody serves stays unimplemented."""
        handler = await continuation(handler_call_details)
        return handler and self._behind(handler_call_details.method, handler)

    def _behind(self, path: str, handler: Handler) -> Handler:
        kinds: tuple[tuple[Callable[..., Handler], Any], ...] = (
            (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
            (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
            (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
            (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
        )
        for make, behaviour in kinds:
            if behaviour is not None:
                return make(
                    self._admitting(path, behaviour),
                    request_deserializer=handler.request_deserializer,
                    response_serializer=handler.response_serializer,
                )
        raise AssertionError("a handler has a behaviour")

    def _admitting(self, path: str, behaviour: Behaviour) -> Behaviour:
        async def answer(request: Any, context: Context) -> Any:
            await self._admit(path, context)
            return await behaviour(request, context)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            await self._admit(path, context)
            async for each in behaviour(request, context):
                yield each

        return stream if inspect.isasyncgenfunction(behaviour) else answer

    async def _admit(self, path: str, context: Context) -> None:
        await _refuse_late(context)
        try:
            _call.set(Call(caller=self._access.admit(path, context), peer=context.peer()))
        except LvsError as error:
            _log.warning("refused method=%s peer=%s message=%s", path, context.peer(), json.dumps(error.message))
            await context.abort_with_status(rpc_status.to_status(to_status(error)))


async def _refuse_late(context: Context) -> None:
    """End a call that waited in the socket of a stopped agent beyond its deadline, before it does anything."""
    # One turn of the loop lets a cancellation that arrived together with the call take effect first.
    await asyncio.sleep(0)
    remaining = context.time_remaining()
    if context.cancelled() or (remaining is not None and remaining <= 0):
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the call came after its deadline; nothing was done")
