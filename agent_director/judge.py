"""What the checks of one destination come to: up or down, by so many in a row, and held out while it flaps. No I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from agent_common.check import Check
from agent_common.checker import Answer
from agent_common.health import MAX_FALLS, Damping

PERCENT_STEP = 5
"""A dynamic weight is changed by so many points of a percentage at least: each change is a write to disk."""


@dataclass(slots=True, kw_only=True)
class Judge:
    """The verdict on a destination, and on what it rests.

    Times are in seconds: since and checked by the wall clock, for people; turned and falls by the monotonic one.
    proven: the checks have said so, and it is not assumed. percent is what the last answer said of the weight.
    """

    is_up: bool
    since: float
    turned: float
    proven: bool = False
    detail: str = ""
    checked: float | None = None
    took: float = 0.0
    percent: int = 100
    passed: bool = False
    streak: int = 0
    falls: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_FALLS))

    @property
    def against(self) -> int:
        """So many checks in a row have said the other thing."""
        return self.streak if self.passed != self.is_up else 0

    def take(self, answer: Answer, check: Check, *, took: float, now: float, wall: float) -> bool:
        """Take what a check came to; return whether something follows: a verdict, or a proof that it is down."""
        self.streak = self.streak + 1 if answer.passed == self.passed else 1
        self.passed, self.detail, self.took, self.checked = answer.passed, answer.detail, took, wall
        if self.streak < (check.rise if answer.passed else check.fall):
            return False
        news = self.is_up != answer.passed or not (self.proven or answer.passed)
        self.proven = True
        if self.is_up != answer.passed:
            self.is_up, self.since, self.turned = answer.passed, wall, now
            if not answer.passed:
                self.falls.append(now)
        return news

    def weigh(self, percent: int | None) -> bool:
        """Take what an answer says of the weight, in percent; return whether it is worth a change."""
        if percent is None or (abs(percent - self.percent) < PERCENT_STEP and percent != 100):
            return False
        changed = percent != self.percent
        self.percent = percent
        return changed

    def held_until(self, damping: Damping, now: float) -> float:
        """Return until when it is held out, by the monotonic clock, because it flaps; 0 if it is not."""
        while self.falls and self.falls[0] <= now - max(damping.window, damping.hold):
            self.falls.popleft()
        if not damping.hold or not self.falls:
            return 0.0
        last = self.falls[-1]
        recent = sum(fall > last - damping.window for fall in self.falls)
        until = last + damping.hold
        return until if recent >= damping.falls and until > now else 0.0
