"""State in SQLite: one file in the state directory, one connection in one thread, fsync at every commit."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent_common.ballast import Ballast
from agent_common.errors import ExhaustedError, InternalError, LvsError, Reason, RefusedError
from agent_common.state import Body

_log = logging.getLogger(__name__)

_Statement = tuple[str, Sequence[str | int]]

_MIGRATIONS = (
    """
    CREATE TABLE record (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        body TEXT NOT NULL,
        UNIQUE (kind, name) ON CONFLICT REPLACE
    ) STRICT;
    """,
)
"""Statements that bring a file from the version of their index to the next; PRAGMA user_version counts them."""


class SqliteState:
    """Records in DIRECTORY/state.db.

    The file is locked while it is open, so a second agent on the same directory is refused instead of undoing the first
    one's work. Raises RefusedError if the directory cannot be used.
    """

    def __init__(self, directory: Path, ballast: Ballast | None = None) -> None:
        self._path = directory / "state.db"
        self._reserving = 0
        self._written: list[_Statement] = []
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._ballast = ballast or Ballast(directory / "ballast")
            self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=0)
        except (OSError, sqlite3.Error) as error:
            raise RefusedError(
                f"cannot use state directory {directory}: {error}", Reason.KERNEL_REFUSED, path=str(directory)
            ) from error
        try:
            self._open()
        except BaseException:
            self._connection.close()
            raise

    def get(self, kind: str, name: str) -> Body | None:
        """Return a record, or None if there is none."""
        with self._errors():
            row = self._connection.execute(
                "SELECT body FROM record WHERE kind = ? AND name = ?", (kind, name)
            ).fetchone()
        return None if row is None else _load(row[0])

    def list(self, kind: str) -> dict[str, Body]:
        """Return all records of a kind, oldest first."""
        with self._errors():
            rows = self._connection.execute(
                "SELECT name, body FROM record WHERE kind = ? ORDER BY sequence", (kind,)
            ).fetchall()
        return {name: _load(body) for name, body in rows}

    def put(self, kind: str, name: str, body: Body) -> None:
        """Write a record; an older one of the same name is replaced."""
        text = json.dumps(body, sort_keys=True)
        self._write("INSERT INTO record (kind, name, body) VALUES (?, ?, ?)", (kind, name, text))

    def delete(self, kind: str, name: str) -> None:
        """Remove a record, if it is there."""
        self._write("DELETE FROM record WHERE kind = ? AND name = ?", (kind, name))

    def keep_newest(self, kind: str, count: int) -> None:
        """Remove the oldest records of a kind beyond so many."""
        self._write(
            "DELETE FROM record WHERE kind = ?1 AND sequence NOT IN "
            "(SELECT sequence FROM record WHERE kind = ?1 ORDER BY sequence DESC LIMIT ?2)",
            (kind, count),
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the calls inside one write: all of them are on disk at the end, or none.

        Inside another transaction it is part of that one.
        """
        if self._connection.in_transaction:
            yield
            return
        self._written.clear()
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            # SQLite itself has rolled back after some errors, a full disk among them, and not after others.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Let the writes inside have the room that is kept: a full disk is met with the ballast gone."""
        self._reserving += 1
        try:
            yield
        finally:
            self._reserving -= 1

    def check_room(self) -> None:
        """Raise ExhaustedError while the ballast is gone, or there is no room beside it."""
        self._ballast.make()
        if not self._ballast.has_room():
            raise ExhaustedError(
                f"cannot begin anything new: the disk of {self._path.parent} is full", Reason.DISK_FULL
            )

    def problems(self) -> Sequence[str]:
        """Return what is wrong with the disk."""
        if self._ballast.has_room():
            return []
        return [f"the disk of {self._path.parent} is full: what is open can be ended, nothing new is begun"]

    def look_for_room(self) -> None:
        """Make the ballast again, if it is gone and there is room."""
        self._ballast.make()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for who counts what it does."""
        return self._connection

    def close(self) -> None:
        """Let go of the file and its lock."""
        self._connection.close()

    def _write(self, statement: str, values: Sequence[str | int]) -> None:
        with self.transaction():
            self._execute(statement, values)
            self._written.append((statement, values))

    def _execute(self, statement: str, values: Sequence[str | int] = ()) -> None:
        """Execute a statement; on a full disk again, once there is room, if there may be."""
        with self._errors():
            try:
                self._connection.execute(statement, values)
            except sqlite3.Error as error:
                if not (_is_full(error) and self._reserving):
                    raise
                self._ballast.free()
                self._begin_again()
                self._connection.execute(statement, values)

    def _begin_again(self) -> None:
        """Write once more what this transaction has written, in a log that starts over."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        with contextlib.suppress(sqlite3.Error):  # where the database has no room to grow into the log goes on
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.execute("BEGIN IMMEDIATE")
        for statement, values in self._written:
            self._connection.execute(statement, values)

    def _open(self) -> None:
        with self._errors():
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
        with self.transaction(), self._errors():  # takes the lock for good
            self._migrate()
        self._ballast.make()
        for problem in self.problems():
            _log.warning("degraded: %s", problem)

    def _migrate(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise RefusedError(
                f"cannot use {self._path}: a newer lvs-agents wrote it (version {version}, this one knows "
                f"{len(_MIGRATIONS)}); install that again",
                Reason.KERNEL_REFUSED,
            )
        for statements in _MIGRATIONS[version:]:
            self._connection.execute(statements)
        if version < len(_MIGRATIONS):  # on a full disk not even the same number can be written
            self._connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> LvsError:
        name = _name(error)
        if _is_full(error):
            return ExhaustedError(f"cannot write {self._path}: the disk is full", Reason.DISK_FULL)
        if name.startswith("SQLITE_BUSY"):
            return RefusedError(
                f"cannot use {self._path}: another agent has it open; give each its own --state-dir", Reason.IN_USE
            )
        return InternalError(f"cannot use {self._path}: {error}", Reason.INTERNAL)


def _name(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", ""))


def _is_full(error: sqlite3.Error) -> bool:
    return _name(error).startswith("SQLITE_FULL")


def _load(text: str) -> Body:
    body: Body = json.loads(text)
    return body
