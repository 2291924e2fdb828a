"""The tables of the state in each version of its file, and how an older file becomes one of the newest."""

from __future__ import annotations

import sqlite3
import zlib

_MIGRATIONS = (
    (
        """
        CREATE TABLE record (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            body TEXT NOT NULL,
            UNIQUE (kind, name) ON CONFLICT REPLACE
        ) STRICT
        """,
    ),
    (
        """
        CREATE TABLE checked (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            body TEXT NOT NULL,
            checksum INTEGER NOT NULL,
            UNIQUE (kind, name) ON CONFLICT REPLACE
        ) STRICT
        """,
        """
        INSERT INTO checked (kind, name, body, checksum)
        SELECT kind, name, body, record_checksum(kind, name, body) FROM record ORDER BY sequence
        """,
        "DROP TABLE record",
        "ALTER TABLE checked RENAME TO record",
    ),
)
"""Statements that bring a file from the version of their index to the next."""

VERSION = len(_MIGRATIONS)

CHECKED_SINCE = 2
"""Since this version records have checksums: SQLite's pages have none."""

_APPLICATION = 0x4C565300
"""PRAGMA application_id less the version: one bit that flips in either of the two is seen."""


def checksum(kind: str, name: str, body: str) -> int:
    """Return the CRC-32 of a record, which no flipped bit leaves the same."""
    return zlib.crc32("\0".join((kind, name, body)).encode())


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of a file; raises ValueError if what says so disagrees."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != application_of(version):
        raise ValueError(f"version {version}, but application {application:#x}")
    return int(version)


def application_of(version: int) -> int:
    """Return the application_id of a file of this version."""
    return _APPLICATION + version if version >= CHECKED_SINCE else 0


def migrate(connection: sqlite3.Connection, to: int = VERSION) -> None:
    """Bring a file to a version, the newest unless tests say so; in a transaction of the caller's."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.create_function("record_checksum", 3, checksum, deterministic=True)
    for statements in _MIGRATIONS[version:to]:
        for statement in statements:
            connection.execute(statement)
    if version < to:  # on a full disk not even the same number can be written
        connection.execute(f"PRAGMA user_version = {to}")
        connection.execute(f"PRAGMA application_id = {application_of(to)}")


def tables_of(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """Return what is in a file: its tables and indexes, and how they were made."""
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


def tables_in(version: int) -> list[tuple[str, ...]]:
    """Return what a file of a version has."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(connection, version)
        return tables_of(connection)
    finally:
        connection.close()
