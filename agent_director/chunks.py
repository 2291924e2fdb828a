"""What comes in chunks, since it may be larger than one message: the operations of a batch, the entries of a table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from lvsagent.v1 import ipvs_service_pb2

from agent_common.errors import InvalidInputError
from agent_common.limits import MAX_LIST, MAX_STREAM

MAX_CHUNK = MAX_LIST
MAX_TABLE = 100_000
MAX_BATCH = 2000
"""Operations, each of which is planned, written and read back by itself, while nobody else changes the host."""

Chunk = TypeVar("Chunk", ipvs_service_pb2.BatchApplyRequest, ipvs_service_pb2.ApplyTableRequest)


async def received(field: str, stream: AsyncIterator[Chunk], count: Callable[[Chunk], int], most: int) -> list[Chunk]:
    """Return the chunks of a whole, refused (InvalidInputError) as soon as they are more than that can be.

    gRPC ends the stream of a client that dies as it ends that of one that has said everything: the last one says it.
    """
    chunks: list[Chunk] = []
    things = octets = 0
    async for chunk in stream:
        if chunks and chunks[-1].last:
            raise InvalidInputError("last", "last: must be set in the last chunk only; nothing was applied")
        size = count(chunk)
        things, octets = things + max(size, 1), octets + chunk.ByteSize()
        if size > MAX_CHUNK:
            raise InvalidInputError(field, f"{field}: more than {MAX_CHUNK} in a chunk")
        if things > most or octets > MAX_STREAM:
            raise InvalidInputError(field, f"{field}: more than {most}, or {MAX_STREAM >> 20} MiB")
        chunks.append(chunk)
    if not chunks or not chunks[-1].last:
        raise InvalidInputError("last", "last: must be set in the last chunk; nothing was applied")
    return chunks
