"""What makes one IPVS table of another: the smallest set of steps, in an order that serves all the time. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from agent_common.table import DestinationStep, Entry, ServerStep, Table, TableStep
from agent_common.virtual_server import VirtualServer, VirtualServerKey


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
