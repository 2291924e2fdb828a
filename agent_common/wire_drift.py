"""Messages about drift to the project's own types and back."""

from __future__ import annotations

import ipaddress

from lvsagent.v1 import drift_service_pb2

from agent_common import wire
from agent_common.drift import ArpInterface, DestinationName, Drift, DriftKind, IpvsSetting, Resource
from agent_common.virtual_server import parse_address

KINDS: dict[drift_service_pb2.DriftKind.ValueType, DriftKind] = {
    drift_service_pb2.DRIFT_KIND_MISSING: DriftKind.MISSING,
    drift_service_pb2.DRIFT_KIND_MODIFIED: DriftKind.MODIFIED,
    drift_service_pb2.DRIFT_KIND_FOREIGN: DriftKind.FOREIGN,
}

SETTINGS: dict[drift_service_pb2.IpvsSetting.ValueType, IpvsSetting] = {
    drift_service_pb2.IPVS_SETTING_TIMEOUTS: IpvsSetting.TIMEOUTS,
    drift_service_pb2.IPVS_SETTING_SYNC_MASTER: IpvsSetting.SYNC_MASTER,
    drift_service_pb2.IPVS_SETTING_SYNC_BACKUP: IpvsSetting.SYNC_BACKUP,
}


def pack_drift(drift: Drift) -> drift_service_pb2.Drift:
    """Write one thing that differs."""
    message = drift_service_pb2.Drift(kind=wire.pack_enum(KINDS, drift.kind), fields=drift.fields, detail=drift.detail)
    match drift.resource:
        case DestinationName(server=server, key=key):
            message.destination.virtual_server.CopyFrom(wire.pack_key(server))
            message.destination.destination.CopyFrom(wire.pack_destination_key(key))
        case ArpInterface(name=name):
            message.arp_interface = name
        case IpvsSetting() as setting:
            message.ipvs_setting = wire.pack_enum(SETTINGS, setting)
        case ipaddress.IPv4Address() | ipaddress.IPv6Address() as address:
            message.vip = str(address)
        case key:
            message.virtual_server.CopyFrom(wire.pack_key(key))
    return message


def unpack_drift(message: drift_service_pb2.Drift) -> Drift:
    """Read one thing that differs."""
    return Drift(
        kind=wire.unpack_enum(KINDS, message.kind, "kind"),
        resource=_unpack_resource(message),
        fields=tuple(message.fields),
        detail=message.detail,
    )


def _unpack_resource(
    message: drift_service_pb2.Drift,
) -> Resource:
    match message.WhichOneof("resource"):
        case "destination":
            name = message.destination
            return DestinationName(
                server=wire.unpack_key(name.virtual_server), key=wire.unpack_destination_key(name.destination)
            )
        case "arp_interface":
            return ArpInterface(name=message.arp_interface)
        case "ipvs_setting":
            return wire.unpack_enum(SETTINGS, message.ipvs_setting, "drift.ipvs_setting")
        case "vip":
            return parse_address(message.vip, "drift.vip")
        case _:
            return wire.unpack_key(message.virtual_server)
