"""Messages about whole tables to the project's own types and back."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError
from lvsagent.v1 import table_pb2, virtual_server_pb2

from agent_common import wire
from agent_common.errors import InternalError, InvalidInputError, Reason
from agent_common.table import DestinationStep, Entry, ServerStep, TableStep
from agent_common.virtual_server import VirtualServerKey


def unpack_table(entries: Iterable[table_pb2.TableEntry]) -> dict[VirtualServerKey, Entry]:
    """Read a table that somebody wants, checked as ipvsadm would; raises InvalidInputError, also for a thing twice."""
    table: dict[VirtualServerKey, Entry] = {}
    for message in entries:
        key = wire.unpack_key(message.key, "entries.key")
        entry = table.setdefault(key, Entry())
        if message.HasField("virtual_server"):
            server = wire.unpack_virtual_server(message.virtual_server).check()
            if server.key != key:
                raise InvalidInputError("entries.virtual_server.key", f"virtual_server.key: {server.key} is not {key}")
            if entry.virtual_server is not None:
                raise InvalidInputError("entries.key", f"entries: virtual server {key} is there twice")
            entry.virtual_server = server
        for each in message.destinations:
            destination = wire.unpack_destination(each).check(key)
            if destination.key in entry.destinations:
                raise InvalidInputError("entries.destinations", f"entries: {destination.key} in {key} is there twice")
            entry.destinations[destination.key] = destination
    return table


def pack_steps(steps: Iterable[TableStep]) -> bytes:
    """Write steps."""
    keys: dict[VirtualServerKey, virtual_server_pb2.VirtualServerKey] = {}
    return table_pb2.TableSteps(steps=(_pack_step(step, keys) for step in steps)).SerializeToString()


def _pack_step(
    step: TableStep, keys: dict[VirtualServerKey, virtual_server_pb2.VirtualServerKey]
) -> table_pb2.TableStep:
    if isinstance(step, ServerStep):
        server = table_pb2.VirtualServerStep(
            before=wire.pack_virtual_server(step.before) if step.before else None,
            after=wire.pack_virtual_server(step.after) if step.after else None,
            managed_before=step.was_managed,
        )
        return table_pb2.TableStep(virtual_server=server)
    if step.server not in keys:  # thousands of destinations have the same
        keys[step.server] = wire.pack_key(step.server)
    destination = table_pb2.DestinationStep(
        virtual_server=keys[step.server],
        before=wire.pack_destination(step.before) if step.before else None,
        after=wire.pack_destination(step.after) if step.after else None,
        managed_before=step.was_managed,
    )
    return table_pb2.TableStep(destination=destination)


def unpack_steps(data: bytes) -> list[TableStep]:
    """Read steps; raises InternalError for bytes that are none."""
    try:
        return [_unpack_step(message) for message in table_pb2.TableSteps.FromString(data).steps]
    except DecodeError as error:
        raise InternalError(f"cannot read the steps of a table: {error}", Reason.INTERNAL) from error


def _unpack_step(message: table_pb2.TableStep) -> TableStep:
    if message.WhichOneof("step") == "virtual_server":
        server = message.virtual_server
        return ServerStep(
            before=wire.unpack_virtual_server(server.before) if server.HasField("before") else None,
            after=wire.unpack_virtual_server(server.after) if server.HasField("after") else None,
            was_managed=server.managed_before,
        )
    destination = message.destination
    return DestinationStep(
        server=wire.unpack_key(destination.virtual_server),
        before=wire.unpack_destination(destination.before) if destination.HasField("before") else None,
        after=wire.unpack_destination(destination.after) if destination.HasField("after") else None,
        was_managed=destination.managed_before,
    )
