"""Protobuf messages to the project's own types and back, by tables that run both ways."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from lvsagent.v1 import destination_pb2, virtual_server_pb2

from agent_common.destination import (
    PLAIN_TUNNEL,
    Destination,
    DestinationKey,
    Forwarding,
    Tunnel,
    TunnelChecksum,
    TunnelType,
)
from agent_common.errors import InvalidInputError
from agent_common.scheduler import DEFAULT_SCHEDULER, SchedulerFlags
from agent_common.virtual_server import (
    Family,
    FirewallMark,
    Persistence,
    Protocol,
    ServiceAddress,
    VirtualServer,
    VirtualServerKey,
    check_port,
    check_unicast,
    parse_address,
)

_T = TypeVar("_T")
_V = TypeVar("_V", bound=int)

PROTOCOLS: dict[virtual_server_pb2.Protocol.ValueType, Protocol] = {
    virtual_server_pb2.PROTOCOL_TCP: Protocol.TCP,
    virtual_server_pb2.PROTOCOL_UDP: Protocol.UDP,
    virtual_server_pb2.PROTOCOL_SCTP: Protocol.SCTP,
}
FAMILIES: dict[virtual_server_pb2.AddressFamily.ValueType, Family] = {
    virtual_server_pb2.ADDRESS_FAMILY_IPV4: Family.IPV4,
    virtual_server_pb2.ADDRESS_FAMILY_IPV6: Family.IPV6,
}
FORWARDINGS: dict[destination_pb2.ForwardingMethod.ValueType, Forwarding] = {
    destination_pb2.FORWARDING_METHOD_DIRECT_ROUTING: Forwarding.DIRECT_ROUTING,
    destination_pb2.FORWARDING_METHOD_TUNNELING: Forwarding.TUNNELING,
    destination_pb2.FORWARDING_METHOD_MASQUERADING: Forwarding.MASQUERADING,
    destination_pb2.FORWARDING_METHOD_LOCAL_NODE: Forwarding.LOCAL_NODE,
    destination_pb2.FORWARDING_METHOD_BYPASS: Forwarding.BYPASS,
}
TUNNEL_TYPES: dict[destination_pb2.TunnelType.ValueType, TunnelType] = {
    destination_pb2.TUNNEL_TYPE_IPIP: TunnelType.IPIP,
    destination_pb2.TUNNEL_TYPE_GUE: TunnelType.GUE,
    destination_pb2.TUNNEL_TYPE_GRE: TunnelType.GRE,
}
TUNNEL_CHECKSUMS: dict[destination_pb2.TunnelChecksum.ValueType, TunnelChecksum] = {
    destination_pb2.TUNNEL_CHECKSUM_NONE: TunnelChecksum.NONE,
    destination_pb2.TUNNEL_CHECKSUM_FULL: TunnelChecksum.FULL,
    destination_pb2.TUNNEL_CHECKSUM_REMOTE: TunnelChecksum.REMOTE,
}


def unpack_enum(table: dict[_V, _T], value: int, field: str) -> _T:
    """Return what a proto enum value stands for; unspecified and unknown ones are errors that name the field."""
    for number, meaning in table.items():
        if number == value:
            return meaning
    raise InvalidInputError(field, f"{field}: must be set" if value == 0 else f"{field}: {value} is unknown")


def pack_enum(table: dict[_V, _T], value: _T) -> _V:
    """Return the proto enum value of something of ours."""
    for number, meaning in table.items():
        if meaning == value:
            return number
    raise KeyError(value)


def unpack_key(message: virtual_server_pb2.VirtualServerKey, field: str = "key") -> VirtualServerKey:
    """Read a virtual server's key; whether it may be made is not asked: a foreign one may have any address."""
    match message.WhichOneof("key"):
        case "service_address":
            address = message.service_address
            return ServiceAddress(
                protocol=unpack_enum(PROTOCOLS, address.protocol, f"{field}.service_address.protocol"),
                address=parse_address(address.address, f"{field}.service_address.address"),
                port=check_port(address.port, f"{field}.service_address.port"),
            )
        case "firewall_mark":
            mark = message.firewall_mark
            family = unpack_enum(FAMILIES, mark.family, f"{field}.firewall_mark.family")
            return FirewallMark(mark=mark.mark, family=family)
        case _:
            raise InvalidInputError(field, f"{field}: must be set to a service address or a firewall mark")


def check_key(key: VirtualServerKey, field: str) -> VirtualServerKey:
    """Return a key that a new virtual server can have."""
    if isinstance(key, ServiceAddress):
        check_unicast(key.address, f"{field}.service_address.address")
    return key


def pack_key(key: VirtualServerKey) -> virtual_server_pb2.VirtualServerKey:
    """Write a virtual server's key."""
    if isinstance(key, FirewallMark):
        mark = virtual_server_pb2.FirewallMark(mark=key.mark, family=pack_enum(FAMILIES, key.family))
        return virtual_server_pb2.VirtualServerKey(firewall_mark=mark)
    address = virtual_server_pb2.ServiceAddress(
        protocol=pack_enum(PROTOCOLS, key.protocol), address=str(key.address), port=key.port
    )
    return virtual_server_pb2.VirtualServerKey(service_address=address)


def unpack_persistence(message: virtual_server_pb2.Persistence) -> Persistence:
    """Read persistence; fractions of a second are an error, since the kernel counts whole ones."""
    if message.timeout.nanos:
        raise InvalidInputError("persistence.timeout", "persistence.timeout: must be whole seconds")
    return Persistence(
        timeout=message.timeout.seconds,
        prefix_length=message.prefix_length if message.HasField("prefix_length") else None,
        netmask=_unpack_netmask(message.netmask) if message.HasField("netmask") else None,
    )


def _unpack_netmask(text: str) -> IPv4Address:
    address = parse_address(text, "persistence.netmask")
    if not isinstance(address, IPv4Address):
        raise InvalidInputError("persistence.netmask", f"persistence.netmask: {text!r} is not an IPv4 mask")
    return address


def unpack_flags(message: virtual_server_pb2.SchedulerFlags) -> SchedulerFlags:
    """Read flags of a scheduler."""
    return SchedulerFlags(flag_1=message.flag_1, flag_2=message.flag_2, flag_3=message.flag_3)


def unpack_virtual_server(message: virtual_server_pb2.VirtualServer) -> VirtualServer:
    """Read a virtual server, with the defaults of a new one where nothing is set; it is not checked."""
    return VirtualServer(
        key=unpack_key(message.key, "virtual_server.key"),
        scheduler=message.scheduler or DEFAULT_SCHEDULER,
        scheduler_flags=unpack_flags(message.scheduler_flags),
        persistence=unpack_persistence(message.persistence) if message.HasField("persistence") else None,
        persistence_engine=message.persistence_engine,
        one_packet=message.one_packet,
    )


def pack_virtual_server(server: VirtualServer) -> virtual_server_pb2.VirtualServer:
    """Write a virtual server, every field set."""
    flags = server.scheduler_flags
    message = virtual_server_pb2.VirtualServer(
        key=pack_key(server.key),
        scheduler=server.scheduler,
        scheduler_flags=virtual_server_pb2.SchedulerFlags(
            flag_1=flags.flag_1, flag_2=flags.flag_2, flag_3=flags.flag_3
        ),
        one_packet=server.one_packet,
        persistence_engine=server.persistence_engine,
    )
    if server.persistence:
        message.persistence.CopyFrom(pack_persistence(server.persistence))
    return message


def pack_persistence(persistence: Persistence) -> virtual_server_pb2.Persistence:
    """Write persistence."""
    message = virtual_server_pb2.Persistence(timeout=Duration(seconds=persistence.timeout))
    if persistence.prefix_length is not None:
        message.prefix_length = persistence.prefix_length
    elif persistence.netmask is not None:
        message.netmask = str(persistence.netmask)
    return message


def unpack_destination_key(message: destination_pb2.DestinationKey, field: str = "destination.key") -> DestinationKey:
    """Read a destination's key."""
    return DestinationKey(
        address=parse_address(message.address, f"{field}.address"), port=check_port(message.port, f"{field}.port")
    )


def pack_destination_key(key: DestinationKey) -> destination_pb2.DestinationKey:
    """Write a destination's key."""
    return destination_pb2.DestinationKey(address=str(key.address), port=key.port)


def unpack_tunnel(message: destination_pb2.Tunnel) -> Tunnel:
    """Read the tunnel of a destination; what is not set is IPIP without checksum."""
    return Tunnel(
        type=unpack_enum(TUNNEL_TYPES, message.type, "tunnel.type") if message.type else TunnelType.IPIP,
        port=message.port,
        checksum=unpack_enum(TUNNEL_CHECKSUMS, message.checksum, "tunnel.checksum")
        if message.checksum
        else TunnelChecksum.NONE,
    )


def unpack_destination(message: destination_pb2.Destination) -> Destination:
    """Read a destination, with the defaults of a new one where nothing is set; it is not checked against its server."""
    forwarding = message.forwarding_method or destination_pb2.FORWARDING_METHOD_DIRECT_ROUTING
    return Destination(
        key=unpack_destination_key(message.key),
        forwarding=unpack_enum(FORWARDINGS, forwarding, "forwarding_method"),
        weight=message.weight if message.HasField("weight") else 1,
        draining=message.draining,
        upper_threshold=message.upper_threshold,
        lower_threshold=message.lower_threshold,
        tunnel=unpack_tunnel(message.tunnel) if message.HasField("tunnel") else PLAIN_TUNNEL,
    )


def pack_destination(destination: Destination) -> destination_pb2.Destination:
    """Write a destination, every field set."""
    return destination_pb2.Destination(**destination_fields(destination))


def destination_fields(destination: Destination) -> dict[str, Any]:
    """Return the fields of a destination's message, every one, as the message that has it is made from them.

    Thousands in one message take half the time and a fifth of the memory when none of them is a message before.
    """
    fields: dict[str, Any] = {
        "key": {"address": str(destination.key.address), "port": destination.key.port},
        "forwarding_method": pack_enum(FORWARDINGS, destination.forwarding),
        "weight": destination.weight,
        "draining": destination.draining,
        "upper_threshold": destination.upper_threshold,
        "lower_threshold": destination.lower_threshold,
    }
    if destination.forwarding is Forwarding.TUNNELING or destination.tunnel != PLAIN_TUNNEL:
        fields["tunnel"] = pack_tunnel(destination.tunnel)
    return fields


def pack_tunnel(tunnel: Tunnel) -> destination_pb2.Tunnel:
    """Write how packets are wrapped, every field set."""
    return destination_pb2.Tunnel(
        type=pack_enum(TUNNEL_TYPES, tunnel.type),
        port=tunnel.port,
        checksum=pack_enum(TUNNEL_CHECKSUMS, tunnel.checksum),
    )
