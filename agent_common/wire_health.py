"""Messages about the policy of health checks to the project's own types and back; what is not set has its default."""

from __future__ import annotations

from typing import Any

from lvsagent.v1 import health_pb2

from agent_common.check import Check
from agent_common.destination import DestinationKey
from agent_common.errors import InvalidInputError
from agent_common.health import (
    Damping,
    DynamicWeight,
    Effect,
    Floor,
    HealthPolicy,
    Start,
    WeightSource,
)
from agent_common.wire import pack_destination_key, pack_enum, unpack_destination_key, unpack_enum
from agent_common.wire_check import duration, pack_check, seconds_of, unpack_check

STARTS: dict[health_pb2.HealthStart.ValueType, Start] = {
    health_pb2.HEALTH_START_DOWN: Start.DOWN,
    health_pb2.HEALTH_START_UP: Start.UP,
}
EFFECTS: dict[health_pb2.HealthEffect.ValueType, Effect] = {
    health_pb2.HEALTH_EFFECT_WEIGHT_ZERO: Effect.WEIGHT_ZERO,
    health_pb2.HEALTH_EFFECT_REMOVE: Effect.REMOVE,
}


def unpack_policy(message: health_pb2.HealthPolicy) -> HealthPolicy:
    """Read a policy; its rules are its own (HealthPolicy.validate)."""
    return HealthPolicy(
        check=unpack_check(message.check, "policy.check"),
        overrides=_unpack_overrides(message),
        start=unpack_enum(STARTS, message.start, "policy.start") if message.start else Start.DOWN,
        effect=unpack_enum(EFFECTS, message.effect, "policy.effect") if message.effect else None,
        slow_start=seconds_of(message, "slow_start", 0.0),
        dynamic_weight=unpack_dynamic(message.dynamic_weight) if message.HasField("dynamic_weight") else None,
        quorum=message.quorum or 1,
        hysteresis=message.hysteresis,
        up_command=tuple(message.up_command),
        down_command=tuple(message.down_command),
        sorry=unpack_destination_key(message.sorry, "policy.sorry") if message.HasField("sorry") else None,
        floor=_unpack_floor(message.floor),
        damping=Damping(
            falls=message.damping.falls or 3,
            window=seconds_of(message.damping, "window", 600.0),
            hold=seconds_of(message.damping, "hold", 120.0),
        ),
        max_changes=message.max_changes_per_second or 100,
    )


def pack_policy(policy: HealthPolicy) -> health_pb2.HealthPolicy:
    """Write a policy; every field is set that means something."""
    message = health_pb2.HealthPolicy(
        check=pack_check(policy.check),
        overrides=[
            health_pb2.CheckOverride(
                destination=pack_destination_key(key), check=None if check is None else pack_check(check)
            )
            for key, check in policy.overrides.items()
        ],
        start=pack_enum(STARTS, policy.start),
        quorum=policy.quorum,
        hysteresis=policy.hysteresis,
        up_command=policy.up_command,
        down_command=policy.down_command,
        sorry=None if policy.sorry is None else pack_destination_key(policy.sorry),
        floor=_pack_floor(policy.floor),
        damping=health_pb2.Damping(
            falls=policy.damping.falls, window=duration(policy.damping.window), hold=duration(policy.damping.hold)
        ),
        max_changes_per_second=policy.max_changes,
    )
    if policy.effect is not None:
        message.effect = pack_enum(EFFECTS, policy.effect)
    if policy.slow_start:
        message.slow_start.CopyFrom(duration(policy.slow_start))
    if policy.dynamic_weight is not None:
        message.dynamic_weight.CopyFrom(pack_dynamic(policy.dynamic_weight))
    return message


def _unpack_overrides(message: health_pb2.HealthPolicy) -> dict[DestinationKey, Check | None]:
    found: dict[DestinationKey, Check | None] = {}
    for number, each in enumerate(message.overrides):
        field = f"policy.overrides[{number}]"
        key = unpack_destination_key(each.destination, f"{field}.destination")
        if key in found:
            raise InvalidInputError(f"{field}.destination", f"{field}.destination: {key} is given twice")
        found[key] = unpack_check(each.check, f"{field}.check") if each.HasField("check") else None
    return found


def unpack_dynamic(message: health_pb2.DynamicWeight, name: str = "policy.dynamic_weight") -> DynamicWeight:
    """Read where the weight is said, and within which bounds; its rules are the policy's."""
    source = message.WhichOneof("source")
    if source is None or not getattr(message, source):
        raise InvalidInputError(name, f"{name}: its source must be set, such as agent_load")
    return DynamicWeight(
        source=WeightSource(source.replace("_", "-")),
        header=message.http_header,
        min_percent=message.min_percent or 10,
        max_percent=message.max_percent or 100,
    )


def pack_dynamic(dynamic: DynamicWeight) -> health_pb2.DynamicWeight:
    """Write it, every field set."""
    field = dynamic.source.value.replace("-", "_")
    value: Any = dynamic.header if dynamic.source is WeightSource.HTTP_HEADER else True
    return health_pb2.DynamicWeight(min_percent=dynamic.min_percent, max_percent=dynamic.max_percent, **{field: value})


def _unpack_floor(message: health_pb2.Floor) -> Floor:
    match message.WhichOneof("floor"):
        case "destinations":
            return Floor(destinations=message.destinations)
        case "percent":
            return Floor(percent=message.percent)
        case _:
            return Floor()


def _pack_floor(floor: Floor) -> health_pb2.Floor:
    if floor.percent is not None:
        return health_pb2.Floor(percent=floor.percent)
    return health_pb2.Floor(destinations=floor.destinations)
