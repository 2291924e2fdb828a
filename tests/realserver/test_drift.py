"""Drift of a real server: whatever of silence and VIPs is gone is put back, since nobody may be sent there without."""

from __future__ import annotations

import pytest

from agent_common.drift import ArpInterface, Drift, DriftKind
from agent_common.repair import Repair
from agent_common.wire_drift import pack_drift, unpack_drift
from agent_realserver.arp import ArpName
from cli import operations
from tests.hosts import VIP, WEB, RealServerHost, holder


@pytest.fixture
async def host() -> RealServerHost:
    """A real server that holds a VIP, and has looked once."""
    host = RealServerHost()
    await host.changes.apply(operations.create_vip(VIP, holder(WEB)), "")
    await host.watch.look()
    return host


async def test_a_vip_that_is_gone_is_put_back_after_two_readings(host: RealServerHost) -> None:
    host.addresses.remove_host_route(VIP, "lo")
    host.addresses.remove_address(VIP, 32, "lo")
    await host.watch.look()
    assert not host.vips.get(VIP).present
    await host.watch.look()
    assert (host.vips.get(VIP).present, host.vips.get(VIP).route_present) == (True, True)


async def test_silence_that_is_undone_by_hand_is_put_back(host: RealServerHost) -> None:
    host.sysctls.write("all", ArpName.IGNORE, 0)
    await host.watch.look()
    await host.watch.look()
    assert not host.silence.loud()


async def test_an_interface_that_cannot_be_silenced_is_named(host: RealServerHost) -> None:
    host.sysctls.write("eth0", ArpName.IGNORE, 3)
    await host.watch.look()
    await host.watch.look()
    (drift,) = host.watch.confirmed()
    assert (drift.kind, drift.resource) == (DriftKind.MODIFIED, ArpInterface(name="eth0"))
    assert "eth0/arp_ignore is 3" in drift.detail
    assert unpack_drift(pack_drift(drift)) == drift


async def test_without_a_vip_an_interface_may_answer_what_it_likes() -> None:
    host = RealServerHost()
    await host.watch.look()
    await host.watch.look()
    assert host.watch.confirmed() == []


async def test_a_vip_that_was_given_back_is_no_drift(host: RealServerHost) -> None:
    await host.changes.apply(operations.delete_vip(VIP, holder(WEB)), "")
    await host.watch.look()
    await host.watch.look()
    assert (host.watch.confirmed(), host.vips.get(VIP).present) == ([], False)
    assert Drift(kind=DriftKind.MISSING, resource=VIP) not in host.restore.drift()


async def test_what_differs_is_repaired_when_asked(host: RealServerHost) -> None:
    """A VIP with its route, and silence; a resource of a director is none of it."""
    host.addresses.remove_host_route(VIP, "lo")
    host.addresses.remove_address(VIP, 32, "lo")
    host.sysctls.write("all", ArpName.IGNORE, 0)
    drift = [*host.restore.drift(), Drift(kind=DriftKind.MISSING, resource=WEB)]
    vip, silence, other = await host.repairs.repair([Repair(drift=each) for each in sorted(drift, key=str)])
    assert list(silence.change.actions) == ["set all/arp_ignore from 0 to 1"]
    assert list(vip.change.actions)[1:] == [f"add {VIP}/32 to lo", f"add route {VIP} scope host dev lo"]
    assert other.error is not None
    assert host.restore.drift() == []
