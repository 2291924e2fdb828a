"""What differs on a director between what was committed and the kernel. Pure functions of two readings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from agent_common.destination import WHOLE, Destination, DestinationKey, DestinationStatus, Standing, effective
from agent_common.drift import DestinationName, Drift, DriftKind
from agent_common.virtual_server import VirtualServer, VirtualServerKey

_SERVER_FIELDS = ("scheduler", "scheduler_flags", "persistence", "persistence_engine", "one_packet")
_DESTINATION_FIELDS = ("forwarding", "upper_threshold", "lower_threshold", "tunnel", "weight")

Table = Mapping[VirtualServerKey, tuple[VirtualServer, Sequence[DestinationStatus]]]
"""The kernel's table: every virtual server, with its destinations."""

StandingOf = Callable[[VirtualServerKey, DestinationKey], Standing]
"""How a destination stands by its checks."""


def find_table_drift(
    servers: Sequence[VirtualServer],
    destinations: Mapping[VirtualServerKey, Sequence[Destination]],
    table: Table,
    standing_of: StandingOf = lambda server, key: WHOLE,
) -> Iterator[Drift]:
    """Compare what was committed, as it stands, with the table, virtual servers before destinations.

    What is not ours is foreign.
    """
    for wanted in servers:
        if wanted.key not in table:
            yield Drift(kind=DriftKind.MISSING, resource=wanted.key)
        else:
            yield from _modified_server(wanted, table[wanted.key][0])
    for key in table.keys() - {wanted.key for wanted in servers}:
        yield Drift(kind=DriftKind.FOREIGN, resource=key)
    for key in dict.fromkeys((*table, *destinations)):
        statuses = table[key][1] if key in table else ()
        yield from _find_destination_drift(key, destinations.get(key, ()), statuses, standing_of)


def _find_destination_drift(
    server: VirtualServerKey,
    wanted: Sequence[Destination],
    statuses: Sequence[DestinationStatus],
    standing_of: StandingOf,
) -> Iterator[Drift]:
    there = {status.destination.key: status.destination for status in statuses}
    for each in wanted:
        name, standing = DestinationName(server=server, key=each.key), standing_of(server, each.key)
        if standing.removed:
            if each.key in there:
                detail = "in the kernel, though its checks have it out"
                yield Drift(kind=DriftKind.MODIFIED, resource=name, fields=("weight",), detail=detail)
        elif each.key not in there:
            yield Drift(kind=DriftKind.MISSING, resource=name)
        else:
            yield from _modified_destination(name, each, there[each.key], standing)
    for key in there.keys() - {each.key for each in wanted}:
        yield Drift(kind=DriftKind.FOREIGN, resource=DestinationName(server=server, key=key))


def _modified_server(wanted: VirtualServer, there: VirtualServer) -> Iterator[Drift]:
    fields = server_differences(wanted, there)
    if fields:
        detail = f"scheduler {there.scheduler}, not {wanted.scheduler}" if "scheduler" in fields else ", ".join(fields)
        yield Drift(kind=DriftKind.MODIFIED, resource=wanted.key, fields=fields, detail=detail)


def _modified_destination(
    name: DestinationName, wanted: Destination, there: Destination, standing: Standing
) -> Iterator[Drift]:
    fields = destination_differences(wanted, there, standing)
    if fields:
        weight = f"weight {there.weight}, not {effective(wanted, standing).weight}{why_less(wanted, standing)}"
        detail = weight if "weight" in fields else ", ".join(fields)
        yield Drift(kind=DriftKind.MODIFIED, resource=name, fields=fields, detail=detail)


def server_differences(wanted: VirtualServer, there: VirtualServer) -> tuple[str, ...]:
    """Return the fields in which the kernel's virtual server is not as committed."""
    return tuple(field for field in _SERVER_FIELDS if getattr(wanted, field) != getattr(there, field))


def destination_differences(wanted: Destination, there: Destination, standing: Standing) -> tuple[str, ...]:
    """Return the fields in which the kernel's destination is not as it is to be."""
    shall = effective(wanted, standing)
    return tuple(field for field in _DESTINATION_FIELDS if getattr(shall, field) != getattr(there, field))


def why_less(wanted: Destination, standing: Standing) -> str:
    """Say why the kernel is to have another weight than the operator wants, as the end of a sentence."""
    if wanted.draining:
        return ", since it drains"
    return ", since its checks say so" if standing != WHOLE else ""
