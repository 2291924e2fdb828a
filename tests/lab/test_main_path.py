"""lvs add-backend end to end: point 2 of the first milestone, by means that are not ours."""

from __future__ import annotations

import itertools

from lab.site import VIP, VIP6
from tests.lab.operator import PORT, Operator


def test_two_commands_build_a_site_whose_real_servers_answer_in_turn(operator: Operator, family: int) -> None:
    """Requests through the VIP alternate, and ipvsadm shows both real servers."""
    vip = operator.vip(family)
    operator.lvs("add-backend", "--vip", vip, "--rs", operator.rs(family)[0], "--scheduler", "rr")
    operator.lvs("add-backend", "--vip", vip, "--rs", operator.rs(family)[1])

    names = [operator.site.client.out("curl", "--silent", "--max-time", "5", f"http://{vip}/") for _ in range(6)]
    assert set(names) == {"rs1", "rs2"}
    assert all(first != second for first, second in itertools.pairwise(names))

    rules = operator.site.director.out("ipvsadm", "-Sn").splitlines()
    first, second = operator.rs(family)
    bracket = (lambda text: text) if family == 4 else (lambda text: f"[{text}]")
    for rule in (
        f"-A -t {vip} -s rr",
        f"-a -t {vip} -r {bracket(first)}:{PORT} -g -w 1",
        f"-a -t {vip} -r {bracket(second)}:{PORT} -g -w 1",
    ):
        assert rule in rules


def test_hosts_are_what_a_person_would_have_set_by_hand(operator: Operator) -> None:
    """Addresses, routes and sysctls of the site that the test before has built."""
    assert f"inet {VIP}/32 scope global eth0" in operator.site.director.out("ip", "-o", "addr", "show", "dev", "eth0")
    assert f"{VIP} dev eth0 scope host" in operator.site.director.out("ip", "route", "show")
    six = operator.site.director.out("ip", "-o", "-6", "addr", "show", "dev", "eth0", "to", VIP6)
    assert f"inet6 {VIP6}/128 scope global deprecated" in six
    assert "valid_lft forever preferred_lft 0sec" in six
    for rs in operator.site.real_servers:
        on_lo = rs.out("ip", "-o", "addr", "show", "dev", "lo")
        assert f"inet {VIP}/32 scope global lo" in on_lo
        assert f"inet6 {VIP6}/128 scope global" in on_lo
        assert f"{VIP} dev lo scope host" in rs.out("ip", "route", "show")
        for path, value in (("all/arp_ignore", "1"), ("all/arp_announce", "2")):
            assert rs.out("cat", f"/proc/sys/net/ipv4/conf/{path}") == value
            assert rs.out("cat", f"/proc/sys/net/ipv4/conf/{path.replace('all', 'lo')}") == value


def test_the_director_alone_answers_arp_for_the_vip(operator: Operator) -> None:
    """arping from the client gets answers, all of them from the director's MAC address."""
    answers = operator.site.client.run("arping", "-c", "3", "-w", "5", "-I", "eth0", VIP, check=False).stdout
    replies = [line for line in answers.splitlines() if "reply from" in line.lower()]
    assert replies
    assert all(operator.site.director.mac.lower() in line.lower() for line in replies), answers
