"""State in SQLite: one file in the state directory, one connection in one thread, fsync at every commit."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_common.errors import ExhaustedError, InternalError, LvsError, Reason, RefusedError
from agent_common.state import Body

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

    def __init__(self, directory: Path) -> None:
        self._path = directory / "state.db"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        with self._errors():
            self._connection.execute(
                "INSERT INTO record (kind, name, body) VALUES (?, ?, ?)", (kind, name, json.dumps(body, sort_keys=True))
            )

    def delete(self, kind: str, name: str) -> None:
        """Remove a record, if it is there."""
        with self._errors():
            self._connection.execute("DELETE FROM record WHERE kind = ? AND name = ?", (kind, name))

    def keep_newest(self, kind: str, count: int) -> None:
        """Remove the oldest records of a kind beyond so many."""
        with self._errors():
            self._connection.execute(
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
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._errors():
                self._connection.execute("COMMIT")
        except BaseException:
            # SQLite itself has rolled back after some errors, a full disk among them, and not after others.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for who counts what it does."""
        return self._connection

    def close(self) -> None:
        """Let go of the file and its lock."""
        self._connection.close()

    def _open(self) -> None:
        with self._errors():
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            with self.transaction():  # takes the lock for good
                self._migrate()

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
        self._connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> LvsError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_FULL"):
            return ExhaustedError(f"cannot write {self._path}: the disk is full", Reason.DISK_FULL)
        if name.startswith("SQLITE_BUSY"):
            return RefusedError(
                f"cannot use {self._path}: another agent has it open; give each its own --state-dir", Reason.IN_USE
            )
        return InternalError(f"cannot use {self._path}: {error}", Reason.INTERNAL)


def _load(text: str) -> Body:
    body: Body = json.loads(text)
    return body
