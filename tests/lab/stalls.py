"""How long this guest stood still, beside others on the machine: that is nobody's fault whom a test measures here."""

from __future__ import annotations

import threading
import time
from functools import cache

NAP_SECONDS = 0.01
USUAL_SECONDS = 0.01
"""More than a nap takes on a machine that is not busy."""


class Stalls:
    """A thread that naps again and again, and notes by how much each nap was too long."""

    def __init__(self) -> None:
        self._noted: list[tuple[float, float]] = []
        threading.Thread(target=self._nap, daemon=True).start()

    def between(self, first: float, last: float) -> float:
        """Return the seconds for which the guest stood still between two moments of the monotonic clock."""
        return sum(late for ended, late in list(self._noted) if ended > first and ended - late < last)

    def _nap(self) -> None:
        while True:
            begun = time.monotonic()
            time.sleep(NAP_SECONDS)
            ended = time.monotonic()
            late = ended - begun - NAP_SECONDS
            if late > USUAL_SECONDS:
                self._noted.append((ended, late))


@cache
def _watched() -> Stalls:
    return Stalls()


def stalled(first: float, last: float | None = None) -> float:
    """Return for how many seconds this guest stood still since a moment, or until another; from the first call on."""
    return _watched().between(first, time.monotonic() if last is None else last)
