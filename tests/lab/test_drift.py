"""What a running agent finds that somebody did by hand: it says so, and puts back only what nobody can have wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from lab.host import Host
from lab.site import VIP
from tests.lab.operator import PORT, Operator

AT_ONCE_SECONDS = 9.0
"""It takes a director less than a second on an idle machine; the poll's two readings take ten, on any."""

PATIENCE_SECONDS = 45.0
"""The agents look every ten seconds, and say what they have found twice."""


@pytest.fixture(scope="module")
def serving(operator: Operator) -> Iterator[Operator]:
    """Both real servers behind the VIP; no trace of it at the end."""
    before = operator.snapshots()
    assert operator.add(operator.vip(4), operator.rs(4)).status == 0
    yield operator
    assert operator.remove(operator.vip(4), operator.rs(4), prune=True, drain_timeout=None).status == 0
    assert operator.differences(before) == ""


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def has_vip(host: Host, device: str) -> bool:
    address = host.out("ip", "-o", "address", "show", "dev", device)
    route = host.out("ip", "route", "show", "scope", "host")
    return f"{VIP}/32" in address and f"{VIP} dev {device}" in route


def assert_back_at_once(host: Host, device: str) -> None:
    """The poll, which takes ten seconds between two readings, cannot be what put it back."""
    begun = time.monotonic()
    until(lambda: has_vip(host, device))
    assert time.monotonic() - begun < AT_ONCE_SECONDS


def test_what_was_changed_and_added_by_hand_is_told_and_left(serving: Operator) -> None:
    """A weight, and a destination that is not ours; lvs drift and lvs status tell."""
    director, (first, _) = serving.site.director, serving.rs(4)
    vip = serving.vip(4)
    director.run("ipvsadm", "-e", "-t", vip, "-r", f"{first}:{PORT}", "-g", "-w", "5")
    director.run("ipvsadm", "-a", "-t", vip, "-r", f"192.168.0.99:{PORT}", "-g", "-w", "0")
    by_hand = director.out("ipvsadm", "-Sn")
    expected = [
        f"modified  director lb1: {first}:{PORT} in tcp/{vip}: weight 5, not 1",
        f"foreign   director lb1: 192.168.0.99:{PORT} in tcp/{vip}",
    ]
    until(lambda: serving.lvs("drift").stdout.splitlines() == expected)
    assert f"DRIFT: modified: {first}:{PORT} in tcp/{vip}: weight 5, not 1" in serving.lvs("status").stdout
    assert director.out("ipvsadm", "-Sn") == by_hand
    director.run("ipvsadm", "-d", "-t", vip, "-r", f"192.168.0.99:{PORT}")
    director.run("ipvsadm", "-e", "-t", vip, "-r", f"{first}:{PORT}", "-g", "-w", "1")
    until(lambda: "nothing differs" in serving.lvs("drift").stdout)


def test_a_vip_and_a_route_that_are_gone_are_back_at_once_unless_another_host_has_them(serving: Operator) -> None:
    """On the director and on a real server, by notification; and never two hosts that answer for one address."""
    before = serving.snapshots()
    director, rs, intruder = serving.site.director, serving.site.real_servers[0], serving.site.intruder
    assert intruder is not None
    places = ((director, "eth0"), (rs, "lo"))
    for host, device in places:
        host.run("ip", "address", "del", f"{VIP}/32", "dev", device)
        assert_back_at_once(host, device)
        host.run("ip", "route", "del", VIP, "scope", "host", "dev", device)
        assert_back_at_once(host, device)
    assert serving.differences(before) == ""
    intruder.run("ip", "address", "add", f"{VIP}/32", "dev", "eth0")
    director.run("ip", "address", "del", f"{VIP}/32", "dev", "eth0")
    until(lambda: intruder.mac in serving.lvs("status").stdout)
    assert f"{VIP}/32" not in director.out("ip", "-o", "address", "show", "dev", "eth0")
    intruder.run("ip", "address", "del", f"{VIP}/32", "dev", "eth0")
    director.run("ip", "address", "add", f"{VIP}/32", "dev", "eth0")  # the agent would, when it polls


def test_what_was_lost_is_put_back_and_clients_are_answered_again(serving: Operator) -> None:
    """The VIP on the director and on a real server, its silence, and the whole table: as a reload leaves them."""
    before = serving.snapshots()
    director, rs = serving.site.director, serving.site.real_servers[0]
    director.run("ipvsadm", "-C")
    for host, device in ((director, "eth0"), (rs, "lo")):
        host.run("ip", "route", "del", VIP, "scope", "host", "dev", device)
        host.run("ip", "address", "del", f"{VIP}/32", "dev", device)
    rs.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0")
    until(lambda: has_vip(director, "eth0") and has_vip(rs, "lo"))
    until(lambda: serving.differences(before) == "")
    assert serving.curl(serving.vip(4)) in ("rs1", "rs2")
