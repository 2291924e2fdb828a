"""Registers the RPC handlers of an agent, every one of them inside the same wrapping.

The wrapping refuses calls whose deadline has passed, lets work that has begun finish though its client is gone, maps
errors to statuses, and keeps the text of unexpected exceptions in the log. Authorisation goes here, nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from agent_common.errors import InternalError, LvsError, Reason
from agent_common.grpc_errors import to_status
from agent_common.rpc_names import only_reads

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Context], Awaitable[Message]]
Stream = Callable[[Any, Context], AsyncGenerator[Message]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service's descriptor, from its generated module, and the object with its methods."""

    descriptor: ServiceDescriptor
    servicer: object


class Handlers:
    """The handlers of one server, and the calls that are running in them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Message]] = set()

    def register(self, server: grpc.aio.Server, services: Iterable[Service]) -> None:
        """Add every method of the services to the server, wrapped."""
        for service in services:
            methods = {method.name: self._handler(method, service.servicer) for method in service.descriptor.methods}
            generic = grpc.method_handlers_generic_handler(service.descriptor.full_name, methods)
            server.add_generic_rpc_handlers((generic,))

    async def finish(self) -> None:
        """Wait until every call that has begun is finished."""
        while self._running:
            await asyncio.wait(set(self._running))

    def _handler(self, method: MethodDescriptor, servicer: object) -> grpc.RpcMethodHandler[Any, Any]:
        call = getattr(servicer, method.name)
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = grpc.unary_unary_rpc_method_handler
        if method.client_streaming:
            make = grpc.stream_unary_rpc_method_handler
        elif method.server_streaming:
            make = grpc.unary_stream_rpc_method_handler
        wrap = _wrap_stream if method.server_streaming else self._wrap
        return make(
            wrap(method.full_name, call),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )

    def _wrap(self, name: str, call: Method) -> Method:
        reads = only_reads(name.rpartition(".")[2])  # all else is logged, and finished though the client is gone

        async def handle(request: Message | AsyncIterator[Message], context: Context) -> Message:
            await _refuse_late(context)
            begun, peer = time.monotonic(), context.peer()  # asked for later, when the client is gone, it is a segfault
            task = asyncio.ensure_future(call(request, context))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            if not reads:
                task.add_done_callback(lambda done: _log_change(name, peer, begun, done))
            try:
                # Shielded: grpc.aio cancels a handler when its client goes away, and half a change helps nobody.
                return await asyncio.shield(task)
            except LvsError as error:
                await context.abort_with_status(rpc_status.to_status(to_status(error)))
            except asyncio.CancelledError:
                if reads:
                    task.cancel()  # nobody wants the answer
                else:
                    task.add_done_callback(lambda done: _log_unheard(name, done))
                raise
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                hidden = _hide(name, error)
                await context.abort_with_status(rpc_status.to_status(to_status(hidden)))
            raise AssertionError("abort_with_status raises")

        return handle


def _wrap_stream(name: str, call: Stream) -> Stream:
    """A stream of answers changes nothing: it ends with its client."""

    async def handle(request: Message, context: Context) -> AsyncGenerator[Message]:
        await _refuse_late(context)
        try:
            async with aclosing(call(request, context)) as answers:
                async for answer in answers:
                    yield answer
        except LvsError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))
        except Exception as error:
            hidden = _hide(name, error)
            await context.abort_with_status(rpc_status.to_status(to_status(hidden)))

    return handle


def _log_change(name: str, peer: str, begun: float, task: asyncio.Task[Message]) -> None:
    """Say in the log who asked for a change and how it ended."""
    error = None if task.cancelled() else task.exception()
    outcome = "ok" if error is None else error.reason if isinstance(error, LvsError) else "UNEXPECTED"
    milliseconds = (time.monotonic() - begun) * 1000
    said = f" message={json.dumps(error.message)}" if isinstance(error, LvsError) else ""
    _log.info("change method=%s peer=%s outcome=%s ms=%.0f%s", name, peer, outcome, milliseconds, said)


async def _refuse_late(context: Context) -> None:
    """End a call that waited in the socket of a stopped agent beyond its deadline, before it does anything."""
    # One turn of the loop lets a cancellation that arrived together with the call take effect first.
    await asyncio.sleep(0)
    remaining = context.time_remaining()
    if context.cancelled() or (remaining is not None and remaining <= 0):
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the call came after its deadline; nothing was done")


def _hide(name: str, error: BaseException) -> InternalError:
    """Log an unexpected exception, and return what the client may know of it."""
    incident = uuid.uuid4().hex[:12]
    _log.error("unexpected failure in %s, incident %s", name, incident, exc_info=error)
    return InternalError(
        f"cannot finish {name}: unexpected failure, incident {incident}; the agent's log has the details",
        Reason.INTERNAL,
        incident=incident,
    )


def _log_unheard(name: str, task: asyncio.Task[Message]) -> None:
    """Say in the log how a call ended whose client did not wait."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, LvsError):
        _log.warning("%s failed, but its client had gone: %s", name, error.message)
    elif error is not None:
        _hide(name, error)
    else:
        _log.warning("%s was done, but its client had gone", name)
