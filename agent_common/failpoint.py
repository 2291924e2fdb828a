"""Places where an agent dies when it is told to, for tests; off unless it was started with --failpoints.

A failpoint is named AGENT.STEP.PLACE: director or realserver; prepare, ready, commit or abort of a transaction,
change, of anything on its own, or health, of what checks make of the kernel; and before or after the journal, the
kernel or the reply (before_journal, after_kernel...). The name is written to STATE_DIR/failpoint, and the file is gone
when the agent is.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

REPLY_SECONDS = 0.05
"""A reply has left the agent so long after it was given to gRPC, on a host that is not busy."""


class Failpoints:
    """The failpoints of one agent; without a file there are none."""

    def __init__(self, agent: str = "", file: Path | None = None) -> None:
        self._agent = agent
        self._file = file

    def reach(self, step: str, place: str) -> None:
        """Die here, as of kill -9, if the file says so."""
        if self._file is None or not self._file.exists():
            return
        if self._file.read_text(encoding="ascii").strip() == f"{self._agent}.{step}.{place}":
            self._file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def reply(self, step: str) -> None:
        """Pass the places around the reply of a step, which follows at once."""
        self.reach(step, "before_reply")
        if self._file is not None:
            asyncio.get_running_loop().call_later(REPLY_SECONDS, self.reach, step, "after_reply")
