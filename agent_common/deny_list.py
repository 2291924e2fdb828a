"""Serial numbers of certificates that are not accepted any more, in a file that may change at any time."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from agent_common.endpoint import file_mark
from agent_common.errors import InvalidInputError

_SERIAL = re.compile(r"[0-9a-fA-F]{1,40}")
"""RFC 5280, 4.1.2.2: at most 20 octets."""

_log = logging.getLogger(__name__)


class DenyList:
    """A file with one serial in hex a line, and # for comments; read again when it has changed.

    The first reading raises InvalidInputError. A later one that fails leaves the list as it was, and the log says so: a
    file that is being written must not let in whom it keeps out, nor lock everybody out.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._serials: frozenset[str] = frozenset()
        self._seen: tuple[int, ...] = ()
        if file is not None:
            self._serials, self._seen = _read(file), file_mark(file)

    def serials(self) -> frozenset[str]:
        """Return the serials, in lower case hex without leading zeros."""
        if self._file is not None and (mark := file_mark(self._file)) != self._seen:
            self._seen = mark
            try:
                self._serials = _read(self._file)
                _log.info("the deny-list %s has %d serials now", self._file, len(self._serials))
            except InvalidInputError as error:
                _log.error("the deny-list stays as it was: %s", error.message)
        return self._serials


def _read(file: Path) -> frozenset[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError("deny_serials", f"deny_serials: cannot read {file}: {error}") from error
    found = set()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip().replace(":", "").lstrip("0")
        if text and not _SERIAL.fullmatch(text):
            raise InvalidInputError(
                "deny_serials", f"deny_serials: line {number} of {file}: {text!r} is no serial number in hex"
            )
        if text:
            found.add(text.lower())
    return frozenset(found)
