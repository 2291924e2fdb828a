"""The journal of systemd, by its own protocol, which takes fields with names (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")


class Journal:
    """Sends records to the journal, where there is one; what it does not take is lost, as with any log."""

    def __init__(self, program: str, address: Path = SOCKET) -> None:
        self._program = program
        self._address = str(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def send(self, message: str, fields: Mapping[str, str]) -> bool:
        """Send one record with fields of upper case letters and underscores; whether the journal took it."""
        whole = {"MESSAGE": message, "PRIORITY": "6", "SYSLOG_IDENTIFIER": self._program, **fields}
        try:
            data = b"".join(_field(name, value) for name, value in whole.items())
            self._socket.sendto(data, socket.MSG_DONTWAIT, self._address)
        except OSError:
            return False
        return True


def journal_of(program: str) -> Journal | None:
    """Return the journal, if systemd has started this program with its log going there."""
    return Journal(program) if os.environ.get("JOURNAL_STREAM") and SOCKET.exists() else None


def _field(name: str, value: str) -> bytes:
    """Return a field as the protocol wants it: with its length, so that a value may have more than one line."""
    data = value.encode(errors="replace")
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
