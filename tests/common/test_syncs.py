"""What durability costs: a count, not a time."""

from __future__ import annotations

from bench.journal import MOST_SYNCS, count


async def test_one_addition_syncs_at_most_ten_times_on_each_host() -> None:
    found = await count()
    assert all(3 <= syncs <= MOST_SYNCS for syncs in found.values()), found  # fewer would not be durable at each step
