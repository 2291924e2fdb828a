"""Messages about whole tables to the project's own types and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from lvsagent.v1 import health_pb2, table_pb2

from agent_common import wire
from agent_common.errors import InternalError, InvalidInputError, Reason
from agent_common.health import HealthPolicy
from agent_common.table import DestinationStep, Entry, ServerStep, TableStep
from agent_common.virtual_server import VirtualServerKey
from agent_common.wire_health import unpack_policy


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
        if message.HasField("health"):
            if entry.health is not None:
                raise InvalidInputError("entries.health", f"entries: how {key} is checked is there twice")
            entry.health = _unpack_health(key, message.health)
        for each in message.destinations:
            destination = wire.unpack_destination(each).check(key)
            if entry.destinations.setdefault(destination.key, destination) is not destination:
                raise InvalidInputError("entries.destinations", f"entries: {destination.key} in {key} is there twice")
    return table


def _unpack_health(key: VirtualServerKey, message: health_pb2.HealthPolicy) -> HealthPolicy:
    try:
        return unpack_policy(message).validate()
    except InvalidInputError as error:
        raise InvalidInputError("entries.health", f"entries.health of {key}: {error.message}") from error


def pack_steps(steps: Iterable[TableStep]) -> bytes:
    """Write steps."""
    message = table_pb2.TableSteps()
    server: VirtualServerKey | None = None
    for step in steps:
        if isinstance(step, ServerStep):
            message.steps.add(virtual_server=_pack_server_step(step))
            continue
        fields: dict[str, Any] = {"managed_before": step.was_managed}
        if step.server != server:
            server = step.server
            fields["virtual_server"] = wire.pack_key(server)
        if step.before is not None:
            fields["before"] = wire.destination_fields(step.before)
        if step.after is not None:
            fields["after"] = wire.destination_fields(step.after)
        message.steps.add(destination=fields)
    return message.SerializeToString()


def _pack_server_step(step: ServerStep) -> table_pb2.VirtualServerStep:
    return table_pb2.VirtualServerStep(
        before=wire.pack_virtual_server(step.before) if step.before else None,
        after=wire.pack_virtual_server(step.after) if step.after else None,
        managed_before=step.was_managed,
    )


def unpack_steps(data: bytes) -> list[TableStep]:
    """Read steps; raises InternalError for bytes that are none."""
    try:
        messages = table_pb2.TableSteps.FromString(data).steps
    except DecodeError as error:
        raise InternalError(f"cannot read the steps of a table: {error}", Reason.INTERNAL) from error
    steps: list[TableStep] = []
    key: VirtualServerKey | None = None
    for message in messages:
        if message.HasField("virtual_server"):
            steps.append(_unpack_server_step(message.virtual_server))
            continue
        if message.destination.HasField("virtual_server"):
            key = wire.unpack_key(message.destination.virtual_server)
        if key is None:
            raise InternalError("cannot read the steps of a table: no virtual server is named", Reason.INTERNAL)
        steps.append(_unpack_destination_step(key, message.destination))
    return steps


def _unpack_server_step(message: table_pb2.VirtualServerStep) -> ServerStep:
    return ServerStep(
        before=wire.unpack_virtual_server(message.before) if message.HasField("before") else None,
        after=wire.unpack_virtual_server(message.after) if message.HasField("after") else None,
        was_managed=message.managed_before,
    )


def _unpack_destination_step(server: VirtualServerKey, destination: table_pb2.DestinationStep) -> DestinationStep:
    return DestinationStep(
        server=server,
        before=wire.unpack_destination(destination.before) if destination.HasField("before") else None,
        after=wire.unpack_destination(destination.after) if destination.HasField("after") else None,
        was_managed=destination.managed_before,
    )
