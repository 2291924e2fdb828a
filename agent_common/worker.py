"""The one thread in which an agent reads and writes its kernel and its state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

_T = TypeVar("_T")

MAX_WAITING = 8
"""So many functions stand before the thread; all others wait for their turns, in their order."""


class Run(Protocol):
    """Runs a function in the worker thread."""

    def __call__(self, function: Callable[[], _T], /) -> Awaitable[_T]:
        """Return what the function returns, or raise what it raises."""


class Worker:
    """A single thread that owns the SQLite connection and the netlink sockets, which must not be shared.

    One thread for both keeps dumps and writes in order: an IPVS dump is not a snapshot.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")
        self._turns = asyncio.Semaphore(MAX_WAITING)

    async def __call__(self, function: Callable[[], _T], /) -> _T:
        """Run a function there and wait for it."""
        async with self._turns:
            return await self.ahead(function)

    async def ahead(self, function: Callable[[], _T], /) -> _T:
        """Run a function there before all that still wait for their turns: whoever looks after the agent must know."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def close(self) -> None:
        """Wait for what runs, and end the thread."""
        self._executor.shutdown(wait=True)


async def to_its_end(work: Awaitable[_T]) -> _T:
    """Await work that must not be left half done: whoever cancels us waits for its end."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
