"""Decides about virtual servers: what an operation would change, how it is written, and how it is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from google.protobuf.field_mask_pb2 import FieldMask
from lvsagent.v1 import operation_pb2, virtual_server_pb2

from agent_common import wire
from agent_common.changes import Outcome, Reverted
from agent_common.check_mark import is_check_mark
from agent_common.errors import ConflictError, DiffersError, InvalidInputError, NotFoundError, Reason, RefusedError
from agent_common.operation import Change
from agent_common.records import from_record, to_record
from agent_common.state import Body, State
from agent_common.statistics import Statistics
from agent_common.virtual_server import Persistence, VirtualServer, VirtualServerKey, key_order, parse_key
from agent_common.wire_health import pack_policy, unpack_policy
from agent_common.wire_status import unpack_destination_status
from agent_director.destination import Destinations
from agent_director.drift import server_differences
from agent_director.health_records import HealthRecords
from agent_director.ipvs import Ipvs
from agent_director.preconditions import check_etag, check_mask, refuse_unusual
from agent_director.shadow import Shadow
from agent_director.wire_destination import pack_destination_status

_KIND = "virtual_server"
_PATHS = (
    *("scheduler", "scheduler_flags", "persistence", "persistence_engine", "one_packet"),
    *("persistence.timeout", "persistence.prefix_length", "persistence.netmask"),
)


class VirtualServers:
    """The virtual servers of this director. Which of them this agent made is in the state."""

    def __init__(
        self,
        ipvs: Ipvs,
        state: State,
        shadow: Shadow,
        destinations: Destinations,
        health: HealthRecords,
    ) -> None:
        self._health = health
        self._ipvs = ipvs
        self._state = state
        self._shadow = shadow
        self._destinations = destinations

    def get(self, key: VirtualServerKey) -> VirtualServer:
        """Return a virtual server; raises NotFoundError."""
        server = self._ipvs.virtual_server(key)
        if server is None:
            raise _missing(key)
        return server

    def list_all(self) -> list[VirtualServer]:
        """Return all virtual servers in the order of their keys."""
        return sorted(self._ipvs.virtual_servers(), key=lambda server: key_order(server.key))

    def statistics(self, *, wanted: bool = True) -> dict[VirtualServerKey, Statistics]:
        """Return the counters of all virtual servers; none, and nothing is read, if they are not wanted."""
        return self._ipvs.statistics() if wanted else {}

    def is_managed(self, key: VirtualServerKey) -> bool:
        """Whether this agent made it."""
        return self._state.get(_KIND, str(key)) is not None

    def has_ours(self, key: VirtualServerKey) -> bool:
        """Whether this agent made it, or a destination in it."""
        return self.is_managed(key) or any(status.managed for status in self._destinations.list_all(key))

    def plan_create(self, request: virtual_server_pb2.CreateVirtualServerRequest) -> Change:
        """Plan to add it, or nothing if it is there and equal in what is set."""
        wanted = wire.unpack_virtual_server(request.virtual_server)
        current = self._ipvs.virtual_server(wanted.key)
        if current is not None and not request.virtual_server.HasField("persistence"):
            wanted = replace(wanted, persistence=current.persistence)  # port 0 needs it, and need not be told again
        wanted = wanted.check()
        if current is None:
            wire.check_key(wanted.key, "virtual_server.key")
            if is_check_mark(wanted.key):
                raise InvalidInputError("mark", f"mark: {wanted.key} is one of those that are kept for checks")
            self._shadow.check(wanted.key)
            return _change(None, wanted, f"add virtual server {wanted.key} {wanted.scheduler}")
        differences = _differences(request.virtual_server, wanted, current)
        if differences:
            raise DiffersError(
                f"virtual server {wanted.key} is there with {'; '.join(differences)}",
                Reason.VIRTUAL_SERVER_DIFFERS,
                virtual_server=str(wanted.key),
            )
        change = _change(current, current)
        change.foreign = not self.is_managed(wanted.key)
        return change

    def plan_update(self, request: virtual_server_pb2.UpdateVirtualServerRequest) -> Change:
        """Plan to change the fields that the mask names."""
        key = wire.unpack_key(request.virtual_server.key, "virtual_server.key")
        mask = check_mask(request.update_mask.paths, _PATHS)
        current = self._ipvs.virtual_server(key)
        if current is None:
            if not request.allow_missing:
                raise _missing(key)
            create = virtual_server_pb2.CreateVirtualServerRequest(virtual_server=request.virtual_server)
            return self.plan_create(create)
        check_etag(request.etag, wire.pack_virtual_server(current), str(key))
        if current.persistence is None and "persistence.timeout" not in mask and any("." in path for path in mask):
            raise InvalidInputError("persistence.timeout", "persistence timeout: must be given, there is none yet")
        whole = wire.pack_virtual_server(current)
        FieldMask(paths=mask).MergeMessage(request.virtual_server, whole, replace_message_field=True)
        after = wire.unpack_virtual_server(whole).check()
        self._health.check_server(after)
        return _change(current, after, f"change {', '.join(mask)} of virtual server {key}")

    def plan_delete(self, request: virtual_server_pb2.DeleteVirtualServerRequest) -> Change:
        """Plan to remove it, with its destinations if that is forced."""
        key = wire.unpack_key(request.key)
        current = self._ipvs.virtual_server(key)
        if current is None:
            if request.allow_missing or request.only_if_unused:
                return _change(None, None)
            raise _missing(key)
        check_etag(request.etag, wire.pack_virtual_server(current), str(key))
        statuses = self._destinations.list_all(key)
        stays = self._why_it_stays(key, len(statuses)) if request.only_if_unused else ""
        if stays:
            change = _change(current, current)
            change.warnings.append(f"virtual server {key} stays: {stays}")
            return change
        if statuses and not request.force:
            raise RefusedError(
                f"cannot remove virtual server {key}: it has {_count(len(statuses))}; remove them, or force",
                Reason.IN_USE,
                virtual_server=str(key),
            )
        change = _change(current, None, f"remove virtual server {key}")
        change.foreign = not self.is_managed(key)
        change.virtual_server.removed_destinations.extend(pack_destination_status(each) for each in statuses)
        if (policy := self._health.policy(key)) is not None:
            change.virtual_server.removed_health.CopyFrom(pack_policy(policy))
        return change

    def plan_adopt(self, request: virtual_server_pb2.AdoptVirtualServerRequest) -> Change:
        """Plan to make a foreign one ours, as it is; raises RefusedError for one that could not be made like that."""
        key = wire.unpack_key(request.key)
        there = self.get(key)
        is_foreign = not self.is_managed(key)
        if is_foreign:
            refuse_unusual(str(key), there.check)
        return _change(there, there, f"adopt virtual server {key} {there.scheduler}", adopted=is_foreign)

    def plan_repair(self, key: VirtualServerKey) -> Change:
        """Plan to bring a committed one back to what it shall be; raises NotFoundError if it is not ours."""
        body = self._state.get(_KIND, str(key))
        if body is None:
            raise _missing(key)
        wanted, current = _configuration(body), self._ipvs.virtual_server(key)
        if current is None:
            return _change(None, wanted, f"put back virtual server {key} {wanted.scheduler}")
        fields = ", ".join(server_differences(wanted, current))
        return _change(current, wanted, f"set {fields} of virtual server {key} back")

    def write(self, change: operation_pb2.VirtualServerChange) -> None:
        """Bring the kernel from before to after, and read it back."""
        before, after = _sides(change)
        if change.adopted and after is not None:
            self._adopt(after)
            return
        self._put(before, after)
        if before is not None and after is None:  # the kernel removed its destinations with it
            self._destinations.forget_all(before.key)

    def revert(self, change: operation_pb2.VirtualServerChange, *, foreign: bool) -> Reverted:
        """Bring back what was before, if the virtual server still is as the change left it.

        foreign: it was there and not made by this agent, and is so again.
        """
        before, after = _sides(change)
        server = after or before
        if server is None:
            return Reverted(outcome=Outcome.NOTHING)
        key = server.key
        if change.adopted:
            self._state.delete(_KIND, str(key))
            return Reverted(outcome=Outcome.REVERTED, details=(f"virtual server {key} is foreign again",))
        current = self._ipvs.virtual_server(key)
        if current == before:
            self._settle_record(key, before)
            return Reverted(outcome=Outcome.NOTHING)
        if current != after:
            return _kept(f"virtual server {key} stays: somebody changed it meanwhile")
        if before is None and self._ipvs.destinations(key):
            return _kept(f"virtual server {key} stays: it has destinations by now")
        self._put(after, before, foreign=foreign)
        if change.HasField("removed_health"):
            self._health.set_policy(key, unpack_policy(change.removed_health))
        for status in change.removed_destinations:
            self._destinations.put_back(key, unpack_destination_status(status))
        done = f"removed virtual server {key}" if before is None else f"put back virtual server {key}"
        return Reverted(outcome=Outcome.REVERTED, details=(done,))

    def _put(self, before: VirtualServer | None, after: VirtualServer | None, *, foreign: bool = False) -> None:
        if after is None:
            if before is not None:
                self._ipvs.remove_virtual_server(before.key)
                self.forget(before.key)
            return
        if self.is_managed(after.key) or (before is None and not foreign):
            self.record(after)
        if before is None:
            self._ipvs.add_virtual_server(after)
        else:
            self._ipvs.edit_virtual_server(after)
        found = self._ipvs.virtual_server(after.key)
        if found != after:
            raise ConflictError(
                f"virtual server {after.key} is not as it was written: somebody changes it too",
                Reason.CHANGED_MEANWHILE,
            )

    def _adopt(self, server: VirtualServer) -> None:
        """Record it as ours; raises ConflictError if it is not as it was planned any more."""
        if self._ipvs.virtual_server(server.key) != server:
            raise ConflictError(
                f"virtual server {server.key} is not as it was read: somebody changes it", Reason.CHANGED_MEANWHILE
            )
        self.record(server)

    def record(self, server: VirtualServer) -> None:
        """Put on disk, before the kernel is touched, that this agent made it, and how it shall be."""
        self._state.put(_KIND, str(server.key), {"config": to_record(wire.pack_virtual_server(server))})
        self._health.touched(server.key)

    def forget(self, key: VirtualServerKey) -> None:
        """Take from disk that this agent made it, and how it is checked."""
        self._state.delete(_KIND, str(key))
        self._health.forget_all(key)

    def _settle_record(self, key: VirtualServerKey, before: VirtualServer | None) -> None:
        """Put the record right of what the kernel never got: it refused, or the agent died before."""
        if before is None:
            self._state.delete(_KIND, str(key))
        elif self.is_managed(key):
            self.record(before)

    def _why_it_stays(self, key: VirtualServerKey, destinations: int) -> str:
        if not self.is_managed(key):
            return "it is foreign (this agent did not make it)"
        return f"it has {_count(destinations)}" if destinations else ""

    def managed_keys(self) -> list[VirtualServerKey]:
        """Return the keys that this agent made, whether or not the kernel still has them."""
        return [parse_key(name) for name in self._state.list(_KIND)]

    def committed(self) -> list[VirtualServer]:
        """Return the virtual servers that shall be there."""
        return [_configuration(body) for body in self._state.list(_KIND).values()]


def _differences(message: virtual_server_pb2.VirtualServer, wanted: VirtualServer, current: VirtualServer) -> list[str]:
    """Say how what is set in the message differs from what is there."""
    found = []
    if message.scheduler and wanted.scheduler != current.scheduler:
        found.append(f"scheduler {current.scheduler}, not {wanted.scheduler}")
    if message.HasField("scheduler_flags") and wanted.scheduler_flags != current.scheduler_flags:
        found.append("other scheduler flags")
    if wanted.persistence is not None and message.HasField("persistence"):
        found.extend(_persistence_differences(message.persistence, wanted.persistence, current.persistence))
    if message.persistence_engine and wanted.persistence_engine != current.persistence_engine:
        found.append(f"persistence engine {current.persistence_engine or 'none'}, not {wanted.persistence_engine}")
    if message.HasField("one_packet") and wanted.one_packet != current.one_packet:
        found.append(f"one-packet scheduling {'on' if current.one_packet else 'off'}")
    return found


def _persistence_differences(
    message: virtual_server_pb2.Persistence, wanted: Persistence, current: Persistence | None
) -> Iterator[str]:
    """Say how persistence differs in what is set of it."""
    if current is None:
        yield f"no persistence, not {wanted.timeout} s"
        return
    if wanted.timeout != current.timeout:
        yield f"persistence {current.timeout} s, not {wanted.timeout} s"
    chosen = message.WhichOneof("clients")
    if chosen and (wanted.prefix_length, wanted.netmask) != (current.prefix_length, current.netmask):
        yield f"another persistence {chosen.replace('_', ' ')}"


def _configuration(body: Body) -> VirtualServer:
    return wire.unpack_virtual_server(from_record(body["config"], virtual_server_pb2.VirtualServer()))


def _change(
    before: VirtualServer | None, after: VirtualServer | None, action: str = "", *, adopted: bool = False
) -> Change:
    resource = operation_pb2.VirtualServerChange(
        before=wire.pack_virtual_server(before) if before else None,
        after=wire.pack_virtual_server(after) if after else None,
        adopted=adopted,
    )
    made = before != after or adopted
    return Change(made=made, virtual_server=resource, actions=[action] if made else [])


def _sides(change: operation_pb2.VirtualServerChange) -> tuple[VirtualServer | None, VirtualServer | None]:
    before = wire.unpack_virtual_server(change.before) if change.HasField("before") else None
    after = wire.unpack_virtual_server(change.after) if change.HasField("after") else None
    return before, after


def _count(destinations: int) -> str:
    return f"{destinations} destination{'s' if destinations != 1 else ''}"


def _kept(why: str) -> Reverted:
    return Reverted(outcome=Outcome.KEPT, details=(why,))


def _missing(key: VirtualServerKey) -> NotFoundError:
    return NotFoundError(f"there is no virtual server {key}", Reason.VIRTUAL_SERVER_NOT_FOUND, virtual_server=str(key))
