"""Brings back at start what this director committed: settings, virtual servers, then destinations, the VIPs last.

A VIP that comes before its services would reset live connections (docs/explanation/order-of-steps.md).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

from agent_common.changes import Changes
from agent_common.destination import DestinationKey, effective
from agent_common.drift import Drift, DriftKind
from agent_common.errors import LvsError
from agent_common.held_vip import HeldVips
from agent_common.locks import Locks
from agent_common.neighbours import Neighbours
from agent_common.restore import Problems, Restored, restore_vips
from agent_common.table import DestinationStep, ServerStep, TableStep
from agent_common.vip_watch import Gone
from agent_common.virtual_server import IpAddress, VirtualServer, VirtualServerKey
from agent_common.worker import Run
from agent_director.destination import Destinations
from agent_director.drift import find_table_drift
from agent_director.ipvs import Ipvs
from agent_director.ipvs_settings import IpvsSettings
from agent_director.virtual_server import VirtualServers

_log = logging.getLogger(__name__)


async def _nothing() -> None:
    """Nothing was decided that is not made."""


class DirectorRestore:
    """Holds a director to what it committed.

    In a new boot everything that was committed and is missing comes back. In the same boot an empty table is one that
    was lost as a whole, and comes back; of another one, what is missing was removed by somebody: that is drift, which
    is reported and never put back. A VIP that is gone comes back in any case.
    """

    def __init__(
        self,
        ipvs: Ipvs,
        virtual_servers: VirtualServers,
        destinations: Destinations,
        vips: HeldVips,
        settings: IpvsSettings,
        changes: Changes,
        neighbours: Neighbours,
        run: Run,
        problems: Problems,
        locks: Locks,
        asked_briefly: Neighbours | None = None,
    ) -> None:
        self._ipvs = ipvs
        self._virtual_servers = virtual_servers
        self._destinations = destinations
        self._vips = vips
        self._settings = settings
        self._changes = changes
        self._neighbours = neighbours
        self._run = run
        self._problems = problems
        self._locks = locks
        self._asked_briefly = asked_briefly or neighbours

    async def start(self, *, new_boot: bool, complete: Callable[[], Awaitable[None]] = _nothing) -> None:
        """Take back what is undecided, then bring back what is committed.

        complete makes in the table what was decided and not made: it comes before the VIPs, and so before clients.
        """
        undecided = await self._changes.settle()
        await self._run(lambda: self._problems.add_all(undecided))
        await self._bring_back(new_boot=new_boot, complete=complete)

    async def mend(self, found: Sequence[Drift]) -> None:
        """Put back what may be put back without being asked: VIPs, and a table that was lost as a whole."""
        losses = [each for each in found if each.kind is DriftKind.MISSING]
        routes = [each for each in found if each.fields == ("route",)]
        servers = [each.resource for each in losses if isinstance(each.resource, VirtualServerKey)]
        vips = [each for each in (*losses, *routes) if isinstance(each.resource, IpAddress)]
        if servers or vips:
            await self._changes.exclusively(lambda: self._bring_back(new_boot=False, locks=self._locks))

    async def put_back(self, gone: Gone) -> Restored:
        """Put back, as mend does, the VIPs that are gone at this moment, if some of what is gone was ours."""
        if not gone.concerns(await self._run(self._vips.held)):
            return Restored()
        return await self._changes.exclusively(
            lambda: self._bring_back(new_boot=False, locks=self._locks, neighbours=self._asked_briefly)
        )

    def drift(self) -> list[Drift]:
        """Compare what was committed with the kernel."""
        table = {server.key: (server, self._ipvs.destinations(server.key)) for server in self._ipvs.virtual_servers()}
        found = find_table_drift(
            self._virtual_servers.committed(), self._destinations.committed(), table, self._destinations.standing
        )
        return [*self._settings.drift(), *found, *self._vips.drift()]

    async def _bring_back(
        self,
        *,
        new_boot: bool,
        locks: Locks | None = None,
        neighbours: Neighbours | None = None,
        complete: Callable[[], Awaitable[None]] = _nothing,
    ) -> Restored:
        table = await self._run(lambda: self._restore_table(new_boot=new_boot))
        await complete()
        vips = await restore_vips(self._vips, neighbours or self._neighbours, self._run, self._problems, locks)
        if table or vips.back:
            _log.info("restored %d settings, virtual servers and destinations, and %d VIPs", table, vips.back)
        return vips

    def _restore_table(self, *, new_boot: bool) -> int:
        try:
            there = {server.key for server in self._ipvs.virtual_servers()}
        except LvsError as error:
            if self._virtual_servers.managed_keys():
                self._problems.add(f"virtual servers are not restored: {error.message}", self._cannot_read)
            return 0
        if there and not new_boot:
            return 0
        committed = self._virtual_servers.committed()
        if new_boot:
            self._destinations.begin_again({each.key: each for each in committed})
        # Where the kernel lost its table, with the module, it lost what was set, too.
        settings = self._settings.restore(self._put_back) if new_boot or committed else 0
        return settings + self._restore_missing(there, committed)

    def _restore_missing(self, there: Collection[VirtualServerKey], servers: Sequence[VirtualServer]) -> int:
        """Put back in a few sends what is missing; return how many things came back."""
        steps: list[TableStep] = [ServerStep(before=None, after=each) for each in servers if each.key not in there]
        coming = {step.server for step in steps}
        for key, wanted in self._destinations.committed().items():
            present: set[DestinationKey] = set()
            if key in there:
                present = {status.destination.key for status in self._ipvs.destinations(key)}
            elif key not in coming:  # somebody removed it, and it was not ours
                continue
            stands = partial(self._destinations.standing, key)
            steps += (
                DestinationStep(server=key, before=None, after=effective(each, stands(each.key)))
                for each in wanted
                if each.key not in present and not stands(each.key).removed
            )
        return len(steps) - self._carry_out(steps)

    def _carry_out(self, steps: Sequence[TableStep]) -> int:
        """Carry out steps, note those that failed as problems, and return their number.

        What is behind a virtual server that did not come back fails as a matter of course.
        """
        try:
            results = self._ipvs.take(steps)
        except LvsError as error:  # of none of them it is known
            results = [error] * len(steps)
        failed: set[VirtualServerKey] = set()
        for step, result in zip(steps, results, strict=True):
            if result is None or step.server in failed:
                continue
            if isinstance(step, ServerStep):
                failed.add(step.server)
            self._problems.add(f"{step} is not restored: {result.message}", partial(self._is_missing, step))
        return sum(result is not None for result in results)

    def _is_missing(self, step: TableStep) -> bool:
        if isinstance(step, ServerStep):
            return self._ipvs.virtual_server(step.server) is None
        return all(status.destination.key != step.key for status in self._ipvs.destinations(step.server))

    def _put_back(self, name: str, put_back: Callable[[], object], is_missing: Callable[[], bool]) -> int:
        """Put one thing back; return how many things came back, 1 or 0."""
        try:
            put_back()
        except LvsError as error:
            self._problems.add(f"{name} is not restored: {error.message}", is_missing)
            return 0
        return 1

    def _cannot_read(self) -> bool:
        try:
            self._ipvs.info()
        except LvsError:
            return True
        return False
