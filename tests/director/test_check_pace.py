"""The pace of checks: each at its own moment, so many at a time, and none that ends the others."""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent_director.check_pace import Pace


@asynccontextmanager
async def pace(most: int = 1000) -> AsyncIterator[Pace]:
    one = Pace(most)
    try:
        yield one
    finally:
        await one.close()


async def test_each_is_begun_soon_and_then_again_at_every_interval() -> None:
    begun: list[float] = []

    async def work() -> None:
        begun.append(asyncio.get_running_loop().time())

    async with pace() as one:
        now = asyncio.get_running_loop().time()
        one.add(work, 0.1)
        await asyncio.sleep(0.55)
    assert begun[0] - now < 0.05
    assert 5 <= len(begun) <= 7
    assert abs(statistics.median(later - earlier for earlier, later in itertools.pairwise(begun)) - 0.1) < 0.05


async def test_many_do_not_begin_at_once() -> None:
    begun: list[float] = []

    async def work() -> None:
        begun.append(asyncio.get_running_loop().time())

    async with pace() as one:
        for _ in range(100):
            one.add(work, 1.0)
        await asyncio.sleep(1.5)
    later = sorted(begun)[100:]  # the first ones come a millisecond apart
    assert later
    assert max(sum(each <= other < each + 0.1 for other in later) for each in later) <= 25


async def test_no_more_run_than_so_many_and_who_waits_has_its_turn() -> None:
    running = most = 0
    ended: set[int] = set()

    def work(number: int) -> None:
        async def run() -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.02)
            running -= 1
            ended.add(number)

        one.add(run, 10.0)

    async with pace(most=3) as one:
        for number in range(12):
            work(number)
        await asyncio.sleep(0.3)
    assert most == 3
    assert ended == set(range(12))


async def test_what_still_runs_is_not_begun_again_and_what_fails_is() -> None:
    hanging = failing = 0

    async def hang() -> None:
        nonlocal hanging
        hanging += 1
        await asyncio.sleep(10)

    async def fail() -> None:
        nonlocal failing
        failing += 1
        raise ValueError

    async with pace() as one:
        one.add(hang, 0.1)
        one.add(fail, 0.1)
        await asyncio.sleep(0.45)
    assert hanging == 1
    assert failing >= 3


async def test_what_is_removed_is_begun_no_more_and_is_not_kept_until_it_would_have_been() -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1

    async with pace() as one:
        for _ in range(3000):
            one.remove(one.add(work, 3600.0))
        assert one.waiting <= 1000
        await asyncio.sleep(0.05)
    assert begun == 0
