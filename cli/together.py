"""Several questions at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

_T = TypeVar("_T")


async def together(questions: Iterable[Awaitable[_T]]) -> list[_T]:
    """Await several questions at once; the first failure is raised after all have ended."""
    asked: list[asyncio.Future[_T]] = []
    try:
        asked.extend(asyncio.ensure_future(question) for question in questions)
    except BaseException:  # one of them could not even be asked
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        raise
    answers = await asyncio.gather(*asked, return_exceptions=True)
    good: list[_T] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        good.append(answer)
    return good
