"""Brings into the kernel how destinations stand by their checks; what the operator wants stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from agent_common.destination import Destination, DestinationKey, DestinationStatus, Standing, effective
from agent_common.errors import LvsError
from agent_common.state import State
from agent_common.table import DestinationStep
from agent_common.virtual_server import VirtualServerKey
from agent_director.destination import Destinations
from agent_director.health_records import HealthRecords, Stood
from agent_director.ipvs import Ipvs

_log = logging.getLogger(__name__)

Name = tuple[VirtualServerKey, DestinationKey]


class Standings:
    """Writes many standings at once: one record of all, one reading of each virtual server, one send. Synchronous.

    The record comes first: an agent that dies in between finds what it may have done. A full disk does not keep what
    is dead in: then the next start takes a weight 0 for somebody's own, which is said as drift.
    """

    def __init__(self, ipvs: Ipvs, state: State, records: HealthRecords, destinations: Destinations) -> None:
        self._ipvs = ipvs
        self._state = state
        self._records = records
        self._destinations = destinations

    def apply(self, wanted: Sequence[tuple[VirtualServerKey, DestinationKey, Stood]]) -> dict[Name, str]:
        """Have destinations stand so; return those that do not, with why: gone, or changed by hand, or refused."""
        steps: list[tuple[Name, DestinationStep]] = []
        kept: list[tuple[VirtualServerKey, DestinationKey, Stood]] = []
        failed: dict[Name, str] = {}
        for server, group in groupby(sorted(wanted, key=lambda each: str(each[0])), key=lambda each: each[0]):
            committed = self._destinations.committed_in(server)
            there = {each.destination.key: each for each in self._ipvs.destinations(server)}
            for _, key, stood in group:
                before = self._records.standing(server, key)
                refused, found = _steps(server, committed.get(key), there.get(key), before, stood.standing)
                if refused:
                    failed[server, key] = refused
                    continue
                kept.append((server, key, stood))
                steps += [((server, key), step) for step in found]
        self._keep(kept)
        results = self._ipvs.take([step for _, step in steps]) if steps else []
        failed.update(_errors(steps, results))
        return failed

    def _keep(self, wanted: Sequence[tuple[VirtualServerKey, DestinationKey, Stood]]) -> None:
        try:
            with self._state.reserve():
                self._records.set_standings(wanted)
        except LvsError as error:
            _log.warning("cannot keep on disk what health checks have out: %s", error.message)


def _steps(
    server: VirtualServerKey,
    committed: Destination | None,
    there: DestinationStatus | None,
    before: Standing,
    after: Standing,
) -> tuple[str, list[DestinationStep]]:
    """Return why a destination cannot stand so, or what brings it there."""
    if committed is None:
        return "it is gone", []
    was, shall = effective(committed, before), effective(committed, after)
    if there is None:
        if not before.removed:  # somebody has removed it: that is drift, and stays
            return "somebody has removed it", []
        return "", [] if after.removed else [DestinationStep(server=server, before=None, after=shall)]
    now = there.destination
    if now.weight == 0 and was.weight and not before.removed:
        return "somebody has set its weight to 0", []
    if after.percent and now.weight != was.weight and not before.removed:
        return f"somebody has set its weight to {now.weight}", []
    if after.removed:
        return "", [DestinationStep(server=server, before=now, after=None)]
    return "", [DestinationStep(server=server, before=now, after=shall)] if now.weight != shall.weight else []


def _errors(steps: Sequence[tuple[Name, DestinationStep]], results: Iterable[LvsError | None]) -> Mapping[Name, str]:
    return {name: error.message for (name, _), error in zip(steps, results, strict=True) if error is not None}
