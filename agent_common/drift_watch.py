"""Looks for drift again and again; found twice in a row before it is said. No I/O of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from agent_common.drift import Drift
from agent_common.errors import LvsError
from agent_common.worker import Run, to_its_end

SECONDS = 10.0
"""Between two readings, at least: IPVS and sysctls send no notifications."""

SHARE = 1 / 250
"""Of a processor's time for readings, at most: a table of ten thousand destinations is looked at less often."""

LOGGED = 20
"""So many things that have come are told one by one: with a table that was lost there are thousands."""

_log = logging.getLogger(__name__)


class DriftWatch:
    """Looks again and again, and knows what two readings in a row have found.

    find reads the kernel, in the worker thread. mend is told what was found, and may put back what may be put back
    without being asked.
    """

    def __init__(
        self,
        find: Callable[[], Sequence[Drift]],
        mend: Callable[[Sequence[Drift]], Awaitable[None]],
        run: Run,
        seconds: float = SECONDS,
    ) -> None:
        self._find = find
        self._mend = mend
        self._run = run
        self._seconds = seconds
        self._cost = 0.0
        self._last: Sequence[Drift] = ()
        self._confirmed: Sequence[Drift] = ()

    def confirmed(self) -> Sequence[Drift]:
        """Return what the last two readings have both found."""
        return self._confirmed

    async def look_twice(self) -> Sequence[Drift]:
        """Take two readings at once, and return what both find; nothing is mended."""
        first, second = await self._run(self._find), await self._run(self._find)
        return [each for each in second if each in first]

    async def follow(self) -> None:
        """Look until cancelled; the log has what comes and what goes."""
        while True:
            try:
                await self.look()
            except LvsError as error:
                _log.warning("cannot look for drift: %s", error.message)
            except Exception:
                _log.exception("unexpected failure while looking for drift; the next reading is taken all the same")
            await asyncio.sleep(max(self._seconds, self._cost / SHARE))

    async def look(self) -> None:
        """Take one reading."""
        found = await self._run(self._read)
        confirmed = [each for each in found if each in self._last]
        news = [each for each in confirmed if each not in self._confirmed]
        for each in news[:LOGGED]:
            _log.warning("drift: %s", each)
        if len(news) > LOGGED:
            _log.warning("drift: and %d things more", len(news) - LOGGED)
        for each in self._confirmed:
            if each not in confirmed:
                _log.info("no drift any more: %s", each.resource)
        self._last, self._confirmed = found, confirmed
        if confirmed:
            await to_its_end(self._mend(confirmed))

    def _read(self) -> Sequence[Drift]:
        begun = time.thread_time()
        found = self._find()
        self._cost = time.thread_time() - begun
        return found
