"""Builds the messages that agents take: the operations of the workflows, from the project's own types. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from lvsagent.v1 import (
    destination_pb2,
    health_pb2,
    sync_daemon_pb2,
    table_pb2,
    timeouts_pb2,
    vip_pb2,
    virtual_server_pb2,
)

from agent_common import wire, wire_health, wire_settings, wire_vip
from agent_common.destination import Destination, DestinationKey, Forwarding, Tunnel
from agent_common.health import HealthPolicy
from agent_common.operation import Operation
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.table import Table
from agent_common.timeouts import Timeouts
from agent_common.tunnel import TunnelEnd
from agent_common.vip import Holder, VipMode
from agent_common.virtual_server import IpAddress, Persistence, VirtualServer, VirtualServerKey

SERVER_FIELDS = ("scheduler", "scheduler_flags", "persistence", "persistence_engine", "one_packet")
"""Fields of a virtual server beside its key."""


def create_virtual_server(key: VirtualServerKey, scheduler: str | None, persistence: Persistence | None) -> Operation:
    """Ask for a virtual server; what is None matches whatever is there."""
    server = virtual_server_pb2.VirtualServer(key=wire.pack_key(key), scheduler=scheduler or "")
    if persistence is not None:
        server.persistence.CopyFrom(virtual_server_pb2.Persistence(timeout=Duration(seconds=persistence.timeout)))
    return Operation(create_virtual_server=virtual_server_pb2.CreateVirtualServerRequest(virtual_server=server))


def create_whole_virtual_server(server: VirtualServer, set_fields: Sequence[str] = SERVER_FIELDS) -> Operation:
    """Ask for a virtual server; only the fields that are named are compared with one that is there."""
    message = virtual_server_pb2.VirtualServer(key=wire.pack_key(server.key))
    _copy_fields(wire.pack_virtual_server(server), message, set_fields)
    return Operation(create_virtual_server=virtual_server_pb2.CreateVirtualServerRequest(virtual_server=message))


def update_virtual_server(server: VirtualServer, mask: Sequence[str]) -> Operation:
    """Change the fields of a virtual server that are named."""
    return Operation(
        update_virtual_server=virtual_server_pb2.UpdateVirtualServerRequest(
            virtual_server=wire.pack_virtual_server(server), update_mask=FieldMask(paths=mask)
        )
    )


def delete_virtual_server(key: VirtualServerKey, *, force: bool = False, only_if_unused: bool = False) -> Operation:
    """Remove a virtual server, if it is there; only_if_unused: if the agent made it and nothing uses it."""
    return Operation(
        delete_virtual_server=virtual_server_pb2.DeleteVirtualServerRequest(
            key=wire.pack_key(key), only_if_unused=only_if_unused, allow_missing=True, force=force
        )
    )


def create_destination(
    key: VirtualServerKey,
    destination: DestinationKey,
    forwarding: Forwarding | None,
    weight: int | None,
    tunnel: Tunnel | None = None,
) -> Operation:
    """Ask for a destination; what is None matches whatever is there."""
    message = destination_pb2.Destination(key=wire.pack_destination_key(destination), weight=weight)
    if forwarding is not None:
        message.forwarding_method = wire.pack_enum(wire.FORWARDINGS, forwarding)
    if tunnel is not None:
        message.tunnel.CopyFrom(wire.pack_tunnel(tunnel))
    return Operation(
        create_destination=destination_pb2.CreateDestinationRequest(
            virtual_server=wire.pack_key(key), destination=message
        )
    )


def create_whole_destination(key: VirtualServerKey, destination: Destination, set_fields: Sequence[str]) -> Operation:
    """Ask for a destination; only the fields that are named are compared with one that is there."""
    message = destination_pb2.Destination(key=wire.pack_destination_key(destination.key))
    _copy_fields(wire.pack_destination(destination), message, set_fields)
    return Operation(
        create_destination=destination_pb2.CreateDestinationRequest(
            virtual_server=wire.pack_key(key), destination=message
        )
    )


def update_whole_destination(key: VirtualServerKey, destination: Destination, mask: Sequence[str]) -> Operation:
    """Change the fields of a destination that are named."""
    return Operation(
        update_destination=destination_pb2.UpdateDestinationRequest(
            virtual_server=wire.pack_key(key),
            destination=wire.pack_destination(destination),
            update_mask=FieldMask(paths=mask),
        )
    )


def update_destination(
    key: VirtualServerKey, destination: DestinationKey, *, weight: int | None = None, draining: bool | None = None
) -> Operation:
    """Set the weight of a destination, or begin or end its drain."""
    message = destination_pb2.Destination(
        key=wire.pack_destination_key(destination), weight=weight, draining=bool(draining)
    )
    paths = [path for path, value in (("weight", weight), ("draining", draining)) if value is not None]
    return Operation(
        update_destination=destination_pb2.UpdateDestinationRequest(
            virtual_server=wire.pack_key(key), destination=message, update_mask=FieldMask(paths=paths)
        )
    )


def delete_destination(
    key: VirtualServerKey,
    destination: DestinationKey,
    *,
    real_server_keeps_vip: bool | None = None,
    only_if_draining: bool = False,
) -> Operation:
    """Remove a destination, if it is there; note (True) or forget (False) that its real server still holds the VIP."""
    return Operation(
        delete_destination=destination_pb2.DeleteDestinationRequest(
            virtual_server=wire.pack_key(key),
            destination=wire.pack_destination_key(destination),
            allow_missing=True,
            real_server_keeps_vip=real_server_keeps_vip,
            only_if_draining=only_if_draining,
        )
    )


def adopt_virtual_server(key: VirtualServerKey) -> Operation:
    """Take in a foreign virtual server as it is."""
    return Operation(adopt_virtual_server=virtual_server_pb2.AdoptVirtualServerRequest(key=wire.pack_key(key)))


def adopt_destination(key: VirtualServerKey, destination: DestinationKey) -> Operation:
    """Take in a foreign destination as it is."""
    return Operation(
        adopt_destination=destination_pb2.AdoptDestinationRequest(
            virtual_server=wire.pack_key(key), destination=wire.pack_destination_key(destination)
        )
    )


def create_vip(
    address: IpAddress,
    holder: Holder,
    *,
    mode: VipMode | None = None,
    device: str = "",
    director_addresses: tuple[str, ...] = (),
    force: bool = False,
    adopt: bool = False,
    tunnels: tuple[TunnelEnd, ...] = (),
) -> Operation:
    """Ask for a VIP, held by a holder; mode and device are a director's, tunnels a real server's.

    adopt: take in one that is there, as it is.
    """
    vip = vip_pb2.Vip(address=str(address), device=device, tunnels=wire_vip.pack_tunnels(tunnels))
    if mode is not None:
        vip.mode = wire.pack_enum(wire_vip.VIP_MODES, mode)
    return Operation(
        create_vip=vip_pb2.CreateVipRequest(
            vip=vip,
            holder=wire_vip.pack_holder(holder),
            director_addresses=director_addresses,
            force=force,
            adopt=adopt,
        )
    )


def delete_vip(
    address: IpAddress,
    holder: Holder,
    *,
    keep_if_used: bool = False,
    force: bool = False,
    fence: int | None = None,
) -> Operation:
    """Give up a hold, if it is there; with a fence, and no newer transaction of that host wants it."""
    return Operation(
        delete_vip=vip_pb2.DeleteVipRequest(
            address=str(address),
            holder=wire_vip.pack_holder(holder),
            allow_missing=True,
            keep_if_used=keep_if_used,
            force=force,
            fence=fence,
        )
    )


def apply_table(table: Table, *, replace: bool) -> Operation:
    """Ask for a whole table; replace: for it and nothing else."""
    operation = Operation(apply_table=table_pb2.WantedTable(replace=replace))
    for key, entry in table.items():
        operation.apply_table.entries.add(
            key=wire.pack_key(key),
            virtual_server=None if entry.virtual_server is None else wire.pack_virtual_server(entry.virtual_server),
            destinations=map(wire.destination_fields, entry.destinations.values()),
            health=None if entry.health is None else wire_health.pack_policy(entry.health),
        )
    return operation


def update_timeouts(timeouts: Timeouts) -> Operation:
    """Set the timeouts that are meant."""
    return Operation(
        update_timeouts=timeouts_pb2.UpdateTimeoutsRequest(
            timeouts=wire_settings.pack_timeouts(timeouts), update_mask=FieldMask(paths=sorted(timeouts.meant()))
        )
    )


def start_sync_daemon(daemon: SyncDaemon, *, adopt: bool = False) -> Operation:
    """Ask for a sync daemon; adopt: take in one that runs and is equal."""
    packed = wire_settings.pack_sync_daemon(daemon)
    return Operation(start_sync_daemon=sync_daemon_pb2.StartSyncDaemonRequest(daemon=packed, adopt=adopt))


def stop_sync_daemon(role: SyncRole) -> Operation:
    """Stop a sync daemon, if one runs."""
    packed = wire_settings.pack_sync_role(role)
    return Operation(stop_sync_daemon=sync_daemon_pb2.StopSyncDaemonRequest(role=packed, allow_missing=True))


def set_health(key: VirtualServerKey, policy: HealthPolicy, etag: str) -> Operation:
    """Set the policy of health checks, if the one that is there still has that etag ("none": if there is none)."""
    packed = wire_health.pack_policy(policy)
    return Operation(
        set_health=health_pb2.SetHealthRequest(virtual_server=wire.pack_key(key), policy=packed, etag=etag)
    )


def delete_health(key: VirtualServerKey) -> Operation:
    """Remove the policy of health checks, if there is one."""
    return Operation(
        delete_health=health_pb2.DeleteHealthRequest(virtual_server=wire.pack_key(key), allow_missing=True)
    )


def _copy_fields(whole: Message, into: Message, fields: Sequence[str]) -> None:
    """Copy the named fields of a message into another of its type; of messages within it only those that are set."""
    for name, field in whole.DESCRIPTOR.fields_by_name.items():
        if name not in fields:
            continue
        if field.message_type is not None:
            if whole.HasField(name):
                getattr(into, name).CopyFrom(getattr(whole, name))
        else:
            setattr(into, name, getattr(whole, name))
