"""What differs on a director between what was committed and the kernel. Pure functions of two readings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from agent_common.destination import Destination, DestinationStatus
from agent_common.drift import DestinationName, Drift, DriftKind
from agent_common.virtual_server import VirtualServer, VirtualServerKey

_SERVER_FIELDS = ("scheduler", "scheduler_flags", "persistence", "one_packet")
_DESTINATION_FIELDS = ("forwarding", "upper_threshold", "lower_threshold", "tunnel")

Table = Mapping[VirtualServerKey, tuple[VirtualServer, Sequence[DestinationStatus]]]
"""The kernel's table: every virtual server, with its destinations."""


def find_table_drift(
    servers: Sequence[VirtualServer], destinations: Mapping[VirtualServerKey, Sequence[Destination]], table: Table
) -> Iterator[Drift]:
    """Compare what was committed with the table; what is not ours is foreign."""
    for wanted in servers:
        if wanted.key not in table:
            yield Drift(kind=DriftKind.MISSING, resource=wanted.key)
        else:
            yield from _modified_server(wanted, table[wanted.key][0])
    for key in table.keys() - {wanted.key for wanted in servers}:
        yield Drift(kind=DriftKind.FOREIGN, resource=key)
    for key, (_, statuses) in table.items():
        yield from _find_destination_drift(key, destinations.get(key, ()), statuses)


def _find_destination_drift(
    server: VirtualServerKey, wanted: Sequence[Destination], statuses: Sequence[DestinationStatus]
) -> Iterator[Drift]:
    there = {status.destination.key: status for status in statuses}
    for each in wanted:
        name = DestinationName(server=server, key=each.key)
        if each.key not in there:
            yield Drift(kind=DriftKind.MISSING, resource=name)
        else:
            yield from _modified_destination(name, each, there[each.key])
    for key in there.keys() - {each.key for each in wanted}:
        yield Drift(kind=DriftKind.FOREIGN, resource=DestinationName(server=server, key=key))


def _modified_server(wanted: VirtualServer, there: VirtualServer) -> Iterator[Drift]:
    fields = tuple(field for field in _SERVER_FIELDS if getattr(wanted, field) != getattr(there, field))
    if fields:
        detail = f"scheduler {there.scheduler}, not {wanted.scheduler}" if "scheduler" in fields else ", ".join(fields)
        yield Drift(kind=DriftKind.MODIFIED, resource=wanted.key, fields=fields, detail=detail)


def _modified_destination(name: DestinationName, wanted: Destination, there: DestinationStatus) -> Iterator[Drift]:
    fields = [field for field in _DESTINATION_FIELDS if getattr(wanted, field) != getattr(there.destination, field)]
    detail = ", ".join(fields)
    if there.current_weight != wanted.kernel_weight:
        fields.append("weight")
        drains = ", since it drains" if wanted.draining else ""
        detail = f"weight {there.current_weight}, not {wanted.kernel_weight}{drains}"
    if fields:
        yield Drift(kind=DriftKind.MODIFIED, resource=name, fields=tuple(fields), detail=detail)
