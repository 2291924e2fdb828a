"""What has happened to health: in the log for whoever watches it, and in a file for `lvs health log`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from lvsagent.v1 import health_pb2

from agent_common.destination import DestinationKey
from agent_common.record_file import MAX_BYTES, RecordFile
from agent_common.virtual_server import VirtualServerKey
from agent_common.wire import pack_destination_key, pack_key
from agent_common.wire_status import timestamp

EventKind = health_pb2.HealthEventKind
HealthEvent = health_pb2.HealthEvent
EventFile = RecordFile[HealthEvent]

_WORDS = {
    health_pb2.HEALTH_EVENT_KIND_UP: "is up",
    health_pb2.HEALTH_EVENT_KIND_DOWN: "is down",
    health_pb2.HEALTH_EVENT_KIND_OUT: "is taken out",
    health_pb2.HEALTH_EVENT_KIND_IN: "is back in",
    health_pb2.HEALTH_EVENT_KIND_QUORUM_LOST: "has lost its quorum",
    health_pb2.HEALTH_EVENT_KIND_QUORUM_REGAINED: "has its quorum again",
    health_pb2.HEALTH_EVENT_KIND_ALARM: "needs to be looked at",
    health_pb2.HEALTH_EVENT_KIND_ALARM_OVER: "need not be looked at any more",
}
_BAD = (
    health_pb2.HEALTH_EVENT_KIND_DOWN,
    health_pb2.HEALTH_EVENT_KIND_OUT,
    health_pb2.HEALTH_EVENT_KIND_QUORUM_LOST,
    health_pb2.HEALTH_EVENT_KIND_ALARM,
)

_log = logging.getLogger(__name__)


def open_events(folder: Path, max_bytes: int = MAX_BYTES) -> EventFile:
    """Return health.jsonl in a folder."""
    return RecordFile(folder / "health.jsonl", HealthEvent, max_bytes)


class HealthLog:
    """Tells of what happens; without a file only in the log."""

    def __init__(self, file: EventFile | None = None) -> None:
        self._file = file

    def tell(
        self,
        kind: EventKind.ValueType,
        server: VirtualServerKey,
        destination: DestinationKey | None,
        detail: str,
        wall: float,
        *,
        is_meant: bool = False,
    ) -> None:
        """Tell of something that happened at a moment, in seconds of the wall clock; is_meant: nothing is wrong."""
        name = f"{destination} in {server}" if destination is not None else str(server)
        level = logging.WARNING if kind in _BAD and not is_meant else logging.INFO
        _log.log(level, "health: %s %s%s", name, _WORDS[kind], f": {detail}" if detail else "")
        if self._file is not None:
            self._file.append(
                HealthEvent(
                    time=timestamp(wall),
                    kind=kind,
                    virtual_server=pack_key(server),
                    destination=None if destination is None else pack_destination_key(destination),
                    detail=detail,
                )
            )

    def page(self, size: int, token: str, is_wanted: Callable[[HealthEvent], bool]) -> tuple[list[HealthEvent], str]:
        """Return what is kept, the newest first, as RecordFile.page does."""
        return self._file.page(size, token, is_wanted) if self._file is not None else ([], "")
