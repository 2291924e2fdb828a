"""What is set of IPVS as a whole, timeouts and sync daemons: what both have in common with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agent_common.drift import Drift, IpvsSetting
from agent_common.operation import Change
from agent_common.sync_daemon import SyncRole
from agent_director.sync_daemon import SETTINGS, SyncDaemons
from agent_director.timeouts import TimeoutSettings

_ROLES = {setting: role for role, setting in SETTINGS.items()}

PutBack = Callable[[str, Callable[[], object], Callable[[], bool]], int]
"""Puts one thing back: its name, how, and whether it is missing; returns how many came back, 1 or 0."""


class IpvsSettings:
    """The settings of this director."""

    def __init__(self, timeouts: TimeoutSettings, sync_daemons: SyncDaemons) -> None:
        self.timeouts = timeouts
        self.sync_daemons = sync_daemons

    def plan_repair(self, setting: IpvsSetting) -> Change:
        """Plan to bring one back to what was committed; raises NotFoundError if it is not ours."""
        if setting is IpvsSetting.TIMEOUTS:
            return self.timeouts.plan_repair()
        return self.sync_daemons.plan_repair(_ROLES[setting])

    def restore(self, put_back: PutBack) -> int:
        """Bring back all that the kernel has lost; return how many settings that were."""
        back = 0
        if self.timeouts.is_lost():
            back += put_back(IpvsSetting.TIMEOUTS, self.timeouts.restore, self.timeouts.is_lost)
        for role in SyncRole:
            if self.sync_daemons.is_missing(role):
                back += self._restore_daemon(role, put_back)
        return back

    def drift(self) -> Iterator[Drift]:
        """Compare what was committed with the kernel."""
        yield from self.timeouts.drift()
        yield from self.sync_daemons.drift()

    def _restore_daemon(self, role: SyncRole, put_back: PutBack) -> int:
        return put_back(
            SETTINGS[role],
            lambda: self.sync_daemons.restore(role),
            lambda: self.sync_daemons.is_missing(role),
        )
