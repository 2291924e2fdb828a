"""Virtual servers: what an operation would change, and what of it is taken back."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, ip_address

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from lvsagent.v1 import virtual_server_pb2

from agent_common import wire
from agent_common.changes import Outcome, Reverted
from agent_common.destination import DestinationKey
from agent_common.errors import (
    ConflictError,
    DiffersError,
    InvalidInputError,
    LvsError,
    NotFoundError,
    Reason,
    RefusedError,
)
from agent_common.etag import etag_of
from agent_common.operation import Change
from agent_common.scheduler import SCHEDULERS, SchedulerFlags
from agent_common.sockets import Listener
from agent_common.virtual_server import (
    Persistence,
    Protocol,
    ServiceAddress,
    VirtualServer,
    VirtualServerKey,
    parse_key,
)
from cli import operations
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import KEYS, destination, virtual_servers
from tests.hosts import WEB, DirectorHost

DNS = parse_key("udp/192.168.0.200:53")
DNS6 = parse_key("udp/[2001:db8::200]:53")
EVERY_PORT = parse_key("tcp/192.168.0.200:0")


@pytest.fixture
def host() -> DirectorHost:
    return DirectorHost()


def message(key: VirtualServerKey = WEB, **fields: object) -> virtual_server_pb2.VirtualServer:
    """Return a message with just these fields set."""
    return virtual_server_pb2.VirtualServer(key=wire.pack_key(key), **fields)  # type: ignore[arg-type]


def plan_create(host: DirectorHost, wanted: virtual_server_pb2.VirtualServer) -> Change:
    return host.virtual_servers.plan_create(virtual_server_pb2.CreateVirtualServerRequest(virtual_server=wanted))


def create(host: DirectorHost, wanted: virtual_server_pb2.VirtualServer | None = None) -> Change:
    return written(host, plan_create(host, wanted or message()))


def plan_update(host: DirectorHost, wanted: virtual_server_pb2.VirtualServer, *paths: str, **fields: object) -> Change:
    request = virtual_server_pb2.UpdateVirtualServerRequest(
        virtual_server=wanted,
        update_mask=FieldMask(paths=paths),
        **fields,  # type: ignore[arg-type]
    )
    return host.virtual_servers.plan_update(request)


def plan_delete(host: DirectorHost, key: VirtualServerKey = WEB, **fields: object) -> Change:
    request = virtual_server_pb2.DeleteVirtualServerRequest(key=wire.pack_key(key), **fields)  # type: ignore[arg-type]
    return host.virtual_servers.plan_delete(request)


def written(host: DirectorHost, change: Change) -> Change:
    if change.made:
        host.resources.write(change)
    return change


def revert(host: DirectorHost, change: Change) -> Reverted:
    return host.resources.revert(Change.FromString(change.SerializeToString()))


class TestCreate:
    """Makes sure that it is there."""

    @pytest.mark.parametrize("server", virtual_servers(), ids=str)
    def test_a_new_one_is_as_asked_for_in_every_field(self, host: DirectorHost, server: VirtualServer) -> None:
        change = create(host, wire.pack_virtual_server(server))
        assert (change.made, change.foreign) == (True, False)
        assert host.virtual_servers.get(server.key) == server
        assert host.virtual_servers.is_managed(server.key)

    def test_what_is_not_set_takes_the_defaults(self, host: DirectorHost) -> None:
        create(host)
        assert host.virtual_servers.get(WEB) == VirtualServer(key=WEB, scheduler="wlc")

    def test_what_is_not_set_matches_whatever_is_there(self, host: DirectorHost) -> None:
        odd = VirtualServer(
            key=DNS,
            scheduler="sh",
            scheduler_flags=SchedulerFlags(flag_1=True),
            persistence=Persistence(timeout=77, prefix_length=24),
            one_packet=True,
        )
        host.ipvs.add_virtual_server(odd)
        change = plan_create(host, message(DNS))
        assert (change.made, change.foreign, list(change.actions)) == (False, True, [])

    def test_an_equal_one_is_in_place(self, host: DirectorHost) -> None:
        wanted = message(scheduler="rr", persistence=wire.pack_persistence(Persistence(timeout=60)))
        create(host, wanted)
        again = plan_create(host, wanted)
        assert (again.made, again.foreign) == (False, False)

    def test_the_persistence_that_port_0_needs_is_not_asked_for_where_it_is(self, host: DirectorHost) -> None:
        create(host, message(EVERY_PORT, persistence=wire.pack_persistence(Persistence(timeout=60))))
        assert not plan_create(host, message(EVERY_PORT)).made

    def test_a_prefix_length_that_covers_the_whole_address_is_none(self, host: DirectorHost) -> None:
        wanted = message(persistence=wire.pack_persistence(Persistence(timeout=60, prefix_length=32)))
        create(host, wanted)
        assert not plan_create(host, wanted).made

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"scheduler": "wrr"}, "scheduler rr, not wrr"),
            ({"scheduler_flags": virtual_server_pb2.SchedulerFlags()}, "other scheduler flags"),
            ({"persistence": wire.pack_persistence(Persistence(timeout=61))}, "persistence 60 s, not 61 s"),
            ({"persistence": wire.pack_persistence(Persistence(timeout=60, prefix_length=8))}, "another persistence"),
            ({"one_packet": False}, "one-packet scheduling on"),
        ],
    )
    def test_one_that_differs_in_a_field_that_is_set_is_refused_and_left(
        self, host: DirectorHost, fields: dict[str, object], said: str
    ) -> None:
        there = VirtualServer(
            key=DNS,
            scheduler="rr",
            scheduler_flags=SchedulerFlags(flag_2=True),
            persistence=Persistence(timeout=60),
            one_packet=True,
        )
        host.ipvs.add_virtual_server(there)
        with pytest.raises(DiffersError, match=f"virtual server {DNS} is there with {said}") as caught:
            plan_create(host, message(DNS, **fields))
        assert caught.value.reason is Reason.VIRTUAL_SERVER_DIFFERS
        assert host.ipvs.virtual_servers() == [there]

    def test_every_difference_is_named(self, host: DirectorHost) -> None:
        create(host)
        persistence = wire.pack_persistence(Persistence(timeout=60))
        with pytest.raises(DiffersError, match="scheduler wlc, not rr; no persistence, not 60 s"):
            plan_create(host, message(scheduler="rr", persistence=persistence))

    @pytest.mark.parametrize(
        ("wanted", "field"),
        [
            (virtual_server_pb2.VirtualServer(), "virtual_server.key"),
            (message(scheduler="nosuch"), "scheduler"),
            (message(EVERY_PORT), "port"),
            (message(one_packet=True), "one_packet"),
            (message(persistence=virtual_server_pb2.Persistence()), "persistence.timeout"),
            (message(persistence=virtual_server_pb2.Persistence(timeout=Duration(nanos=5))), "persistence.timeout"),
            (message(persistence={"timeout": {"seconds": 1}, "prefix_length": 33}), "persistence.prefix_length"),
            (message(DNS6, persistence={"timeout": {"seconds": 1}, "prefix_length": 0}), "persistence.prefix_length"),
            (message(DNS6, persistence={"timeout": {"seconds": 1}, "netmask": "255.0.0.0"}), "persistence.netmask"),
            (message(persistence={"timeout": {"seconds": 1}, "netmask": "24"}), "persistence.netmask"),
            (message(persistence={"timeout": {"seconds": 1}, "netmask": "2001:db8::"}), "persistence.netmask"),
            (message(persistence_engine="x"), "persistence_engine"),
        ],
        ids=str,
    )
    def test_what_ipvsadm_would_not_take_names_the_field_and_changes_nothing(
        self, host: DirectorHost, wanted: virtual_server_pb2.VirtualServer, field: str
    ) -> None:
        with pytest.raises(InvalidInputError) as caught:
            plan_create(host, wanted)
        assert caught.value.field == field
        assert table(host.ipvs) == {}

    @pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "::", "::1", "fe80::1", "ff02::1"])
    def test_an_address_that_no_vip_can_have_is_refused(self, host: DirectorHost, address: str) -> None:
        wanted = message()
        wanted.key.service_address.address = address
        with pytest.raises(InvalidInputError) as caught:
            plan_create(host, wanted)
        assert caught.value.field == "virtual_server.key.service_address.address"

    def test_what_something_listens_on_is_refused_only_while_it_is_not_there(self, host: DirectorHost) -> None:
        listener = Listener(protocol=Protocol.TCP, address=ip_address("192.168.0.200"), port=80)
        host.sockets.bound.append(listener)
        with pytest.raises(RefusedError, match=r"something listens on 192\.168\.0\.200:80") as caught:
            plan_create(host, message())
        assert caught.value.reason is Reason.LISTENER_SHADOWED
        host.ipvs.add_virtual_server(VirtualServer(key=WEB))
        assert not plan_create(host, message()).made

    def test_a_scheduler_that_cannot_be_loaded_leaves_nothing_behind(self, host: DirectorHost) -> None:
        host.ipvs.schedulers = frozenset({"rr"})
        change = plan_create(host, message(scheduler="mh"))
        with pytest.raises(RefusedError, match="modprobe ip_vs_mh"):
            host.resources.write(change)
        assert revert(host, change).outcome is Outcome.NOTHING
        assert not host.virtual_servers.is_managed(WEB)


class TestUpdate:
    """Changes what the mask names, and nothing else."""

    @pytest.fixture
    def there(self, host: DirectorHost) -> VirtualServer:
        there = VirtualServer(
            key=DNS, scheduler="sh", scheduler_flags=SchedulerFlags(flag_1=True), persistence=Persistence(timeout=60)
        )
        create(host, wire.pack_virtual_server(there))
        return there

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("scheduler", "rr"),
            ("scheduler_flags", SchedulerFlags(flag_2=True)),
            ("persistence", Persistence(timeout=5, prefix_length=24)),
            ("persistence", None),
            ("one_packet", True),
        ],
    )
    def test_only_the_named_field_changes(
        self, host: DirectorHost, there: VirtualServer, path: str, value: object
    ) -> None:
        wanted = dataclasses.replace(VirtualServer(key=DNS, scheduler="mh"), **{path: value})  # type: ignore[arg-type]
        change = written(host, plan_update(host, wire.pack_virtual_server(wanted), path))
        expected = dataclasses.replace(there, **{path: value})  # type: ignore[arg-type]
        assert host.virtual_servers.get(DNS) == expected
        assert list(change.actions) == [f"change {path} of virtual server {DNS}"]
        assert revert(host, change).outcome is Outcome.REVERTED
        assert host.virtual_servers.get(DNS) == there

    def test_what_is_so_already_is_not_made(self, host: DirectorHost, there: VirtualServer) -> None:
        assert not plan_update(host, wire.pack_virtual_server(there), "scheduler", "persistence").made

    def test_a_named_field_that_is_not_set_takes_its_default(self, host: DirectorHost, there: VirtualServer) -> None:
        written(host, plan_update(host, message(DNS), "scheduler", "scheduler_flags", "persistence"))
        assert host.virtual_servers.get(DNS) == VirtualServer(key=DNS)

    def test_destinations_stay(self, host: DirectorHost) -> None:
        create(host)
        host.ipvs.add_destination(WEB, destination(weight=4))
        written(host, plan_update(host, message(scheduler="rr"), "scheduler"))
        assert table(host.ipvs) == {VirtualServer(key=WEB, scheduler="rr"): {destination(weight=4)}}

    @pytest.mark.parametrize(("paths", "said"), [((), "must name a field"), (("scheduler", "key"), "'key' cannot be")])
    def test_a_mask_that_is_empty_or_names_something_else_is_refused(
        self, host: DirectorHost, paths: tuple[str, ...], said: str
    ) -> None:
        create(host)
        with pytest.raises(InvalidInputError, match=said) as caught:
            plan_update(host, message(), *paths)
        assert caught.value.field == "update_mask"

    def test_the_rules_hold_for_what_would_come_of_it(self, host: DirectorHost) -> None:
        """Not for the message alone: the persistence that port 0 needs is there, and is not to be taken away."""
        create(host, message(EVERY_PORT, persistence=wire.pack_persistence(Persistence(timeout=60))))
        written(host, plan_update(host, message(EVERY_PORT, scheduler="rr"), "scheduler"))
        assert host.virtual_servers.get(EVERY_PORT).scheduler == "rr"
        with pytest.raises(InvalidInputError, match=r"port: 0 \(every port\) needs persistence"):
            plan_update(host, message(EVERY_PORT), "persistence")
        with pytest.raises(InvalidInputError, match="scheduler: 'nosuch' is unknown"):
            plan_update(host, message(EVERY_PORT, scheduler="nosuch"), "scheduler")

    def test_an_etag_that_was_read_holds_until_the_next_change(self, host: DirectorHost) -> None:
        create(host)
        etag = etag_of(wire.pack_virtual_server(host.virtual_servers.get(WEB)))
        written(host, plan_update(host, message(scheduler="rr"), "scheduler", etag=etag))
        with pytest.raises(ConflictError, match="has changed since it was read") as caught:
            plan_update(host, message(scheduler="sh"), "scheduler", etag=etag)
        assert caught.value.reason is Reason.CHANGED_MEANWHILE
        with pytest.raises(ConflictError):
            plan_delete(host, etag=etag)

    def test_what_is_not_there_is_told_or_made(self, host: DirectorHost) -> None:
        with pytest.raises(NotFoundError, match=f"there is no virtual server {WEB}"):
            plan_update(host, message(), "scheduler")
        change = written(host, plan_update(host, message(scheduler="rr"), "scheduler", allow_missing=True))
        assert change.made
        assert host.virtual_servers.get(WEB).scheduler == "rr"

    def test_a_foreign_one_is_changed_but_stays_foreign(self, host: DirectorHost) -> None:
        host.ipvs.add_virtual_server(VirtualServer(key=WEB))
        written(host, plan_update(host, message(scheduler="rr"), "scheduler"))
        assert not host.virtual_servers.is_managed(WEB)


class TestDelete:
    """Removes it."""

    def test_one_without_destinations_goes(self, host: DirectorHost) -> None:
        create(host)
        change = written(host, plan_delete(host))
        assert (table(host.ipvs), host.virtual_servers.managed_keys()) == ({}, [])
        assert list(change.actions) == [f"remove virtual server {WEB}"]

    def test_what_is_not_there_is_told_unless_it_may_be_missing(self, host: DirectorHost) -> None:
        with pytest.raises(NotFoundError) as caught:
            plan_delete(host)
        assert caught.value.reason is Reason.VIRTUAL_SERVER_NOT_FOUND
        assert not plan_delete(host, allow_missing=True).made
        assert not plan_delete(host, only_if_unused=True).made

    def test_one_with_destinations_is_refused_unless_forced(self, host: DirectorHost) -> None:
        create(host)
        host.ipvs.add_destination(WEB, destination())
        with pytest.raises(RefusedError, match="it has 1 destination") as caught:
            plan_delete(host)
        assert caught.value.reason is Reason.IN_USE
        written(host, plan_delete(host, force=True))
        assert table(host.ipvs) == {}

    def test_a_forced_removal_that_is_taken_back_brings_the_destinations_back(self, host: DirectorHost) -> None:
        create(host, message(scheduler="rr"))
        host.ipvs.add_destination(WEB, destination(weight=3))
        host.ipvs.add_destination(WEB, destination("127.0.0.1", weight=1))  # as a sorry server is
        before = table(host.ipvs)
        change = written(host, plan_delete(host, force=True))
        assert revert(host, change).outcome is Outcome.REVERTED
        assert table(host.ipvs) == before
        assert host.virtual_servers.is_managed(WEB)

    def test_an_update_of_one_part_of_persistence_keeps_the_others(self, host: DirectorHost) -> None:
        persistence = virtual_server_pb2.Persistence(timeout=Duration(seconds=300), prefix_length=24)
        create(host, message(DNS, persistence=persistence, persistence_engine="sip"))
        longer = virtual_server_pb2.Persistence(timeout=Duration(seconds=600))
        written(host, plan_update(host, message(DNS, persistence=longer), "persistence.timeout"))
        assert host.ipvs.virtual_servers()[0].persistence == Persistence(timeout=600, prefix_length=24)
        whole = virtual_server_pb2.Persistence(prefix_length=32)
        written(host, plan_update(host, message(DNS, persistence=whole), "persistence.prefix_length"))
        assert host.ipvs.virtual_servers()[0].persistence == Persistence(timeout=600)
        holes = virtual_server_pb2.Persistence(netmask="255.0.255.0")
        written(host, plan_update(host, message(DNS, persistence=holes), "persistence.netmask"))
        assert host.ipvs.virtual_servers()[0].persistence == Persistence(
            timeout=600, netmask=IPv4Address("255.0.255.0")
        )
        assert host.ipvs.virtual_servers()[0].persistence_engine == "sip"
        narrow = virtual_server_pb2.Persistence(netmask="255.255.255.0")
        written(host, plan_update(host, message(DNS, persistence=narrow), "persistence.netmask"))
        assert host.ipvs.virtual_servers()[0].persistence == Persistence(timeout=600, prefix_length=24)
        written(host, plan_update(host, message(DNS), "persistence_engine"))
        assert host.ipvs.virtual_servers()[0].persistence_engine == ""

    def test_a_part_of_persistence_that_is_not_there_needs_its_timeout(self, host: DirectorHost) -> None:
        create(host)
        part = message(persistence=virtual_server_pb2.Persistence(prefix_length=24))
        with pytest.raises(InvalidInputError, match="must be given, there is none yet"):
            plan_update(host, part, "persistence.prefix_length")

    def test_only_what_is_set_of_persistence_is_compared(self, host: DirectorHost) -> None:
        there = virtual_server_pb2.Persistence(timeout=Duration(seconds=300), prefix_length=24)
        create(host, message(persistence=there))
        same = virtual_server_pb2.Persistence(timeout=Duration(seconds=300))
        assert not plan_create(host, message(persistence=same)).made
        other = virtual_server_pb2.Persistence(timeout=Duration(seconds=300), prefix_length=25)
        with pytest.raises(DiffersError, match="another persistence prefix length"):
            plan_create(host, message(persistence=other))

    def test_a_forced_removal_forgets_its_destinations_and_one_that_is_taken_back_remembers_them(
        self, host: DirectorHost
    ) -> None:
        create(host)
        ours = DestinationKey(address=ip_address("192.168.0.104"), port=80)
        for operation in (
            operations.create_destination(WEB, ours, None, 7),
            operations.update_destination(WEB, ours, draining=True),
        ):
            host.resources.write(host.resources.plan(operation, ()))
        host.ipvs.add_destination(WEB, destination("192.168.0.105"))
        before = host.destinations.list_all(WEB)
        assert [(each.managed, each.destination.draining) for each in before] == [(True, True), (False, False)]

        change = written(host, plan_delete(host, force=True))
        assert host.state.list("destination") == {}
        revert(host, change)
        assert host.destinations.list_all(WEB) == before

    def test_a_foreign_one_is_foreign_again_when_its_removal_is_taken_back(self, host: DirectorHost) -> None:
        host.ipvs.add_virtual_server(VirtualServer(key=WEB))
        change = written(host, plan_delete(host))
        assert change.foreign
        revert(host, change)
        assert host.ipvs.virtual_servers() == [VirtualServer(key=WEB)]
        assert not host.virtual_servers.is_managed(WEB)

    def test_only_if_unused_removes_what_we_made_and_nothing_uses(self, host: DirectorHost) -> None:
        create(host)
        written(host, plan_delete(host, only_if_unused=True))
        assert table(host.ipvs) == {}

    def test_only_if_unused_leaves_a_foreign_one_and_one_with_destinations_and_says_why(
        self, host: DirectorHost
    ) -> None:
        create(host)
        host.ipvs.add_destination(WEB, destination())
        host.ipvs.add_virtual_server(VirtualServer(key=DNS))
        for key, why in ((WEB, "it has 1 destination"), (DNS, "it is foreign (this agent did not make it)")):
            change = plan_delete(host, key, only_if_unused=True)
            assert (change.made, list(change.warnings)) == (False, [f"virtual server {key} stays: {why}"])


class TestRevert:
    """Takes back what still stands as the change left it."""

    def test_a_new_one_goes(self, host: DirectorHost) -> None:
        change = create(host)
        assert revert(host, change) == Reverted(outcome=Outcome.REVERTED, details=(f"removed virtual server {WEB}",))
        assert (table(host.ipvs), host.virtual_servers.managed_keys()) == ({}, [])

    def test_one_that_is_gone_already_is_forgotten(self, host: DirectorHost) -> None:
        change = create(host)
        host.ipvs.remove_virtual_server(WEB)
        assert revert(host, change).outcome is Outcome.NOTHING
        assert host.virtual_servers.managed_keys() == []

    def test_one_that_was_changed_meanwhile_is_kept(self, host: DirectorHost) -> None:
        change = create(host)
        host.ipvs.edit_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
        ended = revert(host, change)
        assert ended.outcome is Outcome.KEPT
        assert ended.details == (f"virtual server {WEB} stays: somebody changed it meanwhile",)
        assert host.virtual_servers.is_managed(WEB)

    def test_one_that_has_destinations_by_now_is_kept(self, host: DirectorHost) -> None:
        """Its creator leaves it to the destinations of others."""
        change = create(host)
        host.ipvs.add_destination(WEB, destination())
        assert revert(host, change).outcome is Outcome.KEPT
        assert table(host.ipvs) == {VirtualServer(key=WEB): {destination()}}

    def test_a_removal_is_not_taken_back_over_what_somebody_made_since(self, host: DirectorHost) -> None:
        create(host)
        change = written(host, plan_delete(host))
        host.ipvs.add_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
        assert revert(host, change).outcome is Outcome.KEPT
        assert host.ipvs.virtual_servers() == [VirtualServer(key=WEB, scheduler="rr")]

    def test_a_foreign_one_with_what_we_would_not_make_comes_back_as_it_was(self, host: DirectorHost) -> None:
        """A scheduler that this version does not know, port 0 without persistence: the kernel takes both."""
        host.ipvs.schedulers = SCHEDULERS | {"newest"}
        odd = VirtualServer(key=EVERY_PORT, scheduler="newest")
        host.ipvs.add_virtual_server(odd)
        change = written(host, plan_delete(host, EVERY_PORT))
        assert revert(host, change).outcome is Outcome.REVERTED
        assert host.ipvs.virtual_servers() == [odd]


class TestRead:
    """What is there."""

    def test_they_are_listed_in_the_order_of_their_keys_whoever_made_them(self, host: DirectorHost) -> None:
        for key in reversed(KEYS):
            host.ipvs.add_virtual_server(VirtualServer(key=key))
        assert [str(server.key) for server in host.virtual_servers.list_all()] == [
            "tcp/192.168.0.200:80",
            "tcp/192.168.0.200:81",
            "tcp/192.168.0.201:80",
            "udp/192.168.0.200:80",
            "sctp/192.168.0.200:80",
            "tcp/[2001:db8::200]:80",
            "udp/[2001:db8::200]:80",
            "sctp/[2001:db8::200]:65535",
            "fwmark/7",
            "fwmark/4294967295",
            "fwmark6/7",
        ]

    def test_one_that_is_not_there_is_told(self, host: DirectorHost) -> None:
        with pytest.raises(NotFoundError):
            host.virtual_servers.get(WEB)

    def test_without_ipvs_everything_says_so(self, host: DirectorHost) -> None:
        host.ipvs.loaded = False
        for ask in (lambda: plan_create(host, message()), lambda: plan_delete(host), host.virtual_servers.list_all):
            with pytest.raises(LvsError) as caught:
                ask()
            assert caught.value.reason is Reason.IPVS_MISSING

    def test_what_cli_builds_is_what_we_understand(self, host: DirectorHost) -> None:
        operation = operations.create_virtual_server(WEB, "rr", Persistence(timeout=60))
        written(host, host.resources.plan(operation, ()))
        assert host.virtual_servers.get(WEB) == VirtualServer(
            key=WEB, scheduler="rr", persistence=Persistence(timeout=60)
        )
        assert isinstance(WEB, ServiceAddress)
