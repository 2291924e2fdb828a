"""Brings back at start what this real server committed: silence, then its VIPs, then their routes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agent_common.changes import Changes, NoNeighbours
from agent_common.errors import LvsError
from agent_common.held_vip import HeldVips
from agent_common.restore import Problems, restore_vips
from agent_common.worker import Run
from agent_realserver.silence import Silence

_log = logging.getLogger(__name__)


async def restore(vips: HeldVips, silence: Silence, changes: Changes, run: Run, problems: Problems) -> None:
    """Take back what is undecided, then bring back what is committed; in a new boot or not is the same here."""
    undecided = await changes.settle()
    await run(lambda: _restore_silence(silence, undecided, problems))
    restored = await restore_vips(vips, NoNeighbours(), run, problems)
    if restored:
        _log.info("restored %d VIPs", restored)


def _restore_silence(silence: Silence, undecided: Sequence[str], problems: Problems) -> None:
    """For operators who asked for it without a VIP; with a VIP it is restored too."""
    for text in undecided:
        problems.add(text)
    if not silence.operators():
        return
    try:
        silence.silence(silence.plan())
    except LvsError as error:
        problems.add(f"ARP is not silenced: {error.message}", lambda: not silence.is_silent())
