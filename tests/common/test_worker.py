"""The one thread of kernel and state: many may wait for it, and whoever looks after the agent waits for a few."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from agent_common.worker import MAX_WAITING, Worker


async def test_a_question_whether_the_agent_is_well_is_answered_before_all_that_waits() -> None:
    """Else a caller with many slow questions would have the watchdog end the agent."""
    worker, go_on = Worker(), threading.Event()
    done: list[int] = []

    def slowly(number: int) -> None:
        go_on.wait(5)
        done.append(number)

    waiting = [asyncio.ensure_future(worker(partial(slowly, number))) for number in range(100)]
    await asyncio.sleep(0.05)
    asked = asyncio.ensure_future(worker.ahead(lambda: len(done)))
    go_on.set()
    assert await asked <= MAX_WAITING
    await asyncio.gather(*waiting)
    assert done == list(range(100))
    worker.close()
