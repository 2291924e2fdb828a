"""IPVS in memory, for tests and demonstrations: the same answers and errors as the kernel, and no traffic. No I/O."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from agent_common.check_mark import is_check_mark
from agent_common.destination import (
    MAX_WEIGHT,
    Destination,
    DestinationKey,
    DestinationStatus,
    Forwarding,
    TunnelType,
)
from agent_common.errors import LvsError
from agent_common.scheduler import SCHEDULERS
from agent_common.statistics import Statistics
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.table import ServerStep, TableStep
from agent_common.timeouts import KERNEL_TIMEOUTS, Timeouts
from agent_common.virtual_server import VirtualServer, VirtualServerKey, family_of
from agent_director import ipvs_codec as codec
from agent_director.ipvs import Info
from agent_director.ipvs_codec import CodecError
from agent_director.ipvs_errors import Request, ipvs_missing, refusal

_BROADCAST = IPv4Address("255.255.255.255")
_SYNC_GROUP = IPv4Address("224.0.0.81")
_MTU = 1500


@dataclass(slots=True, kw_only=True)
class _Entry:
    virtual_server: VirtualServer
    destinations: dict[DestinationKey, DestinationStatus] = field(default_factory=dict)


class FakeIpvs:
    """An Ipvs whose table is a dictionary; what the kernel would refuse is refused in the kernel's order.

    `schedulers` are those whose module can be loaded, `loaded` says whether the kernel has IPVS, `interfaces` are those
    that a sync daemon can use; all can be set.
    """

    def __init__(self, *, schedulers: frozenset[str] = SCHEDULERS, loaded: bool = True) -> None:
        self.schedulers = schedulers
        self.loaded = loaded
        self.interfaces = {"lo", "eth0"}
        self._table: dict[VirtualServerKey, _Entry] = {}
        self._timeouts = KERNEL_TIMEOUTS
        self._daemons: dict[SyncRole, SyncDaemon] = {}

    def info(self) -> Info:
        """Return the version that Linux has had since 2008, and the size that it has unless it is told another."""
        self._ask(Request(verb="read the version of IPVS"))
        return Info(version="1.2.1", connection_table_size=4096)

    def virtual_servers(self) -> list[VirtualServer]:
        """Return all virtual servers but those of checks."""
        self._ask(Request(verb="list virtual servers"))
        return [entry.virtual_server for key, entry in self._table.items() if not is_check_mark(key)]

    def check_marks(self) -> list[VirtualServerKey]:
        """Return the keys of those of checks."""
        self._ask(Request(verb="list virtual servers"))
        return [key for key in self._table if is_check_mark(key)]

    def virtual_server(self, key: VirtualServerKey) -> VirtualServer | None:
        """Return one virtual server, or None."""
        self._ask(Request(verb="read", key=key))
        entry = self._table.get(key)
        return entry.virtual_server if entry else None

    def add_virtual_server(self, virtual_server: VirtualServer) -> None:
        """Add a virtual server."""
        request = Request(verb="add", key=virtual_server.key, virtual_server=virtual_server)
        self._ask(request)
        if virtual_server.key in self._table:
            raise refusal(request, errno.EEXIST)
        self._table[virtual_server.key] = _Entry(virtual_server=self._stored(request, virtual_server))

    def edit_virtual_server(self, virtual_server: VirtualServer) -> None:
        """Replace a virtual server's configuration."""
        request = Request(verb="edit", key=virtual_server.key, virtual_server=virtual_server)
        self._find(request, virtual_server.key).virtual_server = self._stored(request, virtual_server)

    def remove_virtual_server(self, key: VirtualServerKey) -> None:
        """Remove a virtual server and its destinations."""
        self._find(Request(verb="remove", key=key), key)
        del self._table[key]

    def statistics(self) -> dict[VirtualServerKey, Statistics]:
        """Return counters that have counted nothing."""
        self._ask(Request(verb="read the counters"))
        return {key: Statistics() for key in self._table}

    def destinations(self, key: VirtualServerKey, *, statistics: bool = False) -> list[DestinationStatus]:
        """Return the destinations of a virtual server; none where there is no such virtual server."""
        self._ask(Request(verb="list destinations of", key=key))
        entry = self._table.get(key)
        found = list(entry.destinations.values()) if entry else []
        return [dataclasses.replace(each, statistics=Statistics()) for each in found] if statistics else found

    def add_destination(self, key: VirtualServerKey, destination: Destination) -> None:
        """Add a destination."""
        request = Request(verb="add", key=key, destination=destination.key)
        entry = self._find(request, key)
        _refuse_values(request, key, destination)
        if destination.key in entry.destinations:
            raise refusal(request, errno.EEXIST)
        if not _can_be_served(destination.key):
            raise refusal(request, errno.EINVAL)
        entry.destinations[destination.key] = _status(destination)

    def edit_destination(self, key: VirtualServerKey, destination: Destination) -> None:
        """Replace a destination's configuration; its connection counts stay."""
        request = Request(verb="edit", key=key, destination=destination.key)
        entry = self._find(request, key)
        _refuse_values(request, key, destination)
        old = self._find_destination(request, entry, destination.key)
        entry.destinations[destination.key] = _status(destination, old)

    def remove_destination(self, key: VirtualServerKey, destination: DestinationKey) -> None:
        """Remove a destination."""
        request = Request(verb="remove", key=key, destination=destination)
        entry = self._find(request, key)
        self._find_destination(request, entry, destination)
        del entry.destinations[destination]

    def take(self, steps: Sequence[TableStep]) -> list[LvsError | None]:
        """Carry out many steps."""
        self._ask(Request(verb=f"change {len(steps)} things at once"))
        results: list[LvsError | None] = []
        for step in steps:
            try:
                self._take(step)
            except CodecError:
                raise
            except LvsError as error:
                results.append(error)
            else:
                results.append(None)
        return results

    def _take(self, step: TableStep) -> None:
        if isinstance(step, ServerStep):
            if step.after is None:
                self.remove_virtual_server(step.key)
            elif step.before is None:
                self.add_virtual_server(step.after)
            else:
                self.edit_virtual_server(step.after)
        elif step.after is None:
            self.remove_destination(step.server, step.key)
        elif step.before is None:
            self.add_destination(step.server, step.after)
        else:
            self.edit_destination(step.server, step.after)

    def zero(self, key: VirtualServerKey | None = None) -> None:
        """Do nothing: there are no counters."""
        if key is None:
            self._ask(Request(verb="zero all counters"))
        else:
            self._find(Request(verb="zero the counters of", key=key), key)

    def timeouts(self) -> Timeouts:
        """Return the timeouts."""
        self._ask(Request(verb="read the timeouts"))
        return self._timeouts

    def set_timeouts(self, timeouts: Timeouts) -> None:
        """Set the timeouts."""
        codec.pack_timeouts(timeouts)  # what has no place in a message is refused by the codec
        self._ask(Request(verb=f"set the timeouts to {timeouts}"))
        self._timeouts = timeouts.over(self._timeouts)

    def sync_daemons(self) -> list[SyncDaemon]:
        """Return the sync daemons that run."""
        self._ask(Request(verb="list the sync daemons"))
        return list(self._daemons.values())

    def start_sync_daemon(self, daemon: SyncDaemon) -> None:
        """Start a sync daemon."""
        request = Request(verb="start", daemon=daemon)
        codec.pack_sync_daemon(daemon)
        self._ask(request)
        if daemon.role in self._daemons:
            raise refusal(request, errno.EEXIST)
        if daemon.interface not in self.interfaces:
            raise refusal(request, errno.ENODEV)
        self._daemons[daemon.role] = dataclasses.replace(
            daemon,
            max_length=daemon.fitted_length or _MTU - daemon.headers,
            group=daemon.group or _SYNC_GROUP,
            port=daemon.port or 8848,
            ttl=daemon.ttl or 1,
        )

    def stop_sync_daemon(self, role: SyncRole) -> None:
        """Stop a sync daemon."""
        request = Request(verb="stop", daemon=role)
        self._ask(request)
        if role not in self._daemons:
            raise refusal(request, errno.ESRCH)
        del self._daemons[role]

    def close(self) -> None:
        """Do nothing: there is nothing open."""

    def set_connections(
        self,
        key: VirtualServerKey,
        destination: DestinationKey,
        *,
        active: int = 0,
        inactive: int = 0,
        persistent: int = 0,
    ) -> None:
        """Say how many connections a destination has, as traffic would; only the fake has this."""
        request = Request(verb="set the connections of", key=key, destination=destination)
        entry = self._find(request, key)
        status = self._find_destination(request, entry, destination)
        entry.destinations[destination] = dataclasses.replace(
            status, active=active, inactive=inactive, persistent=persistent
        )

    def _ask(self, request: Request) -> None:
        if not self.loaded:
            raise ipvs_missing(request)

    def _find(self, request: Request, key: VirtualServerKey) -> _Entry:
        self._ask(request)
        if key not in self._table:
            raise refusal(request, errno.ESRCH)
        return self._table[key]

    def _find_destination(self, request: Request, entry: _Entry, key: DestinationKey) -> DestinationStatus:
        if key not in entry.destinations:
            raise refusal(request, errno.ENOENT)
        return entry.destinations[key]

    def _stored(self, request: Request, virtual_server: VirtualServer) -> VirtualServer:
        """Return the virtual server as the kernel would show it, or refuse it."""
        message = codec.pack_virtual_server(virtual_server)
        if virtual_server.scheduler not in self.schedulers:
            raise refusal(request, errno.ENOENT)
        return codec.unpack_virtual_server(message, 0, len(message))


def _refuse_values(request: Request, key: VirtualServerKey, destination: Destination) -> None:
    """Refuse what ip_vs_genl_set_cmd and ip_vs_add_dest refuse before they look for the destination."""
    codec.pack_destination(destination)  # what has no place in a message is refused by the codec
    tunneling = destination.forwarding is Forwarding.TUNNELING
    if family_of(destination.key.address) is not key.family and not tunneling:
        raise refusal(request, errno.EINVAL)
    if destination.weight > MAX_WEIGHT or destination.lower_threshold > destination.upper_threshold:
        raise refusal(request, errno.ERANGE)
    if destination.tunnel.type is TunnelType.GUE and destination.tunnel.port == 0:
        raise refusal(request, errno.EINVAL)


def _can_be_served(key: DestinationKey) -> bool:
    """Whether the kernel takes the address for one host's: it asks its routing table, the fake the address alone."""
    address = key.address
    if isinstance(address, IPv4Address):
        return not address.is_unspecified and not address.is_multicast and address != _BROADCAST
    never = address.is_unspecified or address.is_multicast or address.is_link_local
    return not never and address.ipv4_mapped is None


def _status(destination: Destination, old: DestinationStatus | None = None) -> DestinationStatus:
    return DestinationStatus(
        destination=dataclasses.replace(destination, draining=False),
        current_weight=destination.weight,
        active=old.active if old else 0,
        inactive=old.inactive if old else 0,
        persistent=old.persistent if old else 0,
    )
