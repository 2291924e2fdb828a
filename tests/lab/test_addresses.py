"""Addresses, routes and interfaces on a real kernel: what we do is what `ip` does, what we read is what `ip` shows."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_address
from typing import TypeVar

import pytest

from agent_common.address import Addresses, Device, InterfaceAddress, Placement, find_address
from agent_common.errors import DiffersError, NotFoundError, RefusedError
from agent_common.fake_address import FakeAddresses
from agent_common.netlink_address import NetlinkAddresses
from agent_common.virtual_server import IpAddress
from lab.site import VIP, VIP6, Host, Site
from tests.lab.inside import in_host

T = TypeVar("T")

V4, V6 = IPv4Address(VIP), ip_address(VIP6)
DIRECTOR, REAL_SERVER = Placement.DIRECTOR, Placement.REAL_SERVER


class On:
    """A host's addresses: calls go to the host's worker thread, as in an agent; without a host they are made here."""

    def __init__(self, host: Host | None, addresses: Addresses) -> None:
        self._host = host
        self._addresses = addresses

    def __call__(self, call: Callable[[Addresses], T]) -> T:
        return call(self._addresses) if self._host is None else in_host(self._host, lambda: call(self._addresses))


def batch(host: Host, lines: list[str], *, force: bool = False) -> None:
    """Run many `ip` commands in one process; with force go on after one that fails."""
    host.run("ip", *(("-force",) if force else ()), "-batch", "-", input="\n".join(lines) + "\n", check=not force)


def clean(host: Host) -> None:
    """Remove what a test may have left."""
    prefixes = (f"{VIP}/32", f"{VIP}/24", f"{VIP6}/128")
    lines = [f"address del {prefix} dev {device}" for prefix in prefixes for device in ("lo", "eth0")]
    batch(host, [*lines, f"route del {VIP} dev lo", f"route del {VIP} dev eth0"], force=True)


@pytest.fixture
def host(site: Site) -> Iterator[Host]:
    clean(site.director)
    yield site.director
    clean(site.director)


@pytest.fixture
def kernel(host: Host) -> Iterator[On]:
    on = On(host, in_host(host, NetlinkAddresses))
    yield on
    on(lambda addresses: addresses.close())


@pytest.fixture(params=["kernel", "fake"])
def either(request: pytest.FixtureRequest, host: Host, kernel: On) -> On:
    if request.param == "kernel":
        return kernel
    own = [
        InterfaceAddress(address=ip_address(host.ipv4), prefix_length=24, device="eth0", label="eth0"),
        InterfaceAddress(address=ip_address(host.ipv6), prefix_length=64, device="eth0"),
    ]
    return On(None, FakeAddresses(addresses=own))


def state(host: Host) -> list[str]:
    """What `ip` shows of addresses and routes once no address is tentative any more."""
    deadline = time.monotonic() + 10
    while "tentative" in (addresses := host.out("ip", "-o", "address")) and time.monotonic() < deadline:
        time.sleep(0.1)
    routes = [host.out("ip", "-d", family, "route", "show", "table", "all") for family in ("-4", "-6")]
    return sorted("\n".join((addresses, *routes)).splitlines())


@pytest.mark.parametrize(
    ("address", "device", "by_hand"),
    [
        (V4, "eth0", f"address add {VIP}/32 dev eth0"),
        (V4, "lo", f"address add {VIP}/32 dev lo"),
        (V6, "eth0", f"address add {VIP6}/128 dev eth0 preferred_lft 0"),
        (V6, "lo", f"address add {VIP6}/128 dev lo"),
        (ip_address("127.0.0.9"), "lo", "address add 127.0.0.9/32 dev lo"),
    ],
)
def test_a_vip_that_we_add_cannot_be_told_from_one_added_by_hand(
    host: Host, kernel: On, address: IpAddress, device: str, by_hand: str
) -> None:
    placement = REAL_SERVER if device == "lo" else DIRECTOR
    before = state(host)
    kernel(lambda a: a.add_vip(address, device, placement))
    ours = state(host)
    kernel(lambda a: a.remove_address(address, address.max_prefixlen, device))
    assert state(host) == before
    host.run("ip", *by_hand.split())
    theirs = state(host)
    kernel(lambda a: a.remove_address(address, address.max_prefixlen, device))
    assert ours == theirs
    assert ours != before


@pytest.mark.parametrize("device", ["lo", "eth0"])
def test_a_host_route_that_we_add_cannot_be_told_from_one_added_by_hand(host: Host, kernel: On, device: str) -> None:
    before = state(host)
    kernel(lambda a: a.add_host_route(V4, device))
    ours = state(host)
    host.run("ip", "route", "del", VIP, "scope", "host", "dev", device)
    host.run("ip", "route", "add", VIP, "scope", "host", "dev", device)
    assert state(host) == ours
    kernel(lambda a: a.remove_host_route(V4, device))
    assert state(host) == before


def test_a_host_route_of_another_scope_counts_as_there_and_is_not_removed(host: Host, kernel: On) -> None:
    host.run("ip", "route", "add", VIP, "dev", "lo")
    assert kernel(lambda a: a.has_host_route(V4, "lo"))
    with pytest.raises(DiffersError):
        kernel(lambda a: a.add_host_route(V4, "lo"))
    with pytest.raises(NotFoundError):
        kernel(lambda a: a.remove_host_route(V4, "lo"))
    assert VIP in host.out("ip", "route", "show", VIP)


def test_a_vip_is_added_read_and_removed(either: On) -> None:
    for address, device in ((V4, "eth0"), (V6, "lo")):
        assert find_address(either(lambda a: a.addresses()), address) is None
        either(lambda a, address=address, device=device: a.add_vip(address, device, REAL_SERVER))  # type: ignore[misc]
        found = find_address(either(lambda a: a.addresses()), address)
        assert found == InterfaceAddress(
            address=address,
            prefix_length=address.max_prefixlen,
            device=device,
            label=device if address.version == 4 else "",
        )
        length = address.max_prefixlen
        either(lambda a, x=address, n=length, d=device: a.remove_address(x, n, d))  # type: ignore[misc]
        assert find_address(either(lambda a: a.addresses()), address) is None


def test_what_is_there_already_differs_and_what_is_not_there_is_not_found(either: On) -> None:
    either(lambda a: a.add_vip(V4, "lo", REAL_SERVER))
    either(lambda a: a.add_host_route(V4, "lo"))
    with pytest.raises(DiffersError):
        either(lambda a: a.add_vip(V4, "lo", REAL_SERVER))
    with pytest.raises(DiffersError):
        either(lambda a: a.add_host_route(V4, "eth0"))
    with pytest.raises(NotFoundError):
        either(lambda a: a.remove_address(V4, 24, "lo"))
    with pytest.raises(NotFoundError):
        either(lambda a: a.remove_host_route(V4, "eth0"))
    with pytest.raises(RefusedError, match="no interface 'eth7'"):
        either(lambda a: a.add_vip(V4, "eth7", DIRECTOR))


def test_the_route_outlives_the_address(either: On) -> None:
    either(lambda a: a.add_vip(V4, "lo", REAL_SERVER))
    either(lambda a: a.add_host_route(V4, "lo"))
    either(lambda a: a.remove_address(V4, 32, "lo"))
    assert either(lambda a: a.has_host_route(V4, "lo"))
    assert not either(lambda a: a.has_host_route(V4, "eth0"))
    either(lambda a: a.remove_host_route(V4, "lo"))
    assert not either(lambda a: a.has_host_route(V4, "lo"))


def test_the_same_address_can_stand_there_with_two_prefix_lengths(either: On, host: Host) -> None:
    either(lambda a: a.add_vip(ip_address(host.ipv4), "eth0", DIRECTOR))
    found = [each.prefix_length for each in either(lambda a: a.addresses()) if str(each.address) == host.ipv4]
    either(lambda a: a.remove_address(ip_address(host.ipv4), 32, "eth0"))
    assert sorted(found) == [24, 32]


def test_a_directors_ipv6_vip_is_deprecated_and_never_a_source(host: Host, kernel: On) -> None:
    kernel(lambda a: a.add_vip(V6, "eth0", DIRECTOR))
    state(host)
    found = find_address(kernel(lambda a: a.addresses()), V6)
    assert found is not None
    assert (found.preferred_lifetime, found.tentative, found.dadfailed) == (0, False, False)
    assert str(kernel(lambda a: a.route_to(ip_address("2001:db8::77"))).source) == host.ipv6


def test_loopback_does_no_duplicate_address_detection(kernel: On) -> None:
    kernel(lambda a: a.add_vip(V6, "lo", REAL_SERVER))
    found = find_address(kernel(lambda a: a.addresses()), V6)
    assert found is not None
    assert not found.tentative


ROUTES = """\
route add 198.51.100.0/24 via 192.168.0.1
route add 198.51.101.0/24 nexthop via 192.168.0.2 dev eth0 nexthop via 192.168.0.3 dev eth0
route add 198.51.102.0/24 via inet6 2001:db8::4 dev eth0
route add 203.0.113.0/24 via 192.168.0.5 table 77
route add 203.0.113.0/24 via 192.168.0.6 table 7777
route add unreachable 198.51.103.1
route add blackhole 198.51.103.2
route add prohibit 198.51.103.3
route add 2001:db8:1::/64 via 2001:db8::7
route add 2001:db8:2::/64 nexthop via 2001:db8::8 nexthop via 2001:db8::9
route add unreachable 2001:db8:3::1
route add blackhole 2001:db8:3::2
route add prohibit 2001:db8:3::3
"""


@pytest.fixture
def routes(host: Host) -> Iterator[None]:
    lines = ROUTES.splitlines()
    batch(host, lines)
    yield
    batch(host, [line.replace(" add ", " del ") for line in lines])


@pytest.mark.usefixtures("routes")
def test_the_next_hops_of_all_tables_and_families_are_found(kernel: On) -> None:
    expected = [f"192.168.0.{n}" for n in (1, 2, 3, 5, 6)] + [f"2001:db8::{n}" for n in (4, 7, 8, 9)]
    assert kernel(lambda a: a.next_hops()) == {ip_address(each) for each in expected}


@pytest.mark.usefixtures("routes")
@pytest.mark.parametrize(
    "target",
    [
        "198.51.100.9",
        "198.51.102.9",
        "192.168.0.77",
        "192.168.0.10",
        "127.0.0.1",
        "2001:db8:1::9",
        "2001:db8::77",
        "::1",
    ],
)
def test_the_route_to_an_address_is_what_ip_route_get_says(host: Host, kernel: On, target: str) -> None:
    found = kernel(lambda a: a.route_to(ip_address(target)))
    (said,) = json.loads(host.out("ip", "-j", "route", "get", target))
    gateway = said.get("gateway") or said.get("via", {}).get("host")
    assert found.reachable
    assert found.local is (said.get("type") == "local")
    assert (str(found.gateway) if found.gateway else None) == gateway
    assert (found.device, str(found.source)) == (said["dev"], said["prefsrc"])


@pytest.mark.usefixtures("routes")
@pytest.mark.parametrize(
    "target",
    [f"198.51.103.{n}" for n in (1, 2, 3)] + [f"2001:db8:3::{n}" for n in (1, 2, 3)] + ["203.0.113.1", "2001:db9::1"],
)
def test_what_no_route_leads_to_is_not_reachable(kernel: On, target: str) -> None:
    assert not kernel(lambda a: a.route_to(ip_address(target))).reachable


def test_interfaces_are_told_by_kind_and_by_whether_they_do_arp(host: Host, kernel: On) -> None:
    made = {"t1": "ipip", "t2": "sit", "t3": "gre", "d0.5": "dummy", "br0": "bridge"}
    for name, kind in made.items():
        local = ("local", host.ipv4) if kind in ("ipip", "sit", "gre") else ()
        host.run("ip", "link", "add", name, "type", kind, *local)
    found = {each.name: each for each in kernel(lambda a: a.devices())}
    for name in made:
        host.run("ip", "link", "del", name)
    assert found["lo"] == Device(name="lo", kind="loopback", does_arp=False, up=True, mtu=65536)
    assert found["eth0"] == Device(name="eth0", kind="veth", does_arp=True, up=True)
    assert {name: found[name].kind for name in made} == made
    assert [name for name in made if found[name].does_arp] == ["br0"]
    assert [name for name in made if found[name].is_tunnel] == ["t1", "t2", "t3"]
    assert not any(found[name].up for name in made)


WITHOUT_CAPABILITY = """
from ipaddress import ip_address
from agent_common.address import Placement
from agent_common.errors import LvsError
from agent_common.netlink_address import NetlinkAddresses
addresses = NetlinkAddresses()
assert addresses.addresses() and addresses.devices()
try:
    addresses.add_vip(ip_address("192.168.0.200"), "lo", Placement.REAL_SERVER)
except LvsError as error:
    print(error.reason, error)
"""


def test_without_the_capability_everything_can_be_read_and_the_error_names_it(host: Host) -> None:
    said = host.out("setpriv", "--bounding-set", "-net_admin", sys.executable, "-c", WITHOUT_CAPABILITY)
    assert said.startswith("NO_CAPABILITY cannot add 192.168.0.200 to lo: ")
    assert "CAP_NET_ADMIN" in said
