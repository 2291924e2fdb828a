"""A destination before and after a change: what differs, what is said, how it is recorded. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from lvsagent.v1 import destination_pb2, operation_pb2

from agent_common import wire
from agent_common.destination import (
    WHOLE,
    Destination,
    DestinationKey,
    DestinationStatus,
    Standing,
    effective,
    forwarding_name,
)
from agent_common.errors import DiffersError, NotFoundError, Reason, RefusedError
from agent_common.operation import Change
from agent_common.virtual_server import VirtualServerKey
from agent_director.drift import destination_differences, why_less


def refuse_other(
    message: destination_pb2.Destination, wanted: Destination, current: DestinationStatus, server: VirtualServerKey
) -> None:
    """Raise DiffersError if what is set in the message differs from what is there."""
    there = current.destination
    names = {"virtual_server": str(server), "destination": str(there.key)}
    if there.draining:
        raise DiffersError(f"{there.key} of {server} is draining", Reason.DESTINATION_DRAINING, **names)
    differences = []
    if message.forwarding_method and wanted.forwarding != there.forwarding:
        differences.append(
            f"forwarding method {forwarding_name(there.forwarding)}, not {forwarding_name(wanted.forwarding)}"
        )
    if message.HasField("weight") and wanted.weight != there.weight:
        differences.append(f"weight {there.weight}, not {wanted.weight}")
    if not message.HasField("weight") and there.weight == 0:
        differences.append("weight 0")
    for field in ("upper_threshold", "lower_threshold", "tunnel"):
        if message.HasField(field) and getattr(wanted, field) != getattr(there, field):
            differences.append(f"another {field}")
    if differences:
        raise DiffersError(
            f"{there.key} of {server} is there with {'; '.join(differences)}", Reason.DESTINATION_DIFFERS, **names
        )


def describe_update(
    server: VirtualServerKey, before: Destination, after: Destination, fields: Sequence[str], standing: Standing
) -> str:
    """Say what an update does to one that stands so."""
    if before.draining != after.draining:
        verb = "drain" if after.draining else "end the drain of"
        weights = f"{effective(before, standing).weight} to {effective(after, standing).weight}"
        is_out = ", since its checks have it out" if standing.is_out and not after.draining else ""
        return f"{verb} {after.key} in {server}: weight {weights}{is_out}"
    if fields == ["weight"]:
        waits = ", kept until the drain ends" if after.draining else ""
        if standing.is_out and not after.draining:
            waits = ", kept until its checks have it in again"
        return f"set weight of {after.key} in {server} from {before.weight} to {after.weight}{waits}"
    return f"change {', '.join(fields)} of {after.key} in {server}"


def describe_repair(
    server: VirtualServerKey, current: DestinationStatus | None, wanted: Destination, standing: Standing
) -> str:
    """Say what brings a destination back to what was committed, and how it stands."""
    if standing.removed:
        return f"take {wanted.key} out of {server}, since its checks have it out"
    shall = effective(wanted, standing)
    drains = why_less(wanted, standing)
    if current is None:
        return f"put back {wanted.key} in {server}, {forwarding_name(shall.forwarding)}, weight {shall.weight}{drains}"
    if current.current_weight != shall.weight:
        return f"set weight of {wanted.key} in {server} back from {current.current_weight} to {shall.weight}{drains}"
    fields = destination_differences(wanted, current.destination, standing)
    return f"set {', '.join(fields)} of {wanted.key} in {server} back"


def is_exactly(status: DestinationStatus | None, destination: Destination | None, standing: Standing = WHOLE) -> bool:
    """Whether the kernel and the record have exactly this destination, as it stands, or none."""
    if status is None or destination is None:
        return status is None and destination is None
    weight = effective(destination, standing).weight
    is_there = status.absent == standing.removed
    return status.destination == destination and status.current_weight == weight and is_there


def destination_change(
    server: VirtualServerKey,
    before: Destination | None,
    after: Destination | None,
    action: str = "",
    *,
    adopted: bool = False,
) -> Change:
    """Return a change as it is recorded and answered."""
    resource = operation_pb2.DestinationChange(
        virtual_server=wire.pack_key(server),
        before=wire.pack_destination(before) if before else None,
        after=wire.pack_destination(after) if after else None,
        adopted=adopted,
    )
    made = before != after or adopted
    return Change(made=made, destination=resource, actions=[action] if made else [])


def sides(
    change: operation_pb2.DestinationChange,
) -> tuple[VirtualServerKey, Destination | None, Destination | None]:
    """Return the virtual server's key, and the destination before and after a change."""
    before = wire.unpack_destination(change.before) if change.HasField("before") else None
    after = wire.unpack_destination(change.after) if change.HasField("after") else None
    return wire.unpack_key(change.virtual_server), before, after


def taking_connections(server: VirtualServerKey, key: DestinationKey) -> RefusedError:
    """Return the error for a destination that is not to be removed, since its drain was ended."""
    return RefusedError(
        f"destination {key} in {server} takes connections: its drain was ended",
        Reason.NOT_DRAINING,
        virtual_server=str(server),
        destination=str(key),
    )


def missing_destination(server: VirtualServerKey, key: DestinationKey) -> NotFoundError:
    """Return the error for a destination that is not there."""
    return NotFoundError(
        f"there is no destination {key} in {server}",
        Reason.DESTINATION_NOT_FOUND,
        virtual_server=str(server),
        destination=str(key),
    )
