"""agent_common.state.State in memory, for tests: what is on disk is what a new agent on the same object finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from agent_common.errors import ExhaustedError, Reason
from agent_common.state import Body


class FakeState:
    """Records in a dictionary; while `full` is set every write fails as on a full disk."""

    def __init__(self) -> None:
        self.full = False
        self._records: dict[tuple[str, str], str] = {}
        self._in_transaction = False

    def get(self, kind: str, name: str) -> Body | None:
        """Return a record, or None if there is none."""
        text = self._records.get((kind, name))
        return None if text is None else _load(text)

    def list(self, kind: str) -> dict[str, Body]:
        """Return all records of a kind, oldest first."""
        return {name: _load(text) for (each, name), text in self._records.items() if each == kind}

    def put(self, kind: str, name: str, body: Body) -> None:
        """Write a record; an older one of the same name is replaced, and the new one is the newest."""
        self._check_room()
        text = json.dumps(body, sort_keys=True)
        self._records.pop((kind, name), None)
        self._records[kind, name] = text

    def delete(self, kind: str, name: str) -> None:
        """Remove a record, if it is there."""
        if (kind, name) in self._records:
            self._check_room()
            del self._records[kind, name]

    def keep_newest(self, kind: str, count: int) -> None:
        """Remove the oldest records of a kind beyond so many."""
        names = [name for each, name in self._records if each == kind]
        for name in names[: max(len(names) - count, 0)]:
            self.delete(kind, name)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the calls inside one write; inside another transaction it is part of that one."""
        if self._in_transaction:
            yield
            return
        before = dict(self._records)
        self._in_transaction = True
        try:
            yield
        except BaseException:
            self._records = before
            raise
        finally:
            self._in_transaction = False

    def close(self) -> None:
        """Nothing to let go of: the records stay."""

    def _check_room(self) -> None:
        if self.full:
            raise ExhaustedError("cannot write the state: the disk is full", Reason.DISK_FULL)


def _load(text: str) -> Body:
    body: Body = json.loads(text)
    return body
