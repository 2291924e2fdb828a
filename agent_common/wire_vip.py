"""Messages about VIPs to the project's own types and back; agent_common.wire has those about everything else."""

from __future__ import annotations

from collections.abc import Iterable

from lvsagent.v1 import vip_pb2

from agent_common.errors import InvalidInputError
from agent_common.tunnel import TunnelEnd, joined
from agent_common.vip import Holder, OperatorHolder, Vip, VipMode, VirtualServerHolder, check_name
from agent_common.virtual_server import check_port, parse_address
from agent_common.wire import FAMILIES, TUNNEL_TYPES, check_key, pack_enum, pack_key, unpack_enum, unpack_key

VIP_MODES: dict[vip_pb2.VipMode.ValueType, VipMode] = {
    vip_pb2.VIP_MODE_AGENT: VipMode.AGENT,
    vip_pb2.VIP_MODE_EXTERNAL: VipMode.EXTERNAL,
}


def unpack_holder(message: vip_pb2.VipHolder, field: str = "holder") -> Holder:
    """Read the holder of a VIP."""
    match message.WhichOneof("holder"):
        case "virtual_server":
            key = unpack_key(message.virtual_server.key, f"{field}.virtual_server.key")
            return VirtualServerHolder(
                key=check_key(key, f"{field}.virtual_server.key"),
                authority=check_name(f"{field}.virtual_server.authority", message.virtual_server.authority),
            )
        case "operator":
            return OperatorHolder(name=message.operator)
        case _:
            raise InvalidInputError(field, f"{field}: must be set: every VIP operation names its holder")


def pack_holder(holder: Holder) -> vip_pb2.VipHolder:
    """Write the holder of a VIP."""
    if isinstance(holder, OperatorHolder):
        return vip_pb2.VipHolder(operator=holder.name)
    server = vip_pb2.VirtualServerHolder(key=pack_key(holder.key), authority=holder.authority)
    return vip_pb2.VipHolder(virtual_server=server)


def unpack_vip(message: vip_pb2.Vip) -> Vip:
    """Read a VIP as an agent reports it."""
    return Vip(
        address=parse_address(message.address, "vip.address"),
        device=message.device,
        mode=unpack_enum(VIP_MODES, message.mode, "vip.mode") if message.mode else VipMode.AGENT,
        holders=tuple(unpack_holder(holder) for holder in message.holders),
        made_address=message.made_address,
        made_route=message.made_route,
        present_device=message.present_device,
        route_present=message.route_present,
        tunnels=unpack_tunnels(message.tunnels),
    )


def unpack_tunnels(messages: Iterable[vip_pb2.TunnelEnd], field: str = "vip.tunnels") -> tuple[TunnelEnd, ...]:
    """Read the ends of tunnels, in the order of their text forms."""
    ends = (
        TunnelEnd(
            type=unpack_enum(TUNNEL_TYPES, each.type, f"{field}.type"),
            outer=unpack_enum(FAMILIES, each.outer_family, f"{field}.outer_family"),
            port=check_port(each.port, f"{field}.port"),
            ready=each.ready,
        ).check(field)
        for each in messages
    )
    return joined(tuple(ends))


def pack_tunnels(ends: Iterable[TunnelEnd]) -> list[vip_pb2.TunnelEnd]:
    """Write the ends of tunnels."""
    return [
        vip_pb2.TunnelEnd(
            type=pack_enum(TUNNEL_TYPES, end.type),
            outer_family=pack_enum(FAMILIES, end.outer),
            port=end.port,
            ready=end.ready,
        )
        for end in ends
    ]


def pack_vip(vip: Vip) -> vip_pb2.Vip:
    """Write a VIP, every field set."""
    return vip_pb2.Vip(
        address=str(vip.address),
        device=vip.device,
        mode=pack_enum(VIP_MODES, vip.mode),
        holders=pack_holders(vip.holders),
        present=vip.present,
        made_address=vip.made_address,
        made_route=vip.made_route,
        present_device=vip.present_device,
        route_present=vip.route_present,
        tunnels=pack_tunnels(vip.tunnels),
    )


def pack_holders(holders: Iterable[Holder]) -> list[vip_pb2.VipHolder]:
    """Write the holders of a VIP in the order of their text forms."""
    return [pack_holder(holder) for holder in sorted(holders, key=str)]
