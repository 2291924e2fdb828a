"""What a call brings: its one message, or its stream of them; in time, readable, well formed, within the limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError, Message

from agent_common.errors import InvalidInputError
from agent_common.failure import TooLateError
from agent_common.well_formed import check_well_formed


class _Unreadable:
    """Stands for bytes that are no message: what a deserializer raises gRPC would tell the client."""


def readable(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Return a deserializer that raises nothing."""
    assert deserialize is not None  # noqa: S101  # nobody here takes bytes

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Unreadable()

    return read


async def one_message(messages: AsyncIterator[Any], seconds: float) -> Message:
    """Return the message of a call that has one, within so many seconds; raises InvalidInputError, TooLateError."""
    async for message in each_message(messages, seconds):
        return message
    raise InvalidInputError("request", "request: the call ended without a message")


async def each_message(messages: AsyncIterator[Any], seconds: float) -> AsyncIterator[Message]:
    """Return the messages of a stream as they come, within so many seconds; raises as one_message does."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        try:
            async with asyncio.timeout_at(end):
                message = await anext(messages)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise TooLateError(f"the request was not there within {seconds:g} s") from error
        if isinstance(message, _Unreadable):
            raise InvalidInputError("request", "request: these bytes are no message of this RPC")
        check_well_formed(message)
        yield message
