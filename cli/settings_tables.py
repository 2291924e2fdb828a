"""Tables for people of what is set of IPVS as a whole. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from lvsagent.v1 import sync_daemon_pb2, timeouts_pb2

from agent_common.wire_settings import unpack_sync_daemon, unpack_timeouts
from cli.site import AgentName
from cli.text_table import table


def timeouts_lines(_: AgentName, status: timeouts_pb2.TimeoutsStatus) -> list[str]:
    """Return what lvs timeouts prints of a director."""
    kept = unpack_timeouts(status.committed).meant()
    rows = [
        (name, f"{seconds} s", f"{kept[name]} s" if name in kept else "-")
        for name, seconds in unpack_timeouts(status.timeouts).meant().items()
    ]
    return table(("TIMEOUT", "NOW", "KEPT BY LVS"), rows).splitlines()


def sync_daemon_lines(_: AgentName, statuses: Sequence[sync_daemon_pb2.SyncDaemonStatus]) -> list[str]:
    """Return what lvs sync show prints of a director."""
    rows = [_row(status) for status in statuses]
    head = ("ROLE", "INTERFACE", "SYNC ID", "MAX LENGTH", "GROUP", "PORT", "TTL", "ORIGIN")
    return table(head, rows).splitlines() if rows else ["no sync daemon runs"]


def _row(status: sync_daemon_pb2.SyncDaemonStatus) -> tuple[str, ...]:
    daemon = unpack_sync_daemon(status.daemon)
    numbers = (daemon.sync_id, daemon.max_length, daemon.group, daemon.port, daemon.ttl)
    shown = ("-" if each is None else str(each) for each in numbers)
    return (str(daemon.role), daemon.interface, *shown, "lvs" if status.managed else "foreign")
