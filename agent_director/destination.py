"""Decides about destinations: what an operation would change, how it is written, and how it is taken back.

Whether a destination drains, and the weight that waits for its end, are in the state; the kernel then has weight 0.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby

from lvsagent.v1 import destination_pb2, operation_pb2

from agent_common import wire
from agent_common.changes import Outcome, Reverted
from agent_common.destination import (
    WHOLE,
    Destination,
    DestinationKey,
    DestinationStatus,
    Forwarding,
    Standing,
    Tunnel,
    effective,
    forwarding_name,
)
from agent_common.errors import ConflictError, InvalidInputError, NotFoundError, Reason
from agent_common.health import Effect
from agent_common.operation import Change
from agent_common.state import State
from agent_common.virtual_server import IpAddress, VirtualServer, VirtualServerKey, check_unicast, parse_key
from agent_director.destination_change import (
    describe_repair,
    describe_update,
    destination_change,
    is_exactly,
    missing_destination,
    refuse_other,
    sides,
    taking_connections,
)
from agent_director.destination_record import KIND, read_config, read_intent, record_body, record_name
from agent_director.destination_view import DestinationView, Report
from agent_director.health_records import HealthRecords, Stood
from agent_director.ipvs import Ipvs
from agent_director.preconditions import check_etag, check_mask, refuse_unusual

_LEFTOVER = "leftover"
_FIELDS = {
    "forwarding_method": "forwarding",
    "weight": "weight",
    "draining": "draining",
    "upper_threshold": "upper_threshold",
    "lower_threshold": "lower_threshold",
    "tunnel": "tunnel",
}

_Wanted = tuple[VirtualServerKey, DestinationKey, Destination | None, bool]


class Destinations:
    """The destinations of this director's virtual servers; report is asked of those whose server has a policy."""

    def __init__(self, ipvs: Ipvs, state: State, health: HealthRecords, report: Report | None = None) -> None:
        self._ipvs = ipvs
        self._state = state
        self._health = health
        self._view = DestinationView(ipvs, state, health, report or health.report)

    def get(self, server: VirtualServerKey, key: DestinationKey, *, statistics: bool = False) -> DestinationStatus:
        """Return a destination; raises NotFoundError."""
        status = self._view.find(server, key, statistics=statistics)
        if status is None:
            raise missing_destination(server, key)
        return status

    def list_all(self, server: VirtualServerKey, *, statistics: bool = False) -> list[DestinationStatus]:
        """Return the destinations of a virtual server in the order of their keys, or with their counters."""
        return self._view.list_all(server, statistics=statistics)

    def plan_create(self, request: destination_pb2.CreateDestinationRequest, earlier: Sequence[Change]) -> Change:
        """Plan to add it, or nothing if it is there and equal in what is set."""
        server = wire.unpack_key(request.virtual_server, "virtual_server")
        wanted = wire.unpack_destination(request.destination).check(server)
        if wanted.draining:
            raise InvalidInputError("draining", "draining: a new destination cannot drain")
        current = self._view.find(server, wanted.key)
        if current is None:
            check_unicast(wanted.key.address, "destination.key.address")
            if not self._has_server(server, earlier):
                raise NotFoundError(f"there is no virtual server {server}", Reason.VIRTUAL_SERVER_NOT_FOUND)
            action = f"add {wanted.key} to {server}, {forwarding_name(wanted.forwarding)}, weight {wanted.weight}"
            change = destination_change(server, None, wanted, action)
            change.destination.leftover_before = self._is_left(server, wanted.key.address)
            change.destination.address = str(wanted.key.address)
            return change
        refuse_other(request.destination, wanted, current, server)
        change = destination_change(server, current.destination, current.destination)
        change.foreign = not current.managed
        return change

    def plan_update(self, request: destination_pb2.UpdateDestinationRequest) -> Change:
        """Plan to change the fields that the mask names."""
        server = wire.unpack_key(request.virtual_server, "virtual_server")
        wanted = wire.unpack_destination(request.destination)
        mask = check_mask(request.update_mask.paths, tuple(_FIELDS))
        current = self._view.find(server, wanted.key)
        if current is None:
            if not request.allow_missing:
                raise missing_destination(server, wanted.key)
            create = destination_pb2.CreateDestinationRequest(
                virtual_server=request.virtual_server, destination=request.destination
            )
            return self.plan_create(create, ())
        check_etag(request.etag, wire.pack_destination(current.destination), f"destination {wanted.key}")
        fields = [_FIELDS[path] for path in mask]
        before = current.destination
        after = replace(before, **{field: getattr(wanted, field) for field in fields})
        if after.forwarding is not Forwarding.TUNNELING and "tunnel" not in fields:  # it goes with what it was for
            after = replace(after, tunnel=Tunnel())
        after = after.check(server)
        standing = self._health.standing(server, wanted.key)
        change = destination_change(server, before, after, describe_update(server, before, after, fields, standing))
        change.foreign = not current.managed
        if current.managed and not change.made and self.committed_one(server, wanted.key) != after:
            change.made = True
            change.actions.append(f"keep {after.key} in {server} as somebody set it: weight {after.weight}")
        return change

    def plan_delete(self, request: destination_pb2.DeleteDestinationRequest) -> Change:
        """Plan to remove it."""
        server = wire.unpack_key(request.virtual_server, "virtual_server")
        key = wire.unpack_destination_key(request.destination, "destination")
        current = self._view.find(server, key)
        if current is None and not request.allow_missing:
            raise missing_destination(server, key)
        before = current.destination if current else None
        if before is not None:
            check_etag(request.etag, wire.pack_destination(before), f"destination {key}")
            if request.only_if_draining and not before.draining:
                raise taking_connections(server, key)
        change = destination_change(server, before, None, f"remove {key} from {server}" if before else "")
        change.foreign = current is not None and not current.managed
        if request.real_server_keeps_vip:
            wire.check_key(server, "virtual_server")
            check_unicast(key.address, "destination.address")
        noted = self._is_left(server, key.address)
        change.destination.leftover_before = noted
        keeps = request.real_server_keeps_vip if request.HasField("real_server_keeps_vip") else noted
        if request.only_if_draining and before is None:  # it is over, and what was noted then counts
            keeps = keeps and noted
        change.destination.leftover_after = keeps
        change.destination.address = str(key.address)
        change.made = change.made or noted != keeps
        return change

    def plan_adopt(self, request: destination_pb2.AdoptDestinationRequest) -> Change:
        """Plan to make a foreign one ours, as it is; raises RefusedError for one that could not be made like that."""
        server = wire.unpack_key(request.virtual_server, "virtual_server")
        key = wire.unpack_destination_key(request.destination, "destination")
        current = self.get(server, key)
        there = current.destination
        if not current.managed:
            refuse_unusual(str(key), lambda: there.check(server))
        action = f"adopt {key} in {server}, {forwarding_name(there.forwarding)}, weight {there.weight}"
        return destination_change(server, there, there, action, adopted=not current.managed)

    def plan_repair(self, server: VirtualServerKey, key: DestinationKey, *, has_server: bool) -> Change:
        """Plan to bring a committed one back to what it shall be; raises NotFoundError if it is not ours.

        has_server: its virtual server is committed, too, and will be repaired before it if it is missing.
        """
        wanted = self.committed_one(server, key)
        if wanted is None:
            raise missing_destination(server, key)
        current = self._view.find(server, key)
        if current is None and not (has_server or self._has_server(server, ())):
            raise NotFoundError(f"there is no virtual server {server}", Reason.VIRTUAL_SERVER_NOT_FOUND)
        before = current.destination if current else None
        standing = self._health.standing(server, key)
        action = describe_repair(server, current, wanted, standing)
        change = destination_change(server, before, wanted, action)
        if not is_exactly(current, wanted, standing):  # a weight set back by hand of one that is out is the operator's
            change.made, change.actions[:] = True, [action]
        return change

    def _is_left(self, server: VirtualServerKey, address: IpAddress) -> bool:
        return self._state.get(_LEFTOVER, f"{server} {address}") is not None

    def leftovers(self) -> list[tuple[VirtualServerKey, IpAddress]]:
        """Return the real servers that may still hold a VIP for a destination that is gone."""
        bodies = self._state.list(_LEFTOVER).values()
        return [(parse_key(body["virtual_server"]), ipaddress.ip_address(body["real_server"])) for body in bodies]

    def write(self, change: operation_pb2.DestinationChange) -> None:
        """Bring the kernel from before to after, and read it back."""
        server, before, after = sides(change)
        if change.adopted and after is not None:
            self._adopt(server, after)
            return
        if change.leftover_after:  # noted before the destination goes, since nobody would know afterwards
            self._note(server, change.address, left=True)
        self._put(server, before, after)
        if not change.leftover_after:
            self._note(server, change.address or str(after.key.address if after else ""), left=False)

    def revert(self, change: operation_pb2.DestinationChange, *, foreign: bool) -> Reverted:
        """Bring back what was before, if the destination still is as the change left it, or as it was left half done.

        foreign: it was there and not made by this agent, and is so again.
        """
        server, before, after = sides(change)
        if change.address:
            self._note(server, change.address, left=change.leftover_before)
        either = after or before
        if either is None:
            return Reverted(outcome=Outcome.NOTHING)
        current = self._view.find(server, either.key)
        if change.adopted:
            self._give_weight_back(server, either.key)
            self._disown(server, either)
            return Reverted(outcome=Outcome.REVERTED, details=(f"{either.key} in {server} is foreign again",))
        standing = self._health.standing(server, either.key)
        if is_exactly(current, before, standing):
            self._record(server, before, either.key, new=False)
            return Reverted(outcome=Outcome.NOTHING)
        if not is_exactly(current, after, standing) and not self._is_between(server, before, after):
            why = f"{either.key} of {server} stays: somebody changed it meanwhile"
            return Reverted(outcome=Outcome.KEPT, details=(why,))
        if before is not None and after is None and not self._has_server(server, ()):
            why = f"{either.key} of {server} is not put back: somebody removed the virtual server"
            return Reverted(outcome=Outcome.KEPT, details=(why,))
        if after is None:
            self._health.prove_again([(server, either.key)])
        self._put(server, after, before, foreign=foreign)
        done = f"removed {either.key} from {server}" if before is None else f"put back {either.key} of {server}"
        return Reverted(outcome=Outcome.REVERTED, details=(done,))

    def forget_all(self, server: VirtualServerKey) -> None:
        """Drop the records of a virtual server's destinations, which are gone with it."""
        bodies = self._state.list(KIND, record_name(server, "")).values()
        self.set_records((server, read_config(body["config"]).key, None, False) for body in bodies)

    def committed(self) -> dict[VirtualServerKey, list[Destination]]:
        """Return the destinations of ours that shall be there, by their virtual servers."""
        found: dict[VirtualServerKey, list[Destination]] = {}
        for body in self._state.bodies(KIND):
            if body["managed"]:
                found.setdefault(parse_key(body["server"]), []).append(read_config(body["config"]))
        return found

    def committed_in(self, server: VirtualServerKey) -> dict[DestinationKey, Destination]:
        """Return the destinations of ours that shall be there in one virtual server."""
        bodies = self._state.list(KIND, record_name(server, "")).values()
        found = [read_config(body["config"]) for body in bodies if body["managed"]]
        return {each.key: each for each in found}

    def committed_one(self, server: VirtualServerKey, key: DestinationKey) -> Destination | None:
        """Return a destination of ours that shall be there, or None."""
        body = self._state.get(KIND, record_name(server, key))
        return read_config(body["config"]) if body is not None and body["managed"] else None

    def put_back(self, server: VirtualServerKey, status: DestinationStatus) -> None:
        """Bring back a destination that went with its virtual server, as it was: drain, weight and whose it is."""
        self._health.prove_again([(server, status.destination.key)])
        self._put(server, None, status.destination, foreign=not status.managed)

    def _put(
        self,
        server: VirtualServerKey,
        before: Destination | None,
        after: Destination | None,
        *,
        foreign: bool = False,
    ) -> None:
        if after is None:
            if before is not None:
                if not self._health.standing(server, before.key).removed or self._view.in_kernel(server, before.key):
                    self._ipvs.remove_destination(server, before.key)
                self._record(server, None, before.key, new=False)
            return
        if before is None and not foreign:
            self.begin([(server, after.key)])
        self._record(server, after, after.key, new=before is None and not foreign)
        standing = self._health.standing(server, after.key)
        if standing.removed:
            if self._view.in_kernel(server, after.key) is not None:
                self._ipvs.remove_destination(server, after.key)
        elif before is None:
            self._ipvs.add_destination(server, effective(after, standing))
        else:
            self._ipvs.edit_destination(server, effective(after, standing))
        if not is_exactly(self._view.find(server, after.key), after, standing):
            raise ConflictError(
                f"{after.key} of {server} is not as it was written: somebody changes it too", Reason.CHANGED_MEANWHILE
            )

    def _adopt(self, server: VirtualServerKey, destination: Destination) -> None:
        """Record it as ours; raises ConflictError if it is not as it was planned any more."""
        standing = self._health.standing(server, destination.key)
        if not is_exactly(self._view.find(server, destination.key), destination, standing):
            raise ConflictError(
                f"{destination.key} of {server} is not as it was read: somebody changes it", Reason.CHANGED_MEANWHILE
            )
        self._record(server, destination, destination.key, new=True)

    def _disown(self, server: VirtualServerKey, destination: Destination) -> None:
        """Make it foreign again; the weight that waits for the end of its drain stays known."""
        self._state.delete(KIND, record_name(server, destination.key))
        self._record(server, destination, destination.key, new=False)

    def _give_weight_back(self, server: VirtualServerKey, key: DestinationKey) -> None:
        """Undo what checks have made of one that is to be foreign: nobody would know its weight any more."""
        standing, committed = self._health.standing(server, key), self.committed_one(server, key)
        if standing == WHOLE or committed is None or not self._has_server(server, ()):
            return
        there = self._view.in_kernel(server, key)
        if there is None and standing.removed:
            self._ipvs.add_destination(server, effective(committed))
        elif there is not None and there.current_weight == effective(committed, standing).weight:
            self._ipvs.edit_destination(server, replace(there.destination, weight=effective(committed).weight))

    def _note(self, server: VirtualServerKey, address: str, *, left: bool) -> None:
        name = f"{server} {address}"
        if left:
            self._state.put(_LEFTOVER, name, {"virtual_server": str(server), "real_server": address})
        elif self._state.get(_LEFTOVER, name) is not None:
            self._state.delete(_LEFTOVER, name)

    def _record(
        self, server: VirtualServerKey, destination: Destination | None, key: DestinationKey, *, new: bool
    ) -> None:
        """Put on disk, before the kernel is touched, who made it and the weight that waits for the end of a drain."""
        record = self._state.get(KIND, record_name(server, key))
        self.set_record(server, key, destination, managed=new or bool(record and record["managed"]))

    def set_record(
        self, server: VirtualServerKey, key: DestinationKey, destination: Destination | None, *, managed: bool
    ) -> None:
        """Put on disk how it is to be, and whether this agent made it; of what is foreign only a drain is kept."""
        self.set_records([(server, key, destination, managed)])

    def set_records(self, wanted: Iterable[_Wanted]) -> None:
        """Do what set_record does to many: each with its virtual server, and whether this agent made it."""
        text = cache(str)  # thousands have the same virtual server
        wanted = list(wanted) if self._health.policies() else wanted
        for is_kept, group in groupby(wanted, _is_kept):
            if is_kept:
                self._state.put_all(
                    KIND,
                    (
                        (record_name(text(server), key), record_body(text(server), destination, managed=managed))
                        for server, key, destination, managed in group
                        if destination is not None
                    ),
                )
            else:
                for server, key, _, _ in group:
                    self._state.delete(KIND, record_name(text(server), key))
                    self._health.forget(server, key)
        if self._health.policies():
            for server in dict.fromkeys(server for server, _, _, _ in wanted):
                self._health.touched(server)

    def _is_between(self, server: VirtualServerKey, before: Destination | None, after: Destination | None) -> bool:
        """Whether an agent died between record and kernel: each of the two is as before or as after."""
        if before is None or after is None:
            return False
        there = self._view.in_kernel(server, after.key)
        standing = self._health.standing(server, after.key)
        record = self._state.get(KIND, record_name(server, after.key))
        recorded = read_intent(record) if record else None
        return any(
            standing.removed if there is None else there.destination == effective(side, standing)
            for side in (before, after)
        ) and recorded in [(side.weight, side.draining) for side in (before, after)]

    def begin(self, wanted: Sequence[tuple[VirtualServerKey, DestinationKey]]) -> None:
        """Say how destinations that are new stand until their checks have said enough."""
        if self._health.policies():
            self._health.set_standings(self._first(wanted, {}))

    def begin_again(self, servers: Mapping[VirtualServerKey, VirtualServer]) -> None:
        """Say so of all that are in: the host was rebooted, and theirs may have been. Who is out stays out.

        servers are those that were committed: the kernel has none of them yet.
        """
        if not self._health.policies():
            return
        names = ((server, each.key) for server, all_of_it in self.committed().items() for each in all_of_it)
        found = self._first([name for name in names if self._health.standing(*name).percent], servers)
        self._health.set_standings(each for each in found if each[2].standing != WHOLE)

    def _first(
        self,
        wanted: Iterable[tuple[VirtualServerKey, DestinationKey]],
        servers: Mapping[VirtualServerKey, VirtualServer],
    ) -> list[tuple[VirtualServerKey, DestinationKey, Stood]]:
        effects = cache(lambda server: self._effect(server, servers.get(server)))
        return [(server, key, self._health.first(server, key, effects(server))) for server, key in wanted]

    def standing(self, server: VirtualServerKey, key: DestinationKey) -> Standing:
        """Return how a destination stands by its checks."""
        return self._health.standing(server, key)

    def _effect(self, server: VirtualServerKey, committed: VirtualServer | None) -> Effect:
        policy, there = self._health.policy(server), self._ipvs.virtual_server(server) or committed
        return policy.effect_under(there) if policy is not None and there is not None else Effect.WEIGHT_ZERO

    def _has_server(self, server: VirtualServerKey, earlier: Sequence[Change]) -> bool:
        planned = any(
            change.WhichOneof("resource") == "virtual_server"
            and change.virtual_server.HasField("after")
            and wire.unpack_key(change.virtual_server.after.key) == server
            for change in earlier
        )
        return planned or self._ipvs.virtual_server(server) is not None


def _is_kept(wanted: _Wanted) -> bool:
    _, _, destination, managed = wanted
    return destination is not None and (managed or destination.draining)
