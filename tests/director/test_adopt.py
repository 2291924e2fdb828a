"""Adoption: what was made by hand becomes ours as it is; nothing in the kernel changes, and a removal takes it away."""

from __future__ import annotations

import dataclasses

import pytest

from agent_common.address import InterfaceAddress
from agent_common.destination import Forwarding
from agent_common.errors import NotFoundError, Reason, RefusedError
from agent_common.virtual_server import VirtualServer
from agent_realserver.arp import ArpName
from cli import operations
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost, holder

RS1, RS2 = destination("192.168.0.104", weight=7), destination("192.168.0.105", weight=0)
SERVER = VirtualServer(key=WEB, scheduler="sh")


@pytest.fixture
def host() -> DirectorHost:
    """A director that was set up by hand."""
    host = DirectorHost()
    host.ipvs.add_virtual_server(SERVER)
    for each in (RS1, RS2):
        host.ipvs.add_destination(WEB, each)
    put_vip(host, "eth0")
    return host


def put_vip(host: DirectorHost | RealServerHost, device: str, length: int = 32, *, route: bool = True) -> None:
    host.addresses.put(InterfaceAddress(address=VIP, prefix_length=length, device=device))
    if route:
        host.addresses.add_host_route(VIP, device)


ALL = (
    operations.adopt_virtual_server(WEB),
    operations.adopt_destination(WEB, RS1.key),
    operations.adopt_destination(WEB, RS2.key),
    operations.create_vip(VIP, holder(WEB), adopt=True),
)


async def test_what_was_made_by_hand_is_ours_as_it_is(host: DirectorHost) -> None:
    before, addresses = table(host.ipvs), host.addresses.addresses()
    changes = await host.changes.apply_all(ALL, "c1")
    assert [line for change in changes for line in change.actions] == [
        f"adopt virtual server {WEB} sh",
        f"adopt {RS1.key} in {WEB}, dr, weight 7",
        f"adopt {RS2.key} in {WEB}, dr, weight 0",
        f"adopt {VIP}/32 on eth0",
        f"adopt route {VIP} scope host dev eth0",
        f"hold VIP {VIP} for {WEB}",
    ]
    assert (table(host.ipvs), host.addresses.addresses()) == (before, addresses)
    assert host.restore.drift() == []
    assert (host.virtual_servers.committed(), host.destinations.committed()) == ([SERVER], {WEB: [RS1, RS2]})
    assert not any(change.made for change in await host.changes.apply_all(ALL, "c2"))


async def test_it_comes_back_after_a_reboot_and_goes_with_a_removal(host: DirectorHost) -> None:
    await host.changes.apply_all(ALL, "")
    before = table(host.ipvs)
    host.ipvs.remove_virtual_server(WEB)
    host.addresses.remove_address(VIP, 32, "eth0")
    again = host.restarted()
    await again.restore.start(new_boot=True)
    assert (table(host.ipvs), again.vips.get(VIP).made_address) == (before, True)
    for key in (RS1.key, RS2.key):
        await again.changes.apply(operations.delete_destination(WEB, key), "")
    await again.changes.apply(operations.delete_virtual_server(WEB, only_if_unused=True), "")
    await again.changes.apply(operations.delete_vip(VIP, holder(WEB), keep_if_used=True), "")
    assert (table(host.ipvs), host.addresses.has_host_route(VIP, "eth0")) == ({}, False)
    assert all(each.address != VIP for each in host.addresses.addresses())


async def test_an_adoption_that_is_taken_back_leaves_all_of_it_there(host: DirectorHost) -> None:
    """Foreign again, as it was."""
    before, addresses = table(host.ipvs), host.addresses.addresses()
    await host.changes.apply_all(ALL, "c1")
    await host.changes.revert("c1")
    assert (table(host.ipvs), host.addresses.addresses()) == (before, addresses)
    assert host.addresses.has_host_route(VIP, "eth0")
    assert host.virtual_servers.committed() == []
    assert host.destinations.committed() == {}
    assert host.vips.list_all() == []


async def test_a_foreign_destination_that_drains_is_adopted_with_its_weight(host: DirectorHost) -> None:
    await host.changes.apply(operations.update_destination(WEB, RS1.key, draining=True), "")
    await host.changes.apply(operations.adopt_destination(WEB, RS1.key), "c1")
    assert host.destinations.committed() == {WEB: [dataclasses.replace(RS1, draining=True)]}
    await host.changes.revert("c1")
    await host.changes.apply(operations.update_destination(WEB, RS1.key, draining=False), "")
    assert host.destinations.get(WEB, RS1.key).current_weight == 7


async def test_what_is_not_there_or_lvs_could_not_make_is_refused(host: DirectorHost) -> None:
    odd = dataclasses.replace(destination("192.168.0.106"), forwarding=Forwarding.LOCAL_NODE)
    host.ipvs.add_destination(WEB, odd)
    with pytest.raises(RefusedError, match="lvs could not make it like that") as caught:
        await host.changes.apply(operations.adopt_destination(WEB, odd.key), "")
    assert caught.value.reason is Reason.NOT_SUPPORTED
    with pytest.raises(NotFoundError):
        await host.changes.apply(operations.adopt_destination(WEB, destination("192.168.0.107").key), "")
    assert host.destinations.committed() == {}


@pytest.mark.parametrize(("device", "length"), [("eth0", 24), (None, 32)])
async def test_a_vip_that_is_not_as_we_would_add_it_stays_foreign(device: str | None, length: int) -> None:
    """An address of the host's own, with its prefix length; and one that is not there."""
    host = DirectorHost()
    if device:
        put_vip(host, device, length)
    with pytest.raises(RefusedError, match="cannot adopt VIP"):
        await host.changes.apply(operations.create_vip(VIP, holder(WEB), adopt=True, device="eth0"), "")
    assert host.vips.list_all() == []


class TestRealServer:
    async def test_a_vip_on_lo_is_adopted_and_goes_with_the_last_hold(self) -> None:
        """The sysctls' originals are not known: they stay as they are."""
        host = RealServerHost()
        silence(host)
        put_vip(host, "lo")
        values = dict(host.silence.values())
        change = await host.changes.apply(operations.create_vip(VIP, holder(WEB), adopt=True), "")
        assert list(change.actions)[:1] == [f"adopt {VIP}/32 on lo"]
        assert dict(host.silence.values()) == values
        await host.changes.apply(operations.delete_vip(VIP, holder(WEB)), "")
        assert all(each.address != VIP for each in host.addresses.addresses())
        assert not host.addresses.has_host_route(VIP, "lo")
        assert dict(host.silence.values()) == values

    async def test_without_its_route_no_route_is_added(self) -> None:
        host = RealServerHost()
        silence(host)
        put_vip(host, "lo", route=False)
        await host.changes.apply(operations.create_vip(VIP, holder(WEB), adopt=True), "")
        assert not host.addresses.has_host_route(VIP, "lo")
        assert host.restore.drift() == []

    async def test_on_a_host_that_answers_for_it_nothing_is_adopted(self) -> None:
        """To hold it would mean to silence the host, and an adoption changes nothing."""
        host = RealServerHost()
        put_vip(host, "lo")
        with pytest.raises(RefusedError, match="would answer ARP") as caught:
            await host.changes.apply(operations.create_vip(VIP, holder(WEB), adopt=True), "")
        assert (caught.value.reason, host.vips.list_all()) == (Reason.ARP_NOT_SILENT, [])


def silence(host: RealServerHost) -> None:
    """By hand, as most do it: on all interfaces, and not on lo."""
    for name, value in (("arp_ignore", 1), ("arp_announce", 2)):
        host.sysctls.write("all", ArpName(name), value)
