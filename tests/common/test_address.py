"""Addresses: what the types say, and that the fake answers as the kernel does (tests/lab/test_addresses.py)."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address, IPv4Network, ip_address

import pytest

from agent_common.address import Device, InterfaceAddress, Placement, RouteTo, find_address
from agent_common.errors import DiffersError, NotFoundError, Reason, RefusedError
from agent_common.fake_address import FakeAddresses, Gateway
from agent_common.kernel_errors import kernel_refusal

VIP = IPv4Address("192.168.0.200")
VIP6 = ip_address("2001:db8::200")
OWN = InterfaceAddress(address=ip_address("192.168.0.10"), prefix_length=24, device="eth0", label="eth0")


def test_an_address_is_found_whatever_its_prefix_length() -> None:
    there = InterfaceAddress(address=VIP, prefix_length=24, device="eth1")
    assert find_address([OWN, there], VIP) is there
    assert find_address([OWN], VIP) is None


@pytest.mark.parametrize(("kind", "is_tunnel"), [("ipip", True), ("gre", True), ("sit", True), ("veth", False)])
def test_tunnels_are_told_by_their_kind(kind: str, is_tunnel: bool) -> None:
    assert Device(name="tunl0", kind=kind, does_arp=False, up=True).is_tunnel is is_tunnel


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.EPERM, RefusedError, Reason.NO_CAPABILITY),
        (errno.EEXIST, DiffersError, Reason.KERNEL_REFUSED),
        (errno.EADDRNOTAVAIL, NotFoundError, Reason.VIP_NOT_FOUND),
        (errno.ESRCH, NotFoundError, Reason.VIP_NOT_FOUND),
        (errno.ENODEV, RefusedError, Reason.NO_DEVICE),
        (errno.EACCES, RefusedError, Reason.KERNEL_REFUSED),
        (errno.ENETDOWN, RefusedError, Reason.KERNEL_REFUSED),
        (9999, RefusedError, Reason.KERNEL_REFUSED),
    ],
)
def test_every_errno_becomes_an_error_that_says_what_cannot_be_done(number: int, kind: type, reason: Reason) -> None:
    error = kernel_refusal(number, "add 192.168.0.200 to eth0")
    assert type(error) is kind
    assert error.reason is reason
    assert error.message.startswith("cannot add 192.168.0.200 to eth0: ")


def test_a_missing_capability_is_named() -> None:
    assert "CAP_NET_ADMIN" in kernel_refusal(errno.EPERM, "add").message
    assert "CAP_NET_RAW" in kernel_refusal(errno.EPERM, "announce", capability="CAP_NET_RAW").message


def test_an_unforeseen_refusal_carries_the_name_and_the_text_of_its_errno() -> None:
    error = kernel_refusal(errno.ENETDOWN, "add a route")
    assert "ENETDOWN" in error.message
    assert "Network is down" in error.message
    assert error.metadata["errno"] == "ENETDOWN"


def test_the_fake_removes_an_address_and_keeps_its_route() -> None:
    fake = FakeAddresses()
    fake.add_vip(VIP, "lo", Placement.REAL_SERVER)
    fake.add_host_route(VIP, "lo")
    fake.remove_address(VIP, 32, "lo")
    assert find_address(fake.addresses(), VIP) is None
    assert fake.has_host_route(VIP, "lo")


def test_the_fake_refuses_as_the_kernel_does() -> None:
    fake = FakeAddresses()
    fake.add_vip(VIP, "eth0", Placement.DIRECTOR)
    with pytest.raises(DiffersError):
        fake.add_vip(VIP, "eth0", Placement.DIRECTOR)
    with pytest.raises(NotFoundError):
        fake.remove_address(VIP, 24, "eth0")
    with pytest.raises(NotFoundError):
        fake.remove_host_route(VIP, "eth0")
    with pytest.raises(RefusedError, match="no interface 'eth7'"):
        fake.add_vip(VIP, "eth7", Placement.DIRECTOR)


def test_the_fake_routes_by_the_longest_prefix() -> None:
    router = Gateway(network=IPv4Network("0.0.0.0/0"), address=ip_address("192.168.0.1"), device="eth0")
    fake = FakeAddresses(addresses=[OWN], gateways=[router])
    source = OWN.address
    near, far = ip_address("192.168.0.77"), ip_address("198.51.100.7")
    assert fake.route_to(near) == RouteTo(reachable=True, device="eth0", source=source)
    assert fake.route_to(far) == RouteTo(reachable=True, gateway=router.address, device="eth0", source=source)
    assert fake.route_to(source).local
    assert not fake.route_to(VIP6).reachable
    assert fake.next_hops() == {router.address}


def test_the_fake_finds_duplicates_of_ipv6_addresses_on_interfaces_only() -> None:
    fake = FakeAddresses(duplicates=[VIP6])
    fake.add_vip(VIP6, "eth0", Placement.DIRECTOR)
    (added,) = fake.addresses()
    assert (added.dadfailed, added.preferred_lifetime, added.prefix_length) == (True, 0, 128)
    fake.remove_address(VIP6, 128, "eth0")
    fake.add_vip(VIP6, "lo", Placement.REAL_SERVER)
    (added,) = fake.addresses()
    assert (added.dadfailed, added.preferred_lifetime) == (False, None)
