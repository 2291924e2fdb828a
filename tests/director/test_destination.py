"""Destinations: what an operation would change, drains that keep the operator's weight, and what is taken back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from ipaddress import ip_address

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st
from lvsagent.v1 import destination_pb2, operation_pb2, virtual_server_pb2

from agent_common import wire
from agent_common.changes import Outcome, Reverted
from agent_common.destination import (
    MAX_WEIGHT,
    Destination,
    DestinationKey,
    DestinationStatus,
    Forwarding,
    Tunnel,
    TunnelType,
)
from agent_common.errors import ConflictError, DiffersError, InvalidInputError, NotFoundError, Reason
from agent_common.operation import Change
from agent_common.records import from_record, to_record
from agent_common.virtual_server import Persistence, VirtualServer, VirtualServerKey, parse_key
from agent_director.destination_record import config_record, read_config
from agent_director.wire_destination import pack_destination_status
from cli import operations
from tests.director import strategies
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import destination, destinations
from tests.hosts import WEB, WEB6, DirectorHost

RS = destination().key
MARK = parse_key("fwmark/7")


@pytest.fixture
def host() -> DirectorHost:
    host = DirectorHost()
    host.ipvs.add_virtual_server(VirtualServer(key=WEB))
    return host


def message(key: DestinationKey = RS, **fields: object) -> destination_pb2.Destination:
    """Return a message with just these fields set."""
    return destination_pb2.Destination(key=wire.pack_destination_key(key), **fields)  # type: ignore[arg-type]


def key_message(address: str, port: int) -> destination_pb2.DestinationKey:
    return destination_pb2.DestinationKey(address=address, port=port)


def plan_create(
    host: DirectorHost, wanted: destination_pb2.Destination, of: VirtualServerKey = WEB, earlier: Sequence[Change] = ()
) -> Change:
    request = destination_pb2.CreateDestinationRequest(virtual_server=wire.pack_key(of), destination=wanted)
    return host.destinations.plan_create(request, earlier)


def create(host: DirectorHost, **fields: object) -> Change:
    return written(host, plan_create(host, message(**fields)))  # type: ignore[arg-type]


def plan_update(host: DirectorHost, wanted: destination_pb2.Destination, *paths: str, **fields: object) -> Change:
    request = destination_pb2.UpdateDestinationRequest(
        virtual_server=wire.pack_key(WEB),
        destination=wanted,
        update_mask=FieldMask(paths=paths),
        **fields,  # type: ignore[arg-type]
    )
    return host.destinations.plan_update(request)


def update(host: DirectorHost, **fields: object) -> Change:
    return written(host, plan_update(host, message(**fields), *fields))  # type: ignore[arg-type]


def plan_delete(host: DirectorHost, key: DestinationKey = RS, **fields: object) -> Change:
    request = destination_pb2.DeleteDestinationRequest(
        virtual_server=wire.pack_key(WEB),
        destination=wire.pack_destination_key(key),
        **fields,  # type: ignore[arg-type]
    )
    return host.destinations.plan_delete(request)


def delete(host: DirectorHost, **fields: object) -> Change:
    return written(host, plan_delete(host, **fields))  # type: ignore[arg-type]


def written(host: DirectorHost, change: Change) -> Change:
    if change.made:
        host.resources.write(change)
    return Change.FromString(change.SerializeToString())


def revert(host: DirectorHost, change: Change) -> Reverted:
    return host.resources.revert(change)


def by_hand(host: DirectorHost, **fields: object) -> None:
    """Edit the destination as somebody with ipvsadm would."""
    host.ipvs.edit_destination(WEB, destination(**fields))  # type: ignore[arg-type]


def status(host: DirectorHost) -> DestinationStatus:
    return host.destinations.get(WEB, RS)


def weights(host: DirectorHost) -> tuple[int, bool, int]:
    """Return the operator's weight, whether it drains, and the kernel's weight."""
    found = status(host)
    return found.destination.weight, found.destination.draining, found.current_weight


class TestCreate:
    """Makes sure that it is there."""

    @pytest.mark.parametrize(("key", "wanted"), destinations(), ids=str)
    def test_a_new_one_is_as_asked_for_in_every_field(self, key: VirtualServerKey, wanted: Destination) -> None:
        host = DirectorHost()
        host.ipvs.add_virtual_server(VirtualServer(key=key))
        change = written(host, plan_create(host, wire.pack_destination(wanted), key))
        assert (change.made, change.foreign) == (True, False)
        found = host.destinations.get(key, wanted.key)
        assert (found.destination, found.current_weight, found.managed) == (wanted, wanted.weight, True)

    def test_what_is_not_set_takes_the_defaults(self, host: DirectorHost) -> None:
        change = create(host)
        assert status(host).destination == Destination(key=RS, forwarding=Forwarding.DIRECT_ROUTING, weight=1)
        assert list(change.actions) == [f"add {RS} to {WEB}, dr, weight 1"]

    def test_what_is_not_set_matches_whatever_is_there(self, host: DirectorHost) -> None:
        there = destination(forwarding=Forwarding.TUNNELING, weight=9, upper_threshold=5, lower_threshold=2)
        host.ipvs.add_destination(WEB, there)
        change = plan_create(host, message())
        assert (change.made, change.foreign, list(change.actions)) == (False, True, [])
        assert status(host).destination == there

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"forwarding_method": destination_pb2.FORWARDING_METHOD_TUNNELING}, "forwarding method dr, not tun"),
            ({"weight": 6}, "weight 5, not 6"),
            ({"weight": 0}, "weight 5, not 0"),
            ({"upper_threshold": 9}, "another upper_threshold"),
            ({"lower_threshold": 0}, "another lower_threshold"),
        ],
    )
    def test_one_that_differs_in_a_field_that_is_set_is_refused_and_left(
        self, host: DirectorHost, fields: dict[str, object], said: str
    ) -> None:
        there = destination(weight=5, upper_threshold=8, lower_threshold=4)
        host.ipvs.add_destination(WEB, there)
        with pytest.raises(DiffersError, match=f"{RS} of {WEB} is there with {said}") as caught:
            plan_create(host, message(**fields))  # type: ignore[arg-type]
        assert caught.value.reason is Reason.DESTINATION_DIFFERS
        assert caught.value.metadata == {"virtual_server": str(WEB), "destination": str(RS)}
        assert status(host).destination == there

    def test_one_with_another_tunnel_is_refused(self, host: DirectorHost) -> None:
        tunnel = Tunnel(type=TunnelType.GUE, port=6080)
        host.ipvs.add_destination(WEB, destination(forwarding=Forwarding.TUNNELING, tunnel=tunnel))
        wanted = wire.pack_destination(destination(forwarding=Forwarding.TUNNELING))
        with pytest.raises(DiffersError, match="another tunnel"):
            plan_create(host, wanted)

    def test_every_difference_is_named(self, host: DirectorHost) -> None:
        host.ipvs.add_destination(WEB, destination(weight=5))
        wanted = message(forwarding_method=destination_pb2.FORWARDING_METHOD_MASQUERADING, weight=6)
        with pytest.raises(DiffersError, match="forwarding method dr, not nat; weight 5, not 6"):
            plan_create(host, wanted)

    def test_one_at_weight_zero_is_in_place_only_for_who_asks_for_that(self, host: DirectorHost) -> None:
        """Without a weight any above 0 is in place: at 0 it takes no clients."""
        host.ipvs.add_destination(WEB, destination(weight=0))
        with pytest.raises(DiffersError, match="is there with weight 0"):
            plan_create(host, message())
        assert not plan_create(host, message(weight=0)).made

    def test_one_that_drains_is_not_in_place(self, host: DirectorHost) -> None:
        create(host, weight=5)
        update(host, draining=True)
        for fields in ({}, {"weight": 5}, {"weight": 0}):
            with pytest.raises(DiffersError, match=f"{RS} of {WEB} is draining") as caught:
                plan_create(host, message(**fields))  # type: ignore[arg-type]
            assert caught.value.reason is Reason.DESTINATION_DRAINING

    def test_the_virtual_server_must_be_there_unless_it_is_only_planned(self, host: DirectorHost) -> None:
        with pytest.raises(NotFoundError, match=f"there is no virtual server {MARK}") as caught:
            plan_create(host, message(), MARK)
        assert caught.value.reason is Reason.VIRTUAL_SERVER_NOT_FOUND
        server = virtual_server_pb2.VirtualServer(key=wire.pack_key(MARK))
        planned = Change(virtual_server=operation_pb2.VirtualServerChange(after=server))
        assert plan_create(host, message(), MARK, [planned]).made

    @pytest.mark.parametrize(
        ("wanted", "field"),
        [
            (message(draining=True), "draining"),
            (message(weight=MAX_WEIGHT + 1), "weight"),
            (message(upper_threshold=2**31), "upper_threshold"),
            (message(upper_threshold=1, lower_threshold=2), "lower_threshold"),
            (message(forwarding_method=4), "forwarding_method"),
            (message(forwarding_method=9), "forwarding_method"),
            (message(destination(port=81).key), "port"),
            (message(destination("2001:db8::104").key), "address"),
            (message(destination("127.0.0.1").key), "destination.key.address"),
            (message(destination("224.0.0.9").key), "destination.key.address"),
            (message(tunnel={"type": 3}), "tunnel"),
            (message(forwarding_method=2, tunnel={"type": 2}), "tunnel.port"),
            (message(forwarding_method=2, tunnel={"type": 3, "port": 1}), "tunnel.port"),
            (message(forwarding_method=2, tunnel={"type": 1, "checksum": 2}), "tunnel.checksum"),
            (message(forwarding_method=2, tunnel={"type": 3, "checksum": 3}), "tunnel.checksum"),
            (destination_pb2.Destination(key=key_message("x", 80)), "destination.key.address"),
            (destination_pb2.Destination(key=key_message("192.168.0.104", 65536)), "destination.key.port"),
            (destination_pb2.Destination(), "destination.key.address"),
        ],
        ids=str,
    )
    def test_what_ipvsadm_would_not_take_names_the_field_and_changes_nothing(
        self, host: DirectorHost, wanted: destination_pb2.Destination, field: str
    ) -> None:
        with pytest.raises(InvalidInputError) as caught:
            plan_create(host, wanted)
        assert caught.value.field == field
        assert table(host.ipvs) == {VirtualServer(key=WEB): set()}

    def test_nat_may_have_another_port_and_a_mark_any(self, host: DirectorHost) -> None:
        host.ipvs.add_virtual_server(VirtualServer(key=MARK))
        other = destination(port=8080).key
        nat = message(other, forwarding_method=destination_pb2.FORWARDING_METHOD_MASQUERADING)
        assert plan_create(host, nat).made
        assert plan_create(host, message(other), MARK).made

    def test_only_tunnelling_joins_two_families(self, host: DirectorHost) -> None:
        host.ipvs.add_virtual_server(VirtualServer(key=WEB6))
        with pytest.raises(InvalidInputError, match="differ in family; only tunnelling joins them"):
            plan_create(host, message(), WEB6)
        assert plan_create(host, message(forwarding_method=destination_pb2.FORWARDING_METHOD_TUNNELING), WEB6).made


class TestDrain:
    """Weight 0 in the kernel, the operator's weight on disk."""

    def test_a_drain_keeps_the_operators_weight_and_its_end_restores_it(self, host: DirectorHost) -> None:
        create(host, weight=7)
        change = update(host, draining=True)
        assert weights(host) == (7, True, 0)
        assert list(change.actions) == [f"drain {RS} in {WEB}: weight 7 to 0"]
        change = update(host, draining=False)
        assert weights(host) == (7, False, 7)
        assert list(change.actions) == [f"end the drain of {RS} in {WEB}: weight 0 to 7"]

    def test_a_drain_outlives_the_agent(self, host: DirectorHost) -> None:
        create(host, weight=7)
        update(host, draining=True)
        restarted = host.restarted()
        assert weights(restarted) == (7, True, 0)
        update(restarted, draining=False)
        assert weights(restarted) == (7, False, 7)

    def test_a_second_drain_is_in_place(self, host: DirectorHost) -> None:
        create(host, weight=7)
        update(host, draining=True)
        assert not update(host, draining=True).made
        update(host, draining=False)
        assert not update(host, draining=False).made

    def test_a_weight_that_is_set_during_a_drain_waits_for_its_end(self, host: DirectorHost) -> None:
        create(host, weight=7)
        update(host, draining=True)
        change = update(host, weight=9)
        assert weights(host) == (9, True, 0)
        assert list(change.actions) == [f"set weight of {RS} in {WEB} from 7 to 9, kept until the drain ends"]
        update(host, draining=False)
        assert weights(host) == (9, False, 9)

    def test_a_drain_of_one_at_weight_zero_ends_at_zero(self, host: DirectorHost) -> None:
        create(host, weight=0)
        update(host, draining=True)
        assert weights(host) == (0, True, 0)
        update(host, draining=False)
        assert weights(host) == (0, False, 0)

    def test_a_drain_that_was_ended_by_hand_is_over(self, host: DirectorHost) -> None:
        """The kernel decides: whoever set a weight with ipvsadm wants clients there."""
        create(host, weight=7)
        update(host, draining=True)
        by_hand(host, weight=3)
        assert weights(host) == (3, False, 3)
        assert list(update(host, draining=False).actions) == [f"keep {RS} in {WEB} as somebody set it: weight 3"]
        assert not update(host, draining=False).made
        assert not plan_create(host, message(weight=3)).made

    def test_a_weight_that_somebody_set_is_committed_by_whoever_asks_for_it(self, host: DirectorHost) -> None:
        create(host, weight=7)
        by_hand(host, weight=3)
        assert [each.weight for each in host.destinations.committed()[WEB]] == [7]
        assert update(host, weight=3).made
        assert [each.weight for each in host.destinations.committed()[WEB]] == [3]
        assert not update(host, weight=3).made
        assert weights(host) == (3, False, 3)

    def test_a_weight_that_was_changed_by_hand_is_the_weight(self, host: DirectorHost) -> None:
        create(host, weight=7)
        by_hand(host, weight=3)
        assert weights(host) == (3, False, 3)
        update(host, draining=True)
        update(host, draining=False)
        assert weights(host) == (3, False, 3)

    def test_a_foreign_one_can_be_drained_and_is_foreign_again_afterwards(self, host: DirectorHost) -> None:
        host.ipvs.add_destination(WEB, destination(weight=7))
        assert update(host, draining=True).foreign
        assert (weights(host), status(host).managed) == ((7, True, 0), False)
        update(host, draining=False)
        assert (weights(host), status(host).managed) == ((7, False, 7), False)
        assert host.state.list("destination") == {}

    def test_a_drain_leaves_all_other_fields(self, host: DirectorHost) -> None:
        wanted = destination(weight=7, upper_threshold=100, lower_threshold=50, forwarding=Forwarding.TUNNELING)
        written(host, plan_create(host, wire.pack_destination(wanted)))
        update(host, draining=True)
        assert status(host).destination == dataclasses.replace(wanted, draining=True)


class TestUpdate:
    """Changes what the mask names, and nothing else."""

    THERE = destination(weight=5, upper_threshold=100, lower_threshold=50)

    @pytest.fixture
    def there(self, host: DirectorHost) -> DirectorHost:
        written(host, plan_create(host, wire.pack_destination(self.THERE)))
        return host

    def test_a_tunnel_goes_with_the_method_that_it_was_for(self, there: DirectorHost) -> None:
        update(there, forwarding_method=2, tunnel={"type": 2, "port": 6080})
        update(there, forwarding_method=1)
        assert there.destinations.get(WEB, self.THERE.key).destination == self.THERE

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("weight", 0),
            ("weight", MAX_WEIGHT),
            ("draining", True),
            ("upper_threshold", 65535),
            ("lower_threshold", 0),
            ("forwarding", Forwarding.TUNNELING),
        ],
    )
    def test_only_the_named_field_changes(self, there: DirectorHost, path: str, value: object) -> None:
        expected = dataclasses.replace(self.THERE, **{path: value})  # type: ignore[arg-type]
        wanted = dataclasses.replace(destination(weight=77, upper_threshold=1), **{path: value})  # type: ignore[arg-type]
        name = {"forwarding": "forwarding_method"}.get(path, path)
        change = written(there, plan_update(there, wire.pack_destination(wanted), name))
        assert (change.made, status(there).destination) == (True, expected)
        assert revert(there, change).outcome is Outcome.REVERTED
        assert status(there).destination == self.THERE

    def test_the_tunnel_changes_as_a_whole(self, host: DirectorHost) -> None:
        gue = Tunnel(type=TunnelType.GUE, port=6080)
        written(host, plan_create(host, wire.pack_destination(destination(forwarding=Forwarding.TUNNELING))))
        wanted = wire.pack_destination(destination(forwarding=Forwarding.TUNNELING, tunnel=gue))
        written(host, plan_update(host, wanted, "tunnel"))
        assert status(host).destination.tunnel == gue

    def test_what_is_so_already_is_not_made(self, there: DirectorHost) -> None:
        assert not plan_update(there, wire.pack_destination(self.THERE), "weight", "upper_threshold").made

    @pytest.mark.parametrize(("paths", "said"), [((), "must name a field"), (("weight", "key"), "'key' cannot be")])
    def test_a_mask_that_is_empty_or_names_something_else_is_refused(
        self, there: DirectorHost, paths: tuple[str, ...], said: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=said) as caught:
            plan_update(there, message(), *paths)
        assert caught.value.field == "update_mask"

    def test_the_rules_hold_for_what_would_come_of_it(self, there: DirectorHost) -> None:
        with pytest.raises(InvalidInputError, match="lower_threshold: must not be above upper_threshold"):
            plan_update(there, message(upper_threshold=10), "upper_threshold")
        with pytest.raises(InvalidInputError, match="weight: 2147483648 is out of range"):
            plan_update(there, message(weight=MAX_WEIGHT + 1), "weight")

    def test_an_etag_that_was_read_holds_until_the_next_change(self, there: DirectorHost) -> None:
        etag = pack_destination_status(status(there)).etag
        written(there, plan_update(there, message(draining=True), "draining", etag=etag))
        asks: list[Callable[[], Change]] = [
            lambda: plan_update(there, message(weight=9), "weight", etag=etag),
            lambda: plan_delete(there, etag=etag),
        ]
        for ask in asks:
            with pytest.raises(ConflictError, match=f"destination {RS} has changed since it was read") as caught:
                ask()
            assert caught.value.reason is Reason.CHANGED_MEANWHILE

    def test_connections_do_not_change_the_etag(self, there: DirectorHost) -> None:
        etag = pack_destination_status(status(there)).etag
        there.ipvs.set_connections(WEB, RS, active=7)
        assert pack_destination_status(status(there)).etag == etag

    def test_what_is_not_there_is_told_or_made(self, host: DirectorHost) -> None:
        with pytest.raises(NotFoundError, match=f"there is no destination {RS} in {WEB}") as caught:
            plan_update(host, message(weight=3), "weight")
        assert caught.value.reason is Reason.DESTINATION_NOT_FOUND
        written(host, plan_update(host, message(weight=3), "weight", allow_missing=True))
        assert weights(host) == (3, False, 3)

    def test_a_foreign_one_with_an_address_that_we_would_not_serve_can_be_changed(self, host: DirectorHost) -> None:
        """The director itself as sorry server, as other programs set it up."""
        host.ipvs.add_destination(WEB, destination("127.0.0.1", weight=1))
        written(host, plan_update(host, message(destination("127.0.0.1").key, weight=3), "weight"))
        (found,) = host.destinations.list_all(WEB)
        assert (found.current_weight, found.managed) == (3, False)


class TestDelete:
    """Removes it, and remembers where a VIP may be left."""

    def test_it_goes_with_its_record(self, host: DirectorHost) -> None:
        create(host)
        change = delete(host)
        assert list(change.actions) == [f"remove {RS} from {WEB}"]
        assert (host.destinations.list_all(WEB), host.state.list("destination")) == ([], {})

    def test_what_is_not_there_is_told_unless_it_may_be_missing(self, host: DirectorHost) -> None:
        with pytest.raises(NotFoundError):
            plan_delete(host)
        assert not plan_delete(host, allow_missing=True).made

    def test_one_that_is_added_again_does_not_drain(self, host: DirectorHost) -> None:
        create(host, weight=7)
        update(host, draining=True)
        delete(host)
        create(host, weight=0)
        assert weights(host) == (0, False, 0)

    def test_a_foreign_one_is_said_to_be_so(self, host: DirectorHost) -> None:
        host.ipvs.add_destination(WEB, destination())
        assert plan_delete(host).foreign

    def test_a_vip_that_is_left_on_the_real_server_is_noted_until_it_is_given_back(self, host: DirectorHost) -> None:
        create(host)
        delete(host, real_server_keeps_vip=True)
        assert host.restarted().destinations.leftovers() == [(WEB, RS.address)]
        assert not delete(host, allow_missing=True).made  # not set: nothing is forgotten
        assert host.destinations.leftovers() == [(WEB, RS.address)]
        assert delete(host, allow_missing=True, real_server_keeps_vip=False).made
        assert host.destinations.leftovers() == []
        assert not delete(host, allow_missing=True, real_server_keeps_vip=False).made

    def test_a_note_goes_when_the_destination_is_back_and_comes_back_with_the_revert(self, host: DirectorHost) -> None:
        """Else nobody would know any more that the VIP is still on that real server."""
        create(host)
        delete(host, real_server_keeps_vip=True)
        change = create(host)
        assert host.destinations.leftovers() == []
        revert(host, change)
        assert host.destinations.leftovers() == [(WEB, RS.address)]

    def test_a_note_is_taken_back_with_the_removal(self, host: DirectorHost) -> None:
        create(host, weight=7)
        change = delete(host, real_server_keeps_vip=True)
        revert(host, change)
        assert (weights(host), host.destinations.leftovers()) == ((7, False, 7), [])

    def test_a_note_is_never_made_of_what_could_not_be_read_again(self, host: DirectorHost) -> None:
        with pytest.raises(InvalidInputError):
            plan_delete(host, destination("127.0.0.1").key, allow_missing=True, real_server_keeps_vip=True)


class TestRevert:
    """Takes back what still stands as the change left it."""

    def test_a_new_one_goes(self, host: DirectorHost) -> None:
        change = create(host)
        assert revert(host, change) == Reverted(outcome=Outcome.REVERTED, details=(f"removed {RS} from {WEB}",))
        assert (host.destinations.list_all(WEB), host.state.list("destination")) == ([], {})

    def test_one_that_is_gone_already_is_forgotten(self, host: DirectorHost) -> None:
        change = create(host)
        host.ipvs.remove_destination(WEB, RS)
        assert revert(host, change).outcome is Outcome.NOTHING
        assert host.state.list("destination") == {}

    def test_one_whose_virtual_server_is_gone_is_no_error(self, host: DirectorHost) -> None:
        change = create(host)
        host.ipvs.remove_virtual_server(WEB)
        assert revert(host, change).outcome is Outcome.NOTHING

    @pytest.mark.parametrize("fields", [{"weight": 2}, {"upper_threshold": 9}, {"forwarding": Forwarding.TUNNELING}])
    def test_one_that_was_changed_by_hand_meanwhile_is_kept(
        self, host: DirectorHost, fields: dict[str, object]
    ) -> None:
        change = create(host)
        by_hand(host, **fields)
        ended = revert(host, change)
        assert ended.outcome is Outcome.KEPT
        assert ended.details == (f"{RS} of {WEB} stays: somebody changed it meanwhile",)
        assert table(host.ipvs)[VirtualServer(key=WEB)] == {destination(**fields)}  # type: ignore[arg-type]

    def test_one_that_drains_by_now_is_kept(self, host: DirectorHost) -> None:
        change = create(host, weight=7)
        update(host, draining=True)
        assert revert(host, change).outcome is Outcome.KEPT
        assert weights(host) == (7, True, 0)

    def test_a_drain_is_kept_if_its_weight_was_changed_meanwhile(self, host: DirectorHost) -> None:
        create(host, weight=7)
        change = update(host, draining=True)
        update(host, weight=9)
        assert revert(host, change).outcome is Outcome.KEPT
        assert weights(host) == (9, True, 0)

    def test_a_drain_that_is_taken_back_gives_the_weight_back(self, host: DirectorHost) -> None:
        create(host, weight=7)
        change = update(host, draining=True)
        assert revert(host, change).outcome is Outcome.REVERTED
        assert weights(host) == (7, False, 7)

    def test_the_end_of_a_drain_that_is_taken_back_drains_again(self, host: DirectorHost) -> None:
        create(host, weight=7)
        update(host, draining=True)
        change = update(host, draining=False)
        assert revert(host, change).outcome is Outcome.REVERTED
        assert weights(host) == (7, True, 0)

    def test_a_drain_that_was_ended_by_hand_is_taken_back_already(self, host: DirectorHost) -> None:
        create(host, weight=7)
        change = update(host, draining=True)
        by_hand(host, weight=7)
        assert revert(host, change).outcome is Outcome.NOTHING
        by_hand(host, weight=0)
        assert weights(host) == (0, False, 0)

    def test_a_removal_that_is_taken_back_drains_as_before(self, host: DirectorHost) -> None:
        create(host, weight=7)
        update(host, draining=True)
        change = delete(host)
        revert(host, change)
        assert (weights(host), status(host).managed) == ((7, True, 0), True)

    def test_a_foreign_one_is_foreign_again_when_its_removal_is_taken_back(self, host: DirectorHost) -> None:
        host.ipvs.add_destination(WEB, destination(weight=7))
        change = delete(host)
        revert(host, change)
        assert (weights(host), status(host).managed) == ((7, False, 7), False)

    def test_a_removal_is_not_taken_back_into_a_virtual_server_that_is_gone(self, host: DirectorHost) -> None:
        create(host)
        change = delete(host)
        host.ipvs.remove_virtual_server(WEB)
        ended = revert(host, change)
        assert ended.outcome is Outcome.KEPT
        assert "somebody removed the virtual server" in ended.details[0]

    def test_a_removal_is_not_taken_back_over_what_somebody_added_since(self, host: DirectorHost) -> None:
        create(host, weight=7)
        change = delete(host)
        host.ipvs.add_destination(WEB, destination(weight=2))
        assert revert(host, change).outcome is Outcome.KEPT
        assert weights(host) == (2, False, 2)

    def test_a_weight_that_was_changed_twice_is_not_taken_back_beyond_the_second(self, host: DirectorHost) -> None:
        create(host, weight=1)
        first = update(host, weight=2)
        second = update(host, weight=3)
        assert revert(host, first).outcome is Outcome.KEPT
        assert revert(host, second).outcome is Outcome.REVERTED
        assert weights(host) == (2, False, 2)


class TestRead:
    """What is there."""

    def test_they_are_listed_in_the_order_of_their_keys_whoever_made_them(self, host: DirectorHost) -> None:
        host.ipvs.add_virtual_server(VirtualServer(key=MARK, persistence=Persistence(timeout=60)))
        keys = [("192.168.0.9", 80), ("192.168.0.104", 80), ("192.168.0.104", 443), ("10.0.0.1", 80)]
        for address, port in keys:
            host.ipvs.add_destination(MARK, destination(address, port))
        tunnelled = destination("2001:db8::9", forwarding=Forwarding.TUNNELING)
        host.ipvs.add_destination(MARK, tunnelled)
        assert [str(each.destination.key) for each in host.destinations.list_all(MARK)] == [
            "10.0.0.1:80",
            "192.168.0.9:80",
            "192.168.0.104:80",
            "192.168.0.104:443",
            "[2001:db8::9]:80",
        ]

    def test_connections_are_those_of_the_kernel(self, host: DirectorHost) -> None:
        create(host)
        host.ipvs.set_connections(WEB, RS, active=3, inactive=2, persistent=1)
        found = status(host)
        assert (found.active, found.inactive, found.persistent) == (3, 2, 1)

    def test_records_of_one_virtual_server_are_not_those_of_another(self, host: DirectorHost) -> None:
        host.ipvs.add_virtual_server(VirtualServer(key=MARK))
        create(host, weight=7)
        update(host, draining=True)
        host.ipvs.add_destination(MARK, destination(weight=0))
        (other,) = host.destinations.list_all(MARK)
        assert (other.destination.draining, other.managed) == (False, False)

    def test_what_cli_builds_is_what_we_understand(self, host: DirectorHost) -> None:
        for operation in (
            operations.create_destination(WEB, RS, Forwarding.TUNNELING, 5),
            operations.update_destination(WEB, RS, draining=True),
        ):
            written(host, host.resources.plan(operation, ()))
        assert weights(host) == (5, True, 0)
        written(host, host.resources.plan(operations.delete_destination(WEB, RS), ()))
        assert host.destinations.list_all(WEB) == []
        assert RS.address == ip_address("192.168.0.104")


@given(strategies.destinations, st.booleans())
def test_a_record_is_what_its_message_would_be(wanted: Destination, draining: bool) -> None:
    """It is written by hand, since a table has thousands."""
    wanted = dataclasses.replace(wanted, draining=draining)
    record = json.loads(json.dumps(config_record(wanted)))
    assert wire.unpack_destination(from_record(record, destination_pb2.Destination())) == wanted
    assert read_config(record) == read_config(to_record(wire.pack_destination(wanted))) == wanted
    assert record.items() <= to_record(wire.pack_destination(wanted)).items()
