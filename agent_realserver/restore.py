"""Holds a real server to what it committed: silence, then its VIPs, then their routes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agent_common.changes import Changes
from agent_common.drift import ArpInterface, Drift, DriftKind
from agent_common.errors import LvsError
from agent_common.held_vip import HeldVips
from agent_common.locks import Locks
from agent_common.neighbours import NoNeighbours
from agent_common.restore import Problems, Restored, restore_vips
from agent_common.vip_watch import Gone
from agent_common.worker import Run
from agent_realserver.silence import Silence

_log = logging.getLogger(__name__)


class RealServerRestore:
    """Everything that differs on a real server is put back without being asked: a VIP that is gone, and silence."""

    def __init__(
        self, vips: HeldVips, silence: Silence, changes: Changes, run: Run, problems: Problems, locks: Locks
    ) -> None:
        self._vips = vips
        self._silence = silence
        self._changes = changes
        self._run = run
        self._problems = problems
        self._locks = locks

    async def start(self) -> None:
        """Take back what is undecided, then bring back what is committed; in a new boot or not is the same here."""
        undecided = await self._changes.settle()
        await self._run(lambda: self._problems.add_all(undecided))
        await self._bring_back()

    async def mend(self, found: Sequence[Drift]) -> None:
        """Put back what was found to differ."""
        await self._changes.exclusively(lambda: self._bring_back(self._locks))

    async def put_back(self, gone: Gone) -> Restored:
        """Put back, as mend does, the VIPs that are gone at this moment, if some of what is gone was ours."""
        if not gone.concerns(await self._run(self._vips.held)):
            return Restored()
        return await self._changes.exclusively(lambda: self._bring_back(self._locks))

    def drift(self) -> list[Drift]:
        """Compare what was committed with the kernel."""
        return [*self._vips.drift(), *self._loud()]

    def _loud(self) -> list[Drift]:
        if not self._silence.is_needed():
            return []
        return [
            Drift(kind=DriftKind.MODIFIED, resource=ArpInterface(name=each.interface), detail=each.problem)
            for each in self._silence.loud()
        ]

    async def _bring_back(self, locks: Locks | None = None) -> Restored:
        await self._run(self._restore_silence)
        restored = await restore_vips(self._vips, NoNeighbours(), self._run, self._problems, locks)
        if restored.back:
            _log.info("restored %d VIPs", restored.back)
        return restored

    def _restore_silence(self) -> None:
        """For operators who asked for it without a VIP; with a VIP it is restored too."""
        if not self._silence.operators():
            return
        try:
            self._silence.silence(self._silence.plan())
        except LvsError as error:
            self._problems.add(f"ARP is not silenced: {error.message}", lambda: bool(self._silence.loud()))
