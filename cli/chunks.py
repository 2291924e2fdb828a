"""Cuts a table into the chunks in which an agent takes it. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from lvsagent.v1 import ipvs_service_pb2, table_pb2

SIZE = 1000
"""Virtual servers and destinations in a chunk, at most (IpvsService.ApplyTable)."""


def table_chunks(request: table_pb2.WantedTable) -> Iterator[ipvs_service_pb2.ApplyTableRequest]:
    """Return the chunks of a table, at least one; a virtual server with many destinations is continued in the next."""
    part = table_pb2.WantedTable(
        replace=request.replace, change_id=request.change_id, validate_only=request.validate_only
    )
    room = SIZE
    for piece in (piece for entry in request.entries for piece in _pieces(entry)):
        size = 1 + len(piece.destinations)
        if size > room:
            yield ipvs_service_pb2.ApplyTableRequest(part=part)
            part, room = table_pb2.WantedTable(), SIZE
        part.entries.append(piece)
        room -= size
    yield ipvs_service_pb2.ApplyTableRequest(part=part, last=True)


def _pieces(entry: table_pb2.TableEntry) -> Iterator[table_pb2.TableEntry]:
    """Return an entry whole, or one that fits into no chunk in parts: only the first has more than destinations."""
    if len(entry.destinations) < SIZE:
        yield entry
        return
    for start in range(0, len(entry.destinations), SIZE - 1):
        piece = table_pb2.TableEntry(key=entry.key, destinations=entry.destinations[start : start + SIZE - 1])
        if start == 0 and entry.HasField("virtual_server"):
            piece.virtual_server.CopyFrom(entry.virtual_server)
        if start == 0 and entry.HasField("health"):
            piece.health.CopyFrom(entry.health)
        yield piece
