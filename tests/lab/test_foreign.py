"""What we did not make, we do not touch (P4): a site that was built by hand, with ip, sysctl and ipvsadm."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lab.host import Host
from tests.lab.operator import PORT, Operator

ONE_FAMILY = True


def ip(host: Host, family: int, *argv: str) -> None:
    host.run("ip", f"-{family}", *argv)


def set_up(operator: Operator, family: int) -> None:
    """Put both real servers behind the VIP as a person would, with sysctls that silence."""
    site, vip = operator.site, operator.vip(family)
    address = vip.rpartition(":")[0].strip("[]")
    # Without these the VIP would be the source of the director's own connections, and real servers drop those.
    quiet = ("nodad", "preferred_lft", "0") if family == 6 else ()
    ip(site.director, family, "address", "add", address, "dev", "eth0", *quiet)
    site.director.run("ipvsadm", "-A", "-t", vip, "-s", "rr")
    for rs, own in zip(site.real_servers, operator.rs(family), strict=True):
        for name in ("arp_ignore=1", "arp_announce=2"):
            rs.run("sysctl", "-qw", f"net.ipv4.conf.all.{name}", f"net.ipv4.conf.lo.{name}")
        ip(rs, family, "address", "add", address, "dev", "lo")
        if family == 4:
            ip(rs, family, "route", "add", address, "dev", "lo", "scope", "host")
        site.director.run("ipvsadm", "-a", "-t", vip, "-r", f"{own}:{PORT}" if family == 4 else f"[{own}]:{PORT}", "-g")


@pytest.fixture
def by_hand(operator: Operator, family: int) -> Iterator[Operator]:
    """A site that was set up by hand; gone at the end."""
    site, address = operator.site, operator.vip(family).rpartition(":")[0].strip("[]")
    set_up(operator, family)
    yield operator
    site.director.run("ipvsadm", "-C")
    ip(site.director, family, "address", "del", address, "dev", "eth0")
    for rs in site.real_servers:
        if family == 4:
            ip(rs, family, "route", "del", address, "dev", "lo", "scope", "host")
        ip(rs, family, "address", "del", address, "dev", "lo")
        for name in ("arp_ignore=0", "arp_announce=0"):
            rs.run("sysctl", "-qw", f"net.ipv4.conf.all.{name}", f"net.ipv4.conf.lo.{name}")


def test_a_site_built_by_hand_is_in_place_and_stays_as_it_is_through_add_and_remove(
    by_hand: Operator, family: int
) -> None:
    """It is shown as foreign; nothing is held for it, and a removal leaves it where it is and says so."""
    vip, rs = by_hand.vip(family), by_hand.rs(family)
    before = by_hand.snapshots()
    pair = ("--vip", vip, "--rs", rs[0], "--rs", rs[1])
    said = by_hand.lvs("add-backend", *pair)
    assert said.stderr.count("was not made by lvs, and stays so") == 2
    assert "nothing to do" in said.stdout
    assert by_hand.lvs_json("vip", "list")["agents"][0]["answer"] == []
    for address in rs:
        assert by_hand.lvs_json("rs", "show", address)["agents"][0]["answer"]["vips"] == []
    said = by_hand.lvs("remove-backend", *pair, "--no-drain", "--prune")
    assert said.stderr.count("was not made by lvs, and stays;") == 2
    assert by_hand.differences(before) == ""
    assert {by_hand.curl(vip), by_hand.curl(vip)} == {"rs1", "rs2"}


def test_in_a_virtual_server_built_by_hand_only_our_own_backend_comes_and_goes(by_hand: Operator, family: int) -> None:
    """The second real server was not there: it is added, held, and given back; the rest is never ours."""
    vip, (first, second) = by_hand.vip(family), by_hand.rs(family)
    site = by_hand.site
    name = f"{second}:{PORT}" if family == 4 else f"[{second}]:{PORT}"
    site.director.run("ipvsadm", "-d", "-t", vip, "-r", name)
    before = by_hand.snapshots()
    by_hand.lvs("add-backend", "--vip", vip, "--rs", first, "--rs", second)
    assert {by_hand.curl(vip), by_hand.curl(vip)} == {"rs1", "rs2"}
    assert by_hand.lvs_json("rs", "show", first)["agents"][0]["answer"]["vips"] == []
    by_hand.lvs("remove-backend", "--vip", vip, "--rs", second, "--no-drain", "--prune")
    assert by_hand.differences(before) == ""
    assert by_hand.lvs_json("vip", "list")["agents"][0]["answer"] == []
    site.director.run("ipvsadm", "-a", "-t", vip, "-r", name, "-g")


def test_a_site_built_by_hand_that_is_adopted_changes_nowhere_and_is_removed_like_one_of_ours(
    by_hand: Operator, family: int
) -> None:
    """Then the VIP is put back at once where somebody takes it off, and --prune takes all of it away."""
    vip, site = by_hand.vip(family), by_hand.site
    address = vip.rpartition(":")[0].strip("[]")
    before = by_hand.snapshots()
    by_hand.lvs("adopt", f"tcp/{vip}")
    assert by_hand.differences(before) == ""
    rs = site.real_servers[0]
    ip(rs, family, "address", "del", address, "dev", "lo")
    deadline = time.monotonic() + 9
    while address not in rs.out("ip", "-o", "address", "show", "dev", "lo"):
        assert time.monotonic() < deadline
    pairs = [word for each in by_hand.rs(family) for word in ("--rs", each)]
    by_hand.lvs("remove-backend", "--vip", vip, *pairs, "--no-drain", "--prune")
    assert site.director.out("ipvsadm", "-Sn") == ""
    for host in (site.director, *site.real_servers):
        assert address not in host.out("ip", "-o", "address", "show")
        assert address not in host.out("ip", "route", "show")
    for each in site.real_servers:
        assert each.out("cat", "/proc/sys/net/ipv4/conf/all/arp_ignore") == "1"
    set_up(by_hand, family)
