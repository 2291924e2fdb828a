"""How destinations stand in the state: their names, and what is kept of each. No I/O."""

from __future__ import annotations

from typing import Any, Literal

from lvsagent.v1 import destination_pb2

from agent_common import wire
from agent_common.destination import PLAIN_TUNNEL, Destination, DestinationKey, Forwarding
from agent_common.records import from_record, to_record
from agent_common.state import Body
from agent_common.virtual_server import VirtualServerKey, parse_address

KIND = "destination"
"""Of the records."""

_METHOD_NAMES = {
    each: destination_pb2.ForwardingMethod.Name(wire.pack_enum(wire.FORWARDINGS, each)) for each in Forwarding
}
_METHODS = {name: each for each, name in _METHOD_NAMES.items()}
_PLAIN_FIELDS = {"key", "forwarding_method", "weight", "draining", "upper_threshold", "lower_threshold"}
"""Of a record without a tunnel."""


def record_name(server: VirtualServerKey | str, key: DestinationKey | Literal[""]) -> str:
    """Return the name of a destination's record in the state; without a key, how those of its virtual server begin.

    The virtual server may be given as its text.
    """
    return f"{server} {key}"


def record_body(server: str, destination: Destination, *, managed: bool) -> Body:
    """Return what is kept of a destination; managed: this agent made it. server is the text of its virtual server."""
    return {
        "managed": managed,
        "server": server,
        "config": config_record(destination),
    }


def read_intent(body: Body) -> tuple[int, bool]:
    """Return the operator's weight, and whether the destination drains: of both the kernel knows nothing."""
    config = body["config"]
    return int(config["weight"]), bool(config.get("draining"))


def config_record(destination: Destination) -> Body:
    """Return a destination as records keep it: what to_record makes of its message, for a tenth of the time.

    Thresholds that are 0 are left out, since that is what a message without them means.
    """
    if destination.tunnel != PLAIN_TUNNEL:
        return to_record(wire.pack_destination(destination))
    key: dict[str, Any] = {"address": str(destination.key.address)}
    if destination.key.port:
        key["port"] = destination.key.port
    body: dict[str, Any] = {
        "key": key,
        "forwarding_method": _METHOD_NAMES[destination.forwarding],
        "weight": destination.weight,
    }
    if destination.upper_threshold or destination.lower_threshold:
        body["upper_threshold"] = destination.upper_threshold
        body["lower_threshold"] = destination.lower_threshold
    if destination.draining:
        body["draining"] = True
    if destination.forwarding is Forwarding.TUNNELING:
        body["tunnel"] = to_record(wire.pack_tunnel(destination.tunnel))
    return body


def read_config(record: Body) -> Destination:
    """Return the destination that a record keeps: what from_record would make of it, for a tenth of the time."""
    if record.keys() - _PLAIN_FIELDS:
        return wire.unpack_destination(from_record(record, destination_pb2.Destination()))
    key = record["key"]
    return Destination(
        key=DestinationKey(address=parse_address(key["address"], "address"), port=key.get("port", 0)),
        forwarding=_METHODS[record["forwarding_method"]],
        weight=record["weight"],
        draining=record.get("draining", False),
        upper_threshold=record.get("upper_threshold", 0),
        lower_threshold=record.get("lower_threshold", 0),
    )
