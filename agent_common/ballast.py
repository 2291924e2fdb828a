"""Room on the disk that is kept for the end of what is open: a file that is removed when the disk is full.

What ends or undoes a transaction must be recorded although nothing new can be.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

SIZE = 1 << 20
"""Bytes. Aborting an addition writes 0.04 MiB to the log, one of 500 destinations 0.65 MiB; where that is too little
the log starts over in the place that it has (agent_common.sqlite_state)."""

_log = logging.getLogger(__name__)


class Ballast:
    """A file of SIZE bytes. Belongs to the worker thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._is_there = file.exists() and file.stat().st_size == SIZE

    def has_room(self) -> bool:
        """Whether it is there, and beside it room for something new."""
        return self._is_there and self._free_bytes() >= SIZE // 4

    def make(self) -> None:
        """Make it, unless it is there or the disk has no room for twice as much."""
        if self._is_there or self._free_bytes() < 2 * SIZE:
            return
        try:
            self._write()
            self._is_there = True
        except OSError as error:
            _log.warning("cannot make %s: %s", self._file, error.strerror)
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)

    def free(self) -> None:
        """Remove it, if it is there."""
        if self._is_there:
            _log.warning("the disk is full: %s is removed, so that what is open can be ended", self._file)
            self._is_there = False
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        """Write bytes that take room even where the file system compresses, and wait until they have got it."""
        with self._file.open("wb") as file:
            file.write(os.urandom(SIZE))
            file.flush()
            os.fsync(file.fileno())

    def _free_bytes(self) -> int:
        found = os.statvfs(self._file.parent)
        return found.f_bavail * found.f_frsize
