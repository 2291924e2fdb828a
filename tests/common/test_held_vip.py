"""VIPs that are held: what comes with the first holder, goes with the last, and is nobody else's business."""

from __future__ import annotations

import dataclasses

import pytest
from lvsagent.v1 import vip_pb2

from agent_common.address import Device, InterfaceAddress
from agent_common.changes import Outcome, Reverted
from agent_common.errors import ConflictError, InvalidInputError, NotFoundError, Reason, RefusedError
from agent_common.fake_address import ETHERNET_DEVICE, LOOPBACK_DEVICE, FakeAddresses, Gateway
from agent_common.fake_state import FakeState
from agent_common.operation import Change, Operation
from agent_common.sockets import Connection
from agent_common.vip import Holder, OperatorHolder, Vip, VipMode
from agent_common.virtual_server import IpAddress, VirtualServer, parse_key
from agent_realserver.arp import ALL, ArpName
from agent_realserver.fake_arp import FakeArpSysctls
from cli import operations
from tests.hosts import VIP, VIP6, WEB, WEB6, DirectorHost, RealServerHost, holder, own_address

Host = DirectorHost | RealServerHost

A = holder(WEB)
B = holder("tcp/192.168.0.200:443")
OPERATOR = OperatorHolder(name="me")

OTHER_VIP = own_address("192.168.0.201").address
ORIGINALS = {(ALL, ArpName.IGNORE): 0, (ALL, ArpName.ANNOUNCE): 1, ("lo", ArpName.IGNORE): 0}


def create(host: Host, by: Holder = A, address: IpAddress = VIP, **fields: object) -> Change:
    """Plan and write, as a change does; returns the change as the record keeps it."""
    request = operations.create_vip(address, by, **fields).create_vip  # type: ignore[arg-type]
    change = host.vips.plan_create(request)
    if change.made:
        host.vips.write(change.vip)
    return Change.FromString(change.SerializeToString())


def delete(host: Host, by: Holder = A, address: IpAddress = VIP, **fields: bool) -> Change:
    """Plan and write, as a change does; returns the change as the record keeps it."""
    request = operations.delete_vip(address, by).delete_vip
    request.allow_missing = False
    for name, value in fields.items():
        setattr(request, name, value)
    change = host.vips.plan_delete(request)
    if change.made:
        change.actions.extend(host.vips.write(change.vip))
    return Change.FromString(change.SerializeToString())


def revert(host: Host, change: Change) -> Reverted:
    return host.vips.revert(change.vip)


def places(host: Host, address: IpAddress = VIP) -> list[str]:
    """Return where an address stands on a host."""
    return [f"{each.device}/{each.prefix_length}" for each in host.addresses.addresses() if each.address == address]


def has_route(host: Host, device: str) -> bool:
    return host.addresses.has_host_route(VIP, device)


def by_hand(host: Host, device: str = "lo", prefix_length: int = 32, address: IpAddress = VIP) -> None:
    """Add an address as somebody with `ip address add` would."""
    host.addresses.put(InterfaceAddress(address=address, prefix_length=prefix_length, device=device))


def sysctls(host: RealServerHost) -> list[int]:
    return [host.sysctls.read(interface, name) for interface in (ALL, "lo") for name in ArpName]


SILENT = [1, 2, 1, 2]


@pytest.fixture
def rs() -> RealServerHost:
    return RealServerHost()


@pytest.fixture
def director() -> DirectorHost:
    return DirectorHost()


class TestRealServer:
    """On lo, silenced."""

    def test_the_first_holder_brings_sysctls_address_and_route_in_that_order(self, rs: RealServerHost) -> None:
        change = create(rs)
        assert places(rs) == ["lo/32"]
        assert has_route(rs, "lo")
        assert sysctls(rs) == SILENT
        assert list(change.actions) == [
            "set all/arp_ignore from 0 to 1",
            "set all/arp_announce from 0 to 2",
            "set lo/arp_ignore from 0 to 1",
            "set lo/arp_announce from 0 to 2",
            "add 192.168.0.200/32 to lo",
            "add route 192.168.0.200 scope host dev lo",
            f"hold VIP 192.168.0.200 for {WEB}",
        ]

    def test_the_last_holder_takes_all_of_it_away(self, rs: RealServerHost) -> None:
        create(rs, A)
        create(rs, B)
        delete(rs, A)
        assert (places(rs), has_route(rs, "lo"), sysctls(rs)) == (["lo/32"], True, SILENT)
        change = delete(rs, B)
        assert (places(rs), has_route(rs, "lo"), sysctls(rs)) == ([], False, [0, 0, 0, 0])
        assert list(change.actions) == [
            "remove route 192.168.0.200 scope host dev lo",
            "remove 192.168.0.200/32 from lo",
            "set lo/arp_announce back to 0",
            "set lo/arp_ignore back to 0",
            "set all/arp_announce back to 0",
            "set all/arp_ignore back to 0",
        ]
        assert rs.vips.list_all() == []

    def test_originals_that_were_not_the_default_come_back_exactly(self) -> None:
        values = {(ALL, ArpName.IGNORE): 3, (ALL, ArpName.ANNOUNCE): 1, ("lo", ArpName.ANNOUNCE): 1}
        rs = RealServerHost(sysctls=FakeArpSysctls(values=values))
        create(rs)
        assert sysctls(rs) == SILENT
        delete(rs)
        assert sysctls(rs) == [3, 1, 0, 1]

    def test_originals_come_back_although_the_agent_was_restarted(self, rs: RealServerHost) -> None:
        create(rs)
        delete(rs.restarted())
        assert sysctls(rs) == [0, 0, 0, 0]

    def test_originals_come_back_with_the_last_vip_only(self, rs: RealServerHost) -> None:
        create(rs, A, VIP)
        create(rs, B, OTHER_VIP)
        delete(rs, A, VIP)
        assert sysctls(rs) == SILENT
        delete(rs, B, OTHER_VIP)
        assert sysctls(rs) == [0, 0, 0, 0]

    def test_a_sysctl_that_somebody_changed_meanwhile_is_not_put_back(self, rs: RealServerHost) -> None:
        create(rs)
        rs.sysctls.write(ALL, ArpName.IGNORE, 8)
        change = delete(rs)
        assert sysctls(rs) == [8, 0, 0, 0]
        assert "all/arp_ignore stays 8: somebody changed it from 1" in change.actions

    def test_sysctls_that_were_made_loud_by_hand_are_silenced_again_and_the_first_originals_come_back(
        self, rs: RealServerHost
    ) -> None:
        create(rs, A)
        rs.sysctls.write(ALL, ArpName.IGNORE, 3)
        create(rs, B)
        assert sysctls(rs) == SILENT
        delete(rs, A)
        delete(rs, B)
        assert sysctls(rs) == [0, 0, 0, 0]

    def test_a_revert_never_makes_a_vip_loud_that_others_hold(self, rs: RealServerHost) -> None:
        """Not even to bring back what was before: a loud VIP on lo steals the traffic (P1)."""
        create(rs, A)
        rs.sysctls.write(ALL, ArpName.IGNORE, 0)
        change = create(rs, B)
        assert sysctls(rs) == SILENT
        assert revert(rs, change).outcome is Outcome.KEPT
        assert sysctls(rs) == SILENT
        delete(rs, A)
        assert sysctls(rs) == [0, 0, 0, 0]

    def test_an_ipv6_vip_needs_neither_sysctls_nor_route(self, rs: RealServerHost) -> None:
        change = create(rs, holder(WEB6), VIP6)
        assert places(rs, VIP6) == ["lo/128"]
        assert (sysctls(rs), rs.sysctls.writes) == ([0, 0, 0, 0], [])
        assert list(change.actions) == ["add 2001:db8::200/128 to lo", f"hold VIP 2001:db8::200 for {WEB6}"]
        delete(rs, holder(WEB6), VIP6)
        assert places(rs, VIP6) == []

    def test_an_interface_that_would_still_answer_refuses_the_vip_and_nothing_is_changed(self) -> None:
        rs = RealServerHost(sysctls=FakeArpSysctls(values={("eth0", ArpName.IGNORE): 3}))
        with pytest.raises(RefusedError, match="sysctl -w net/ipv4/conf/eth0/arp_ignore=1") as caught:
            create(rs)
        assert caught.value.reason is Reason.ARP_NOT_SILENT
        assert (places(rs), rs.sysctls.writes, rs.vips.list_all()) == ([], [], [])

    def test_an_interface_that_became_loud_while_it_was_silenced_leaves_no_vip(self, rs: RealServerHost) -> None:
        """The address comes after the judgement, never before."""
        change = rs.vips.plan_create(operations.create_vip(VIP, A).create_vip)
        rs.sysctls.write("eth0", ArpName.IGNORE, 3)
        with pytest.raises(RefusedError):
            rs.vips.write(change.vip)
        assert places(rs) == []
        revert(rs, change)
        assert (sysctls(rs), rs.vips.list_all()) == ([0, 0, 0, 0], [])

    def test_while_a_foreign_address_is_left_on_lo_the_host_stays_silent(self, rs: RealServerHost) -> None:
        """Else this host would begin to answer ARP for that one."""
        by_hand(rs, address=OTHER_VIP)
        create(rs)
        change = delete(rs)
        assert sysctls(rs) == SILENT
        assert any("ARP sysctls stay: 192.168.0.201 would be answered for" in line for line in change.actions)
        rs.addresses.remove_address(OTHER_VIP, 32, "lo")
        create(rs)
        delete(rs)
        assert sysctls(rs) == [0, 0, 0, 0]

    def test_addresses_on_tunnel_devices_count_as_those_on_lo(self) -> None:
        tunnel = Device(name="tunl0", kind="ipip", does_arp=False, up=True)
        rs = RealServerHost(addresses=FakeAddresses(devices=(LOOPBACK_DEVICE, ETHERNET_DEVICE, tunnel)))
        by_hand(rs, "tunl0", address=OTHER_VIP)
        create(rs)
        delete(rs)
        assert sysctls(rs) == SILENT
        by_hand(rs, "tunl0")
        assert not any("add 192.168.0.200" in line for line in create(rs).actions)

    def test_an_operator_holds_the_silence_beyond_the_last_vip(self, rs: RealServerHost) -> None:
        silence = Operation()
        silence.silence_arp.operator = "me"
        hold = rs.silence.plan_hold(silence.silence_arp)
        rs.silence.write(hold.arp)
        assert sysctls(rs) == SILENT
        create(rs)
        delete(rs)
        assert sysctls(rs) == SILENT
        rs.silence.revert(hold.arp)
        assert (sysctls(rs), rs.silence.operators()) == ([0, 0, 0, 0], [])

    def test_taking_back_an_operators_silence_leaves_that_of_a_vip(self, rs: RealServerHost) -> None:
        """The operator came first and wrote the sysctls; the VIP that came later relies on them."""
        silence = Operation()
        silence.silence_arp.operator = "me"
        hold = rs.silence.plan_hold(silence.silence_arp)
        rs.silence.write(hold.arp)
        create(rs)
        rs.silence.revert(hold.arp)
        assert (sysctls(rs), rs.silence.operators()) == (SILENT, [])
        delete(rs)
        assert sysctls(rs) == [0, 0, 0, 0]

    def test_an_operator_gives_up_the_silence_although_the_host_is_loud_by_now(self, rs: RealServerHost) -> None:
        silence = Operation()
        silence.silence_arp.operator = silence.silence_arp.operator = "me"
        rs.silence.write(rs.silence.plan_hold(silence.silence_arp).arp)
        rs.sysctls.write("eth0", ArpName.IGNORE, 3)
        restore = Operation()
        restore.restore_arp.operator = "me"
        rs.silence.write(rs.silence.plan_give_up(restore.restore_arp).arp)
        assert (sysctls(rs), rs.silence.operators()) == ([0, 0, 0, 0], [])

    @pytest.mark.parametrize("prefix_length", [24, 32])
    def test_a_vip_that_is_the_hosts_own_address_is_refused(self, rs: RealServerHost, prefix_length: int) -> None:
        by_hand(rs, "eth0", prefix_length)
        with pytest.raises(
            RefusedError, match="own address on eth0; with dr or tun it cannot be, with nat it can"
        ) as e:
            create(rs)
        assert e.value.reason is Reason.VIP_IS_HOST_ADDRESS

    def test_a_vip_that_would_cut_a_path_of_the_host_is_refused(self) -> None:
        router = Gateway(network=own_address("0.0.0.0", 0).address, address=VIP, device="eth0")  # type: ignore[arg-type]
        cases = {
            "a name server of this host": RealServerHost(name_servers=[VIP]),
            "the next hop of a route": RealServerHost(addresses=FakeAddresses(gateways=[router])),
        }
        for why, rs in cases.items():
            with pytest.raises(RefusedError, match=why) as caught:
                create(rs)
            assert caught.value.reason is Reason.VIP_CUTS_PATH
        with pytest.raises(RefusedError, match="a director reaches this host from it"):
            create(RealServerHost(), director_addresses=(str(VIP),), force=True)

    def test_a_vip_that_the_host_is_connected_to_is_refused_unless_forced(self, rs: RealServerHost) -> None:
        own = own_address("192.168.0.104").address
        rs.sockets.connections.append(
            Connection(local_address=own, local_port=4000, remote_address=VIP, remote_port=80)
        )
        with pytest.raises(RefusedError, match=r"1 connections? open to VIP 192\.168\.0\.200.*use --force") as caught:
            create(rs)
        assert caught.value.reason is Reason.VIP_IN_USE
        create(rs, force=True)
        assert places(rs) == ["lo/32"]

    def test_a_virtual_server_that_this_host_serves_itself_is_refused(self) -> None:
        with pytest.raises(RefusedError, match="packets would circle") as caught:
            create(RealServerHost(serves=lambda key: key == WEB))
        assert caught.value.reason is Reason.IPVS_ON_REAL_SERVER

    def test_a_vip_goes_on_lo_and_nowhere_else(self, rs: RealServerHost) -> None:
        with pytest.raises(InvalidInputError, match="goes on lo") as caught:
            create(rs, device="eth0")
        assert caught.value.field == "vip.device"


@pytest.fixture(params=["director", "real server"])
def host(request: pytest.FixtureRequest) -> Host:
    return DirectorHost() if request.param == "director" else RealServerHost()


def device_of(host: Host) -> str:
    return "eth0" if isinstance(host, DirectorHost) else "lo"


class TestBoth:
    """What directors and real servers have in common."""

    def test_a_second_holder_changes_nothing_but_the_record(self, host: Host) -> None:
        create(host, A)
        change = create(host, B)
        assert (change.made, list(change.actions)) == (True, [f"hold VIP {VIP} for {B.label}"])
        assert set(host.vips.get(VIP).holders) == {A, B}

    def test_the_same_holder_again_is_in_place(self, host: Host) -> None:
        create(host, A)
        assert not create(host, A).made

    def test_holders_differ_by_key_and_by_authority(self, host: Host) -> None:
        """Two directors may each have a virtual server of the same key."""
        create(host, holder(WEB, "director-1"))
        assert create(host, holder(WEB, "director-2")).made
        delete(host, holder(WEB, "director-1"))
        assert places(host) == [f"{device_of(host)}/32"]

    def test_an_operator_is_a_holder_like_any_other(self, host: Host) -> None:
        create(host, A)
        create(host, OPERATOR)
        delete(host, A)
        assert host.vips.get(VIP).holders == (OPERATOR,)
        delete(host, OPERATOR)
        assert places(host) == []

    def test_holds_outlive_the_agent(self, host: Host) -> None:
        create(host, A)
        again = host.restarted()
        assert again.vips.get(VIP) == host.vips.get(VIP)
        assert again.vips.made(VIP)

    def test_who_does_not_hold_it_cannot_give_it_up(self, host: Host) -> None:
        create(host, A)
        with pytest.raises(NotFoundError, match=f"{B.label} does not hold VIP") as caught:
            delete(host, B)
        assert caught.value.reason is Reason.VIP_NOT_FOUND
        assert not delete(host, B, allow_missing=True).made
        assert host.vips.get(VIP).holders == (A,)

    def test_a_vip_that_nobody_ever_held_can_be_missing(self, host: Host) -> None:
        with pytest.raises(NotFoundError):
            delete(host, A)
        assert not delete(host, A, allow_missing=True).made

    @pytest.mark.parametrize("prefix_length", [24, 32])
    def test_a_foreign_address_is_held_but_not_ours_and_stays(self, host: Host, prefix_length: int) -> None:
        """It counts as present whatever its prefix length; no second one is put beside it."""
        by_hand(host, device_of(host), prefix_length)
        change = create(host)
        assert change.foreign
        assert not host.vips.made(VIP)
        assert places(host) == [f"{device_of(host)}/{prefix_length}"]
        assert not has_route(host, device_of(host))
        change = delete(host)
        assert places(host) == [f"{device_of(host)}/{prefix_length}"]
        assert list(change.warnings) == [f"VIP {VIP} stays on {device_of(host)}: this agent did not add it"]

    def test_a_foreign_address_stays_even_when_it_is_forced_out(self, host: Host) -> None:
        by_hand(host, device_of(host))
        create(host)
        delete(host, force=True)
        assert places(host) == [f"{device_of(host)}/32"]

    def test_an_address_of_ours_that_was_replaced_by_hand_is_not_ours_any_more(self, host: Host) -> None:
        create(host)
        host.addresses.remove_address(VIP, 32, device_of(host))
        by_hand(host, device_of(host), 24)
        assert not host.vips.get(VIP).made_address
        delete(host)
        assert places(host) == [f"{device_of(host)}/24"]
        assert not has_route(host, device_of(host))

    def test_an_address_that_was_deleted_by_hand_is_put_back_by_the_next_who_asks(self, host: Host) -> None:
        create(host, A)
        host.addresses.remove_address(VIP, 32, device_of(host))
        change = create(host, A)
        assert list(change.actions) == [f"add {VIP}/32 to {device_of(host)}"]
        assert places(host) == [f"{device_of(host)}/32"]
        delete(host, A)
        assert (places(host), has_route(host, device_of(host))) == ([], False)

    def test_a_route_that_was_deleted_by_hand_is_put_back_by_the_next_who_asks(self, host: Host) -> None:
        create(host, A)
        host.addresses.remove_host_route(VIP, device_of(host))
        assert list(create(host, A).actions) == [f"add route {VIP} scope host dev {device_of(host)}"]
        delete(host, A)
        assert not has_route(host, device_of(host))

    def test_what_was_deleted_by_hand_is_no_obstacle_to_giving_it_up(self, host: Host) -> None:
        create(host, A)
        host.addresses.remove_address(VIP, 32, device_of(host))
        host.addresses.remove_host_route(VIP, device_of(host))
        delete(host, A)
        assert host.vips.list_all() == []

    def test_a_route_that_stood_there_before_is_left(self, host: Host) -> None:
        host.addresses.add_host_route(VIP, device_of(host))
        create(host)
        delete(host)
        assert (places(host), has_route(host, device_of(host))) == ([], True)

    def test_a_revert_takes_back_all_that_the_first_holder_brought(self, host: Host) -> None:
        change = create(host, A)
        assert revert(host, change).outcome is Outcome.REVERTED
        assert (places(host), has_route(host, device_of(host)), host.vips.list_all()) == ([], False, [])

    def test_a_revert_leaves_a_vip_that_others_hold_by_now(self, host: Host) -> None:
        change = create(host, A)
        create(host, B)
        ended = revert(host, change)
        assert ended.outcome is Outcome.KEPT
        assert ended.details == (f"VIP {VIP} stays: {B.label} needs it by now",)
        assert host.vips.get(VIP).holders == (B,)
        delete(host, B)
        assert (places(host), has_route(host, device_of(host))) == ([], False)

    def test_a_revert_of_a_later_hold_leaves_the_first_and_the_vip(self, host: Host) -> None:
        create(host, A)
        change = create(host, B)
        ended = revert(host, change)
        assert ended.outcome is Outcome.REVERTED
        assert ended.details == (f"VIP {VIP} is no longer held for {B.label}",)
        assert host.vips.get(VIP).holders == (A,)
        assert places(host) == [f"{device_of(host)}/32"]

    def test_a_revert_after_the_first_holder_has_left_takes_the_vip_away(self, host: Host) -> None:
        """Nobody needs it any more, and the agent made it: with another change, but it did."""
        create(host, A)
        change = create(host, B)
        delete(host, A)
        assert revert(host, change).outcome is Outcome.REVERTED
        assert (places(host), has_route(host, device_of(host)), host.vips.list_all()) == ([], False, [])

    def test_a_revert_leaves_an_address_that_it_put_back_for_a_holder_who_is_still_there(self, host: Host) -> None:
        """Address and route go with the last holder, and not before (P4)."""
        create(host, A)
        host.addresses.remove_address(VIP, 32, device_of(host))
        change = create(host, B)
        ended = revert(host, change)
        assert ended.outcome is Outcome.KEPT
        assert places(host) == [f"{device_of(host)}/32"]
        delete(host, A)
        assert places(host) == []

    def test_a_revert_of_a_hold_on_a_foreign_address_leaves_the_address(self, host: Host) -> None:
        by_hand(host, device_of(host))
        change = create(host)
        assert revert(host, change).outcome is Outcome.REVERTED
        assert (places(host), host.vips.list_all()) == ([f"{device_of(host)}/32"], [])

    def test_a_revert_leaves_an_address_that_was_replaced_by_hand(self, host: Host) -> None:
        change = create(host)
        host.addresses.remove_address(VIP, 32, device_of(host))
        by_hand(host, device_of(host), 24)
        revert(host, change)
        assert (places(host), host.vips.list_all()) == ([f"{device_of(host)}/24"], [])

    def test_a_second_revert_finds_nothing(self, host: Host) -> None:
        change = create(host)
        revert(host, change)
        assert revert(host, change).outcome is Outcome.NOTHING

    def test_a_revert_of_what_was_in_place_takes_nothing(self, host: Host) -> None:
        create(host, A)
        assert revert(host, create(host, A)).outcome is Outcome.NOTHING
        assert host.vips.get(VIP).holders == (A,)

    def test_a_removal_that_is_taken_back_brings_everything_back(self, host: Host) -> None:
        create(host, A)
        before = host.vips.get(VIP)
        change = delete(host, A)
        assert revert(host, change).outcome is Outcome.REVERTED
        assert host.vips.get(VIP) == before
        delete(host, A)
        assert (places(host), has_route(host, device_of(host))) == ([], False)

    def test_a_hold_that_was_given_up_among_others_comes_back_alone(self, host: Host) -> None:
        create(host, A)
        create(host, B)
        change = delete(host, A)
        revert(host, change)
        assert set(host.vips.get(VIP).holders) == {A, B}

    def test_a_removal_that_is_taken_back_leaves_a_foreign_address_foreign(self, host: Host) -> None:
        """Somebody put the address there by hand after we had removed ours."""
        create(host, A)
        change = delete(host, A)
        by_hand(host, device_of(host))
        revert(host, change)
        assert host.vips.get(VIP).holders == (A,)
        assert not host.vips.made(VIP)
        delete(host, A)
        assert places(host) == [f"{device_of(host)}/32"]

    def test_a_removal_that_is_taken_back_does_not_add_what_it_had_not_removed(self, host: Host) -> None:
        """The address was foreign: whoever removed it afterwards wanted it gone."""
        by_hand(host, device_of(host))
        create(host, A)
        change = delete(host, A)
        host.addresses.remove_address(VIP, 32, device_of(host))
        revert(host, change)
        assert host.vips.get(VIP).holders == (A,)
        assert places(host) == []

    def test_a_removal_that_is_taken_back_does_not_claim_less_than_others_made_since(self, host: Host) -> None:
        """The address was foreign, went, and was made by us for another holder: it is ours, and goes with the last."""
        by_hand(host, device_of(host))
        create(host, A)
        change = delete(host, A)
        host.addresses.remove_address(VIP, 32, device_of(host))
        create(host, B)
        revert(host, change)
        delete(host, A)
        delete(host, B)
        assert (places(host), has_route(host, device_of(host))) == ([], False)

    def test_force_gives_up_every_hold(self, host: Host) -> None:
        create(host, A)
        create(host, B)
        change = delete(host, OPERATOR, force=True)
        assert (places(host), host.vips.list_all()) == ([], [])
        revert(host, change)
        assert set(host.vips.get(VIP).holders) == {A, B}
        assert places(host) == [f"{device_of(host)}/32"]

    def test_vips_are_listed_in_the_order_of_their_addresses(self, host: Host) -> None:
        for address in (VIP6, OTHER_VIP, VIP):
            create(host, A, address)
        assert [vip.address for vip in host.vips.list_all()] == [VIP, OTHER_VIP, VIP6]

    def test_an_address_that_cannot_be_a_vip_is_refused(self, host: Host) -> None:
        for text in ("", "192.168.0.300", "127.0.0.1", "0.0.0.0", "224.0.0.1", "fe80::1", "192.168.0.200/32"):
            request = vip_pb2.CreateVipRequest(holder=vip_pb2.VipHolder(operator="me"))
            request.vip.address = text
            with pytest.raises(InvalidInputError) as caught:
                host.vips.plan_create(request)
            assert caught.value.field == "vip.address"

    def test_without_a_holder_nothing_is_done(self, host: Host) -> None:
        for holders in (vip_pb2.VipHolder(), vip_pb2.VipHolder(operator="a b")):
            request = vip_pb2.CreateVipRequest(vip=vip_pb2.Vip(address=str(VIP)), holder=holders)
            with pytest.raises(InvalidInputError):
                host.vips.plan_create(request)
        assert places(host) == []

    def test_nothing_is_written_on_a_full_disk(self, host: Host) -> None:
        """The record comes before sysctls and address."""
        host.state.full = True
        with pytest.raises(Exception, match="the disk is full"):
            create(host)
        assert places(host) == []
        if isinstance(host, RealServerHost):
            assert host.sysctls.writes == []


class TestDirector:
    """On the interface whose subnet holds it, for the virtual servers."""

    def test_the_interface_whose_subnet_holds_it_is_chosen(self, director: DirectorHost) -> None:
        create(director)
        create(director, holder(WEB6), VIP6)
        assert (places(director), places(director, VIP6)) == (["eth0/32"], ["eth0/128"])
        assert has_route(director, "eth0")

    def test_none_or_two_such_interfaces_must_be_named(self) -> None:
        eth1 = Device(name="eth1", kind="veth", does_arp=True, up=True)
        devices = (LOOPBACK_DEVICE, ETHERNET_DEVICE, eth1)
        both = [own_address("192.168.0.10"), own_address("192.168.0.11", device="eth1")]
        for addresses, why in (([], "no interface of this director has"), (both, "eth0, eth1 have")):
            director = DirectorHost(addresses=FakeAddresses(addresses, devices))
            with pytest.raises(InvalidInputError, match=why) as caught:
                create(director)
            assert caught.value.field == "vip.device"
            create(director, device="eth1")
            assert places(director) == ["eth1/32"]
            with pytest.raises(InvalidInputError, match="there is no interface eth9"):
                create(director, address=OTHER_VIP, device="eth9")

    def test_another_vip_of_ours_is_no_subnet(self, director: DirectorHost) -> None:
        """A /32 holds nothing but itself."""
        create(director, device="lo")
        create(director, address=OTHER_VIP)
        assert places(director, OTHER_VIP) == ["eth0/32"]

    def test_in_external_mode_only_the_hold_is_recorded(self, director: DirectorHost) -> None:
        change = create(director, mode=VipMode.EXTERNAL)
        assert list(change.actions) == [f"hold VIP {VIP} for {A.label}"]
        assert (places(director), has_route(director, "eth0")) == ([], False)
        assert director.vips.get(VIP).mode is VipMode.EXTERNAL
        delete(director)
        assert director.vips.list_all() == []

    def test_the_mode_belongs_to_the_vip(self, director: DirectorHost) -> None:
        create(director, A, mode=VipMode.EXTERNAL)
        with pytest.raises(RefusedError, match="mode external, not agent") as caught:
            create(director, B, mode=VipMode.AGENT)
        assert caught.value.reason is Reason.VIP_MODE_DIFFERS
        create(director, B)
        assert (director.vips.get(VIP).mode, places(director)) == (VipMode.EXTERNAL, [])
        delete(director, A)
        delete(director, B)
        create(director, B, mode=VipMode.AGENT)
        assert places(director) == ["eth0/32"]

    def test_a_removal_in_external_mode_that_is_taken_back_adds_no_address(self, director: DirectorHost) -> None:
        """VRRP has moved the VIP to another director meanwhile: two hosts would answer for it."""
        by_hand(director, "eth0")
        create(director, mode=VipMode.EXTERNAL)
        change = delete(director)
        director.addresses.remove_address(VIP, 32, "eth0")
        revert(director, change)
        assert places(director) == []
        assert director.vips.get(VIP).mode is VipMode.EXTERNAL

    def test_the_last_hold_is_refused_while_a_virtual_server_uses_the_address(self, director: DirectorHost) -> None:
        """A foreign one, too."""
        create(director, OPERATOR)
        director.ipvs.add_virtual_server(VirtualServer(key=parse_key(f"udp/{VIP}:53")))
        with pytest.raises(RefusedError, match=f"udp/{VIP}:53 uses it; remove that first, or force") as caught:
            delete(director, OPERATOR)
        assert caught.value.reason is Reason.IN_USE
        assert places(director) == ["eth0/32"]
        delete(director, OPERATOR, force=True)
        assert (places(director), director.vips.list_all()) == ([], [])

    def test_the_last_hold_on_a_foreign_address_goes_although_it_is_used(self, director: DirectorHost) -> None:
        """The address stays anyway."""
        by_hand(director, "eth0")
        create(director, OPERATOR)
        director.ipvs.add_virtual_server(VirtualServer(key=WEB))
        delete(director, OPERATOR)
        assert (places(director), director.vips.list_all()) == (["eth0/32"], [])

    def test_a_hold_that_is_not_the_last_goes_although_the_address_is_used(self, director: DirectorHost) -> None:
        create(director, A)
        create(director, OPERATOR)
        director.ipvs.add_virtual_server(VirtualServer(key=WEB))
        delete(director, A)
        assert director.vips.get(VIP).holders == (OPERATOR,)

    def test_an_operator_cannot_remove_what_a_virtual_server_holds_unless_it_is_forced(
        self, director: DirectorHost
    ) -> None:
        """Whether or not the operator holds it, too: what was asked for is that the VIP goes."""
        create(director, A)
        for _ in range(2):
            with pytest.raises(RefusedError, match=f"cannot remove VIP {VIP}: {WEB} uses it") as caught:
                delete(director, OPERATOR)
            assert caught.value.reason is Reason.IN_USE
            create(director, OPERATOR)
        assert set(director.vips.get(VIP).holders) == {A, OPERATOR}
        delete(director, OPERATOR, force=True)
        assert (places(director), director.vips.list_all()) == ([], [])

    def test_an_ipv6_vip_that_is_a_duplicate_is_not_in_place(self, director: DirectorHost) -> None:
        """An agent that died during the detection has left it there, dead."""
        place = InterfaceAddress(address=VIP6, prefix_length=128, device="eth0", tentative=True, dadfailed=True)
        director.addresses.put(place)
        with pytest.raises(RefusedError, match="another host has it") as caught:
            create(director, holder(WEB6), VIP6)
        assert caught.value.reason is Reason.VIP_TAKEN
        director.addresses.remove_address(VIP6, 128, "eth0")
        director.addresses.put(dataclasses.replace(place, dadfailed=False))
        with pytest.raises(ConflictError, match="detection of 2001:db8::200 on eth0 has not ended"):
            create(director, holder(WEB6), VIP6)

    def test_with_keep_if_used_the_hold_goes_and_a_used_address_stays(self, director: DirectorHost) -> None:
        create(director, A)
        other = VirtualServer(key=parse_key(f"tcp/{VIP}:443"))
        director.ipvs.add_virtual_server(other)
        change = delete(director, A, keep_if_used=True)
        assert list(change.warnings) == [f"VIP {VIP} stays: {other.key} uses it"]
        assert (places(director), director.vips.get(VIP).holders) == (["eth0/32"], ())
        assert director.vips.made(VIP)
        director.ipvs.remove_virtual_server(other.key)
        create(director, B)
        delete(director, B)
        assert places(director) == []

    def test_with_keep_if_used_a_virtual_server_that_is_there_keeps_its_own_hold(self, director: DirectorHost) -> None:
        """--prune where the virtual server itself stays."""
        create(director, A)
        director.resources.write(director.resources.plan(operations.create_virtual_server(WEB, None, None), ()))
        change = delete(director, A, keep_if_used=True)
        assert (change.made, list(change.warnings)) == (False, [f"VIP {VIP} stays: {WEB} uses it"])
        assert director.vips.get(VIP).holders == (A,)

    def test_a_revert_leaves_an_address_that_stayed_for_a_virtual_server(self, director: DirectorHost) -> None:
        """Before the change nobody held it, but it was there, ours, and in use."""
        create(director, A)
        director.ipvs.add_virtual_server(VirtualServer(key=parse_key(f"tcp/{VIP}:443")))
        delete(director, A, keep_if_used=True)
        change = create(director, B)
        revert(director, change)
        assert (places(director), director.vips.made(VIP)) == (["eth0/32"], True)

    def test_the_address_of_an_ipv6_vip_is_never_the_source_of_the_directors_own_connections(
        self, director: DirectorHost
    ) -> None:
        create(director, holder(WEB6), VIP6)
        added = next(each for each in director.addresses.addresses() if each.address == VIP6)
        assert added.preferred_lifetime == 0

    def test_a_vip_whose_interface_is_gone_can_be_listed_and_given_up(self) -> None:
        state = FakeState()
        vlan = Device(name="eth0.7", kind="vlan", does_arp=True, up=True)
        director = DirectorHost(addresses=FakeAddresses(devices=(LOOPBACK_DEVICE, vlan)), state=state)
        create(director, device="eth0.7")
        director = DirectorHost(addresses=FakeAddresses(devices=(LOOPBACK_DEVICE, ETHERNET_DEVICE)), state=state)
        assert director.vips.list_all() == [Vip(address=VIP, device="eth0.7", holders=(A,))]
        delete(director)
        assert director.vips.list_all() == []


def test_the_placement_follows_the_role() -> None:
    """IPv6 with preferred lifetime 0 is for directors alone: on lo it would do harm."""
    rs = RealServerHost()
    create(rs, holder(WEB6), VIP6)
    assert rs.addresses.addresses()[-1].preferred_lifetime is None
