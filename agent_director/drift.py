"""What differs on a director between what was committed and the kernel. Pure functions of two readings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from agent_common.destination import Destination, DestinationStatus, effective
from agent_common.drift import DestinationName, Drift, DriftKind
from agent_common.virtual_server import VirtualServer, VirtualServerKey

_SERVER_FIELDS = ("scheduler", "scheduler_flags", "persistence", "persistence_engine", "one_packet")
_DESTINATION_FIELDS = ("forwarding", "upper_threshold", "lower_threshold", "tunnel", "weight")

Table = Mapping[VirtualServerKey, tuple[VirtualServer, Sequence[DestinationStatus]]]
"""The kernel's table: every virtual server, with its destinations."""


def find_table_drift(
    servers: Sequence[VirtualServer], destinations: Mapping[VirtualServerKey, Sequence[Destination]], table: Table
) -> Iterator[Drift]:
    """Compare what was committed with the table, virtual servers before destinations; what is not ours is foreign."""
    for wanted in servers:
        if wanted.key not in table:
            yield Drift(kind=DriftKind.MISSING, resource=wanted.key)
        else:
            yield from _modified_server(wanted, table[wanted.key][0])
    for key in table.keys() - {wanted.key for wanted in servers}:
        yield Drift(kind=DriftKind.FOREIGN, resource=key)
    for key in dict.fromkeys((*table, *destinations)):
        statuses = table[key][1] if key in table else ()
        yield from _find_destination_drift(key, destinations.get(key, ()), statuses)


def _find_destination_drift(
    server: VirtualServerKey, wanted: Sequence[Destination], statuses: Sequence[DestinationStatus]
) -> Iterator[Drift]:
    there = {status.destination.key: status.destination for status in statuses}
    for each in wanted:
        name = DestinationName(server=server, key=each.key)
        if each.key not in there:
            yield Drift(kind=DriftKind.MISSING, resource=name)
        else:
            yield from _modified_destination(name, each, there[each.key])
    for key in there.keys() - {each.key for each in wanted}:
        yield Drift(kind=DriftKind.FOREIGN, resource=DestinationName(server=server, key=key))


def _modified_server(wanted: VirtualServer, there: VirtualServer) -> Iterator[Drift]:
    fields = server_differences(wanted, there)
    if fields:
        detail = f"scheduler {there.scheduler}, not {wanted.scheduler}" if "scheduler" in fields else ", ".join(fields)
        yield Drift(kind=DriftKind.MODIFIED, resource=wanted.key, fields=fields, detail=detail)


def _modified_destination(name: DestinationName, wanted: Destination, there: Destination) -> Iterator[Drift]:
    fields = destination_differences(wanted, there)
    if fields:
        drains = ", since it drains" if wanted.draining else ""
        weight = f"weight {there.weight}, not {effective(wanted).weight}{drains}"
        detail = weight if "weight" in fields else ", ".join(fields)
        yield Drift(kind=DriftKind.MODIFIED, resource=name, fields=fields, detail=detail)


def server_differences(wanted: VirtualServer, there: VirtualServer) -> tuple[str, ...]:
    """Return the fields in which the kernel's virtual server is not as committed."""
    return tuple(field for field in _SERVER_FIELDS if getattr(wanted, field) != getattr(there, field))


def destination_differences(wanted: Destination, there: Destination) -> tuple[str, ...]:
    """Return the fields in which the kernel's destination is not as it is to be."""
    shall = effective(wanted)
    return tuple(field for field in _DESTINATION_FIELDS if getattr(shall, field) != getattr(there, field))
