"""Health checks against real servers that fail in every way: found in time, taken out, put back; clients notice little.

The kernel is read in /proc/net/ip_vs, and clients fetch through the VIP all the while.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent_common.virtual_server import parse_key
from cli import operations
from lab.servers import nginx
from lab.site import STATE, VIP, Site
from tests.lab.clients import fetching
from tests.lab.conftest import UsualSite
from tests.lab.health_site import (
    BOUND,
    FALL,
    INTERVAL,
    KEY,
    RISE,
    TIMEOUT,
    WRITE,
    HealthSite,
    Record,
    moment,
    serve,
    unplug,
)
from tests.lab.operator import PORT, Operator
from tests.lab.stalls import stalled

ONE_SIXTH = True

SCRIPTS = Path("/run/quorum")
ALL = {"rs1", "rs2", "rs3"}


@pytest.fixture(scope="module")
def health(usual_site: UsualSite) -> Iterator[HealthSite]:
    """Three real servers with nginx behind the VIP, none checked yet."""
    usual_site.end()
    stalled(0.0)  # from now on it is noted
    with Site.make(real_servers=3) as site:
        hosts = [(site.director, "director"), *((host, "realserver") for host in site.real_servers)]
        with ThreadPoolExecutor(len(hosts)) as pool:
            agents = list(
                pool.map(lambda each: site.start_agent(each[0], each[1], "--insecure", *_more(each[1])), hosts)
            )
        operator = Operator(site=site, agents={host.name: each for (host, _), each in zip(hosts, agents, strict=True)})
        servers = {host.name: nginx.start(host, port=PORT, paths=serve(host)) for host in site.real_servers}
        options = [word for host in site.real_servers for word in ("--rs", host.ipv4)]
        operator.lvs("add-backend", "--vip", f"{VIP}:{PORT}", "--scheduler", "rr", *options)
        # else a client that takes a port again gets where that led before (test_known_clients.py)
        site.director.run("sysctl", "-qw", "net.ipv4.vs.expire_nodest_conn=1")
        yield HealthSite(operator=operator, servers=servers)


def _more(role: str) -> tuple[str, ...]:
    SCRIPTS.mkdir(exist_ok=True)
    return ("--script-dir", str(SCRIPTS), "--failpoints") if role == "director" else ()


def die(health: HealthSite, name: str) -> Callable[[], None]:
    health.servers[name].kill()
    return health.servers[name].start


def hang(health: HealthSite, name: str) -> Callable[[], None]:
    health.servers[name].pause()
    return health.servers[name].resume


def lose_host(health: HealthSite, name: str) -> Callable[[], None]:
    host = health.operator.site.host(name)
    unplug(host)
    return lambda: unplug(host, back=True)


def fall_ill(health: HealthSite, name: str) -> Callable[[], None]:
    host = health.operator.site.host(name)
    nginx.change(health.servers[name], serve(host, status=503))
    return lambda: nginx.change(health.servers[name], serve(host))


FAULTS: dict[str, tuple[Callable[[HealthSite, str], Callable[[], None]], str]] = {
    "its process is killed": (die, "connection refused"),
    "its process stands still": (hang, "no answer"),
    "its host is gone": (lose_host, ""),
    "it says that it is ill": (fall_ill, "503"),
}

HTTP = ("--check", "http", "--path", "/health", "--damping-hold", "0")
AGENT = 0.3
"""Seconds for what an agent has read of its host a moment ago, and for the question to it."""

FIND_AGAIN = 1.1
"""Seconds until a host that was unplugged is looked for again by ARP."""


@pytest.fixture
def checked(health: HealthSite) -> Iterator[HealthSite]:
    """The site, with everybody in; and so it is handed on."""
    health.check(*HTTP)
    moment(lambda: health.serving() == ALL, 10)
    yield health
    health.operator.lvs("health", "remove", KEY)
    moment(lambda: health.serving() == ALL, 10)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_in_time_and_clients_notice_it_no_longer(
    checked: HealthSite, fault: str, record_property: Record
) -> None:
    """Out within interval x fall + timeout of the fault, in again within interval x rise + timeout of its end."""
    make, why = FAULTS[fault]
    with fetching(checked.operator.site.client, VIP, PORT) as clients:
        time.sleep(1)
        begun = time.monotonic()
        mend = make(checked, "rs2")
        made = time.monotonic()
        out = moment(lambda: checked.weights()["rs2"] == 0, 10)
        assert checked.serving() == ALL - {"rs2"}
        assert re.search(rf"105:10000 .*down.*{why}", checked.operator.lvs("health", "show", KEY).stdout)
        time.sleep(1.5)
        mend()
        mended = time.monotonic()
        back = moment(lambda: checked.weights()["rs2"] > 0, 10)
        time.sleep(1)
    assert out - made <= BOUND + WRITE + stalled(made, out)
    assert back - mended <= INTERVAL * RISE + TIMEOUT + WRITE + FIND_AGAIN + stalled(mended, back)
    assert clients.outside(begun, made + BOUND + 1 + stalled(begun)) == []
    assert set(clients.answers) == ALL
    lost = f"{len(clients.failures)} requests lost, {clients.answers.total()} answered"
    record_property("counted", f"health: {fault}: out {out - made:.2f} s, back {back - mended:.2f} s, {lost}")


def test_when_all_fail_at_once_one_stays_in_and_it_is_said(checked: HealthSite) -> None:
    for server in checked.servers.values():
        server.kill()
    moment(lambda: len(checked.serving()) == 1, BOUND + WRITE)
    time.sleep(2 * BOUND)
    assert len(checked.serving()) == 1
    status = checked.operator.lvs("status")
    assert "all destinations are down" in status.stdout + status.stderr
    log = checked.operator.lvs("health", "log", KEY).stdout
    assert log.count(" down") >= 3
    for server in checked.servers.values():
        server.start()
    moment(lambda: checked.serving() == ALL, INTERVAL * RISE + TIMEOUT + WRITE)


def test_when_most_fail_the_others_serve_all(checked: HealthSite) -> None:
    with fetching(checked.operator.site.client, VIP, PORT) as clients:
        begun = time.monotonic()
        for name in ("rs1", "rs3"):
            checked.servers[name].kill()
        made = time.monotonic()
        moment(lambda: checked.serving() == {"rs2"}, BOUND + WRITE)
        time.sleep(1.5)
        for name in ("rs1", "rs3"):
            checked.servers[name].start()
        moment(lambda: checked.serving() == ALL, INTERVAL * RISE + TIMEOUT + WRITE)
    assert clients.outside(begun, made + BOUND + 1 + stalled(begun)) == []


def test_when_the_directors_own_link_fails_not_all_are_taken_out_and_they_come_back_with_it(
    checked: HealthSite,
) -> None:
    checked.check("--floor", "60%")
    unplug(checked.director)
    try:
        moment(lambda: len(checked.serving()) == 2, BOUND + WRITE)
        time.sleep(2 * BOUND)
        assert len(checked.serving()) == 2
    finally:
        unplug(checked.director, back=True)
    moment(lambda: checked.serving() == ALL, INTERVAL * RISE + TIMEOUT + WRITE + FIND_AGAIN)


@pytest.mark.parametrize("period", [0.3, 0.6, 1.2, 2.4])
def test_what_flaps_is_held_out_and_comes_back_when_it_has_calmed_down(
    checked: HealthSite, period: float, record_property: Record
) -> None:
    """Whatever the period: its weight changes no more often than damping lets it."""
    checked.check("--damping-falls", "2", "--damping-window", "60", "--damping-hold", "6")
    host, server = checked.operator.site.host("rs2"), checked.servers["rs2"]
    changes, last, is_ill = 0, 1, False
    end = time.monotonic() + 8
    while time.monotonic() < end:
        is_ill = not is_ill
        nginx.change(server, serve(host, status=503 if is_ill else 200))
        turn = time.monotonic() + period
        while time.monotonic() < turn:
            weight = checked.weights()["rs2"]
            changes, last = changes + (weight != last), weight
            time.sleep(0.02)
    nginx.change(server, serve(host))
    assert changes <= 3  # out, in, and out for as long as it flaps
    moment(lambda: checked.serving() == ALL, 6 + INTERVAL * RISE + TIMEOUT + WRITE)
    record_property("counted", f"health: flapping every {period:g} s: {changes} changes of its weight")


def end_agent(health: HealthSite) -> None:
    """Kill the director's agent and start another, on the same kernel and journal."""
    agent = health.operator.agents["lb1"]
    agent.kill()
    before = health.weights()
    agent.start()
    assert health.weights() == before
    time.sleep(INTERVAL * max(RISE, FALL) + TIMEOUT)


def test_an_agent_that_dies_while_all_are_up_leaves_them_in(checked: HealthSite) -> None:
    end_agent(checked)
    assert checked.serving() == ALL


@pytest.mark.parametrize("effect", ["weight-zero", "remove"])
def test_an_agent_that_dies_neither_leaves_one_out_nor_puts_a_dead_one_back(checked: HealthSite, effect: str) -> None:
    checked.check("--effect", effect)
    checked.servers["rs2"].kill()
    moment(lambda: checked.serving() == ALL - {"rs2"}, BOUND + WRITE)
    assert ("rs2" in checked.weights()) == (effect == "weight-zero")
    end_agent(checked)
    assert checked.serving() == ALL - {"rs2"}
    assert "rs2" not in checked.operator.lvs("drift").stdout
    checked.servers["rs2"].start()
    moment(lambda: checked.serving() == ALL, INTERVAL * RISE + TIMEOUT + WRITE)


@pytest.mark.parametrize("place", ["before_kernel", "after_kernel"])
@pytest.mark.parametrize("effect", ["weight-zero", "remove"])
def test_an_agent_that_dies_between_journal_and_kernel_finishes_what_it_began(
    checked: HealthSite, effect: str, place: str
) -> None:
    """Taking out and putting back: no weight 0 stays, nobody dead comes in, and in the end nothing is drift."""
    checked.check("--effect", effect)
    agent, failpoint = checked.operator.agents["lb1"], STATE / "lb1" / "failpoint"
    for change, left in ((checked.servers["rs2"].kill, ALL - {"rs2"}), (checked.servers["rs2"].start, ALL)):
        failpoint.write_text(f"director.health.{place}")
        change()
        moment(lambda: not agent.is_running, 5)
        agent.start()
        moment(lambda left=left: checked.serving() == left, BOUND + INTERVAL * RISE + WRITE)  # type: ignore[misc]
    time.sleep(INTERVAL)
    assert "nothing differs" in checked.operator.lvs("drift").stdout


def test_under_sh_one_that_is_down_is_removed_and_its_clients_go_elsewhere(checked: HealthSite) -> None:
    """Weight 0 would refuse them there, so that is the default."""
    checked.operator.lvs("service", "edit", KEY, "--scheduler", "sh")
    try:
        checked.servers["rs2"].kill()
        moment(lambda: set(checked.weights()) == ALL - {"rs2"}, BOUND + WRITE)
        with fetching(checked.operator.site.client, VIP, PORT) as clients:
            time.sleep(1)
        assert clients.failures == []
        checked.servers["rs2"].start()
        moment(lambda: checked.serving() == ALL, INTERVAL * RISE + TIMEOUT + WRITE)
    finally:
        checked.operator.lvs("service", "edit", KEY, "--scheduler", "rr")


def test_a_weight_of_0_that_a_hand_has_set_is_never_raised_and_stays_drift(checked: HealthSite) -> None:
    director, key = checked.director, f"{VIP}:{PORT}"
    rs = f"{checked.operator.site.host('rs2').ipv4}:{PORT}"
    director.run("ipvsadm", "-e", "-t", key, "-r", rs, "-g", "-w", "0")
    try:
        checked.servers["rs2"].kill()
        time.sleep(2 * BOUND)
        checked.servers["rs2"].start()
        time.sleep(2 * BOUND)
        assert checked.weights()["rs2"] == 0
        moment(lambda: "weight 0, not 1" in checked.operator.lvs("drift").stdout, 20)
    finally:
        director.run("ipvsadm", "-e", "-t", key, "-r", rs, "-g", "-w", "1")
    moment(lambda: "nothing differs" in checked.operator.lvs("drift").stdout, 20)  # it is of the last look


def test_the_weight_follows_what_the_answer_says(checked: HealthSite) -> None:
    host = checked.operator.site.host("rs2")
    weigh = ("weight", "--vip", f"{VIP}:{PORT}", "--rs", host.ipv4)
    checked.operator.lvs(*weigh, "40")
    checked.check("--dynamic-weight", "http-header:X-Weight", "--min-percent", "10")
    for said, weight in (("50", 20), ("1", 4), ("100", 40)):
        answer = nginx.Answer(body="well", headers={"X-Weight": said})
        nginx.change(checked.servers["rs2"], {**serve(host), "/health": answer})
        moment(lambda weight=weight: checked.weights()["rs2"] == weight, INTERVAL + TIMEOUT + WRITE)  # type: ignore[misc]
    nginx.change(checked.servers["rs2"], serve(host))
    checked.operator.lvs(*weigh, "1")


def test_one_that_recovers_while_no_agent_runs_comes_back_with_the_next(checked: HealthSite) -> None:
    checked.servers["rs2"].kill()
    moment(lambda: checked.serving() == ALL - {"rs2"}, BOUND + WRITE)
    agent = checked.operator.agents["lb1"]
    agent.kill()
    checked.servers["rs2"].start()
    agent.start()
    moment(lambda: checked.serving() == ALL, INTERVAL * RISE + TIMEOUT + WRITE)


def test_one_that_dies_while_no_agent_runs_is_taken_out_by_the_next(checked: HealthSite) -> None:
    agent = checked.operator.agents["lb1"]
    agent.kill()
    checked.servers["rs2"].kill()
    agent.start()
    moment(lambda: checked.serving() == ALL - {"rs2"}, BOUND + WRITE)
    checked.servers["rs2"].start()
    moment(lambda: checked.serving() == ALL, INTERVAL * RISE + TIMEOUT + WRITE)


def test_a_slow_start_goes_on_through_an_agents_death_and_ends_with_the_whole_weight(checked: HealthSite) -> None:
    checked.operator.lvs("service", "edit", KEY, "--scheduler", "wrr")
    weigh = ("weight", "--vip", f"{VIP}:{PORT}", "--rs", checked.operator.site.host("rs2").ipv4)
    checked.operator.lvs(*weigh, "40")
    checked.check("--slow-start", "5")
    checked.servers["rs2"].kill()
    moment(lambda: checked.weights()["rs2"] == 0, BOUND + WRITE)
    checked.servers["rs2"].start()
    moment(lambda: 0 < checked.weights()["rs2"] < 20, 5)
    agent = checked.operator.agents["lb1"]
    agent.kill()
    before = checked.weights()["rs2"]
    agent.start()
    assert checked.weights()["rs2"] <= before + 10  # it has not begun with the whole
    moment(lambda: checked.weights()["rs2"] == 40, 6)
    assert "nothing differs" in checked.operator.lvs("drift").stdout
    checked.operator.lvs(*weigh, "1")


def test_the_sorry_server_serves_while_the_quorum_is_lost_and_through_an_agents_death(checked: HealthSite) -> None:
    """Its page would fail the others' check, as such pages do."""
    host = checked.operator.site.host("rs3")
    nginx.change(checked.servers["rs3"], serve(host, status=503))
    checked.check("--sorry", host.ipv4, "--floor", "0")
    moment(lambda: checked.serving() == {"rs1", "rs2"}, 2)
    for name in ("rs1", "rs2"):
        checked.servers[name].kill()
    moment(lambda: checked.serving() == {"rs3"}, BOUND + WRITE)
    assert checked.operator.curl(f"{VIP}:{PORT}/who") != ""
    end_agent(checked)
    assert checked.serving() == {"rs3"}
    for name in ("rs1", "rs2"):
        checked.servers[name].start()
    moment(lambda: checked.serving() == {"rs1", "rs2"}, INTERVAL * RISE + TIMEOUT + WRITE)
    nginx.change(checked.servers["rs3"], serve(host))


def test_a_removal_that_is_taken_back_serves_at_once_and_leaves_the_dead_out(checked: HealthSite) -> None:
    """The others need not be proven again: clients would be refused meanwhile."""
    operator, key = checked.operator, parse_key(KEY)
    checked.check("--start", "down", "--floor", "0")
    checked.servers["rs2"].kill()
    moment(lambda: checked.serving() == {"rs1", "rs3"}, BOUND + WRITE)
    time.sleep(INTERVAL)  # it is in the journal, too
    operator.ask(lambda client: client.apply(operations.delete_virtual_server(key, force=True), "gone"))
    assert checked.weights() == {}
    operator.ask(lambda client: client.revert("gone"))
    assert checked.weights() == {"rs1": 1, "rs2": 0, "rs3": 1}
    checked.servers["rs2"].start()
    moment(lambda: checked.serving() == ALL, 5)


def test_who_drains_stays_in_the_kernel_when_its_check_fails(checked: HealthSite) -> None:
    """Though others are removed then: its connections are to go on."""
    vip = ("--vip", f"{VIP}:{PORT}", "--rs", checked.operator.site.host("rs2").ipv4)
    checked.check("--effect", "remove")
    checked.operator.lvs("drain", *vip)
    mend = fall_ill(checked, "rs2")
    moment(lambda: "status 503" in checked.operator.lvs("health", "show", KEY).stdout, BOUND + 3)
    time.sleep(INTERVAL * FALL)
    assert checked.weights()["rs2"] == 0
    checked.operator.lvs("undrain", *vip)
    moment(lambda: "rs2" not in checked.weights(), BOUND + WRITE)
    mend()
    moment(lambda: checked.serving() == ALL, 5)


def test_the_director_itself_asks_through_the_vip_by_a_mark_where_its_answers_are_let_in(
    checked: HealthSite, record_property: Record
) -> None:
    """From its own address, and with nothing left in the kernel's table; where they are not, that is refused."""
    options = ("--check", "http", "--path", "/who", "--through-vip", "--by-mark", "--damping-hold", "0")
    assert "accept_local is 0" in checked.check(*options, status=13)
    sysctl = f"net.ipv4.conf.{checked.director.device}.accept_local"
    checked.director.run("sysctl", "-q", "-w", f"{sysctl}=1")
    try:
        checked.check(*options)
        moment(lambda: '"proven": false' not in checked.operator.lvs("--output", "json", "health", "show").stdout, 5)
        assert checked.serving() == ALL
        for fault in (hang, lose_vip):
            time.sleep(INTERVAL * FALL)
            assert checked.serving() == ALL
            mend = fault(checked, "rs2")
            made = time.monotonic()
            try:
                out = moment(lambda: checked.weights()["rs2"] == 0, 10)
            finally:
                mend()
            assert out - made <= BOUND + WRITE + stalled(made, out)
            moment(lambda: checked.serving() == ALL, 20)
            record_property("counted", f"health: {fault.__name__}, asked by a mark: out {out - made:.2f} s")
        assert "FWM" not in checked.operator.lvs("list").stdout
        assert "nothing differs" in checked.operator.lvs("drift").stdout
        checked.check("--no-by-mark", "--no-through-vip")
        moment(lambda: "FWM" not in checked.director.out("ipvsadm", "-Ln"), 2)
    finally:
        checked.director.run("sysctl", "-q", "-w", f"{sysctl}=0")


def test_commands_run_once_when_the_quorum_is_lost_and_when_it_is_regained(checked: HealthSite) -> None:
    program, told = SCRIPTS / "tell", SCRIPTS / "told"
    program.write_text(f'#!/bin/sh\necho "$1 $LVS_QUORUM $LVS_VIRTUAL_SERVER" >> {told}\n')
    program.chmod(0o755)
    checked.check("--quorum", "2", "--floor", "0", "--down-command", f"{program} a", "--up-command", f"{program} b")
    for name in ("rs1", "rs2"):
        checked.servers[name].kill()
    moment(lambda: checked.serving() == {"rs3"}, BOUND + WRITE)
    for name in ("rs1", "rs2"):
        checked.servers[name].start()
    moment(lambda: checked.serving() == ALL, INTERVAL * RISE + TIMEOUT + WRITE)
    moment(lambda: told.read_text() == f"a down {KEY}\nb up {KEY}\n", 2)
    shown = checked.operator.lvs("health", "log", KEY).stdout
    assert "lost" in shown
    assert "regained" in shown or "again" in shown


def test_nothing_is_drift_that_checks_have_done(checked: HealthSite) -> None:
    checked.servers["rs2"].kill()
    moment(lambda: checked.serving() == ALL - {"rs2"}, BOUND + WRITE)
    assert "nothing differs" in checked.operator.lvs("drift").stdout
    checked.servers["rs2"].start()
    moment(lambda: checked.serving() == ALL, INTERVAL * RISE + TIMEOUT + WRITE)


def lose_vip(health: HealthSite, name: str) -> Callable[[], None]:
    """Remove the VIP on lo, again and again: the real server's own agent puts it back."""
    host, over = health.operator.site.host(name), threading.Event()

    def remove() -> None:
        while not over.is_set():
            subprocess.run(("ip", "addr", "del", f"{VIP}/32", "dev", "lo"), capture_output=True, check=False)
            over.wait(0.02)

    thread = threading.Thread(target=lambda: host.inside(remove), daemon=True)
    thread.start()

    def mend() -> None:
        over.set()
        thread.join()

    return mend


def answer_arp(health: HealthSite, name: str) -> Callable[[], None]:
    """Set the sysctls so that the host answers for the VIP, again and again."""
    host, over = health.operator.site.host(name), threading.Event()
    sysctl = f"net.ipv4.conf.{host.device}.arp_ignore"

    def set_it() -> None:
        while not over.is_set():
            subprocess.run(("sysctl", "-q", "-w", f"{sysctl}=3"), check=True)  # 3 undoes all=1
            over.wait(0.2)

    thread = threading.Thread(target=lambda: host.inside(set_it), daemon=True)
    thread.start()

    def mend() -> None:
        over.set()
        thread.join()
        host.run("sysctl", "-q", "-w", f"{sysctl}=0")

    return mend


ON_THE_REAL_SERVER: dict[str, tuple[Callable[[HealthSite, str], Callable[[], None]], tuple[str, ...], str]] = {
    "the VIP is removed, asked of the agent": (lose_vip, ("--check", "agent"), "not on lo"),
    "the VIP is removed, fetched through its path": (
        lose_vip,
        ("--check", "http", "--path", "/who", "--through-vip"),
        "",
    ),
    "the host answers ARP for the VIP": (answer_arp, ("--check", "agent"), "arp"),
    "its process is killed, asked of the agent": (die, ("--check", "agent"), "no|refused"),
    "its process stands still, fetched through its path": (
        hang,
        ("--check", "http", "--path", "/who", "--through-vip"),
        "no answer",
    ),
}


@pytest.mark.parametrize("fault", ON_THE_REAL_SERVER)
def test_what_only_the_real_server_itself_can_tell_is_found_in_time(
    checked: HealthSite, fault: str, record_property: Record
) -> None:
    """Out within interval x fall + timeout; no other check would find a missing VIP, or who answers for it."""
    make, check, why = ON_THE_REAL_SERVER[fault]
    checked.check(*check)
    time.sleep(2 * INTERVAL)
    assert checked.serving() == ALL
    with fetching(checked.operator.site.client, VIP, PORT) as clients:
        begun = time.monotonic()
        mend = make(checked, "rs2")
        made = time.monotonic()
        try:
            out = moment(lambda: checked.weights()["rs2"] == 0, 10)
            shown = checked.operator.lvs("health", "show", KEY).stdout
            assert re.search(rf"105:10000 .*down.*{why}", shown), shown
            time.sleep(1)
        finally:
            mend()
        mended = time.monotonic()
        back = moment(lambda: checked.serving() == ALL, 20) - mended
    assert out - made <= BOUND + WRITE + AGENT + stalled(made, out)
    if make is not answer_arp:  # whom the client believes is not for us to say
        assert clients.outside(begun, made + BOUND + 1 + stalled(begun)) == []
    record_property(
        "counted", f"health: {fault}: out {out - made:.2f} s, back {back:.2f} s, {len(clients.failures)} requests lost"
    )
