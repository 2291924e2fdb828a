"""What must outlive an agent: records of a kind, by name. No I/O; agent_common.sqlite_state keeps them on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from agent_common.worker import Run

ROOM_SECONDS = 10.0
"""Between two looks whether a full disk has room again."""

_T = TypeVar("_T")

Body = Mapping[str, Any]
"""A record's content: what JSON can say."""


class State(Protocol):
    """Durable records. Every call is on disk when it returns, unless it is made inside a transaction.

    Raises ExhaustedError when the disk is full. Some room is kept then for what ends or undoes something: `reserve`.

    Raises RefusedError (JOURNAL_CORRUPT) when a record is found not to be as it was written. From then on nothing can
    be written, and reads find nothing, so that the kernel can still be shown; who decides by a record asks
    `check_intact` first.
    """

    damage: str
    """What is wrong with the records, or ""."""

    def check_intact(self) -> None:
        """Raise RefusedError (JOURNAL_CORRUPT) if the records are damaged: nothing may be changed then."""

    def distrust(self, damage: str) -> None:
        """Take the records for damaged from now on: one that is as it was written cannot be used."""

    def get(self, kind: str, name: str) -> Body | None:
        """Return a record, or None if there is none."""

    def list(self, kind: str, prefix: str = "") -> dict[str, Body]:
        """Return all records of a kind whose names begin so, oldest first."""

    def bodies(self, kind: str) -> Iterator[Body]:
        """Return the content of all records of a kind, oldest first, as they are asked for: never all in memory."""

    def put(self, kind: str, name: str, body: Body) -> None:
        """Write a record; an older one of the same name is replaced."""

    def put_all(self, kind: str, bodies: Iterable[tuple[str, Body]]) -> None:
        """Write many records of a kind, as put does each, one after the other: they are never all in memory."""

    def delete(self, kind: str, name: str) -> None:
        """Remove a record, if it is there."""

    def keep_newest(self, kind: str, count: int) -> None:
        """Remove the oldest records of a kind beyond so many."""

    def transaction(self) -> AbstractContextManager[None]:
        """Make the calls inside one write: all of them are on disk at the end, or none."""

    def reserve(self) -> AbstractContextManager[None]:
        """Let the writes inside have the room that is kept; for whoever has the host to himself.

        Around a transaction, not in one: what that has written before cannot be written once more.
        """

    def check_room(self) -> None:
        """Raise ExhaustedError while that room is gone and cannot be had back: nothing new is begun then."""

    def look_for_room(self) -> None:
        """Have that room again, if it is gone and there is some."""

    def problems(self) -> Sequence[str]:
        """Return what is wrong with the records, for people, a line each."""

    def close(self) -> None:
        """Let go of the files."""


async def follow_room(state: State, run: Run) -> None:
    """Until cancelled: have the room again that is kept, soon after there is some."""
    while True:
        await asyncio.sleep(ROOM_SECONDS)
        await run(state.look_for_room)


def if_intact(state: State, read: Callable[[], _T]) -> Callable[[], _T]:
    """Return what compares something with the records, and raises RefusedError where those cannot be believed."""

    def checked() -> _T:
        state.check_intact()
        return read()

    return checked
