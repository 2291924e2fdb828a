"""What makes one IPVS table of another: the smallest set of steps, in an order that serves all the time. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from agent_common.destination import WHOLE, Destination, DestinationKey, Standing, effective
from agent_common.drift import DestinationName
from agent_common.table import DestinationStep, Entry, ServerStep, Table, TableStep, find, in_kernel, opposite, take
from agent_common.virtual_server import VirtualServer, VirtualServerKey
from agent_director.drift import StandingOf

Name = VirtualServerKey | DestinationName


def _as_wanted(server: VirtualServerKey, key: DestinationKey) -> Standing:
    """Stand as the operator wants."""
    return WHOLE


def steps_between(current: Table, wanted: Table, *, replace: bool) -> Iterator[TableStep]:
    """Return what is to be done, virtual server by virtual server; without replace nothing is removed or edited.

    What is in both and equal is not touched. Of each virtual server destinations are added before others are edited and
    removed, so that it is never without one. Whole virtual servers go last.
    """
    for key, entry in wanted.items():
        there = current.get(key, Entry())
        yield from _server_steps(there.virtual_server, entry.virtual_server)
        yield from _destination_steps(key, there, entry, replace=replace)
    if replace:
        for key, there in current.items():
            if key not in wanted:
                for destination in there.destinations.values():
                    yield DestinationStep(server=key, before=destination, after=None)
                yield ServerStep(before=there.virtual_server, after=None)


def _server_steps(before: VirtualServer | None, after: VirtualServer | None) -> Iterator[TableStep]:
    if after is not None and before != after:
        yield ServerStep(before=before, after=after)


def _destination_steps(key: VirtualServerKey, there: Entry, wanted: Entry, *, replace: bool) -> Iterator[TableStep]:
    edits = []
    for destination in wanted.destinations.values():
        before = there.destinations.get(destination.key)
        if before is None:
            yield DestinationStep(server=key, before=None, after=destination)
        elif before != destination:
            edits.append(DestinationStep(server=key, before=before, after=destination))
    yield from edits
    if replace:
        for destination in there.destinations.values():
            if destination.key not in wanted.destinations:
                yield DestinationStep(server=key, before=destination, after=None)


def as_intended(current: Table, wanted: Table, standing_of: StandingOf = _as_wanted) -> Table:
    """Return what is wanted, with the drains that go on: weight 0 is what a destination that drains has in the kernel.

    Rules of ipvsadm cannot say that it drains, nor the weight that waits for the end of it; nor that its checks have it
    out.
    """
    return {
        key: replace(entry, destinations={**entry.destinations, **drains})
        if (drains := _drains(key, current.get(key, Entry()), entry, standing_of))
        else entry
        for key, entry in wanted.items()
    }


def _drains(
    server: VirtualServerKey, there: Entry, wanted: Entry, standing_of: StandingOf
) -> dict[DestinationKey, Destination]:
    return {
        each.key: each
        for each in there.destinations.values()
        if (each.draining or standing_of(server, each.key) != WHOLE)
        and effective(each, standing_of(server, each.key)) == wanted.destinations.get(each.key)
    }


def taken_in(current: Table, wanted: Table, foreign: Iterable[Name]) -> Iterator[TableStep]:
    """Return a step for each foreign thing that is in both and equal: it becomes ours as it is."""
    for name in foreign:
        key = name.server if isinstance(name, DestinationName) else name
        there, entry = current[key], wanted.get(key)
        if entry is None:
            continue
        if isinstance(name, DestinationName):
            destination = there.destinations[name.key]
            if destination == entry.destinations.get(name.key):
                yield DestinationStep(server=key, before=destination, after=destination)
        elif there.virtual_server == entry.virtual_server:
            yield ServerStep(before=there.virtual_server, after=there.virtual_server)


def steps_back(
    steps: Sequence[TableStep], current: Table, standing_of: StandingOf = _as_wanted
) -> tuple[list[TableStep], list[TableStep]]:
    """Return what takes steps back, the last first, and those that cannot be: somebody changed those things meanwhile.

    What is as it was before needs nothing. A virtual server that has got other destinations stays. What becomes foreign
    again gets its weight back from its checks: nobody would know it any more.
    """
    now = {
        key: Entry(virtual_server=each.virtual_server, destinations=dict(each.destinations))
        for key, each in current.items()
    }
    back: list[TableStep] = []
    kept: list[TableStep] = []
    for step in reversed(steps):
        undo = _undo(step, standing_of)
        if undo is None:
            continue
        there = find(now, undo)
        if there == undo.after:
            continue
        if there != undo.before or not _is_possible(undo, now):
            kept.append(step)
            continue
        take(now, undo)
        back.append(undo)
    return back, kept


def _undo(step: TableStep, standing_of: StandingOf) -> TableStep | None:
    """Return what takes a step back in the kernel; None: it was none there."""
    standing = WHOLE if isinstance(step, ServerStep) else standing_of(step.server, step.key)
    seen = in_kernel(step, standing)
    if isinstance(step, DestinationStep) and standing != WHOLE and not step.was_managed:
        before, after = step.before, step.after
        if before is not None and after is not None:
            there = None if standing.removed else effective(after, standing)
            return replace(step, before=there, after=effective(before))
    return None if seen is None else opposite(seen)


def _is_possible(step: TableStep, now: Table) -> bool:
    entry = now.get(step.server)
    if isinstance(step, ServerStep):
        return step.after is not None or entry is None or not entry.destinations
    return entry is not None and entry.virtual_server is not None
