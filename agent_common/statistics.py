"""Counters and rates of a virtual server or a destination. No I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What was counted since it was made, or since its counters were set to 0; and rates per second.

    The kernel works them out every two seconds (net/netfilter/ipvs/ip_vs_est.c): they can be that old, counters too,
    unlike the connection counts of a destination. With direct routing and tunnelling nothing comes back through the
    director, and all that is "out" stays 0.
    """

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    connection_rate: int = 0
    packet_rate_in: int = 0
    packet_rate_out: int = 0
    byte_rate_in: int = 0
    byte_rate_out: int = 0
