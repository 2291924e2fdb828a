"""Registers the RPC handlers of an agent, every one of them inside the same wrapping.

Every call has passed the gate (agent_common/gate.py), which also ends those that fail. The wrapping looks whether its
caller may do what the message asks for, and lets work that has begun finish though its client is gone; what only reads
or waits ends with its client.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from agent_common.access import Access
from agent_common.audit import AuditRecord, Ended, Recorder, audit_record, only_validates
from agent_common.audit_log import AuditLog
from agent_common.errors import DeniedError, LvsError
from agent_common.failure import TooLateError, hide
from agent_common.gate import Call, Gate, call
from agent_common.limits import MAX_CALLS, SECONDS, Seconds
from agent_common.rpc_names import only_reads, only_waits

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Context], Awaitable[Message]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service's descriptor, from its generated module, and the object with its methods."""

    descriptor: ServiceDescriptor
    servicer: object


Options = Sequence[tuple[str, int]]


class Handlers:
    """The handlers of an agent's servers, and the calls that are running in them."""

    def __init__(self, record: Recorder | None = None, seconds: Seconds = SECONDS) -> None:
        self._seconds = seconds
        self._record = record or AuditLog().record
        self._running: set[asyncio.Task[Message]] = set()

    def make_server(self, access: Access, services: Iterable[Service], options: Options = ()) -> grpc.aio.Server:
        """Return a server with every method of the services, wrapped, behind its gate."""
        server = grpc.aio.server(
            interceptors=[Gate(access, self._seconds)], options=options, maximum_concurrent_rpcs=MAX_CALLS
        )
        for service in services:
            methods = {
                method.name: self._handler(method, service.servicer, access) for method in service.descriptor.methods
            }
            generic = grpc.method_handlers_generic_handler(service.descriptor.full_name, methods)
            server.add_generic_rpc_handlers((generic,))
        return server

    async def finish(self) -> None:
        """Wait until every call that has begun is finished."""
        while self._running:
            await asyncio.wait(set(self._running))

    def _handler(self, method: MethodDescriptor, servicer: object, access: Access) -> grpc.RpcMethodHandler[Any, Any]:
        servant = getattr(servicer, method.name)
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = grpc.unary_unary_rpc_method_handler
        if method.client_streaming:
            make = grpc.stream_unary_rpc_method_handler
        elif method.server_streaming:
            make = grpc.unary_stream_rpc_method_handler
        name = method.full_name
        return make(
            servant if method.server_streaming else self._wrap(name, servant, access),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )

    def _wrap(self, name: str, method: Method, access: Access) -> Method:
        plain = name.rpartition(".")[2]
        if only_reads(plain):
            return _wrap_reading(method, self._seconds.reading)
        ends_with_its_client = only_waits(plain)

        async def handle(request: Message | AsyncIterator[Message], context: Context) -> Message:
            asked = _Asked(name=name, call=call())

            async def work() -> Message:
                return await method(await asked.checked(access, request), context)

            task = asyncio.ensure_future(work())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            task.add_done_callback(lambda done: self._end(asked, done))  # before the answer goes out
            if ends_with_its_client:
                return await task
            try:
                # Shielded: grpc.aio cancels a handler when its client goes away, and half a change helps nobody.
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                task.add_done_callback(lambda done: _log_unheard(name, done))
                raise

        return handle

    def _end(self, asked: _Asked, task: asyncio.Task[Message]) -> None:
        """Record how a change ended. One that was only validated is none, and one that was denied is for the log."""
        if task.cancelled():
            return  # it only waited, and changed nothing
        error = task.exception()
        if isinstance(error, DeniedError):
            _log.warning("denied method=%s peer=%s message=%s", asked.name, asked.call.peer, json.dumps(error.message))
        elif not only_validates(asked.request):
            self._record(_recorded(asked.ended(task)))


def _recorded(ended: Ended) -> AuditRecord:
    """Return the record of a call; one that cannot be shown is recorded all the same."""
    try:
        return audit_record(ended)
    except Exception as error:
        _log.error("cannot show in the audit what %s was asked for", ended.method, exc_info=error)
        return audit_record(replace(ended, request=None, answer=None))


class _Asked:
    """A call that is to change something; request is its message, or the first of a stream."""

    def __init__(self, *, name: str, call: Call) -> None:
        self.name = name
        self.call = call
        self.request: Message | None = None
        self._begun = time.monotonic()

    async def checked(
        self, access: Access, request: Message | AsyncIterator[Message]
    ) -> Message | AsyncIterator[Message]:
        """Return a request, or a stream of them, each of which its caller may ask for; raises DeniedError."""
        if isinstance(request, Message):
            await self._check(access, request)
            return request
        stream = request

        async def each_checked() -> AsyncIterator[Message]:
            async for message in stream:
                await self._check(access, message)
                yield message

        return each_checked()

    async def _check(self, access: Access, request: Message) -> None:
        self.request = self.request or request
        await access.check(self.call.caller, request)

    def ended(self, task: asyncio.Task[Message]) -> Ended:
        """Return what it came to."""
        error = task.exception()
        return Ended(
            caller=self.call.caller,
            peer=self.call.peer,
            method=self.name.removeprefix("lvsagent.v1.").replace(".", "/"),
            request=self.request,
            answer=None if error is not None else task.result(),
            error=error if isinstance(error, LvsError) else None,
            seconds=time.monotonic() - self._begun,
            now=time.time(),
        )


def _wrap_reading(method: Method, seconds: float) -> Method:
    """What only reads is not logged, and ends with its client: nobody wants the answer then."""

    async def handle(request: Message | AsyncIterator[Message], context: Context) -> Message:
        try:
            async with asyncio.timeout(seconds):
                return await method(request, context)
        except TimeoutError as error:
            raise TooLateError(f"no answer within {seconds:g} s") from error

    return handle


def _log_unheard(name: str, task: asyncio.Task[Message]) -> None:
    """Say in the log how a call ended whose client did not wait."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, LvsError):
        _log.warning("%s failed, but its client had gone: %s", name, error.message)
    elif error is not None:
        hide(name, error)
    else:
        _log.warning("%s was done, but its client had gone", name)
