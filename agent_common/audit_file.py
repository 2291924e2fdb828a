"""The audit's records on disk: a line of JSON each, only ever appended to, in two files of bounded size."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.json_format import ParseError

from agent_common.audit import AuditRecord
from agent_common.records import from_record, to_record

MAX_BYTES = 8 * 2**20
"""Octets of one file: some 10,000 records. With the older one beside it twice that is kept."""

_log = logging.getLogger(__name__)


class AuditFile:
    """audit.jsonl in a folder, and audit.jsonl.1 with what was before.

    A record is written before its caller gets the answer, and is not synced: it outlives the agent, and all but the
    last moments before a power cut. What cannot be written is said in the log, and the change stands.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._file = folder / "audit.jsonl"
        self._older = folder / "audit.jsonl.1"
        self._max_bytes = max_bytes
        self._number = next((number for number, _ in self.newest_first()), 0)

    def append(self, record: AuditRecord) -> None:
        """Write a record at the end."""
        self._number += 1
        line = json.dumps({"number": self._number, **to_record(record)}, ensure_ascii=False).encode() + b"\n"
        try:
            self._make_room(len(line))
            descriptor = os.open(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # A crash or a full disk may have cut off the line before: this one must not go with it.
                size = os.fstat(descriptor).st_size
                is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, b"\n" * is_cut + line)
            finally:
                os.close(descriptor)
        except OSError as error:
            _log.error("cannot write the audit record of %s: %s", record.method, error)

    def newest_first(self) -> Iterator[tuple[int, AuditRecord]]:
        """Return the records with their numbers; a line that a crash has cut off is left out."""
        for file in (self._file, self._older):
            for line in reversed(_lines(file)):
                try:
                    body = json.loads(line)
                    number = int(body.pop("number"))
                    yield number, from_record(body, AuditRecord())
                except (ValueError, KeyError, TypeError, AttributeError, ParseError, OverflowError, RecursionError):
                    continue

    def _make_room(self, size: int) -> None:
        if self._file.exists() and self._file.stat().st_size + size > self._max_bytes:
            self._file.replace(self._older)


def _lines(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().splitlines()
    except FileNotFoundError:
        return []
