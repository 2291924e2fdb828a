"""The adapter to tunnel devices, in the first network namespace: there loading a module makes the kernel's own ones."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from agent_common.errors import Reason, RefusedError
from agent_common.fake_state import FakeState
from agent_common.tunnel import TunnelEnd
from agent_common.virtual_server import Family
from agent_realserver.netlink_tunnel_devices import NetlinkTunnelDevices
from agent_realserver.tunnel_devices import OWN_ADDRESS, DeviceName, GuePort
from agent_realserver.tunnel_ends import TunnelEnds
from tests.hosts import VIP, VIP6
from tests.realserver.test_tunnel_ends import GRE6, GUE, IPIP, PORT

OWN_DEVICES = {"tunl0": "ipip", "sit0": "sit", "ip6tnl0": "ip6tnl", "gre0": "gre", "ip6gre0": "ip6gre"}
MODULES = ("fou6", "fou", "ipip", "sit", "ip6_gre", "ip_gre", "ip6_tunnel")


def shown(*argv: str) -> str:
    return subprocess.run(["ip", *argv], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def devices() -> Iterator[NetlinkTunnelDevices]:
    """No tunnel module is loaded, before and after."""
    subprocess.run(["rmmod", *MODULES], check=False, capture_output=True)
    adapter = NetlinkTunnelDevices()
    yield adapter
    adapter.close()
    subprocess.run(["rmmod", *MODULES], check=False, capture_output=True)


@pytest.mark.parametrize(("name", "kind"), OWN_DEVICES.items())
def test_the_kernels_own_device_is_found_and_changed(devices: NetlinkTunnelDevices, name: str, kind: str) -> None:
    """It comes with the module, which is loaded when one of its kind is asked for: so it is not one that we made."""
    assert devices.find(name) is None
    assert not devices.create(DeviceName(name=name, kind=kind))
    found = devices.find(name)
    assert found is not None
    assert (found.kind, found.up, found.addresses) == (kind, False, frozenset())
    assert found.takes_any is (name != "ip6tnl0")
    devices.set_up(name, up=True)
    devices.add_own_address(name)
    devices.set_rp_filter(name, 2)
    again = devices.find(name)
    assert again is not None
    assert (again.up, again.addresses, again.rp_filter) == (True, frozenset({OWN_ADDRESS}), 2)
    assert f"inet {OWN_ADDRESS}/32 scope host {name}" in shown("address", "show", "dev", name)
    devices.remove_own_address(name)
    devices.set_up(name, up=False)
    assert "UP" not in shown("-o", "link", "show", "dev", name).partition(">")[0]


@pytest.mark.parametrize("family", Family)
def test_ports_of_gue_are_those_of_ip_fou(devices: NetlinkTunnelDevices, family: Family) -> None:
    """Without the module there are none, and none can be opened; `ip fou` opens others beside ours."""
    port = GuePort(port=6080, family=family)
    assert devices.gue_ports() == set()
    with pytest.raises(RefusedError, match="modprobe fou") as caught:
        devices.open_gue_port(port)
    assert caught.value.reason is Reason.MODULE_MISSING
    subprocess.run(["modprobe", "fou"], check=True)
    option = ["-6"] if family is Family.IPV6 else []
    shown("fou", "add", "port", "6081", "gue", *option)
    shown("fou", "add", "port", "6082", "ipproto", "4", *option)
    devices.open_gue_port(port)
    assert devices.gue_ports() == {port, GuePort(port=6081, family=family)}
    assert "port 6080 gue" in shown("fou", "show")
    devices.close_gue_port(port)
    assert "6080" not in shown("fou", "show")
    for number in ("6081", "6082"):
        shown("fou", "del", "port", number, *option)


@pytest.mark.parametrize("end", [IPIP, GRE6, GUE], ids=str)
def test_the_kernels_own_devices_are_put_back_as_they_were(devices: NetlinkTunnelDevices, end: TunnelEnd) -> None:
    """Here none can be removed: they are down again, and have no address of ours."""
    subprocess.run(["modprobe", "-a", "ipip", "ip6_gre", "fou"], check=True)
    ends = TunnelEnds(devices, FakeState())
    before = [devices.find(name) for name in OWN_DEVICES]
    ends.open(VIP, [end])
    assert ends.judge(VIP, [end])[0].ready
    assert [devices.find(name) for name in OWN_DEVICES] != before
    ends.release()  # no VIP has it
    assert [devices.find(name) for name in OWN_DEVICES] == before
    assert PORT not in devices.gue_ports()


def test_an_ipv4_vip_in_ipv6_is_refused_where_the_kernels_own_device_is(devices: NetlinkTunnelDevices) -> None:
    subprocess.run(["modprobe", "ip6_tunnel"], check=True)
    ends, outer6 = TunnelEnds(devices, FakeState()), TunnelEnd(type=IPIP.type, outer=Family.IPV6)
    with pytest.raises(RefusedError, match="ip6tnl0 of this host takes IPv6 only"):
        ends.check(VIP, [outer6])
    ends.check(VIP6, [outer6])
