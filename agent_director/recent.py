"""What is remembered for a while, in memory alone."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from itertools import takewhile
from typing import Generic, TypeVar

_N = TypeVar("_N", bound=Hashable)


class Recent(Generic[_N]):
    """Names, each for so many seconds from when it was last added, or until it is taken."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[_N, float] = {}
        """By the monotonic clock; those that end first come first."""

    def add(self, names: Iterable[_N]) -> None:
        """Remember these; what is over is forgotten."""
        now = time.monotonic()
        for name in list(takewhile(lambda name: self._until[name] <= now, self._until)):
            del self._until[name]
        for name in names:
            self._until.pop(name, None)
            self._until[name] = now + self._seconds

    def __contains__(self, name: _N) -> bool:
        return self._until.get(name, 0.0) > time.monotonic()

    def take(self, name: _N) -> bool:
        """Return whether a name is remembered, once."""
        return self._until.pop(name, 0.0) > time.monotonic()
