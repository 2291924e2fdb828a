"""Begins checks again and again, spread evenly over their intervals, and only so many at a time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

MAX_IN_FLIGHT = 1000
"""Checks at a time; the one beyond waits for its turn. Each takes a socket or two."""

FIRST_GAP = 0.001
"""Seconds between the first checks of many that are new: they do not wait for the grid, nor come all at once."""

_GRAIN = 0.002
"""Seconds between two looks at what is due, at least."""

_MANY = 500

_GOLDEN = 0.6180339887498949
"""Multiples of it, less their whole part, lie evenly between 0 and 1 however many there are (Weyl, Knuth 6.4)."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Paced:
    """Something that is done again and again, at its own phase of the interval; due is by the loop's clock.

    All of them are in seconds.
    """

    work: Callable[[], Awaitable[None]]
    interval: float
    phase: float
    due: float
    is_running: bool = False
    is_over: bool = False


def _ignore(late: float) -> None:
    """Nobody measures."""


@dataclass(slots=True, kw_only=True)
class _Queue:
    heap: list[tuple[float, int, Paced]] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    over: int = 0

    def put(self, paced: Paced) -> None:
        heapq.heappush(self.heap, (paced.due, next(self.numbers), paced))

    def drop_over(self) -> None:
        """Let go of what is over, once there is much of it: with a long interval it would stay for an hour."""
        self.over += 1
        if self.over > max(_MANY, len(self.heap) // 2):
            self.heap = [each for each in self.heap if not each[2].is_over]
            heapq.heapify(self.heap)
            self.over = 0


class Pace:
    """Has work done at every interval, each at its own moment of a grid, so that a thousand do not begin at once.

    begun is told by how many seconds each was late. What still runs when it is due again is left to go on.
    """

    def __init__(self, most: int = MAX_IN_FLIGHT, begun: Callable[[float], None] = _ignore) -> None:
        self._most = most
        self._begun = begun
        self._slots = itertools.count(1)
        self._first = float("-inf")
        self._queue = _Queue()
        self._waiting: deque[tuple[float, Paced]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, work: Callable[[], Awaitable[None]], interval: float) -> Paced:
        """Have work done at every interval of so many seconds, the first time as soon as may be."""
        slot = next(self._slots) * _GOLDEN % 1
        now = asyncio.get_running_loop().time()
        phase = slot * interval
        self._first = max(now, self._first + FIRST_GAP)
        due = min(now + (phase - now) % interval, self._first)
        paced = Paced(work=work, interval=interval, phase=phase, due=due)
        self._queue.put(paced)
        self._arm(now)
        return paced

    def remove(self, paced: Paced) -> None:
        """Begin it no more; one that runs goes on to its end."""
        paced.is_over = True
        self._queue.drop_over()

    @property
    def waiting(self) -> int:
        """How many wait for their moment, those that are over among them."""
        return len(self._queue.heap)

    async def close(self) -> None:
        """End all that runs, and begin nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _arm(self, now: float) -> None:
        """See that what is due next is begun then."""
        heap = self._queue.heap
        if self._closed or not heap:
            return
        moment = max(heap[0][0], now + _GRAIN)
        if self._timer is not None:
            if not self._timer.cancelled() and self._timer.when() <= moment and self._timer.when() > now:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(moment, self._look)

    def _look(self) -> None:
        """Begin all that is due."""
        now = asyncio.get_running_loop().time()
        heap = self._queue.heap
        while heap and heap[0][0] <= now:
            due, _, paced = heapq.heappop(heap)
            if paced.is_over:
                continue
            if not paced.is_running:
                self._begin(due, paced, now)
            paced.due = paced.phase + (math.floor((now - paced.phase) / paced.interval + 1e-6) + 1) * paced.interval
            self._queue.put(paced)
        self._arm(now)

    def _begin(self, due: float, paced: Paced, now: float) -> None:
        paced.is_running = True
        if len(self._tasks) >= self._most:
            self._waiting.append((due, paced))
            return
        self._begun(now - due)
        task = asyncio.get_running_loop().create_task(self._run(paced))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    async def _run(self, paced: Paced) -> None:
        try:
            await paced.work()
        except Exception as error:
            _log.error("unexpected failure in a check; it is made again all the same", exc_info=error)
        finally:
            paced.is_running = False

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        while self._waiting and len(self._tasks) < self._most and not self._closed:
            due, paced = self._waiting.popleft()
            paced.is_running = False
            if not paced.is_over:
                self._begin(due, paced, asyncio.get_running_loop().time())
