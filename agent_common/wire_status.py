"""Messages about how destinations are, to the project's own types and back; agent_common.wire has what they are."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from lvsagent.v1 import destination_pb2

from agent_common.destination import DestinationHealth, DestinationStatus, Verdict
from agent_common.wire import pack_enum, unpack_destination
from agent_common.wire_check import duration, seconds_of

VERDICTS: dict[destination_pb2.Verdict.ValueType, Verdict] = {
    destination_pb2.VERDICT_UNSPECIFIED: Verdict.UNCHECKED,
    destination_pb2.VERDICT_UP: Verdict.UP,
    destination_pb2.VERDICT_DOWN: Verdict.DOWN,
}


def unpack_destination_status(message: destination_pb2.DestinationStatus) -> DestinationStatus:
    """Read what a director says of a destination."""
    return DestinationStatus(
        destination=unpack_destination(message.destination),
        current_weight=message.current_weight,
        active=message.active_connections,
        inactive=message.inactive_connections,
        persistent=message.persistent_connections,
        managed=message.managed,
        health=unpack_health(message.health) if message.HasField("health") else None,
    )


def unpack_health(message: destination_pb2.DestinationHealth) -> DestinationHealth:
    """Read what checks say of a destination; a verdict of a later version is none."""
    return DestinationHealth(
        verdict=VERDICTS.get(message.verdict, Verdict.UNCHECKED),
        proven=message.proven,
        since=seconds_since_epoch(message.since),
        detail=message.detail,
        checked=seconds_since_epoch(message.checked) if message.HasField("checked") else None,
        took=seconds_of(message, "took", 0.0),
        against=message.against,
        percent=message.percent,
        removed=message.removed,
        note=message.note,
    )


def pack_health(health: DestinationHealth) -> destination_pb2.DestinationHealth:
    """Write what checks say of a destination."""
    return destination_pb2.DestinationHealth(
        verdict=pack_enum(VERDICTS, health.verdict),
        proven=health.proven,
        since=timestamp(health.since),
        detail=health.detail,
        checked=None if health.checked is None else timestamp(health.checked),
        took=duration(health.took),
        against=health.against,
        percent=health.percent,
        removed=health.removed,
        note=health.note,
    )


def timestamp(seconds: float) -> Timestamp:
    """Write a moment of the wall clock, to the microsecond."""
    message = Timestamp()
    message.FromMicroseconds(round(seconds * 1_000_000))
    return message


def seconds_since_epoch(message: Timestamp) -> float:
    """Read a moment of the wall clock."""
    return message.ToMicroseconds() / 1_000_000
