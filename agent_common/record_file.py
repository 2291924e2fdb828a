"""Records on disk that are only ever appended to: a line of JSON each, in two files of bounded size."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from google.protobuf.json_format import ParseError
from google.protobuf.message import Message

from agent_common.errors import InvalidInputError
from agent_common.paging import MAX_PAGE, check_page_size
from agent_common.records import from_record, to_record

MAX_BYTES = 8 * 2**20
"""Octets of one file: some 10,000 records. With the older one beside it twice that is kept."""

_TOKEN = re.compile("[0-9]{0,18}")
"""The number of a record."""

_log = logging.getLogger(__name__)


_M = TypeVar("_M", bound=Message)


class RecordFile(Generic[_M]):
    """A file with records of one type of message, and one of the same name with .1 behind it with what was before.

    A record is written at once, and not synced: it outlives the agent, and all but the last moments before a power cut.
    What cannot be written is said in the log.
    """

    def __init__(self, file: Path, make: type[_M], max_bytes: int = MAX_BYTES) -> None:
        self._make = make
        self._file = file
        self._older = file.with_name(f"{file.name}.1")
        self._max_bytes = max_bytes
        self._number = next((number for number, _ in self.newest_first()), 0)

    def append(self, record: _M) -> None:
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
            _log.error("cannot write a record to %s: %s", self._file.name, error)

    def newest_first(self) -> Iterator[tuple[int, _M]]:
        """Return the records with their numbers; a line that a crash has cut off is left out."""
        for file in (self._file, self._older):
            for line in reversed(_lines(file)):
                try:
                    body = json.loads(line)
                    number = int(body.pop("number"))
                    yield number, from_record(body, self._make())
                except (ValueError, KeyError, TypeError, AttributeError, ParseError, OverflowError, RecursionError):
                    continue

    def page(self, size: int, token: str, is_wanted: Callable[[_M], bool]) -> tuple[list[_M], str]:
        """Return the newest records that are wanted, older than the token says, and the token of the next page.

        Raises InvalidInputError for a size or a token that cannot be.
        """
        check_page_size(size)
        if not _TOKEN.fullmatch(token):
            raise InvalidInputError("page_token", "page_token: is none of an answer of this call")
        before = int(token or 0)
        found = (
            (number, record)
            for number, record in self.newest_first()
            if (not before or number < before) and is_wanted(record)
        )
        part = list(islice(found, (size or MAX_PAGE) + 1))
        more = str(part[-2][0]) if len(part) > (size or MAX_PAGE) else ""
        return [record for _, record in part[: size or MAX_PAGE]], more

    def _make_room(self, size: int) -> None:
        if self._file.exists() and self._file.stat().st_size + size > self._max_bytes:
            self._file.replace(self._older)


def _lines(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().splitlines()
    except FileNotFoundError:
        return []
