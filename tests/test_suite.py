"""How the lab's tests are shared among guests, and how what they say is counted."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from lab import suite

SHARES = 4


def test_all_guests_choose_by_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a file may be in nobody's share."""
    seeds: dict[str, list[str]] = {}

    def tell(title: str, argv: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        seeds[title] = [following for word, following in itertools.pairwise(argv) if word == "--seed"]
        return subprocess.CompletedProcess(argv, 0, "1 passed in 2.00s")

    monkeypatch.setattr(suite, "told", tell)
    monkeypatch.setattr(sys, "argv", ["suite"])
    assert suite.main() == 0
    assert [seeds[f"guest {number}/{SHARES}"] for number in range(1, SHARES + 1)] == [seeds["power cuts"]] * SHARES
    assert len(seeds["power cuts"]) == 1


def test_what_is_counted_is_what_pytest_itself_says_in_the_end() -> None:
    output = (
        "counted: 6 failed of 612\nFAILED x - 9 passed in 3.00s\n2 failed, 87 passed, 1 error in 492.92s (0:08:12)\n"
    )
    assert [suite.count(output, word) for word in ("passed", "failed", "error", "errors")] == [87, 2, 1, 0]
    assert suite.count("no tests ran", "passed") == 0
