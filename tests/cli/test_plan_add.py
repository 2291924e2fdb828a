"""The plan of add-backend, as data: which steps in which order, what is left out, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lvsagent.v1 import virtual_server_pb2

from agent_common.address import InterfaceAddress
from agent_common.destination import Forwarding
from agent_common.errors import DiffersError, InvalidInputError, LvsError, NotFoundError, Reason, RefusedError
from agent_common.sockets import Listener
from agent_common.vip import VipMode, VirtualServerHolder
from agent_common.virtual_server import Persistence, Protocol, VirtualServer, parse_key
from agent_realserver.arp import ArpName
from cli import operations
from cli.request import AddBackend
from cli.typed import suggested
from tests.cli.sites import D1, D2, RS1, RS2, SiteInMemory, address, backend, found, table, titles
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, own_address


@pytest.fixture
def site() -> SiteInMemory:
    return SiteInMemory()


def asked(*real_servers: str, **fields: object) -> AddBackend:
    return AddBackend(backend=backend(*real_servers), **fields)  # type: ignore[arg-type]


def refused(site: SiteInMemory, request: AddBackend, kind: type[LvsError], reason: Reason) -> str:
    with pytest.raises(kind) as caught:
        site.add(request)
    assert caught.value.reason is reason
    return "\n".join([caught.value.message, *(each.command for each in suggested(caught.value))])


class TestOrder:
    """Real servers, then that something listens there, then the directors, destinations last."""

    def test_of_one_backend(self, site: SiteInMemory) -> None:
        plan = site.add(asked(RS1))
        assert titles(plan.steps) == [
            f"real server {RS1}: prepare VIP 192.168.0.200 on lo",
            f"real server {RS1}: wait until something takes TCP on 192.168.0.200:80",
            f"director {D1}: add virtual server tcp/192.168.0.200:80",
            f"director {D1}: add VIP 192.168.0.200",
            f"director {D1}: add {RS1}:80 to tcp/192.168.0.200:80",
        ]
        assert (found(plan), plan.warnings) == ([], ())

    def test_of_several_real_servers_destinations_come_once_and_in_one_message(self, site: SiteInMemory) -> None:
        plan = site.add(asked(RS1, RS2))
        assert titles(plan.steps) == [
            f"real server {RS1}: prepare VIP 192.168.0.200 on lo",
            f"real server {RS1}: wait until something takes TCP on 192.168.0.200:80",
            f"real server {RS2}: prepare VIP 192.168.0.200 on lo",
            f"real server {RS2}: wait until something takes TCP on 192.168.0.200:80",
            f"director {D1}: add virtual server tcp/192.168.0.200:80",
            f"director {D1}: add VIP 192.168.0.200",
            f"director {D1}: add {RS1}:80, {RS2}:80 to tcp/192.168.0.200:80",
        ]
        assert [len(step.operations) for step in plan.steps] == [1, 0, 1, 0, 1, 1, 2]

    def test_of_several_directors_no_destination_comes_before_every_virtual_server(self) -> None:
        plan = SiteInMemory((D1, D2)).add(asked(RS1))
        assert titles(plan.whole)[2:] == [
            f"director {D1}: add virtual server tcp/192.168.0.200:80",
            f"director {D1}: add VIP 192.168.0.200",
            f"director {D2}: add virtual server tcp/192.168.0.200:80",
            f"director {D2}: add VIP 192.168.0.200",
            f"director {D1}: add {RS1}:80 to tcp/192.168.0.200:80",
            f"director {D2}: add {RS1}:80 to tcp/192.168.0.200:80",
        ]
        assert (
            plan.following == plan.whole[-1:]
        )  # the authority's destination is the decision: the other's only follows

    def test_every_step_that_changes_something_has_an_undo(self, site: SiteInMemory) -> None:
        for step in site.add(asked(RS1, RS2)).steps:
            assert bool(step.undo) is bool(step.operations)

    def test_a_destination_gets_its_final_weight_at_once(self, site: SiteInMemory) -> None:
        (operation,) = site.add(asked(RS1, weight=7)).steps[-1].operations
        assert operation.create_destination.destination.weight == 7

    def test_carried_out_it_is_what_was_asked_for_and_again_nothing_is_left_to_do(self, site: SiteInMemory) -> None:
        request = asked(RS1, RS2, weight=7, scheduler="rr", persistence=Persistence(timeout=60))
        site.run(site.add(request).whole)
        assert table(site.director, WEB).keys() == {f"{RS1}:80", f"{RS2}:80"}
        assert site.director.virtual_servers.get(WEB).scheduler == "rr"
        again = site.add(request)
        assert again.steps == ()
        assert found(again) == [f"in place: director {D1}: {each}:80 in {WEB}" for each in (RS1, RS2)]

    def test_holds_name_the_authority(self) -> None:
        """Whichever host they are on: the same virtual server of another authority is another holder."""
        site = SiteInMemory((D1, D2))
        site.run(site.add(asked(RS1)).whole)
        expected = (VirtualServerHolder(key=WEB, authority="id-of-d1"),)
        for host in site.hosts[:-1]:
            assert host.vips.get(VIP).holders == expected


class TestMethods:
    """Forwarding decides what a real server needs."""

    def test_nat_puts_nothing_onto_the_real_server_and_asks_its_own_port(self, site: SiteInMemory) -> None:
        plan = site.add(asked(f"{RS1}:8080", forwarding=Forwarding.MASQUERADING))
        assert titles(plan.steps)[0] == f"real server {RS1}: wait until something takes TCP on {RS1}:8080"
        listener = plan.steps[0].listener
        assert listener is not None
        assert (listener.protocol, listener.address, listener.port) == (virtual_server_pb2.PROTOCOL_TCP, RS1, 8080)
        assert not any(step.operations and step.agent.name == RS1 for step in plan.steps)

    def test_a_tunnel_needs_the_vip_as_dr_does(self, site: SiteInMemory) -> None:
        plan = site.add(asked(RS1, forwarding=Forwarding.TUNNELING))
        assert titles(plan.steps)[0] == f"real server {RS1}: prepare VIP 192.168.0.200 on lo"

    def test_of_one_in_place_its_own_method_counts(self, site: SiteInMemory) -> None:
        """A nat destination in place never gets the VIP onto its real server."""
        site.run(site.add(asked(RS1, forwarding=Forwarding.MASQUERADING)).whole)
        assert site.add(asked(RS1)).steps == ()

    def test_the_director_itself_as_real_server_is_prepared_nowhere(self, site: SiteInMemory) -> None:
        plan = site.add(asked("192.168.0.10"))
        assert [step.agent.role.value for step in plan.steps] == ["director"] * 3
        assert "192.168.0.10 is the director itself: nothing is prepared there" in plan.warnings

    def test_dr_needs_the_real_server_on_link_and_a_tunnel_or_nat_only_a_route(self, site: SiteInMemory) -> None:
        site.behind("10.0.0.9")
        said = refused(site, asked("10.0.0.9"), RefusedError, Reason.NOT_ON_LINK)
        assert said.startswith(f"director {D1} reaches 10.0.0.9 through 192.168.0.1; dr needs it on link")
        for method in (Forwarding.TUNNELING, Forwarding.MASQUERADING):
            assert site.add(asked("10.0.0.9", forwarding=method)).steps

    def test_without_a_route_nothing_works(self, site: SiteInMemory) -> None:
        site.real_servers["198.51.100.9"] = site.real_servers[RS1]
        for method in Forwarding.TUNNELING, Forwarding.MASQUERADING, Forwarding.DIRECT_ROUTING:
            request = asked("198.51.100.9", forwarding=method, ask_real_servers=False)
            assert "not at all" in refused(site, request, RefusedError, Reason.NOT_ON_LINK)


class TestReady:
    """Whether something takes what will arrive."""

    def test_it_is_asked_where_traffic_will_arrive(self, site: SiteInMemory) -> None:
        listener = site.add(asked(RS1, ready_timeout=3.5)).steps[1]
        assert listener.listener is not None
        assert (listener.listener.address, listener.listener.port, listener.seconds) == ("192.168.0.200", 80, 3.5)

    def test_without_the_check_nothing_is_asked(self, site: SiteInMemory) -> None:
        assert all(step.listener is None for step in site.add(asked(RS1, ready_timeout=None)).steps)

    def test_with_every_port_there_is_nothing_to_ask_and_that_is_said(self, site: SiteInMemory) -> None:
        request = AddBackend(
            backend=backend(RS1, vip="192.168.0.200:0"), persistence=Persistence(timeout=60), ready_timeout=10
        )
        plan = site.add(request)
        assert all(step.listener is None for step in plan.steps)
        assert any("port 0 means every port" in warning for warning in plan.warnings)

    def test_a_udp_server_on_the_wildcard_gets_a_warning_with_dr_only(self, site: SiteInMemory) -> None:
        for method, warned in ((Forwarding.DIRECT_ROUTING, True), (Forwarding.MASQUERADING, False)):
            request = AddBackend(backend=backend(RS1, protocol="udp"), forwarding=method)
            (waiting,) = [step for step in site.add(request).steps if step.listener]
            assert bool(waiting.wildcard_warning) is warned

    def test_one_in_place_is_not_asked(self, site: SiteInMemory) -> None:
        site.run(site.add(asked(RS1)).whole)
        assert not any(f"real server {RS1}" in title for title in titles(site.add(asked(RS1, RS2)).steps))


class TestInPlace:
    """What is there is left there."""

    def test_of_two_the_one_in_place_is_left_out_of_steps_and_undo(self, site: SiteInMemory) -> None:
        site.run(site.add(asked(RS1)).whole)
        plan = site.add(asked(RS1, RS2))
        assert titles(plan.steps) == [
            f"real server {RS2}: prepare VIP 192.168.0.200 on lo",
            f"real server {RS2}: wait until something takes TCP on 192.168.0.200:80",
            f"director {D1}: add {RS2}:80 to tcp/192.168.0.200:80",
        ]
        assert found(plan) == [f"in place: director {D1}: {RS1}:80 in {WEB}"]
        assert plan.steps[-1].undo == f"remove {RS2}:80"

    def test_on_one_director_in_place_the_other_catches_up(self) -> None:
        site = SiteInMemory((D1, D2))
        site.run(site.add(asked(RS1)).whole)
        site.directors[D2].ipvs.remove_virtual_server(WEB)
        plan = site.add(asked(RS1))
        assert [title for title in titles(plan.steps) if "director" in title] == [
            f"director {D2}: add virtual server tcp/192.168.0.200:80",
            f"director {D2}: add {RS1}:80 to tcp/192.168.0.200:80",
        ]
        assert found(plan) == [f"in place: director {D1}: {RS1}:80 in {WEB}"]

    def test_what_one_director_has_lost_is_made_as_the_other_has_it(self) -> None:
        """Else it would come back as dr, without a VIP on the real server, with another weight and scheduler."""
        site = SiteInMemory((D1, D2))
        nat = asked(RS1, forwarding=Forwarding.MASQUERADING, weight=7, scheduler="rr")
        site.run(site.add(replace(nat, persistence=Persistence(timeout=60))).whole)
        site.directors[D2].ipvs.remove_virtual_server(WEB)
        site.run(site.add(asked(RS1)).whole)
        first, second = (host.ipvs for host in site.directors.values())
        assert first.virtual_servers() == second.virtual_servers()
        assert [each.destination for each in first.destinations(WEB)] == [
            each.destination for each in second.destinations(WEB)
        ]

    def test_a_vip_that_a_real_server_lost_is_put_back(self, site: SiteInMemory) -> None:
        site.run(site.add(asked(RS1)).whole)
        site.real_servers[RS1].addresses.remove_address(VIP, 32, "lo")
        assert titles(site.add(asked(RS1)).steps) == [f"real server {RS1}: prepare VIP 192.168.0.200 on lo"]

    def test_a_foreign_destination_that_is_equal_is_in_place_and_said_to_be_foreign(self, site: SiteInMemory) -> None:
        site.director.ipvs.add_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
        site.director.ipvs.add_destination(WEB, destination(weight=5))
        plan = site.add(asked(RS1, RS2))
        assert found(plan) == [f"foreign: director {D1}: {RS1}:80 in {WEB} was not made by lvs, and stays so"]
        assert titles(plan.steps)[-1] == f"director {D1}: add {RS2}:80 to tcp/192.168.0.200:80"
        site.run(plan.whole)
        assert not site.director.destinations.get(WEB, destination().key).managed

    def test_the_real_server_of_a_foreign_destination_is_left_alone(self, site: SiteInMemory) -> None:
        """A hold there would be given back by nobody: a removal leaves foreign destinations where they are."""
        site.director.ipvs.add_virtual_server(VirtualServer(key=WEB))
        site.director.ipvs.add_destination(WEB, destination())
        plan = site.add(asked(RS1, RS2))
        assert not any(step.agent.name == RS1 for step in plan.steps)
        site.run(plan.whole)
        assert site.real_servers[RS1].vips.list_all() == []

    def test_a_site_that_is_foreign_as_a_whole_gets_no_hold_of_ours(self, site: SiteInMemory) -> None:
        site.director.addresses.put(own_address(str(VIP)))
        site.director.ipvs.add_virtual_server(VirtualServer(key=WEB))
        site.director.ipvs.add_destination(WEB, destination())
        assert titles(site.add(asked(RS1)).steps) == []

    def test_a_vip_that_a_foreign_site_lacks_is_added(self, site: SiteInMemory) -> None:
        site.director.ipvs.add_virtual_server(VirtualServer(key=WEB))
        site.director.ipvs.add_destination(WEB, destination())
        assert titles(site.add(asked(RS1)).steps) == [f"director {D1}: add VIP {VIP}"]

    def test_nothing_at_all_to_do_says_so(self) -> None:
        site = SiteInMemory()
        site.run(site.add(asked(RS1)).whole)
        assert site.add(asked(RS1)).lines() == [f"in place: director {D1}: {RS1}:80 in {WEB}"]


class TestRefusals:
    """Named with the thing and with what to type, before anything is changed."""

    def test_what_differs_names_the_command_that_changes_it(self, site: SiteInMemory) -> None:
        site.run(site.add(asked(RS1, weight=5)).whole)
        said = refused(site, asked(RS1, weight=6), DiffersError, Reason.DESTINATION_DIFFERS)
        assert said == (
            f"director {D1}: {RS1}:80 of {WEB} is there with weight 5, not 6\n"
            f"lvs weight --vip 192.168.0.200:80 --rs {RS1}:80 6"
        )
        method = asked(RS1, forwarding=Forwarding.TUNNELING)
        assert "forwarding method dr, not tun" in refused(site, method, DiffersError, Reason.DESTINATION_DIFFERS)

    def test_one_that_drains_names_undrain(self, site: SiteInMemory) -> None:
        site.run(site.add(asked(RS1)).whole)
        drain = operations.update_destination(WEB, destination().key, draining=True)
        site.director.resources.write(site.director.resources.plan(drain, ()))
        said = refused(site, asked(RS1), DiffersError, Reason.DESTINATION_DRAINING)
        assert said.endswith(f"lvs undrain --vip 192.168.0.200:80 --rs {RS1}:80")

    def test_one_at_weight_zero_names_weight(self, site: SiteInMemory) -> None:
        site.run(site.add(asked(RS1, weight=0)).whole)
        said = refused(site, asked(RS1), DiffersError, Reason.DESTINATION_DIFFERS)
        assert said.endswith(f"lvs weight --vip 192.168.0.200:80 --rs {RS1}:80 1")

    def test_a_virtual_server_that_differs_from_given_options_is_not_changed(self, site: SiteInMemory) -> None:
        site.run(site.add(asked(RS1)).whole)
        said = refused(site, asked(RS2, scheduler="rr"), DiffersError, Reason.VIRTUAL_SERVER_DIFFERS)
        assert "scheduler wlc, not rr" in said
        assert f"lvs service edit {WEB}" in said
        assert site.add(asked(RS2, scheduler="wlc")).steps

    def test_the_hint_names_the_protocol_where_it_is_not_tcp(self, site: SiteInMemory) -> None:
        request = AddBackend(backend=backend(RS1, protocol="udp"), weight=5)
        site.run(site.add(request).whole)
        other = AddBackend(backend=backend(RS1, protocol="udp"), weight=6)
        said = refused(site, other, DiffersError, Reason.DESTINATION_DIFFERS)
        assert said.endswith(f"lvs weight --vip 192.168.0.200:80 --protocol udp --rs {RS1}:80 6")

    def test_without_create_the_virtual_server_must_be_there(self, site: SiteInMemory) -> None:
        said = refused(site, asked(RS1, create=False), NotFoundError, Reason.VIRTUAL_SERVER_NOT_FOUND)
        assert "--no-create was given" in said
        site.run(site.add(asked(RS1)).whole)
        assert site.add(asked(RS2, create=False)).steps

    def test_a_new_virtual_server_with_every_port_must_be_persistent_and_one_that_is_there_need_not_be_told(
        self, site: SiteInMemory
    ) -> None:
        every = backend(RS1, vip="192.168.0.200:0")
        with pytest.raises(InvalidInputError, match="--persistent") as caught:
            site.add(AddBackend(backend=every))
        assert caught.value.field == "persistent"
        site.run(site.add(AddBackend(backend=every, persistence=Persistence(timeout=60))).whole)
        assert site.add(AddBackend(backend=backend(RS2, vip="192.168.0.200:0"))).steps

    def test_something_that_listens_on_the_director_is_not_shadowed(self, site: SiteInMemory) -> None:
        site.director.sockets.bound.append(Listener(protocol=Protocol.TCP, address=VIP, port=80))
        said = refused(site, asked(RS1), RefusedError, Reason.LISTENER_SHADOWED)
        assert said.startswith(f"director {D1}: cannot serve {WEB} on this director: something listens on")

    def test_what_a_real_server_refuses_comes_with_its_name(self, site: SiteInMemory) -> None:
        site.real_servers[RS2].sysctls.write("eth0", ArpName.IGNORE, 3)
        said = refused(site, asked(RS1, RS2), RefusedError, Reason.ARP_NOT_SILENT)
        assert said.startswith(f"real server {RS2}: cannot silence this host: eth0 would answer ARP")

    def test_an_agent_of_another_host_is_found_out(self, site: SiteInMemory) -> None:
        """--rs-agent with the wrong endpoint must not prepare the wrong host."""
        site.real_servers[RS1] = site.real_servers[RS2]
        said = refused(site, asked(RS1), RefusedError, Reason.NOT_ON_LINK)
        assert f"the agent of real server {RS1} runs on another host" in said

    def test_a_vip_that_is_the_real_servers_own_address_is_refused(self, site: SiteInMemory) -> None:
        site.real_servers[RS1].addresses.put(InterfaceAddress(address=VIP, prefix_length=24, device="eth0"))
        refused(site, asked(RS1), RefusedError, Reason.VIP_IS_HOST_ADDRESS)

    def test_a_vip_from_which_a_director_comes_is_refused(self, site: SiteInMemory) -> None:
        request = AddBackend(backend=backend(RS1, vip="192.168.0.10:80"))
        said = refused(site, request, RefusedError, Reason.VIP_CUTS_PATH)
        assert "a director reaches this host from it" in said

    def test_the_mode_of_a_vip_that_is_in_use_is_not_changed(self, site: SiteInMemory) -> None:
        site.run(site.add(asked(RS1)).whole)
        other = AddBackend(backend=backend(RS1, vip="192.168.0.200:443"), vip_mode=VipMode.EXTERNAL)
        refused(site, other, RefusedError, Reason.VIP_MODE_DIFFERS)

    def test_a_subnet_without_an_interface_must_be_named(self, site: SiteInMemory) -> None:
        request = AddBackend(backend=backend(RS1, vip="198.51.100.7:80"))
        with pytest.raises(InvalidInputError, match="name the interface"):
            site.add(request)
        assert site.add(AddBackend(backend=request.backend, vip_device="eth0")).steps


class TestVips:
    """The VIP on directors."""

    def test_with_one_director_its_agent_adds_it(self, site: SiteInMemory) -> None:
        site.run(site.add(asked(RS1)).whole)
        assert site.director.vips.get(VIP).present_device == "eth0"

    def test_with_several_something_else_does(self) -> None:
        site = SiteInMemory((D1, D2))
        site.run(site.add(asked(RS1)).whole)
        for host in site.directors.values():
            vip = host.vips.get(VIP)
            assert (vip.mode, vip.present) == (VipMode.EXTERNAL, False)

    def test_in_external_mode_one_director_adds_nothing_either(self, site: SiteInMemory) -> None:
        site.run(site.add(asked(RS1, vip_mode=VipMode.EXTERNAL)).whole)
        assert not site.director.vips.get(VIP).present

    def test_a_vip_comes_after_its_virtual_server(self, site: SiteInMemory) -> None:
        """The other way round the director's own TCP would reset connections."""
        kinds = [step.operations[0].WhichOneof("operation") for step in site.add(asked(RS1)).steps if step.operations]
        assert kinds == ["create_vip", "create_virtual_server", "create_vip", "create_destination"]


class TestWarnings:
    """What the operator should know before."""

    def test_a_newcomer_under_a_scheduler_that_counts_connections(self, site: SiteInMemory) -> None:
        for scheduler, warned in (("wlc", True), ("rr", False), ("lc", True), ("sh", False)):
            site = SiteInMemory()
            site.run(site.add(asked(RS1, scheduler=scheduler)).whole)
            said = f"director {D1}: under {scheduler} a newcomer gets all new connections until it has caught up"
            assert (said in site.add(asked(RS2)).warnings) is warned

    def test_who_is_there_already_is_no_newcomer(self, site: SiteInMemory) -> None:
        site.run(site.add(asked(RS1, RS2)).whole)
        assert not any("newcomer" in warning for warning in site.add(asked(RS2)).warnings)

    def test_the_first_has_nobody_to_catch_up_with(self, site: SiteInMemory) -> None:
        assert not any("newcomer" in warning for warning in site.add(asked(RS1, RS2)).warnings)

    def test_a_real_server_that_is_not_asked(self, site: SiteInMemory) -> None:
        plan = site.add(asked(RS1, ask_real_servers=False, ready_timeout=None))
        assert any(warning.startswith(f"{RS1}: its agent is not asked") for warning in plan.warnings)
        assert all(step.agent.name != RS1 for step in plan.steps)

    def test_strict_reverse_path_filters_with_two_interfaces(self, site: SiteInMemory) -> None:
        site.settings[RS1] = {"ipv4/conf/all/rp_filter": 1}
        assert not site.add(asked(RS1)).warnings
        site.real_servers[RS1].addresses.put(
            InterfaceAddress(address=address("10.0.0.1"), prefix_length=24, device="eth0")
        )
        assert not site.add(asked(RS1)).warnings

    def test_what_nat_needs_of_the_director_and_of_the_way_back(self, site: SiteInMemory) -> None:
        nat = asked(RS1, forwarding=Forwarding.MASQUERADING)
        warnings = site.add(nat).warnings
        assert f"director {D1}: net/ipv4/ip_forward is 0: packets of nat are not forwarded" in warnings
        assert any("answers of nat get lost" in warning for warning in warnings)
        site.settings[D1] = {"ipv4/ip_forward": 1, "ipv4/conf/all/send_redirects": 1}
        warnings = site.add(nat).warnings
        assert not any("ip_forward" in warning for warning in warnings)
        assert any("send_redirects is on for eth0" in warning for warning in warnings)


def test_a_dry_run_prints_every_step_with_what_it_does_and_how_it_is_undone(site: SiteInMemory) -> None:
    assert site.add(asked(RS1)).lines() == [
        f"1. real server {RS1}: prepare VIP 192.168.0.200 on lo",
        "   - set all/arp_ignore from 0 to 1",
        "   - set all/arp_announce from 0 to 2",
        "   - set lo/arp_ignore from 0 to 1",
        "   - set lo/arp_announce from 0 to 2",
        "   - add 192.168.0.200/32 to lo",
        "   - add route 192.168.0.200 scope host dev lo",
        f"   - hold VIP 192.168.0.200 for {WEB}",
        "   undo: give VIP 192.168.0.200 back, with what this made",
        f"2. real server {RS1}: wait until something takes TCP on 192.168.0.200:80",
        f"3. director {D1}: add virtual server {WEB}",
        f"   - add virtual server {WEB} wlc",
        f"   undo: remove virtual server {WEB}",
        f"4. director {D1}: add VIP 192.168.0.200",
        "   - add 192.168.0.200/32 to eth0",
        "   - add route 192.168.0.200 scope host dev eth0",
        f"   - hold VIP 192.168.0.200 for {WEB}",
        "   undo: give VIP 192.168.0.200 back",
        f"5. director {D1}: add {RS1}:80 to {WEB}",
        f"   - add {RS1}:80 to {WEB}, dr, weight 1",
        f"   undo: remove {RS1}:80",
    ]


def test_a_plan_changes_nothing(site: SiteInMemory) -> None:
    site.add(asked(RS1, RS2))
    assert site.director.ipvs.virtual_servers() == []
    assert site.director.vips.list_all() == site.real_servers[RS1].vips.list_all() == []
    assert site.real_servers[RS1].sysctls.writes == []


def test_ipv6_has_no_sysctls_and_no_route(site: SiteInMemory) -> None:
    host = site.real_servers[RS1]
    host.addresses.put(InterfaceAddress(address=address("2001:db8::104"), prefix_length=64, device="eth0"))
    site.real_servers["2001:db8::104"] = host
    plan = site.add(AddBackend(backend=backend("2001:db8::104", vip="[2001:db8::200]:80")))
    key = parse_key("tcp/[2001:db8::200]:80")
    assert plan.steps[0].details == ("add 2001:db8::200/128 to lo", f"hold VIP 2001:db8::200 for {key}")
    assert titles(plan.steps)[-1] == f"director {D1}: add [2001:db8::104]:80 to {key}"
