"""Messages about timeouts and sync daemons to the project's own types and back."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from lvsagent.v1 import sync_daemon_pb2, timeouts_pb2

from agent_common.errors import InvalidInputError
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.timeouts import Timeouts
from agent_common.virtual_server import parse_address
from agent_common.wire import pack_enum, unpack_enum

TIMEOUT_NAMES = ("tcp", "tcp_fin", "udp")

SYNC_ROLES: dict[sync_daemon_pb2.SyncRole.ValueType, SyncRole] = {
    sync_daemon_pb2.SYNC_ROLE_MASTER: SyncRole.MASTER,
    sync_daemon_pb2.SYNC_ROLE_BACKUP: SyncRole.BACKUP,
}


def pack_timeouts(timeouts: Timeouts) -> timeouts_pb2.Timeouts:
    """Write the timeouts that are meant."""
    return timeouts_pb2.Timeouts(**{name: Duration(seconds=seconds) for name, seconds in timeouts.meant().items()})


def unpack_timeouts(message: timeouts_pb2.Timeouts) -> Timeouts:
    """Read timeouts; fractions of a second are an error, since the kernel is given whole ones. They are not checked."""
    found = {}
    for name in TIMEOUT_NAMES:
        if message.HasField(name):  # type: ignore[arg-type]
            duration = getattr(message, name)
            if duration.nanos:
                raise InvalidInputError(f"timeouts.{name}", f"timeouts.{name}: must be whole seconds")
            found[name] = duration.seconds
    return Timeouts(**found)


def pack_sync_role(role: SyncRole) -> sync_daemon_pb2.SyncRole.ValueType:
    """Write a role."""
    return pack_enum(SYNC_ROLES, role)


def unpack_sync_role(number: int, field: str) -> SyncRole:
    """Read a role."""
    return unpack_enum(SYNC_ROLES, number, field)


def pack_sync_daemon(daemon: SyncDaemon) -> sync_daemon_pb2.SyncDaemon:
    """Write a daemon; what the kernel is to choose is not set."""
    return sync_daemon_pb2.SyncDaemon(
        role=pack_sync_role(daemon.role),
        interface=daemon.interface,
        sync_id=daemon.sync_id,
        max_length=daemon.max_length,
        group=str(daemon.group) if daemon.group else "",
        port=daemon.port,
        ttl=daemon.ttl,
    )


def unpack_sync_daemon(message: sync_daemon_pb2.SyncDaemon) -> SyncDaemon:
    """Read a daemon; it is not checked."""
    return SyncDaemon(
        role=unpack_sync_role(message.role, "daemon.role"),
        interface=message.interface,
        sync_id=message.sync_id,
        max_length=message.max_length if message.HasField("max_length") else None,
        group=parse_address(message.group, "daemon.group") if message.group else None,
        port=message.port if message.HasField("port") else None,
        ttl=message.ttl if message.HasField("ttl") else None,
    )
