"""What must outlive an agent: records of a kind, by name. No I/O; agent_common.sqlite_state keeps them on disk."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

Body = Mapping[str, Any]
"""A record's content: what JSON can say."""


class State(Protocol):
    """Durable records. Every call is on disk when it returns, unless it is made inside a transaction.

    Raises ExhaustedError when the disk is full.
    """

    def get(self, kind: str, name: str) -> Body | None:
        """Return a record, or None if there is none."""

    def list(self, kind: str) -> dict[str, Body]:
        """Return all records of a kind, oldest first."""

    def put(self, kind: str, name: str, body: Body) -> None:
        """Write a record; an older one of the same name is replaced."""

    def delete(self, kind: str, name: str) -> None:
        """Remove a record, if it is there."""

    def keep_newest(self, kind: str, count: int) -> None:
        """Remove the oldest records of a kind beyond so many."""

    def transaction(self) -> AbstractContextManager[None]:
        """Make the calls inside one write: all of them are on disk at the end, or none."""

    def close(self) -> None:
        """Let go of the files."""
