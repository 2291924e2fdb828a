"""Everything that a director can change: hands each operation to the noun that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from agent_common import wire
from agent_common.changes import Reverted
from agent_common.drift import ArpInterface, DestinationName, IpvsSetting, Resource
from agent_common.errors import InvalidInputError, Reason, RefusedError
from agent_common.held_vip import HeldVips
from agent_common.operation import Change, Operation
from agent_common.virtual_server import FirewallMark, ServiceAddress
from agent_director.destination import Destinations
from agent_director.health import Healths
from agent_director.ipvs_settings import IpvsSettings
from agent_director.table import Tables
from agent_director.virtual_server import VirtualServers


class DirectorResources:
    """Virtual servers, destinations, VIPs and settings of a director."""

    def __init__(
        self,
        virtual_servers: VirtualServers,
        destinations: Destinations,
        tables: Tables,
        vips: HeldVips,
        settings: IpvsSettings,
        healths: Healths,
    ) -> None:
        self._healths = healths
        self._virtual_servers = virtual_servers
        self._destinations = destinations
        self._tables = tables
        self._vips = vips
        self._settings = settings

    def plan(self, operation: Operation, earlier: Sequence[Change]) -> Change:
        """Say what an operation would change."""
        match operation.WhichOneof("operation"):
            case "create_vip":
                return self._vips.plan_create(operation.create_vip)
            case "delete_vip":
                return self._vips.plan_delete(operation.delete_vip)
            case "apply_table":
                return self._tables.plan(operation.apply_table)
            case None:
                raise InvalidInputError("operation", "operation: must be set")
            case "set_health" | "delete_health":
                return self._plan_health(operation)
            case name if name.endswith("_virtual_server"):
                return self._plan_virtual_server(operation)
            case name if name.endswith("_destination"):
                return self._plan_destination(operation, earlier)
            case name:
                return self._plan_setting(operation, name)

    def _plan_health(self, operation: Operation) -> Change:
        if operation.WhichOneof("operation") == "set_health":
            return self._healths.plan_set(operation.set_health)
        return self._healths.plan_delete(operation.delete_health)

    def _plan_virtual_server(self, operation: Operation) -> Change:
        match operation.WhichOneof("operation"):
            case "create_virtual_server":
                return self._virtual_servers.plan_create(operation.create_virtual_server)
            case "update_virtual_server":
                return self._virtual_servers.plan_update(operation.update_virtual_server)
            case "delete_virtual_server":
                return self._virtual_servers.plan_delete(operation.delete_virtual_server)
            case _:
                return self._virtual_servers.plan_adopt(operation.adopt_virtual_server)

    def _plan_destination(self, operation: Operation, earlier: Sequence[Change]) -> Change:
        change = self._plan_destination_alone(operation, earlier)
        key = wire.unpack_key(change.destination.virtual_server)
        if isinstance(key, FirewallMark):
            change.destination.vips.extend(map(str, self._vips.held_for(key)))
        return change

    def _plan_destination_alone(self, operation: Operation, earlier: Sequence[Change]) -> Change:
        match operation.WhichOneof("operation"):
            case "create_destination":
                return self._destinations.plan_create(operation.create_destination, earlier)
            case "update_destination":
                return self._destinations.plan_update(operation.update_destination)
            case "delete_destination":
                return self._destinations.plan_delete(operation.delete_destination)
            case _:
                return self._destinations.plan_adopt(operation.adopt_destination)

    def _plan_setting(self, operation: Operation, name: str) -> Change:
        match name:
            case "update_timeouts":
                return self._settings.timeouts.plan_update(operation.update_timeouts)
            case "start_sync_daemon":
                return self._settings.sync_daemons.plan_start(operation.start_sync_daemon)
            case "stop_sync_daemon":
                return self._settings.sync_daemons.plan_stop(operation.stop_sync_daemon)
            case _:
                raise RefusedError(f"a director does not {name.replace('_', ' ')}", Reason.NOT_SUPPORTED)

    def plan_repair(self, resource: Resource) -> Change:
        """Say what would bring a resource back to what was committed."""
        match resource:
            case DestinationName(server=server, key=key):
                return self._destinations.plan_repair(server, key, has_server=self._virtual_servers.is_managed(server))
            case IPv4Address() | IPv6Address() as address:
                return self._vips.plan_restore(address, asked=True)
            case ServiceAddress() | FirewallMark() as key:
                return self._virtual_servers.plan_repair(key)
            case IpvsSetting() as setting:
                return self._settings.plan_repair(setting)
            case ArpInterface():
                raise RefusedError("a director has no ARP sysctls to set", Reason.NOT_SUPPORTED)

    def repair(self, change: Change) -> None:
        """Bring a resource back, and read it back."""
        if change.WhichOneof("resource") == "vip":
            self._vips.restore(change.vip)
        else:
            self.write(change)

    def withdraw(self, change: Change) -> None:
        """Take off again a VIP that turned out to be another host's."""
        if change.WhichOneof("resource") == "vip":
            self._vips.withdraw(change.vip)

    def write(self, change: Change) -> None:
        """Make the change, and read it back."""
        match change.WhichOneof("resource"):
            case "virtual_server":
                self._virtual_servers.write(change.virtual_server)
            case "destination":
                self._destinations.write(change.destination)
            case "vip":
                change.actions.extend(self._vips.write(change.vip))
            case "table":
                self._tables.write(change.table)
            case "timeouts":
                self._settings.timeouts.write(change.timeouts)
            case "sync_daemon":
                self._settings.sync_daemons.write(change.sync_daemon)
            case "health":
                self._healths.write(change.health)
            case other:
                raise AssertionError(f"no change of a director: {other}")

    def revert(self, change: Change) -> Reverted:
        """Take back what of the change still stands."""
        match change.WhichOneof("resource"):
            case "virtual_server":
                return self._virtual_servers.revert(change.virtual_server, foreign=change.foreign)
            case "destination":
                return self._destinations.revert(change.destination, foreign=change.foreign)
            case "vip":
                return self._vips.revert(change.vip)
            case "table":
                return self._tables.revert(change.table)
            case "timeouts":
                return self._settings.timeouts.revert(change.timeouts)
            case "sync_daemon":
                return self._settings.sync_daemons.revert(change.sync_daemon)
            case "health":
                return self._healths.revert(change.health)
            case other:
                raise AssertionError(f"no change of a director: {other}")
