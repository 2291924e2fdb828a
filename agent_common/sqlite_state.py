"""State in SQLite: one file in the state directory, one connection in one thread, fsync at every commit."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent_common.ballast import Ballast
from agent_common.errors import ExhaustedError, InternalError, LvsError, Reason, RefusedError
from agent_common.sqlite_check import find_damage
from agent_common.sqlite_schema import VERSION, checksum, migrate, version_of
from agent_common.state import Body

_log = logging.getLogger(__name__)

_CORRUPT = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_CORRUPTFS", "SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ")
"""Error names (sqlite3.h) that mean that what was written cannot be read."""

_ALL = "SELECT name, body, checksum FROM record WHERE kind = ? ORDER BY sequence"

_Rows = Iterable[Sequence[str | int]]
_Statement = tuple[str, _Rows]

_to_text = json.JSONEncoder(sort_keys=True).encode
_from_text = json.JSONDecoder().raw_decode


class SqliteState:
    """Records in DIRECTORY/state.db.

    The directory is locked while it is open, so a second agent is refused instead of undoing the first one's work. A
    file that is damaged is left as it is. Raises RefusedError if the directory cannot be used.
    """

    def __init__(self, directory: Path, ballast: Ballast | None = None) -> None:
        self.damage = ""
        self._path = directory / "state.db"
        self._reserving = 0
        self._written: list[_Statement] | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._take_lock()
            self._ballast = ballast or Ballast(directory / "ballast")
            self._connection = self._connect()
        except BaseException:
            os.close(self._lock)
            raise

    def check_intact(self) -> None:
        """Raise RefusedError if the file is damaged, or a record was found not to be as it was written."""
        if self.damage:
            raise self._corrupt()

    def distrust(self, damage: str) -> None:
        """Take the file for damaged from now on; it is left as it is."""
        self._found_damaged(damage)

    def get(self, kind: str, name: str) -> Body | None:
        """Return a record, or None if there is none."""
        found = self._read("SELECT name, body, checksum FROM record WHERE kind = ? AND name = ?", kind, name)
        return next(iter(found.values()), None)

    def list(self, kind: str, prefix: str = "") -> dict[str, Body]:
        """Return all records of a kind whose names begin so, oldest first."""
        if not prefix:
            return self._read(_ALL, kind)
        behind = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return self._read(
            "SELECT name, body, checksum FROM record WHERE kind = ? AND name >= ? AND name < ? ORDER BY sequence",
            *(kind, prefix, behind),
        )

    def bodies(self, kind: str) -> Iterator[Body]:
        """Return the content of all records of a kind, oldest first, as they are asked for."""
        return (body for _, body in self._rows(_ALL, kind))

    def put(self, kind: str, name: str, body: Body) -> None:
        """Write a record; an older one of the same name is replaced."""
        self.put_all(kind, [(name, body)])

    def put_all(self, kind: str, bodies: Iterable[tuple[str, Body]]) -> None:
        """Write many records of a kind."""
        texts = ((name, _to_text(body)) for name, body in bodies)
        self._write(
            "INSERT INTO record (kind, name, body, checksum) VALUES (?, ?, ?, ?)",
            ((kind, name, text, checksum(kind, name, text)) for name, text in texts),
        )

    def delete(self, kind: str, name: str) -> None:
        """Remove a record, if it is there."""
        self._write("DELETE FROM record WHERE kind = ? AND name = ?", [(kind, name)])

    def keep_newest(self, kind: str, count: int) -> None:
        """Remove the oldest records of a kind beyond so many."""
        self._write(
            "DELETE FROM record WHERE kind = ?1 AND sequence NOT IN "
            "(SELECT sequence FROM record WHERE kind = ?1 ORDER BY sequence DESC LIMIT ?2)",
            [(kind, count)],
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the calls inside one write: all of them are on disk at the end, or none.

        Inside another transaction it is part of that one.
        """
        if self._connection.in_transaction:
            yield
            return
        self.check_intact()
        self._written = [] if self._reserving else None
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT", [()])
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
        """Return what is wrong with file and disk."""
        if self.damage:
            return [
                f"the journal {self._path} is corrupt ({self.damage}): nothing is changed or brought back, and what "
                "this agent made is shown as foreign"
            ]
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
        os.close(self._lock)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise self._in_use() from error

    def _connect(self) -> sqlite3.Connection:
        """Open the file, made if there is none; one that is damaged is not opened."""
        try:
            self._found_damaged(find_damage(self._path))
            if not self.damage and not self._path.exists():
                self._make()
            connection = sqlite3.connect(":memory:" if self.damage else self._path, isolation_level=None, timeout=0)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        self._connection = connection
        if not self.damage:
            try:
                self._open()
            except BaseException:
                connection.close()
                raise
        return connection

    def _make(self) -> None:
        """Make the file under another name: one that is empty or has no tables is never one of ours."""
        made = self._path.with_suffix(".new")
        made.unlink(missing_ok=True)
        with self._errors(), contextlib.closing(sqlite3.connect(made, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            migrate(connection)
            connection.execute("COMMIT")
        made.replace(self._path)
        os.fsync(self._lock)

    def _read(self, statement: str, *values: str) -> dict[str, Body]:
        """Return records by name."""
        return dict(self._rows(statement, *values))

    def _rows(self, statement: str, *values: str) -> Iterator[tuple[str, Body]]:
        """Return names and records; where one is not as it was written nothing is believed any more."""
        if self.damage:
            return
        with self._errors():
            rows = self._connection.execute(statement, values).fetchall()
        for name, body, found in rows:
            if checksum(values[0], name, body) != found:
                self._found_damaged(f"checksum of {values[0]} {name}")
                raise self._corrupt()
            yield name, _load(body)

    def _found_damaged(self, damage: str) -> None:
        if damage and not self.damage:
            self.damage = damage
            _log.error("degraded: %s", self.problems()[0])

    def _write(self, statement: str, rows: _Rows) -> None:
        with self.transaction():
            if self._written is not None:  # it may have to be written again
                rows = list(rows)
            self._execute(statement, rows)
            if self._written is not None:
                self._written.append((statement, rows))

    def _execute(self, statement: str, rows: _Rows) -> None:
        """Execute a statement with each row of values; on a full disk again, once there is room, if there may be.

        A transaction that began before the room was reserved cannot be written again.
        """
        with self._errors():
            try:
                self._statement(statement, rows)
            except sqlite3.Error as error:
                if self._written is None or not (_is_full(error) and self._reserving):
                    raise
                self._ballast.free()
                self._begin_again()
                self._statement(statement, rows)

    def _statement(self, statement: str, rows: _Rows) -> None:
        if statement == "COMMIT":  # which is not for executemany
            self._connection.execute(statement)
        else:
            self._connection.executemany(statement, rows)

    def _begin_again(self) -> None:
        """Write once more what this transaction has written, in a log that starts over."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        with contextlib.suppress(sqlite3.Error):  # where the database has no room to grow into the log goes on
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.execute("BEGIN IMMEDIATE")
        for statement, rows in self._written or ():
            self._statement(statement, rows)

    def _open(self) -> None:
        """Take up a file that is as it was written."""
        with self._errors():
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
        with self.transaction(), self._errors():  # takes the lock for good
            version = version_of(self._connection)
            if version > VERSION:
                raise RefusedError(
                    f"cannot use {self._path}: a newer lvs-agents wrote it (version {version}, this one knows "
                    f"{VERSION}); install that again",
                    Reason.KERNEL_REFUSED,
                )
            migrate(self._connection)
        self._ballast.make()
        for problem in self.problems():
            _log.warning("degraded: %s", problem)

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
            return self._in_use()
        if name.startswith(_CORRUPT):
            self._found_damaged(str(error))
            return self._corrupt()
        return InternalError(f"cannot use {self._path}: {error}", Reason.INTERNAL)

    def _corrupt(self) -> RefusedError:
        return RefusedError(
            f"cannot change anything: the journal {self._path} is corrupt ({self.damage}); stop the agent and move "
            f"{self._path.name}* out of {self._path.parent} to begin a new one: docs/how-to/troubleshooting.md, "
            '"A corrupt journal"',
            Reason.JOURNAL_CORRUPT,
            path=str(self._path),
        )

    def _in_use(self) -> RefusedError:
        return RefusedError(
            f"cannot use {self._path}: another agent has it open; give each its own --state-dir", Reason.IN_USE
        )

    def _unusable(self, error: Exception) -> RefusedError:
        folder = str(self._path.parent)
        return RefusedError(f"cannot use state directory {folder}: {error}", Reason.KERNEL_REFUSED, path=folder)


def _name(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", ""))


def _is_full(error: sqlite3.Error) -> bool:
    return _name(error).startswith("SQLITE_FULL")


def _load(text: str) -> Body:
    body: Body = _from_text(text)[0]
    return body
