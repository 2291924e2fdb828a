"""agent_common.state.State in memory, for tests: what is on disk is what a new agent on the same object finds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from agent_common.errors import ExhaustedError, Reason, RefusedError
from agent_common.state import Body


class FakeState:
    """Records in a dictionary; while `full` is set writes fail as on a full disk.

    Those in `reserve` do not: they use up the ballast, and then have room until `spent` is set.
    """

    def __init__(self) -> None:
        self.damage = ""
        self.full = False
        self.spent = False
        self.ballast = True
        self._reserving = 0
        self._records: dict[tuple[str, str], str] = {}
        self._in_transaction = False

    def check_intact(self) -> None:
        """Raise RefusedError if the records are damaged: a test has set `damage`."""
        if self.damage:
            raise RefusedError(
                f"cannot change anything: the journal is corrupt ({self.damage})", Reason.JOURNAL_CORRUPT
            )

    def distrust(self, damage: str) -> None:
        """Take the records for damaged from now on."""
        self.damage = self.damage or damage

    def get(self, kind: str, name: str) -> Body | None:
        """Return a record, or None if there is none."""
        text = None if self.damage else self._records.get((kind, name))
        return None if text is None else _load(text)

    def list(self, kind: str, prefix: str = "") -> dict[str, Body]:
        """Return all records of a kind whose names begin so, oldest first."""
        found = {} if self.damage else self._records
        return {name: _load(text) for (each, name), text in found.items() if each == kind and name.startswith(prefix)}

    def bodies(self, kind: str) -> Iterator[Body]:
        """Return the content of all records of a kind, oldest first."""
        yield from self.list(kind).values()

    def put(self, kind: str, name: str, body: Body) -> None:
        """Write a record; an older one of the same name is replaced, and the new one is the newest."""
        self._check_room()
        text = json.dumps(body, sort_keys=True)
        self._records.pop((kind, name), None)
        self._records[kind, name] = text

    def put_all(self, kind: str, bodies: Iterable[tuple[str, Body]]) -> None:
        """Write many records of a kind."""
        for name, body in bodies:
            self.put(kind, name, body)

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

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Let the writes inside have the room that is kept."""
        self._reserving += 1
        try:
            yield
        finally:
            self._reserving -= 1

    def check_room(self) -> None:
        """Raise ExhaustedError while that room is gone, or there is none beside it."""
        self.look_for_room()
        if self.problems():
            raise ExhaustedError("cannot begin anything new: the disk is full", Reason.DISK_FULL)

    def look_for_room(self) -> None:
        """Have that room again, if there is some."""
        self.ballast = self.ballast or not self.full

    def problems(self) -> Sequence[str]:
        """Return what is wrong with the records."""
        if self.damage:
            return [f"the journal is corrupt ({self.damage})"]
        return ["the disk is full"] if self.full or not self.ballast else []

    def close(self) -> None:
        """Nothing to let go of: the records stay."""

    def _check_room(self) -> None:
        self.check_intact()
        if self.full and self._reserving and not self.spent:
            self.ballast = False
        elif self.full:
            raise ExhaustedError("cannot write the state: the disk is full", Reason.DISK_FULL)


def _load(text: str) -> Body:
    body: Body = json.loads(text)
    return body
