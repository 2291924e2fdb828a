"""Opt-in: what two readings have found to differ is brought back to what was committed, without being asked."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from agent_common.drift import DestinationName, Drift, DriftKind, IpvsSetting, Resource
from agent_common.errors import ConflictError
from agent_common.repair import Repair, Repairs
from agent_common.virtual_server import FirewallMark, ServiceAddress

MOST_A_PASS = 10
"""So many things are repaired after one reading: a mistake must not change a whole table at once."""

_log = logging.getLogger(__name__)


class Enforcer:
    """Mends what is mended in any case, and then repairs what else is missing or modified; never what is foreign.

    What a transaction has is left to a later pass, and so is what was tried in vain, until the others have been.
    """

    def __init__(self, mend: Callable[[Sequence[Drift]], Awaitable[None]], repairs: Repairs) -> None:
        self._mend = mend
        self._repairs = repairs
        self._failed: set[Resource] = set()

    async def mend(self, found: Sequence[Drift]) -> None:
        """Do so with what two readings have found."""
        await self._mend(found)
        wanted = [each for each in found if each.kind is not DriftKind.FOREIGN and _is_left(each.resource)]
        self._failed &= {each.resource for each in wanted}
        tried = 0
        for each in sorted(wanted, key=lambda each: each.resource in self._failed):
            if tried == MOST_A_PASS:
                _log.info("enforce: %d things are repaired in a pass, and the rest in the next", MOST_A_PASS)
                return
            tried += await self._repair(each)

    async def _repair(self, drift: Drift) -> bool:
        """Repair one thing; return whether it was tried."""
        try:
            (repaired,) = await self._repairs.repair([Repair(drift=drift)])
        except ConflictError as error:
            _log.info("enforce: left for the next pass: %s", error.message)
            return False
        if repaired.error is not None:
            if drift.resource not in self._failed:
                _log.warning("enforce: cannot repair %s: %s", drift.resource, repaired.error.message)
            self._failed.add(drift.resource)
        for action in repaired.change.actions:
            _log.warning("enforce: %s", action)
        return True


def _is_left(resource: Resource) -> bool:
    """VIPs and silence are mended in any case."""
    return isinstance(resource, ServiceAddress | FirewallMark | DestinationName | IpvsSetting)
