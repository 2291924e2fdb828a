"""The real server's ends of tunnels: made for a VIP, put back as they were, by what is on disk and in the kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from agent_common.destination import TunnelType
from agent_common.errors import InvalidInputError, Reason, RefusedError
from agent_common.operation import Operation
from agent_common.tunnel import TunnelEnd, parse_tunnel_end
from agent_common.virtual_server import Family, IpAddress
from agent_realserver.fake_tunnel_devices import FakeTunnelDevices
from agent_realserver.tunnel_devices import LOOSE, OWN_ADDRESS, GuePort, TunnelDevice
from cli import operations
from tests.hosts import VIP, VIP6, DirectorHost, RealServerHost, holder

IPIP = TunnelEnd(type=TunnelType.IPIP, outer=Family.IPV4)
GRE6 = TunnelEnd(type=TunnelType.GRE, outer=Family.IPV6)
GUE = TunnelEnd(type=TunnelType.GUE, outer=Family.IPV4, port=6080)
PORT = GuePort(port=6080, family=Family.IPV4)
READY = TunnelDevice(kind="ipip", up=True, addresses=frozenset({OWN_ADDRESS}), rp_filter=0)
FOUND = TunnelDevice(kind="ipip", up=False, addresses=frozenset(), rp_filter=1)


def wanted(*ends: TunnelEnd, vip: IpAddress = VIP, key: str = "tcp/192.168.0.200:80") -> Operation:
    return operations.create_vip(vip, holder(key), tunnels=ends)


def given_back(vip: IpAddress = VIP, key: str = "tcp/192.168.0.200:80") -> Operation:
    return operations.delete_vip(vip, holder(key))


@pytest.fixture
def rs() -> RealServerHost:
    return RealServerHost()


async def test_a_device_is_made_and_removed_with_the_vip(rs: RealServerHost) -> None:
    change = await rs.changes.apply(wanted(IPIP), "")
    assert rs.tunnel_devices.devices == {"tunl0": READY}
    assert "add tunnel device tunl0" in list(change.actions)
    assert rs.vips.get(VIP).tunnels == (replace(IPIP, ready=True),)
    change = await rs.changes.apply(given_back(), "")
    assert (rs.tunnel_devices.devices, rs.state.list("tunnel_device")) == ({}, {})
    assert "removed tunnel device tunl0" in list(change.actions)


async def test_gue_needs_its_port_and_the_device_of_what_is_in_it(rs: RealServerHost) -> None:
    await rs.changes.apply(wanted(GUE), "")
    assert (set(rs.tunnel_devices.devices), rs.tunnel_devices.ports) == ({"tunl0"}, {PORT})
    await rs.changes.apply(given_back(), "")
    assert (rs.tunnel_devices.devices, rs.tunnel_devices.ports) == ({}, set())


@pytest.mark.parametrize(
    ("end", "vip", "device"),
    [
        (IPIP, VIP, "tunl0"),
        (IPIP, VIP6, "sit0"),
        (replace(IPIP, outer=Family.IPV6), VIP, "ip6tnl0"),
        (replace(IPIP, outer=Family.IPV6), VIP6, "ip6tnl0"),
        (replace(GRE6, outer=Family.IPV4), VIP6, "gre0"),
        (GRE6, VIP, "ip6gre0"),
    ],
    ids=str,
)
async def test_each_tunnel_has_its_device(rs: RealServerHost, end: TunnelEnd, vip: IpAddress, device: str) -> None:
    key = "tcp/192.168.0.200:80" if vip == VIP else "tcp/[2001:db8::200]:80"
    await rs.changes.apply(wanted(end, vip=vip, key=key), "")
    assert set(rs.tunnel_devices.devices) == {device}
    assert rs.tunnel_devices.devices[device].addresses == (frozenset({OWN_ADDRESS}) if vip == VIP else frozenset())


async def test_a_device_that_was_there_is_put_back(rs: RealServerHost) -> None:
    rs.tunnel_devices.devices = {"tunl0": FOUND}
    await rs.changes.apply(wanted(IPIP), "")
    assert rs.tunnel_devices.devices == {"tunl0": replace(READY, rp_filter=LOOSE)}
    await rs.changes.apply(given_back(), "")
    assert rs.tunnel_devices.devices == {"tunl0": FOUND}


async def test_one_that_is_as_it_must_be_is_left_alone(rs: RealServerHost) -> None:
    mine = replace(READY, addresses=frozenset({IPv4Address("10.9.9.9")}), rp_filter=LOOSE)
    rs.tunnel_devices.devices = {"tunl0": mine}
    await rs.changes.apply(wanted(IPIP), "")
    assert rs.state.list("tunnel_device") == {}
    await rs.changes.apply(given_back(), "")
    assert rs.tunnel_devices.devices == {"tunl0": mine}


@pytest.mark.parametrize(("all_", "own", "after"), [(0, 0, 0), (0, 1, 2), (1, 0, 2), (2, 0, 0), (2, 1, 1)])
async def test_the_source_check_is_loosened_where_it_is_strict(
    rs: RealServerHost, all_: int, own: int, after: int
) -> None:
    """The larger value of the two counts."""
    rs.tunnel_devices.rp_filter = all_
    rs.tunnel_devices.devices = {"tunl0": replace(FOUND, rp_filter=own)}
    await rs.changes.apply(wanted(IPIP), "")
    assert rs.tunnel_devices.devices["tunl0"].rp_filter == after


async def test_it_stays_for_another_vip_and_another_holder(rs: RealServerHost) -> None:
    other = VIP + 1
    for vip, key in ((VIP, "tcp/192.168.0.200:80"), (VIP, "tcp/192.168.0.200:443"), (other, "tcp/192.168.0.201:80")):
        await rs.changes.apply(wanted(IPIP, vip=vip, key=key), "")
    await rs.changes.apply(given_back(), "")
    await rs.changes.apply(given_back(key="tcp/192.168.0.200:443"), "")
    assert rs.tunnel_devices.devices == {"tunl0": READY}
    await rs.changes.apply(given_back(vip=other, key="tcp/192.168.0.201:80"), "")
    assert rs.tunnel_devices.devices == {}


async def test_a_tunnel_that_comes_to_a_vip_is_undone_alone(rs: RealServerHost) -> None:
    await rs.changes.apply(wanted(IPIP), "")
    change = await rs.changes.apply(wanted(IPIP, GUE), "c2")
    assert (change.made, rs.tunnel_devices.ports) == (True, {PORT})
    await rs.changes.revert("c2")
    assert (rs.tunnel_devices.ports, rs.tunnel_devices.devices) == (set(), {"tunl0": READY})
    assert rs.vips.get(VIP).present


async def test_asked_again_nothing_is_done(rs: RealServerHost) -> None:
    await rs.changes.apply(wanted(GUE), "")
    assert not (await rs.changes.apply(wanted(GUE), "")).made
    assert not (await rs.changes.apply(wanted(), "")).made


async def test_what_went_meanwhile_is_made_again_by_whoever_asks(rs: RealServerHost) -> None:
    """As lvs undrain does (P1)."""
    await rs.changes.apply(wanted(GUE), "")
    rs.tunnel_devices.ports.clear()
    rs.tunnel_devices.set_up("tunl0", up=False)
    change = await rs.changes.apply(wanted(GUE), "")
    assert list(change.actions) == ["set tunl0 up", "open UDP port 6080 for gue"]
    assert rs.tunnel_devices.ports == {PORT}


async def test_what_differs_is_drift_and_is_mended(rs: RealServerHost) -> None:
    await rs.changes.apply(wanted(GUE), "")
    assert rs.restore.drift() == []
    rs.tunnel_devices.devices.clear()
    [drift] = rs.restore.drift()
    assert drift.detail.startswith("the tunnel is not ready: add tunnel device tunl0; ")
    await rs.restore.mend([drift])
    assert rs.restore.drift() == []


async def test_after_a_reboot_it_is_back(rs: RealServerHost) -> None:
    await rs.changes.apply(wanted(GUE), "")
    again = rs.rebooted()
    await again.restore.start()
    assert (again.tunnel_devices.devices, again.tunnel_devices.ports) == ({"tunl0": READY}, {PORT})
    await again.changes.apply(given_back(), "")
    assert (again.tunnel_devices.devices, again.tunnel_devices.ports) == ({}, set())


async def test_what_fails_in_the_middle_leaves_nothing() -> None:
    rs = RealServerHost(tunnel_devices=FakeTunnelDevices(fou=False))
    with pytest.raises(RefusedError, match="modprobe fou") as caught:
        await rs.changes.apply(wanted(GUE), "")
    assert caught.value.reason is Reason.MODULE_MISSING
    assert (rs.tunnel_devices.devices, rs.state.list("tunnel_device"), rs.state.list("gue_port")) == ({}, {}, {})
    assert not rs.vips.get(VIP).present


async def test_a_device_with_somebodys_address_stays(rs: RealServerHost) -> None:
    await rs.changes.apply(wanted(IPIP), "")
    theirs = IPv4Address("192.0.2.9")
    rs.tunnel_devices.devices["tunl0"] = replace(READY, addresses=frozenset({OWN_ADDRESS, theirs}))
    change = await rs.changes.apply(given_back(), "")
    assert any("tunl0 stays: 192.0.2.9 is on it" in line for line in change.actions)
    assert rs.tunnel_devices.devices["tunl0"].up


async def test_the_kernels_own_ip6tnl0_is_not_for_an_ipv4_vip(rs: RealServerHost) -> None:
    own = TunnelDevice(kind="ip6tnl", up=True, addresses=frozenset(), rp_filter=0, takes_any=False)
    rs.tunnel_devices.devices = {"ip6tnl0": own}
    with pytest.raises(RefusedError, match="ip6tnl0 of this host takes IPv6 only"):
        await rs.changes.apply(wanted(replace(IPIP, outer=Family.IPV6)), "")
    await rs.changes.apply(
        wanted(replace(IPIP, outer=Family.IPV6), vip=VIP6, key="tcp/[2001:db8::200]:80"),
        "",
    )
    assert rs.tunnel_devices.devices == {"ip6tnl0": own}


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (replace(GUE, port=0), "vip.tunnels.port: "),
        (replace(IPIP, port=6080), "vip.tunnels.port: ipip takes no port"),
        (replace(GUE, port=65536), "vip.tunnels.port: 65536 is not a port"),
    ],
)
async def test_bad_input_is_told(rs: RealServerHost, end: TunnelEnd, told: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await rs.changes.apply(wanted(end), "")
    assert caught.value.message.startswith(told)


async def test_a_director_takes_none() -> None:
    with pytest.raises(InvalidInputError, match="a real server has them"):
        await DirectorHost().changes.apply(operations.create_vip(VIP, holder(), device="eth0", tunnels=(IPIP,)), "")


@pytest.mark.parametrize("end", [IPIP, GRE6, GUE], ids=str)
def test_the_text_form_is_read_as_it_was_written(end: TunnelEnd) -> None:
    assert parse_tunnel_end(str(end)) == end
