"""What agents bring back when they start (P6): what the kernel lost as a whole, and nothing that somebody removed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lab.host import Host
from lab.site import VIP, VIP6
from tests.lab.operator import PORT, Operator

ONE_FAMILY = True


@pytest.fixture(scope="module")
def serving(operator: Operator) -> Iterator[Operator]:
    """Both families behind both real servers, the second of which drains for IPv4; no trace of it at the end."""
    before = operator.snapshots()
    for family in (4, 6):
        assert operator.add(operator.vip(family), operator.rs(family), scheduler="rr").status == 0
    assert operator.weigh(operator.vip(4), operator.rs(4)[1:], draining=True).status == 0
    yield operator
    for family in (4, 6):
        outcome = operator.remove(operator.vip(family), operator.rs(family), prune=True, drain_timeout=None)
        assert outcome.status == 0
    assert operator.differences(before) == ""


def lose_vips(host: Host, device: str) -> None:
    host.run("ip", "route", "del", VIP, "scope", "host", "dev", device)
    host.run("ip", "address", "del", f"{VIP}/32", "dev", device)
    host.run("ip", "address", "del", f"{VIP6}/128", "dev", device)


def test_what_a_kernel_lost_as_a_whole_is_back_as_it_was(serving: Operator) -> None:
    """All agents die, and every host loses its table, VIPs, routes and sysctls, as in a reboot."""
    before = serving.snapshots()
    for agent in serving.agents.values():
        agent.kill()
    serving.site.director.run("ipvsadm", "-C")
    lose_vips(serving.site.director, "eth0")
    for rs in serving.site.real_servers:
        lose_vips(rs, "lo")
        for name in ("arp_ignore=0", "arp_announce=0"):
            rs.run("sysctl", "-qw", f"net.ipv4.conf.all.{name}", f"net.ipv4.conf.lo.{name}")
    for agent in serving.agents.values():
        agent.start()
    assert serving.differences(before) == ""
    assert {serving.curl(serving.vip(6)) for _ in range(4)} == {"rs1", "rs2"}
    assert {serving.curl(serving.vip(4)) for _ in range(4)} == {"rs1"}  # the other drains, as before
    assert serving.weigh(serving.vip(4), serving.rs(4)[1:], draining=False).status == 0
    assert serving.weigh(serving.vip(4), serving.rs(4)[1:], draining=True).status == 0


def test_what_somebody_removed_by_hand_stays_away(serving: Operator) -> None:
    """In the same boot, beside things that are there: it is drift (tests/lab/test_drift.py), and not put back."""
    director, agent = serving.site.director, serving.agents["lb1"]
    first = serving.rs(6)[0]
    agent.kill()
    director.run("ipvsadm", "-d", "-t", serving.vip(6), "-r", f"[{first}]:{PORT}")
    agent.start()
    assert f"[{first}]:{PORT}" not in director.out("ipvsadm", "-Sn")
    assert serving.add(serving.vip(6), [first]).status == 0
    assert f"[{first}]:{PORT}" in director.out("ipvsadm", "-Sn")


def test_a_vip_that_another_host_took_meanwhile_is_left_to_it(serving: Operator, family: int) -> None:
    """Two hosts would answer for it; the agent serves, and says which VIP is missing and who has it."""
    director, agent, intruder = serving.site.director, serving.agents["lb1"], serving.site.intruder
    assert intruder is not None
    place = (f"{VIP}/32" if family == 4 else f"{VIP6}/128", "dev", "eth0")
    agent.kill()
    if family == 4:
        director.run("ip", "route", "del", VIP, "scope", "host", "dev", "eth0")
    director.run("ip", "address", "del", *place)
    intruder.run("ip", "address", "add", *place, *(["nodad"] if family == 6 else []))
    agent.start()
    (problem,) = serving.ask(lambda client: client.host()).problems
    deadline = time.monotonic() + 6.0
    while time.monotonic() < deadline:  # it is tried again, and for IPv6 the address is there for as long
        assert list(serving.ask(lambda client: client.host()).problems) == [problem]
        time.sleep(0.2)
    intruder.run("ip", "address", "del", *place)
    assert problem.startswith(f"VIP {VIP if family == 4 else VIP6} is not restored")
    assert (intruder.mac if family == 4 else "duplicate address detection") in problem
    agent.stop()
    agent.start()
    assert list(serving.ask(lambda client: client.host()).problems) == []
    assert serving.curl(serving.vip(family)) in ("rs1", "rs2")
