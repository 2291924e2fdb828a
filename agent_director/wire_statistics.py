"""Writes counters and rates; who reads them needs their message only."""

from __future__ import annotations

from lvsagent.v1 import statistics_pb2

from agent_common.statistics import Statistics

_FIELDS = Statistics.__slots__
"""The message has fields of the same names."""


def pack_statistics(statistics: Statistics | None) -> statistics_pb2.Statistics | None:
    """Write counters; None where they were not read."""
    if statistics is None:
        return None
    return statistics_pb2.Statistics(**{name: getattr(statistics, name) for name in _FIELDS})
