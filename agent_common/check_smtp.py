"""A check by SMTP: passes when a server greets with 220 and answers EHLO with 250 (RFC 5321, 4.2)."""

from __future__ import annotations

import contextlib
import re
import socket

from agent_common.check import SmtpCheck
from agent_common.check_socket import CheckSocket, FailedError, over_tcp, shown
from agent_common.checker import Answer, Target

REPLY_BYTES = 16 * 1024
"""Octets of a reply, all of its lines together."""

_LINE = re.compile(rb"([2-5][0-9]{2})([ -]?)")


async def check_smtp(kind: SmtpCheck, target: Target, seconds: float) -> Answer:
    """Greet, and take leave."""

    async def talk(connection: CheckSocket) -> Answer:
        replies = _Replies(connection)
        await replies.expect(b"220", "greeting")
        helo = kind.helo or socket.gethostname()
        await connection.send(f"EHLO {helo}\r\n".encode("ascii", "backslashreplace"))
        greeted = await replies.expect(b"250", "answer to EHLO")
        with contextlib.suppress(FailedError, OSError):  # it has passed; servers log who does not wait for the end
            await connection.send(b"QUIT\r\n")
            await replies.read("answer to QUIT")
        return Answer(passed=True, detail=shown(greeted))

    return await over_tcp(target, seconds, talk)


class _Replies:
    """The replies of a server, each of one line or more."""

    def __init__(self, connection: CheckSocket) -> None:
        self._connection = connection
        self._read = b""

    async def expect(self, code: bytes, what: str) -> bytes:
        """Return the last line of the next reply; raises FailedError if it has another code."""
        line = await self.read(what)
        if not line.startswith(code):
            raise FailedError(f"{what}: {shown(line)}")
        return line

    async def read(self, what: str) -> bytes:
        """Return the last line of the next reply; raises FailedError for what is none."""
        self._connection.awaits = what
        left = REPLY_BYTES
        while True:
            line = await self._line(left)
            found = _LINE.match(line)
            if found is None:
                raise FailedError(f"{what} is no SMTP: {shown(line, 40)}")
            if found[2] != b"-":
                return line
            left -= len(line) + 1

    async def _line(self, longest: int) -> bytes:
        while b"\n" not in self._read:
            if len(self._read) > longest:
                raise FailedError(f"{self._connection.awaits} is longer than {REPLY_BYTES // 1024} KiB")
            self._read += await self._connection.receive_some()
        line, _, self._read = self._read.partition(b"\n")
        if len(line) > longest:
            raise FailedError(f"{self._connection.awaits} is longer than {REPLY_BYTES // 1024} KiB")
        return line.rstrip(b"\r")
