"""Writes what a director says of its destinations; who reads it needs agent_common/wire.py only."""

from __future__ import annotations

from lvsagent.v1 import destination_pb2

from agent_common import wire
from agent_common.destination import DestinationStatus
from agent_common.etag import etag_of
from agent_common.wire_status import pack_health
from agent_director.wire_statistics import pack_statistics


def pack_destination_status(status: DestinationStatus) -> destination_pb2.DestinationStatus:
    """Write what the kernel says of a destination."""
    packed = wire.pack_destination(status.destination)
    return destination_pb2.DestinationStatus(
        destination=packed,
        current_weight=status.current_weight,
        managed=status.managed,
        active_connections=status.active,
        inactive_connections=status.inactive,
        persistent_connections=status.persistent,
        etag=etag_of(packed),
        statistics=pack_statistics(status.statistics),
        health=None if status.health is None else pack_health(status.health),
    )
