"""Brings into the kernel how destinations stand by their checks; what the operator wants stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from agent_common.destination import WHOLE, Destination, DestinationKey, DestinationStatus, Standing, effective
from agent_common.errors import LvsError
from agent_common.failpoint import Failpoints
from agent_common.state import State
from agent_common.table import DestinationStep
from agent_common.virtual_server import VirtualServerKey
from agent_director.destination import Destinations
from agent_director.health_records import AS_WANTED, HealthRecords, Name, Stood
from agent_director.ipvs import Ipvs

_log = logging.getLogger(__name__)


class Standings:
    """Writes many standings at once: one record of all, one reading of each virtual server, one send. Synchronous.

    The record comes first: an agent that dies in between finds what it may have done. Of one that gets a weight, or
    comes back into the kernel, it also says how it stood, until the kernel has been written: what is found at weight 0
    or missing then is so by the agent itself, and nothing else is ever raised or put back. A full disk does not keep
    what is dead in: then the next start takes a weight 0 for somebody's own, which is said as drift.
    """

    def __init__(
        self,
        ipvs: Ipvs,
        state: State,
        records: HealthRecords,
        destinations: Destinations,
        failpoints: Failpoints | None = None,
    ) -> None:
        self._failpoints = failpoints or Failpoints()
        self._ipvs = ipvs
        self._state = state
        self._records = records
        self._destinations = destinations

    def apply(self, wanted: Sequence[tuple[VirtualServerKey, DestinationKey, Stood]]) -> dict[Name, str]:
        """Have destinations stand so; return those that do not, with why: gone, or changed by hand, or refused."""
        steps: list[tuple[Name, DestinationStep]] = []
        kept: dict[Name, Stood] = {}
        failed: dict[Name, str] = {}
        for server, group in groupby(sorted(wanted, key=lambda each: str(each[0])), key=lambda each: each[0]):
            there = {each.destination.key: each for each in self._ipvs.destinations(server)}
            for _, key, stood in group:
                before = self._records.standing(server, key)
                committed = self._destinations.committed_one(server, key)
                refused, found = _steps(server, committed, there.get(key), before, stood.standing)
                if refused:
                    failed[server, key] = refused
                    continue
                kept[server, key] = stood
                steps += [((server, key), step) for step in found]
        return {**failed, **self._write(kept, steps)}

    def keep_quorums(self, wanted: Mapping[VirtualServerKey, bool]) -> None:
        """Keep which virtual servers have their quorum; a full disk changes nothing but what the next start knows."""
        for server, has_quorum in wanted.items():
            try:
                with self._state.reserve():
                    self._records.set_quorum(server, has_quorum=has_quorum)
            except LvsError as error:
                _log.warning("cannot keep on disk that the quorum of %s has changed: %s", server, error.message)

    def settle(self, only: Collection[Name] | None = None) -> set[Name]:
        """Bring to its end what an agent may have died in: who is out goes out of the kernel, too.

        One that was about to get a weight, and has not got it, is out until its checks have said so again. Returns who
        is still in, since the kernel refused; to be called again for those only.
        """
        refused: set[Name] = set()
        for server in self._records.servers_with_standings():
            there = {each.destination.key: each for each in self._ipvs.destinations(server)}
            kept: dict[Name, Stood] = {}
            steps: list[tuple[Name, DestinationStep]] = []
            for key, stood in self._records.stood(server).items():
                if only is not None and (server, key) not in only:
                    continue
                committed, now = self._destinations.committed_one(server, key), there.get(key)
                after = self._records.unsettled(server, key)
                if committed is None:
                    continue
                is_done = after is not None and _has_weight(now, effective(committed, after.standing).weight)
                if after is not None:
                    kept[server, key] = after if is_done else stood
                if not is_done and stood.standing.is_out:
                    steps += [((server, key), step) for step in _steps_out(server, now, stood.standing)]
            refused |= self._write(kept, steps).keys()
        return refused

    def _write(self, wanted: Mapping[Name, Stood], steps: Sequence[tuple[Name, DestinationStep]]) -> Mapping[Name, str]:
        """Keep how destinations are to stand, and have the kernel take the steps; return what failed, with why."""
        before = {name: self._records.stood(name[0]).get(name[1], AS_WANTED) for name in wanted}
        uncertain = {
            name
            for name, _ in steps
            if name in wanted and (wanted[name].standing.percent or before[name].standing.removed)
        }
        self._keep(
            {
                name: replace(stood, was=before[name].standing) if name in uncertain else stood
                for name, stood in wanted.items()
            }
        )
        self._failpoints.reach("health", "before_kernel")
        try:
            failed = _errors(steps, self._ipvs.take([step for _, step in steps]) if steps else [])
        except LvsError as error:  # of none it is known: it may be the answer that is lost
            failed = dict.fromkeys(self._undone(steps), error.message)
        self._failpoints.reach("health", "after_kernel")
        settled = {name: before[name] if name in failed else wanted[name] for name in wanted if name in uncertain}
        settled |= {name: before[name] for name in failed if name in wanted}
        self._keep(settled)
        return failed

    def _undone(self, steps: Sequence[tuple[Name, DestinationStep]]) -> Iterator[Name]:
        """Return which steps the kernel has not carried out; all of them, where it cannot be read."""
        servers = {step.server for _, step in steps}
        try:
            there = {
                (server, each.destination.key): each for server in servers for each in self._ipvs.destinations(server)
            }
        except LvsError:
            there = None
        for name, step in steps:
            now = there.get((step.server, step.key)) if there is not None else None
            is_done = now is None if step.after is None else _has_weight(now, step.after.weight)
            if there is None or not is_done:
                yield name

    def _keep(self, wanted: Mapping[Name, Stood]) -> None:
        if not wanted:
            return
        try:
            with self._state.reserve():
                self._records.set_standings((*name, stood) for name, stood in wanted.items())
        except LvsError as error:
            _log.warning("cannot keep on disk what health checks have out: %s", error.message)


def _steps(
    server: VirtualServerKey,
    committed: Destination | None,
    there: DestinationStatus | None,
    before: Standing,
    after: Standing,
) -> tuple[str, list[DestinationStep]]:
    """Return why a destination cannot stand so, or what brings it there.

    What somebody has done by hand stays, and is drift, except that who is dead goes out whatever its weight.
    """
    if committed is None:
        return "it is gone", []
    was, shall = effective(committed, before), effective(committed, after)
    if there is None:
        if not before.removed:
            return ("", []) if after == WHOLE else ("somebody has removed it", [])
        return "", [] if after.removed else [DestinationStep(server=server, before=None, after=shall)]
    now = there.destination
    is_by_hand = not before.removed and now.weight not in (was.weight, shall.weight)
    if after.is_out:
        if now.weight == 0 and was.weight and not before.removed:
            return "somebody has set its weight to 0", []
        return "", _steps_out(server, there, after)
    if is_by_hand:
        is_in = after == WHOLE or not was.weight
        return ("", []) if is_in else (f"somebody has set its weight to {now.weight}", [])
    if now.weight == shall.weight:
        return "", []
    return "", [DestinationStep(server=server, before=now, after=replace(now, weight=shall.weight))]


def _steps_out(server: VirtualServerKey, there: DestinationStatus | None, out: Standing) -> list[DestinationStep]:
    """Return what takes a destination out of the kernel, or its weight to 0."""
    if there is None:
        return []
    now = there.destination
    if out.removed:
        return [DestinationStep(server=server, before=now, after=None)]
    return [DestinationStep(server=server, before=now, after=replace(now, weight=0))] if now.weight else []


def _has_weight(there: DestinationStatus | None, weight: int) -> bool:
    return there is not None and there.destination.weight == weight


def _errors(steps: Sequence[tuple[Name, DestinationStep]], results: Iterable[LvsError | None]) -> Mapping[Name, str]:
    return {name: error.message for (name, _), error in zip(steps, results, strict=True) if error is not None}
