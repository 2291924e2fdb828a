"""What a real server brings back at start: silence, VIPs and routes that were committed."""

from __future__ import annotations

from agent_common.fake_address import FakeAddresses
from agent_common.operation import Operation
from agent_realserver.arp import ArpName
from agent_realserver.fake_arp import FakeArpSysctls
from cli import operations
from tests.hosts import VIP, WEB, RealServerHost, holder, own_address


async def prepared() -> RealServerHost:
    host = RealServerHost()
    await host.changes.apply(operations.create_vip(VIP, holder(WEB)), "")
    return host


def rebooted(host: RealServerHost, sysctls: FakeArpSysctls | None = None) -> RealServerHost:
    """The same state directory, and a kernel that has nothing of ours."""
    addresses = FakeAddresses([own_address("192.168.0.104")])
    return RealServerHost(addresses=addresses, sysctls=sysctls or FakeArpSysctls(), state=host.state)


async def test_after_a_reboot_the_vip_is_back_silent_and_with_its_route() -> None:
    before = await prepared()
    host = rebooted(before)
    assert host.silence.loud()
    await host.restore.start()
    assert not host.silence.loud()
    assert host.vips.list_all() == before.vips.list_all()
    assert host.addresses.has_host_route(VIP, "lo")


async def test_the_originals_are_those_of_before_the_first_change() -> None:
    host = rebooted(await prepared())
    await host.restore.start()
    await host.changes.apply(operations.delete_vip(VIP, holder(WEB)), "")
    assert set(dict(host.silence.values()).values()) == {0}


async def test_silence_that_was_undone_by_hand_is_restored_when_the_agent_starts() -> None:
    host = await prepared()
    host.sysctls.write("all", ArpName.IGNORE, 0)
    again = host.restarted()
    await again.restore.start()
    assert not again.silence.loud()


async def test_a_host_that_cannot_be_silenced_gets_no_vip_and_says_so() -> None:
    """It would answer ARP for it, and take the traffic away from the director."""
    sysctls = FakeArpSysctls()
    sysctls.write("eth0", ArpName.IGNORE, 3)
    host = rebooted(await prepared(), sysctls)
    await host.restore.start()
    assert not host.vips.get(VIP).present
    (problem,) = host.problems.texts()
    assert problem.startswith(f"VIP {VIP} is not restored: cannot silence this host")
    sysctls.write("eth0", ArpName.IGNORE, 0)
    assert len(host.problems.texts()) == 1  # it is still missing


async def test_an_operator_who_asked_for_silence_alone_has_it_again() -> None:
    before = RealServerHost()
    silence = Operation()
    silence.silence_arp.operator = "me"
    await before.changes.apply(silence, "")
    host = rebooted(before)
    await host.restore.start()
    assert not host.silence.loud()
