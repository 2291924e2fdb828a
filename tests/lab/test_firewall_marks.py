"""Backends behind a firewall mark: one virtual server for several ports and VIPs, answered on a real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.process import Process
from lab.site import VIP, VIP6
from tests.lab.operator import Operator, address_of

PORTS = (8081, 8082)
SECOND_VIP, SECOND_VIP6 = "192.168.0.201", "2001:db8::201"
MARK = 7
ONE_FAMILY = True


@pytest.fixture
def vips(family: int) -> tuple[str, str]:
    return (VIP, SECOND_VIP) if family == 4 else (VIP6, SECOND_VIP6)


@pytest.fixture
def key(family: int) -> str:
    return f"fwmark/{MARK}" if family == 4 else f"fwmark6/{MARK}"


@pytest.fixture
def mark(key: str) -> list[str]:
    return [f"--{key.partition('/')[0]}", str(MARK)]


@pytest.fixture
def marking(unchanged: Operator, family: int, vips: tuple[str, str]) -> Iterator[None]:
    """The director's firewall marks what comes for two ports of two VIPs."""
    director = unchanged.site.director
    rules = [[iptables(family), "-t", "mangle", each, "PREROUTING", "-d", vip] for vip in vips for each in ("-A", "-D")]
    match = [
        "-p",
        "tcp",
        "-m",
        "multiport",
        "--dports",
        ",".join(map(str, PORTS)),
        "-j",
        "MARK",
        "--set-mark",
        str(MARK),
    ]
    for rule in rules[::2]:
        director.run(*rule, *match)
    yield
    for rule in rules[1::2]:
        director.run(*rule, *match)


@pytest.fixture
def web(unchanged: Operator) -> Iterator[list[Process]]:
    """Web servers on both ports of both real servers."""
    site = unchanged.site
    servers = [site.serve_http(rs, port, address="::") for rs in site.real_servers for port in PORTS]
    yield servers
    for server in servers:
        server.stop()


def everywhere(vips: tuple[str, ...]) -> list[str]:
    """Every VIP with every port, as URLs have them."""
    return [f"{vip}:{port}" if "." in vip else f"[{vip}]:{port}" for vip in vips for port in PORTS]


def on_lo(operator: Operator, number: int) -> str:
    return operator.site.real_servers[number].out("ip", "-o", "addr", "show", "dev", "lo")


def test_two_ports_of_two_vips_are_served_as_one_and_given_back(
    unchanged: Operator,
    marking: None,
    web: list[Process],
    family: int,
    vips: tuple[str, str],
    mark: list[str],
    key: str,
) -> None:
    """A further backend gets the VIPs that the director holds; a removal gives them back, the last one all of it."""
    operator = unchanged
    first, second = (f"--rs={address_of(rs, family)}" for rs in operator.site.real_servers)
    names = [rs.name for rs in operator.site.real_servers]
    told = operator.lvs("add-backend", *mark, "--vip-address", vips[0], "--vip-address", vips[1], first).stderr
    assert all(f"prepare VIP {vip} on lo" in told for vip in vips)
    assert [operator.curl(each) for each in everywhere(vips)] == [names[0]] * 4

    operator.lvs("add-backend", *mark, second)
    rules = operator.site.director.out("ipvsadm", "-Sn")
    assert rules.count(f"-f {MARK}") == 3
    for vip in vips:
        assert f" {vip}/" in on_lo(operator, 1)
    assert {operator.curl(each) for each in everywhere(vips) * 2} == set(names)

    assert operator.lvs("status").stdout.count(" ready") == 2
    operator.lvs("drain", *mark, first)
    assert {operator.curl(each) for each in everywhere(vips)} == {names[1]}
    operator.lvs("undrain", *mark, first)
    operator.lvs("weight", *mark, second, "2")
    assert "-w 2" in operator.site.director.out("ipvsadm", "-Sn")

    operator.lvs("remove-backend", *mark, first, "--no-drain")
    assert not any(f" {vip}/" in on_lo(operator, 0) for vip in vips)
    assert {operator.curl(each) for each in everywhere(vips)} == {names[1]}
    operator.lvs("remove-backend", *mark, second, "--no-drain", "--prune")
    assert operator.site.director.out("ipvsadm", "-Sn") == ""


def test_a_failure_takes_every_vip_back(
    unchanged: Operator, family: int, vips: tuple[str, str], mark: list[str]
) -> None:
    """Another host has the second VIP, which the director finds out when the real server has both."""
    operator, rs, client = unchanged, unchanged.site.real_servers[0], unchanged.site.client
    length = 24 if family == 4 else 64
    client.run("ip", "addr", "add", f"{vips[1]}/{length}", "dev", "eth0", *(["nodad"] if family == 6 else []))
    try:
        before = operator.snapshots()
        given = [word for vip in vips for word in ("--vip-address", vip)]
        done = operator.lvs("add-backend", *mark, *given, "--rs", address_of(rs, family), status=10)
        assert f"done      real server {address_of(rs, family)}: prepare VIP {vips[1]} on lo" in done.stderr
        assert "everything is as it was before" in done.stderr
        assert not operator.differences(before)
    finally:
        client.run("ip", "addr", "del", f"{vips[1]}/{length}", "dev", "eth0")


def test_a_vip_that_is_lost_is_put_back_before_clients_come(
    unchanged: Operator,
    marking: None,
    web: list[Process],
    family: int,
    vips: tuple[str, str],
    mark: list[str],
    key: str,
) -> None:
    """Reconcile asks the real server for the VIPs that the director holds for the mark."""
    operator, rs = unchanged, unchanged.site.real_servers[0]
    address = address_of(rs, family)
    operator.lvs("add-backend", *mark, "--vip-address", vips[0], "--vip-address", vips[1], "--rs", address)
    operator.site.director.run(
        "ipvsadm", "-d", "-f", str(MARK), *(["-6"] if family == 6 else []), "-r", bracketed(address)
    )
    told = operator.lvs("reconcile", "--yes").stderr
    assert all(f"keep VIP {vip} on lo" in told for vip in vips)
    assert {operator.curl(each) for each in everywhere(vips)} == {rs.name}
    operator.lvs("remove-backend", *mark, "--rs", address, "--no-drain", "--prune")


def test_what_was_made_by_hand_is_adopted_with_its_vips(
    unchanged: Operator, family: int, vips: tuple[str, str], mark: list[str], key: str
) -> None:
    """A mark does not say which VIPs carry it: they are named."""
    operator, rs, director = unchanged, unchanged.site.real_servers[0], unchanged.site.director
    length, six = (32, []) if family == 4 else (128, ["-6"])
    address = address_of(rs, family)
    director.run("ipvsadm", "-A", "-f", str(MARK), *six)
    director.run("ipvsadm", "-a", "-f", str(MARK), *six, "-r", bracketed(address))
    for vip in vips:
        for host, device in ((director, "eth0"), (rs, "lo")):
            words = ["nodad", "preferred_lft", "0"] if family == 6 else []
            host.run("ip", "addr", "add", f"{vip}/{length}", "dev", device, *words)
    if family == 4:
        for name, value in (("arp_ignore", 1), ("arp_announce", 2)):
            for interface in ("all", "lo"):
                rs.run("sysctl", "-q", "-w", f"net.ipv4.conf.{interface}.{name}={value}")
    operator.lvs("adopt", key, "--vip-address", vips[0], "--vip-address", vips[1])
    assert all(f"{vip} " in operator.lvs("vip", "list").stdout for vip in vips)
    operator.lvs("remove-backend", *mark, "--rs", address, "--no-drain", "--prune")
    assert not any(f" {vip}/" in on_lo(operator, 0) for vip in vips)
    assert director.out("ipvsadm", "-Sn") == ""
    if family == 4:
        for name in ("arp_ignore", "arp_announce"):
            for interface in ("all", "lo"):
                rs.run("sysctl", "-q", "-w", f"net.ipv4.conf.{interface}.{name}=0")


def bracketed(address: str) -> str:
    """An address as ipvsadm takes it: with a mark it reads no IPv6 address without a port."""
    return address if "." in address else f"[{address}]:0"


def iptables(family: int) -> str:
    """The lab's kernel has no nftables for IP."""
    return "iptables-legacy" if family == 4 else "ip6tables-legacy"
