"""agent_common.checker.Checker in memory, for tests: answers as it is told, at once or never."""

from __future__ import annotations

import asyncio
from collections import Counter

from agent_common.check import Kind
from agent_common.checker import Answer, Target
from agent_common.virtual_server import IpAddress

PASSED = Answer(passed=True)
FAILED = Answer(passed=False, detail="connection refused")


class FakeChecker:
    """Answers for each address what stands in answers, else default; an address in hung gets none in time."""

    def __init__(self, default: Answer = PASSED) -> None:
        self.default = default
        self.answers: dict[IpAddress, Answer] = {}
        self.hung: set[IpAddress] = set()
        self.asked: Counter[IpAddress] = Counter()
        self.last: tuple[Kind, Target, float] | None = None

    async def __call__(self, kind: Kind, target: Target, seconds: float) -> Answer:
        """Return the answer for the target's address."""
        self.asked[target.address] += 1
        self.last = kind, target, seconds
        if target.address in self.hung:
            await asyncio.sleep(seconds)
            return Answer(passed=False, detail=f"no answer within {seconds:g} s")
        await asyncio.sleep(0)
        return self.answers.get(target.address, self.default)
