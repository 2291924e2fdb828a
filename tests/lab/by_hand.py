"""A finished site as a person would have set it up by hand, asserted by means that are not ours."""

from __future__ import annotations

import itertools

from lab.host import Host
from lab.site import VIP, VIP6
from tests.lab.operator import PORT, Operator


def assert_answers_alternate(operator: Operator, family: int) -> None:
    """Requests of a client through the VIP are answered by both real servers in turn."""
    url = f"http://{operator.vip(family)}/"
    names = [operator.site.client.out("curl", "--silent", "--max-time", "5", url) for _ in range(6)]
    assert set(names) == {"rs1", "rs2"}
    assert all(first != second for first, second in itertools.pairwise(names)), names


def assert_table(operator: Operator, family: int) -> None:
    """The director has the virtual server, rr, with both real servers behind it, dr, weight 1."""
    vip = operator.vip(family)
    names = [f"{address}:{PORT}" if family == 4 else f"[{address}]:{PORT}" for address in operator.rs(family)]
    rules = operator.site.director.out("ipvsadm", "-Sn").splitlines()
    for rule in (f"-A -t {vip} -s rr", *(f"-a -t {vip} -r {name} -g -w 1" for name in names)):
        assert rule in rules


def assert_director(host: Host, family: int) -> None:
    """The VIP is on eth0 with its route; over IPv6 deprecated, so that it is nobody's source address."""
    if family == 4:
        assert f"inet {VIP}/32 scope global eth0" in host.out("ip", "-o", "addr", "show", "dev", "eth0")
        assert f"{VIP} dev eth0 scope host" in host.out("ip", "route", "show")
        return
    shown = host.out("ip", "-o", "-6", "addr", "show", "dev", "eth0", "to", VIP6)
    assert f"inet6 {VIP6}/128 scope global deprecated" in shown
    assert "valid_lft forever preferred_lft 0sec" in shown


def assert_real_server(host: Host, family: int) -> None:
    """The VIP is on lo; over IPv4 with its route and the four sysctls."""
    on_lo = host.out("ip", "-o", "addr", "show", "dev", "lo")
    if family == 6:
        assert f"inet6 {VIP6}/128 scope global" in on_lo
        return
    assert f"inet {VIP}/32 scope global lo" in on_lo
    assert f"{VIP} dev lo scope host" in host.out("ip", "route", "show")
    names = ("all/arp_ignore", "all/arp_announce", "lo/arp_ignore", "lo/arp_announce")
    assert host.out("cat", *(f"/proc/sys/net/ipv4/conf/{name}" for name in names)).split() == ["1", "2", "1", "2"]


def assert_only_the_director_answers_arp(operator: Operator) -> None:
    """arping from the client gets answers, all of them from the director's MAC address."""
    argv = ("arping", "-c", "3", "-w", "5", "-I", "eth0", VIP)
    answers = operator.site.client.run(*argv, check=False).stdout
    replies = [line for line in answers.splitlines() if "reply from" in line.lower()]
    assert replies, answers
    assert all(operator.site.director.mac.lower() in line.lower() for line in replies), answers
