"""What every call passes, whatever service it is for: not too late, from somebody known, who may call that RPC, with
messages that can be read; and how it ends if it fails: no text of an exception leaves the agent.

An interceptor, so that a service that is added to a server cannot be forgotten here; it wraps the handler, since
gRPC tells the handler alone who is at the other end.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_status import rpc_status

from agent_common.access import Access, Caller, Context
from agent_common.errors import InvalidInputError, LvsError
from agent_common.failure import abort
from agent_common.grpc_errors import to_status
from agent_common.well_formed import check_well_formed

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
                    request_deserializer=_readable(handler.request_deserializer),
                    response_serializer=handler.response_serializer,
                )
        raise AssertionError("a handler has a behaviour")

    def _admitting(self, path: str, behaviour: Behaviour) -> Behaviour:
        name = path.strip("/").replace("/", ".")

        async def answer(request: Any, context: Context) -> Any:
            try:
                await self._admit(path, context)
                return await behaviour(_checked(request), context)
            except Exception as error:
                await abort(name, error, context)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                await self._admit(path, context)
                async with aclosing(behaviour(_checked(request), context)) as answers:
                    async for each in answers:
                        yield each
            except Exception as error:
                await abort(name, error, context)

        return stream if inspect.isasyncgenfunction(behaviour) else answer

    async def _admit(self, path: str, context: Context) -> None:
        await _refuse_late(context)
        try:
            _call.set(Call(caller=self._access.admit(path, context), peer=context.peer()))
        except LvsError as error:
            _log.warning("refused method=%s peer=%s message=%s", path, context.peer(), json.dumps(error.message))
            await context.abort_with_status(rpc_status.to_status(to_status(error)))


class _Unreadable:
    """Stands for bytes that are no message: what a deserializer raises gRPC would tell the client."""


def _readable(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    assert deserialize is not None  # noqa: S101  # nobody here takes bytes

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Unreadable()

    return read


def _checked(request: Any) -> Any:
    """Return a message that can be used, or a stream that gives such ones only; raises InvalidInputError."""
    if isinstance(request, Message | _Unreadable):
        return _usable(request)

    async def each_usable() -> AsyncIterator[Message]:
        async for each in request:
            yield _usable(each)

    return each_usable()


def _usable(message: Message | _Unreadable) -> Message:
    if isinstance(message, _Unreadable):
        raise InvalidInputError("request", "request: these bytes are no message of this RPC")
    check_well_formed(message)
    return message


async def _refuse_late(context: Context) -> None:
    """End a call that waited in the socket of a stopped agent beyond its deadline, before it does anything."""
    # One turn of the loop lets a cancellation that arrived together with the call take effect first.
    await asyncio.sleep(0)
    remaining = context.time_remaining()
    if context.cancelled() or (remaining is not None and remaining <= 0):
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the call came after its deadline; nothing was done")
