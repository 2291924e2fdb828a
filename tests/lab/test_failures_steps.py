"""Any single step of add-backend is made to fail, by means that are not ours: status 10, and no host is changed.

That the hosts are as before is asserted by the fixture `pristine`, by ip, ipvsadm and /proc.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent_common.destination import Forwarding
from cli.interrupt import Interrupt
from cli.outcome import Outcome
from lab.agents import Agent
from lab.site import VIP, VIP6
from tests.lab.attempt import attempt, make_answer
from tests.lab.operator import PORT, Operator, address_of

ONE_FAMILY = True

NOBODY = PORT + 7
"""A port on which no host serves."""

VIPS = {4: f"{VIP}/24", 6: f"{VIP6}/64"}
PREPARED = "prepare VIP"


def assert_rolled_back(outcome: Outcome, step: str, agent: str, *why: str) -> None:
    """Status 10, and a message that names the step, the agent and the reason."""
    assert outcome.status == 10, outcome
    assert step in outcome.message.split(";")[0], outcome.message
    assert outcome.message.startswith(("cannot ", "failed on ")), outcome.message
    for text in (agent, *why, "everything is as it was before"):
        assert text in outcome.message
    assert "\n" not in outcome.message


@contextmanager
def other_agent(operator: Operator, name: str, *without: str) -> Iterator[Agent]:
    """In the place of a host's agent one that lacks capabilities."""
    usual = operator.agents[name]
    usual.stop()
    weak = operator.site.start_agent(usual.host, usual.role, without=without)
    try:
        yield weak
    finally:
        weak.stop()
        usual.start()


@pytest.mark.parametrize("signal", ["kill", "pause"])
def test_a_real_server_whose_agent_is_lost_before_its_step(pristine: Operator, family: int, signal: str) -> None:
    """Killed or stopped after preflight: it is not sent the change at all, so nothing is unknown."""
    rs, agent = pristine.rs(family)[0], pristine.agents["rs1"]
    outcome = attempt(pristine, pristine.vip(family), [rs], then=getattr(agent, signal), timeout=2)
    assert_rolled_back(outcome, "prepare VIP", f"real server {rs}")


def test_the_second_real_server_whose_agent_is_lost(pristine: Operator) -> None:
    """The first one, which is prepared by then, gives everything back."""
    first, second = pristine.rs(4)
    outcome = attempt(
        pristine, pristine.vip(4), [first, second], after=PREPARED, then=pristine.agents["rs2"].kill, timeout=2
    )
    assert_rolled_back(outcome, "prepare VIP", f"real server {second}")


def test_a_director_that_is_killed_while_the_application_is_awaited(pristine: Operator, family: int) -> None:
    """The real server is prepared by then; the application comes up, and the director is not there any more."""
    servers = []

    def lose_director() -> None:
        pristine.agents["lb1"].kill()
        servers.append(pristine.site.serve_http(pristine.site.real_servers[0], NOBODY, address="::"))

    outcome = attempt(
        pristine,
        pristine.vip(family, NOBODY),
        [pristine.rs(family)[0]],
        after=PREPARED,
        then=lose_director,
        ready_timeout=8,
    )
    assert_rolled_back(outcome, "add virtual server", "director", "cannot connect")
    servers[0].kill()


def test_a_director_that_stands_still_does_nothing_late(pristine: Operator, family: int) -> None:
    """Stopped after preflight, and going on after the command has ended: no change waits in its socket."""
    director, rs = pristine.agents["lb1"], [pristine.rs(family)[0]]
    outcome = attempt(pristine, pristine.vip(family), rs, after=PREPARED, then=director.pause, timeout=2)
    director.resume()
    make_answer(pristine, director)
    assert_rolled_back(outcome, "add virtual server", "director", "no answer", "within 2 s")


def test_nothing_listens(pristine: Operator, family: int) -> None:
    """The application is asked for again and again, until --ready-timeout is over."""
    rs = pristine.rs(family)[0]
    outcome = attempt(pristine, pristine.vip(family, NOBODY), [rs], ready_timeout=0.6)
    assert_rolled_back(outcome, "wait until something takes TCP", f"real server {rs}", str(NOBODY), "0.6 s")


def test_nothing_is_bound_for_udp(pristine: Operator, family: int) -> None:
    """As for TCP; a bound socket is all that can be asked for."""
    rs = pristine.rs(family)[0]
    outcome = attempt(pristine, pristine.vip(family, NOBODY), [rs], ready_timeout=0.6, protocol="udp")
    assert_rolled_back(outcome, "wait until something takes UDP", f"real server {rs}", "no UDP socket is bound")


def test_nothing_listens_for_nat(pristine: Operator, family: int) -> None:
    """It is asked for on the real server's own address and port; the director is not touched."""
    rs = pristine.rs(family)[0]
    own = f"{rs}:{NOBODY}" if family == 4 else f"[{rs}]:{NOBODY}"
    outcome = attempt(
        pristine, pristine.vip(family), [own], ready_timeout=0.6, forwarding=Forwarding.MASQUERADING, force=True
    )
    assert_rolled_back(outcome, "wait until something takes TCP", f"real server {rs}", own)


def test_an_application_on_the_real_servers_own_address_only(pristine: Operator, family: int) -> None:
    """It would refuse every connection to the VIP, and the message says where it listens."""
    host = pristine.site.real_servers[0]
    rs = address_of(host, family)
    server = pristine.site.serve_http(host, NOBODY, address=rs)
    outcome = attempt(pristine, pristine.vip(family, NOBODY), [rs], ready_timeout=0.6)
    server.kill()
    assert_rolled_back(outcome, "wait until something takes TCP", f"real server {rs}", f"of {rs} only")


def test_one_real_server_of_two_without_application(pristine: Operator, family: int) -> None:
    """All of them or none: the one whose application runs is not added either."""
    host, other = pristine.site.real_servers
    server = pristine.site.serve_http(host, NOBODY, address="::")
    addresses = [address_of(each, family) for each in (host, other)]
    outcome = attempt(pristine, pristine.vip(family, NOBODY), addresses, ready_timeout=0.6)
    server.kill()
    assert_rolled_back(outcome, "wait until something takes TCP", f"real server {addresses[1]}")


def test_a_failure_beside_a_real_server_that_is_in_place_leaves_that_one_alone(pristine: Operator) -> None:
    """What an earlier command made is no part of the undo: it goes on serving, and is removed as usual."""
    operator = pristine
    first, second = operator.rs(4)
    server = operator.site.serve_http(operator.site.real_servers[0], NOBODY)
    vip = operator.vip(4, NOBODY)
    assert operator.add(vip, [first]).status == 0
    before = operator.snapshots()
    outcome = attempt(operator, vip, [first, second], ready_timeout=0.6)
    assert_rolled_back(outcome, "wait until something takes TCP", f"real server {second}")
    assert operator.differences(before) == ""
    assert operator.curl(vip) == "rs1"
    assert operator.remove(vip, [first], prune=True, drain_timeout=None).status == 0
    server.kill()


def test_a_real_servers_agent_without_its_capability(pristine: Operator) -> None:
    """Root still may write the sysctls, so the step fails halfway (IPv4) and what was done of it is undone."""
    with other_agent(pristine, "rs1", "net_admin"):
        for family in (4, 6):
            rs = pristine.rs(family)[0]
            outcome = attempt(pristine, pristine.vip(family), [rs])
            assert_rolled_back(outcome, "prepare VIP", f"real server {rs}", "CAP_NET_ADMIN")


def test_a_director_without_its_capability_is_refused_by_preflight(pristine: Operator) -> None:
    """It cannot even read the table: status 13, naming the director and the capability."""
    with other_agent(pristine, "lb1", "net_admin"):
        outcome = attempt(pristine, pristine.vip(4), [pristine.rs(4)[0]])
    assert outcome.status == 13
    for text in ("director", "CAP_NET_ADMIN", "nothing was changed"):
        assert text in outcome.message
    assert outcome.steps == []


def test_a_director_that_has_lost_its_capability_meanwhile(pristine: Operator, family: int) -> None:
    """Started anew without it after preflight: its step fails, and the real server gives everything back."""
    with ExitStack() as stack:
        outcome = attempt(
            pristine,
            pristine.vip(family),
            [pristine.rs(family)[0]],
            after=PREPARED,
            then=lambda: stack.enter_context(other_agent(pristine, "lb1", "net_admin")),
        )
    assert_rolled_back(outcome, "add virtual server", "director", "CAP_NET_ADMIN")


@pytest.fixture
def no_fo() -> Iterator[None]:
    """A guest whose kernel cannot load the scheduler fo."""
    rule = Path("/etc/modprobe.d/without-fo.conf")
    rule.parent.mkdir(exist_ok=True)
    rule.write_text("install ip_vs_fo /bin/false\n")
    subprocess.run(["modprobe", "--quiet", "--remove", "ip_vs_fo"], check=False)
    assert "ip_vs_fo" not in Path("/proc/modules").read_text()
    yield
    rule.unlink()


@pytest.mark.usefixtures("no_fo")
def test_a_scheduler_whose_module_cannot_be_loaded(pristine: Operator, family: int) -> None:
    """It shows only when the virtual server is made; the real server is prepared by then."""
    outcome = attempt(pristine, pristine.vip(family), [pristine.rs(family)[0]], scheduler="fo")
    assert_rolled_back(outcome, "add virtual server", "director", "scheduler fo", "modprobe ip_vs_fo")


@pytest.fixture
def taken(operator: Operator, family: int) -> Iterator[None]:
    """Another host has the VIP."""
    intruder = operator.site.intruder
    assert intruder is not None
    nodad = ("nodad",) if family == 6 else ()
    intruder.run("ip", "addr", "add", VIPS[family], "dev", "eth0", *nodad)
    yield
    intruder.run("ip", "addr", "del", VIPS[family], "dev", "eth0")


def test_a_vip_that_another_host_has(pristine: Operator, family: int, taken: None) -> None:
    """The director asks by ARP or duplicate address detection before it serves it."""
    outcome = attempt(pristine, pristine.vip(family), [pristine.rs(family)[0]])
    intruder = pristine.site.intruder
    assert intruder is not None
    who = intruder.mac if family == 4 else "another host"
    assert_rolled_back(outcome, "add VIP", "director", who, "answers for it")


def test_a_table_that_somebody_clears_before_the_last_step(pristine: Operator, family: int) -> None:
    """It shows only after the decision: what was prepared is made again, and clients are answered."""
    site, vip, rs = pristine.site, pristine.vip(family), [pristine.rs(family)[0]]
    outcome = attempt(pristine, vip, rs, after="add VIP", then=lambda: site.director.run("ipvsadm", "-C"))
    assert outcome.status == 0, outcome
    assert pristine.curl(vip) == "rs1"
    assert pristine.remove(vip, rs, prune=True, drain_timeout=None).status == 0


def test_a_vip_that_is_taken_back_was_never_announced(pristine: Operator, family: int, tmp_path: Path) -> None:
    """Neighbours would send to this director what belongs to whoever has the address next; told of it when it stays."""
    stop = Interrupt()
    vip, rs = pristine.vip(family), [pristine.rs(family)[0]]
    with announcements(pristine, family, tmp_path / "heard") as heard:
        outcome = attempt(pristine, vip, rs, after="add VIP", then=stop.set, interrupt=stop)
        assert outcome.status == 10, outcome
        assert heard(2.2) == ""
        assert pristine.add(vip, rs).status == 0
        assert heard(2.2) != ""
    assert pristine.remove(vip, rs, prune=True, drain_timeout=None).status == 0


@contextmanager
def announcements(operator: Operator, family: int, file: Path) -> Iterator[Callable[[float], str]]:
    """Listen on the client for who says that it has the VIP; the call waits so many seconds more."""
    # Only what nobody asked for: a client that still knows the VIP from before asks about it, and may get its answer.
    capture = f"arp src host {VIP} and arp dst host {VIP}" if family == 4 else "icmp6[0] == 136 and dst host ff02::1"
    capture += "" if family == 4 else f" and src host {VIP6}"
    argv = ("tcpdump", "--immediate-mode", "-Unli", "eth0", capture)
    with file.open("w") as out, operator.site.client.popen(*argv, stdout=out, stderr=subprocess.PIPE) as sniffer:
        assert sniffer.stderr is not None
        while "listening on" not in sniffer.stderr.readline():
            assert sniffer.poll() is None

        def heard(seconds: float) -> str:
            time.sleep(seconds)
            return file.read_text()

        try:
            yield heard
        finally:
            sniffer.terminate()


def test_after_all_these_failures_nothing_is_left_in_the_agents_records(pristine: Operator, family: int) -> None:
    """A backend is added and removed, and the hosts are as before: no forgotten hold keeps an address or a sysctl."""
    vip, rs = pristine.vip(family), pristine.rs(family)
    assert pristine.add(vip, rs).status == 0
    assert pristine.curl(vip) in ("rs1", "rs2")
    outcome = pristine.remove(vip, rs, prune=True, drain_timeout=None)
    assert outcome.status == 0
    assert pristine.leftovers() == []
