"""Destinations as a table: what the operator wants, what the kernel has, and what a check sees. Pure functions."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from lvsagent.v1 import destination_pb2

from agent_common import wire
from agent_common.destination import forwarding_name
from cli.health_tables import check_text, check_why, check_word, is_plainly_up, kernel_weight
from cli.text_table import fits, table, with_notes

Status = destination_pb2.DestinationStatus
Column = tuple[str, Sequence[str]]
"""Its head and its cells."""

_INDENT = "  "
_FINE = ("ready", "-")
"""What is said of a real server at which nobody need look."""


def destination_table(
    statuses: Sequence[Status], now: datetime.datetime, ready: Sequence[str] = (), width: int = 0
) -> list[str]:
    """Return the lines of a table; ready is what is said of each real server.

    The kernel's weight and what checks say have columns only where something is checked. What does not fit into so many
    columns stands below its row: at first why a check fails, then all that is not as it should be. 0: all fits.
    """
    always = _always(statuses)
    beside: list[Column] = [("ORIGIN", [_origin(each) for each in statuses])]
    beside += [("REAL SERVER", ready)] if ready else []
    is_checked = any(each.HasField("health") for each in statuses)
    if is_checked:
        whole = _lines([*always, *beside, ("CHECK", [check_text(each, now) for each in statuses])])
        short = _lines([*always, *beside, ("CHECK", [check_word(each, now) for each in statuses])])
        if not fits(whole, width) and fits(short, width):
            return with_notes(short, map(check_why, statuses), width, _INDENT)
    else:
        whole = _lines([*always, *beside])
    if fits(whole, width):
        return whole
    checks = [check_text(each, now) if is_checked and not is_plainly_up(each) else "" for each in statuses]
    with_ready = _lines([*always, *beside[1:]])  # that all are lvs's own is what one expects
    has_ready = fits(with_ready, width)
    unsaid = [""] * len(statuses) if has_ready or not ready else ready
    notes = ("; ".join(_amiss(*each)) for each in zip(statuses, unsaid, checks, strict=True))
    return with_notes(with_ready if has_ready else _lines(always), notes, width, _INDENT)


def _lines(columns: Sequence[Column]) -> list[str]:
    head, cells = zip(*columns, strict=True)
    return table(head, zip(*cells, strict=True)).splitlines()


def _always(statuses: Sequence[Status]) -> list[Column]:
    columns: list[Column] = [
        ("DESTINATION", [str(wire.unpack_destination_key(each.destination.key)) for each in statuses]),
        ("FORWARD", [_forwarding(each) for each in statuses]),
        ("WEIGHT", [str(each.destination.weight) for each in statuses]),
    ]
    if any(each.HasField("health") for each in statuses):
        columns.append(("KERNEL", [kernel_weight(each) for each in statuses]))
    return [
        *columns,
        ("ACTIVE", [str(each.active_connections) for each in statuses]),
        ("INACTIVE", [str(each.inactive_connections) for each in statuses]),
        ("STATE", [_state(each) for each in statuses]),
    ]


def _forwarding(status: Status) -> str:
    message = status.destination.forwarding_method
    return forwarding_name(wire.unpack_enum(wire.FORWARDINGS, message, "forwarding_method"))


def _origin(status: Status) -> str:
    return "lvs" if status.managed else "foreign"


def _state(status: Status) -> str:
    """Return what becomes of new connections: the operator's wish says why none come, then the checks, then a hand.

    One that waits would serve, as far as its own check goes, or has none.
    """
    if status.destination.draining:
        return "draining"
    if status.current_weight:
        return "serving"
    if not status.destination.weight or not status.HasField("health") or status.health.percent:
        return "weight 0"
    return "out" if status.health.verdict == destination_pb2.VERDICT_DOWN else "waiting"


def _amiss(status: Status, ready: str, check: str) -> Iterable[str]:
    if not status.managed:
        yield "foreign"
    if ready and ready not in _FINE:
        yield f"real server: {ready}"
    if check:
        yield f"check: {check}" if status.HasField("health") else check
