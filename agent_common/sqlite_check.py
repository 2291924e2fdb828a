"""Says whether the file of the state, with its log, is as it was written. Reads only, and never the file by SQLite.

SQLite would bring the log into the file by opening it; what is damaged is left as it is, for whoever looks into it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from agent_common.sqlite_log import read_log
from agent_common.sqlite_schema import CHECKED_SINCE, VERSION, checksum, tables_in, tables_of, version_of

_MODES = slice(18, 20)
"""Bytes of the header that say how the file is written and read: both 2 with a log, both 1 before the first opening."""


def find_damage(path: Path) -> str:
    """Return what is wrong with a database, or "" if all is well or there is none; raises OSError."""
    log = Path(f"{path}-wal")
    log_data = log.read_bytes() if log.exists() else b""
    if not path.exists():
        return "it is gone, and its log is there" if any(log_data) else ""
    found = read_log(log_data)
    if found.damage:
        return found.damage
    image = bytearray(path.read_bytes())
    if found.pages:
        size = found.page_size
        image = image[: found.page_count * size].ljust(found.page_count * size, b"\0")
        for number, page in found.pages.items():
            image[(number - 1) * size : number * size] = page
    if bytes(image[_MODES]) not in (b"\1\1", b"\2\2"):
        return "its header is broken"
    image[_MODES] = b"\1\1"  # what is in memory has no log
    return _find_in(bytes(image))


def _find_in(image: bytes) -> str:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.deserialize(image)
        return next(iter(_problems(connection)), "")
    except (sqlite3.Error, ValueError, TypeError) as error:
        return str(error)
    finally:
        connection.close()


def _problems(connection: sqlite3.Connection) -> list[str]:
    version = version_of(connection)
    if version > VERSION:
        return []  # whoever opens it says so
    if version == 0:
        return ["it is empty"]
    if tables_of(connection) != tables_in(version):
        return ["its tables are others"]
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        return [verdict.partition("\n")[2] or verdict]
    if version < CHECKED_SINCE:
        return []
    records = connection.execute("SELECT kind, name, body, checksum FROM record")
    return [f"checksum of {kind} {name}" for kind, name, body, found in records if checksum(kind, name, body) != found]
