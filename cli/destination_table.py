"""Destinations as a table: what the operator wants, what the kernel has, and what a check sees. Pure functions."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from lvsagent.v1 import destination_pb2

from agent_common import wire
from agent_common.destination import forwarding_name
from cli.health_tables import check_text, kernel_weight
from cli.text_table import table

Status = destination_pb2.DestinationStatus


def destination_table(statuses: Sequence[Status], now: datetime.datetime, ready: Sequence[str] = ()) -> list[str]:
    """Return the lines of a table; ready is what is said of each real server.

    The kernel's weight and what checks say have columns only where something is checked.
    """
    is_checked = any(each.HasField("health") for each in statuses)
    head = ["DESTINATION", "FORWARD", "WEIGHT", "ACTIVE", "INACTIVE", "STATE", "ORIGIN"]
    rows = [_row(each) for each in statuses]
    if ready:
        head.append("REAL SERVER")
        rows = [[*row, word] for row, word in zip(rows, ready, strict=True)]
    if is_checked:
        head = [*head[:3], "KERNEL", *head[3:], "CHECK"]
        rows = [
            [*row[:3], kernel_weight(each), *row[3:], check_text(each, now)]
            for row, each in zip(rows, statuses, strict=True)
        ]
    return table(head, rows).splitlines()


def _row(status: Status) -> list[str]:
    destination = status.destination
    forwarding = wire.unpack_enum(wire.FORWARDINGS, destination.forwarding_method, "forwarding_method")
    return [
        str(wire.unpack_destination_key(destination.key)),
        forwarding_name(forwarding),
        str(destination.weight),
        str(status.active_connections),
        str(status.inactive_connections),
        _state(status),
        "lvs" if status.managed else "foreign",
    ]


def _state(status: Status) -> str:
    """Return what becomes of new connections: the operator's wish says why none come, then the checks, then a hand."""
    if status.destination.draining:
        return "draining"
    if status.current_weight:
        return "serving"
    return (
        "out" if status.destination.weight and status.HasField("health") and not status.health.percent else "weight 0"
    )
