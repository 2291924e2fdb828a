"""What every call passes, whatever service it is for: not too late, from somebody known, who may call that RPC and has
not too many calls already; only then is read what is asked. No text of an exception leaves the agent.

An interceptor, so that a service that is added to a server cannot be forgotten here; it wraps the handler, since
gRPC tells the handler alone who is at the other end.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from agent_common.access import Access, Caller, Context
from agent_common.errors import ExhaustedError, LvsError, Reason
from agent_common.failure import TooLateError, abort
from agent_common.incoming import each_message, one_message, readable
from agent_common.limits import MAX_CALLS_OF_ONE, Seconds

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

    def __init__(self, access: Access, seconds: Seconds) -> None:
        self._access = access
        self._seconds = seconds
        self._calls: Counter[str] = Counter()
        """How many of each caller are under way."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler behind the gate; an RPC that nobody serves stays unimplemented."""
        handler = await continuation(handler_call_details)
        return handler and self._behind(handler_call_details.method, handler)

    def _behind(self, path: str, handler: Handler) -> Handler:
        """Return a handler that reads its message itself, once its caller was let in; on the wire it is the same."""
        behaviours: tuple[tuple[Any, bool], ...] = (
            (handler.unary_unary, True),
            (handler.unary_stream, True),
            (handler.stream_unary, False),
            (handler.stream_stream, False),
        )
        for behaviour, has_one in behaviours:
            if behaviour is not None:
                make: Callable[..., Handler] = grpc.stream_unary_rpc_method_handler
                seconds = None
                if handler.response_streaming:
                    make, seconds = grpc.stream_stream_rpc_method_handler, self._seconds.streaming
                return make(
                    self._admitting(path, behaviour, has_one=has_one, seconds=seconds),
                    request_deserializer=readable(handler.request_deserializer),
                    response_serializer=handler.response_serializer,
                )
        raise AssertionError("a handler has a behaviour")

    def _admitting(self, path: str, behaviour: Behaviour, *, has_one: bool, seconds: float | None) -> Behaviour:
        """Return what goes through the gate before the behaviour; a stream of answers ends after so many seconds."""
        name = path.strip("/").replace("/", ".")

        async def answer(messages: AsyncIterator[Any], context: Context) -> Any:
            limit = asyncio.timeout(seconds)
            try:
                async with self._let_in(path, context), limit:
                    return await behaviour(await self._request(messages, has_one), context)
            except Exception as error:
                await abort(name, _late(limit) or error, context)

        async def stream(messages: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            limit = asyncio.timeout(seconds)
            try:
                async with (
                    self._let_in(path, context),
                    limit,
                    aclosing(behaviour(await self._request(messages, has_one), context)) as answers,
                ):
                    async for each in answers:
                        yield each
            except Exception as error:
                await abort(name, _late(limit) or error, context)

        return stream if inspect.isasyncgenfunction(behaviour) else answer

    async def _request(self, messages: AsyncIterator[Any], has_one: bool) -> Any:
        seconds = self._seconds.receiving
        return await one_message(messages, seconds) if has_one else each_message(messages, seconds)

    @asynccontextmanager
    async def _let_in(self, path: str, context: Context) -> AsyncIterator[None]:
        """Have one of the calls that the caller may have at a time."""
        await self._admit(path, context)
        name = call().caller.name
        if self._calls[name] >= MAX_CALLS_OF_ONE:
            raise ExhaustedError(f"{name} has {MAX_CALLS_OF_ONE} calls here already", Reason.TOO_MANY_CALLS)
        self._calls[name] += 1
        try:
            yield
        finally:
            self._calls[name] -= 1
            if not self._calls[name]:
                del self._calls[name]

    async def _admit(self, path: str, context: Context) -> None:
        await _refuse_late(context)
        try:
            _call.set(Call(caller=self._access.admit(path, context), peer=context.peer()))
        except LvsError as error:
            _log.warning("refused method=%s peer=%s message=%s", path, context.peer(), json.dumps(error.message))
            raise


def _late(limit: asyncio.Timeout) -> TooLateError | None:
    return TooLateError("it has gone on for as long as a stream may") if limit.expired() else None


async def _refuse_late(context: Context) -> None:
    """End a call that waited in the socket of a stopped agent beyond its deadline, before it does anything."""
    # One turn of the loop lets a cancellation that arrived together with the call take effect first.
    await asyncio.sleep(0)
    remaining = context.time_remaining()
    if context.cancelled() or (remaining is not None and remaining <= 0):
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the call came after its deadline; nothing was done")
