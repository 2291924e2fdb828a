"""What a running agent finds that somebody did by hand: it says so, and puts back only what nobody can have wanted."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from lab.agents import Agent
from lab.host import Host
from lab.site import VIP
from tests.lab.operator import LVS, PORT, Operator

ONE_SIXTH = True

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


def weigh_by_hand(operator: Operator, weight: int) -> None:
    argv = ("-e", "-t", operator.vip(4), "-r", f"{operator.rs(4)[0]}:{PORT}", "-g", "-w", str(weight))
    operator.site.director.run("ipvsadm", *argv)


def weight(operator: Operator) -> int:
    """That of the first real server, by ipvsadm."""
    rules = operator.site.director.out("ipvsadm", "-Sn")
    found = re.search(rf"-r {re.escape(operator.rs(4)[0])}:{PORT} -g -w (\d+)", rules)
    assert found is not None, rules
    return int(found[1])


def reconcile_at_a_terminal(operator: Operator, answer: str) -> tuple[int, str]:
    """Type lvs reconcile and an answer; its status, and what it said."""
    terminal, keyboard = pty.openpty()
    try:
        process = operator.site.director.popen(
            str(LVS), "--insecure", "reconcile", stdin=keyboard, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        os.write(terminal, f"{answer}\n".encode())
        said = process.communicate(timeout=PATIENCE_SECONDS)[1]
        return process.returncode, said
    finally:
        os.close(terminal)
        os.close(keyboard)


def test_reconcile_shows_what_it_would_do_and_does_it_when_it_may(serving: Operator) -> None:
    """Off a terminal it wants --yes."""
    before = serving.snapshots()
    weigh_by_hand(serving, 5)
    status, said = reconcile_at_a_terminal(serving, "n")
    assert (status, weight(serving)) == (10, 5)
    assert "weight 5" in said
    assert "repair this? [y/N]" in said
    assert "yes: nobody can be asked here" in serving.lvs("reconcile", status=2).stderr
    assert weight(serving) == 5
    status, said = reconcile_at_a_terminal(serving, "y")
    assert (status, weight(serving)) == (0, 1), said
    assert serving.differences(before) == ""


def test_an_agent_that_enforces_takes_back_what_somebody_does_by_hand(serving: Operator) -> None:
    """A weight; a virtual server that was never ours stays."""
    agent = serving.agents["lb1"]
    agent.stop()
    enforcing = Agent(agent.host, agent.role, (*agent.argv, "--enforce"), None)
    try:
        weigh_by_hand(serving, 5)
        agent.host.run("ipvsadm", "-A", "-t", f"{VIP}:9", "-s", "rr")
        until(lambda: weight(serving) == 1)
        assert f"-A -t {VIP}:9 -s rr" in agent.host.out("ipvsadm", "-Sn")
        agent.host.run("ipvsadm", "-D", "-t", f"{VIP}:9")
    finally:
        enforcing.stop()
        agent.start()


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
