"""The table of failpoints in docs/explanation/transactions.md, as tests hold it against the program."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs/explanation/transactions.md"


def documented() -> dict[str, frozenset[int]]:
    """The exit statuses of the `lvs` that an agent died under, by failpoint (without the agent's name)."""
    rows = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|[^|]*\| ([\d, ]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    found = {failpoint: frozenset(map(int, statuses.split(","))) for failpoint, statuses in rows}
    assert len(found) == len(rows)
    return found
