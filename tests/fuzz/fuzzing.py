"""Runs a check on random input: a bounded number of examples, or new ones until a time is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzz:
    """Seconds are how long one check goes on; 0 is once. What fails is shrunk, and printed with its seed."""

    seconds: float
    seed: int

    def __call__(self, check: Callable[..., None], *strategies: SearchStrategy[Any], examples: int) -> None:
        """Run a check with values of the strategies; examples at a time."""
        end, number = time.monotonic() + self.seconds, self.seed
        while True:
            print(f"--fuzz-seed {number}")
            _bounded(check, examples, number, strategies)()
            number += 1
            if time.monotonic() >= end:
                return


def _bounded(
    check: Callable[..., None], examples: int, number: int, strategies: tuple[SearchStrategy[Any], ...]
) -> Callable[[], None]:
    chosen = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )

    def once(values: tuple[Any, ...]) -> None:
        check(*values)

    return chosen(seed(number)(given(st.tuples(*strategies))(once)))
