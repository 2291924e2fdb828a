"""The operator's wish to stop: Ctrl-C and SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import TypeVar

from cli.errors import Interrupted

_T = TypeVar("_T")


class Interrupt:
    """Ctrl-C and SIGTERM, noticed between the calls: a call that is under way is always waited for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Note the operator's wish to stop."""
        self._event.set()

    def check(self) -> None:
        """Raise Interrupted if the operator wants to stop."""
        if self._event.is_set():
            raise Interrupted("interrupted")

    async def during(self, reading: Awaitable[_T]) -> _T:
        """Await something that changes nothing, or raise Interrupted at once when the operator wants to stop."""
        work, stop = asyncio.ensure_future(reading), asyncio.ensure_future(self._event.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        if self._event.is_set():
            work.cancel()
        stop.cancel()
        await asyncio.gather(work, stop, return_exceptions=True)
        self.check()
        return work.result()

    async def sleep(self, seconds: float) -> None:
        """Sleep, or raise Interrupted at once when the operator wants to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        self.check()
