"""Files of the state as older versions of lvs-agents have left them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from agent_common.sqlite_schema import CHECKED_SINCE, checksum, migrate
from agent_common.sqlite_state import SqliteState
from agent_common.state import Body

Records = Mapping[tuple[str, str], Body]
"""By kind and name, the oldest first."""

Content = dict[str, list[tuple[str, Body]]]
"""By kind, with names."""


def write_file(folder: Path, version: int, records: Records) -> None:
    """Make state.db of a version, with its records, as an agent leaves it that was stopped."""
    with closing(sqlite3.connect(folder / "state.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection, version)
        for (kind, name), body in records.items():
            text = json.dumps(body, sort_keys=True)
            values: tuple[str | int, ...] = (kind, name, text)
            columns = "kind, name, body"
            if version >= CHECKED_SINCE:
                columns, values = f"{columns}, checksum", (*values, checksum(kind, name, text))
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO record ({columns}) VALUES ({marks})", values)  # noqa: S608  # our own names


def downgrade(folder: Path, version: int) -> None:
    """Make the file of an agent that is stopped one of an older version, with the same records."""
    old = folder / "state.db"
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        rows = connection.execute("SELECT kind, name, body FROM record ORDER BY sequence").fetchall()
    for path in folder.glob("state.db*"):
        path.unlink()
    write_file(folder, version, {(kind, name): json.loads(body) for kind, name, body in rows})


def content(state: SqliteState) -> Content:
    """Return all records of every kind, oldest first."""
    kinds = state.connection.execute("SELECT DISTINCT kind FROM record ORDER BY kind").fetchall()
    return {kind: list(state.list(kind).items()) for (kind,) in kinds}
