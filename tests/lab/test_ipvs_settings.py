"""lvs timeouts and lvs sync, as typed; ipvsadm tells what they did, and what it did is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.operator import Operator

ONE_SIXTH = True

TIMEOUTS = "Timeout (tcp tcpfin udp): "


def timeouts(operator: Operator) -> str:
    return operator.site.director.out("ipvsadm", "-L", "--timeout").removeprefix(TIMEOUTS)


def daemons(operator: Operator) -> list[str]:
    return operator.site.director.out("ipvsadm", "-L", "--daemon").splitlines()


@pytest.fixture
def settled(operator: Operator) -> Iterator[Operator]:
    """Whatever a test sets is what it was at its end, and no daemon runs."""
    yield operator
    operator.lvs("timeouts", "--tcp", "900", "--tcp-fin", "120", "--udp", "300")
    for role in ("master", "backup"):
        operator.lvs("sync", "stop", role)


def test_timeouts_are_set_and_shown(settled: Operator) -> None:
    before = timeouts(settled)
    said = settled.lvs("timeouts", "--tcp", "7200", "--udp", "400", "--dry-run").stdout
    assert "set the timeout tcp to 7200 s" in said
    assert timeouts(settled) == before
    settled.lvs("timeouts", "--tcp", "7200", "--udp", "400")
    assert timeouts(settled) == "7200 120 400"
    settled.lvs("timeouts", "--tcp-fin", "60")
    assert timeouts(settled) == "7200 60 400"
    assert "nothing to do" in settled.lvs("timeouts", "--tcp-fin", "60").stdout
    settled.site.director.run("ipvsadm", "--set", "0", "0", "500")
    (agent,) = settled.lvs_json("timeouts")["agents"]
    assert agent["answer"]["timeouts"] == {"tcp": "7200s", "tcp_fin": "60s", "udp": "500s"}
    assert agent["answer"]["committed"] == {"tcp": "7200s", "tcp_fin": "60s", "udp": "400s"}


def test_sync_daemons_are_started_shown_and_stopped(settled: Operator) -> None:
    lvs = settled.lvs
    lvs("sync", "start", "master", "--interface", "eth0", "--sync-id", "7")
    chosen = ("--sync-id", "255", "--max-length", "1400", "--group", "ff02::7", "--port", "9000", "--ttl", "3")
    lvs("sync", "start", "backup", "--interface", "lo", *chosen)
    assert daemons(settled) == [
        "master sync daemon (mcast=eth0, syncid=7, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)",
        "backup sync daemon (mcast=lo, syncid=255, maxlen=1400, group=ff02::7, port=9000, ttl=3)",
    ]
    refused = lvs("sync", "start", "master", "--interface", "eth0", "--sync-id", "8", status=13)
    assert "another sync_id; stop it first" in refused.stderr
    assert [line.split() for line in lvs("sync", "show").stdout.splitlines()[1:]] == [
        ["master", "eth0", "7", "1472", "224.0.0.81", "8848", "1", "lvs"],
        ["backup", "lo", "255", "1400", "ff02::7", "9000", "3", "lvs"],
    ]
    for role in ("master", "backup"):
        lvs("sync", "stop", role)
        assert "nothing to do" in lvs("sync", "stop", role).stdout
    assert daemons(settled) == []
    assert lvs("sync", "show").stdout == "no sync daemon runs\n"
    missing = lvs("sync", "start", "master", "--interface", "eth9", status=10)
    assert "there is no such interface" in missing.stderr


def test_a_daemon_of_ipvsadm_is_foreign_until_it_is_adopted(settled: Operator) -> None:
    settled.site.director.run("ipvsadm", "--start-daemon", "backup", "--mcast-interface", "eth0", "--syncid", "9")
    settled.lvs("sync", "start", "backup", "--interface", "eth0", "--sync-id", "9")
    assert settled.lvs("sync", "show").stdout.split()[-1] == "foreign"
    settled.lvs("sync", "start", "backup", "--interface", "eth0", "--sync-id", "9", "--adopt")
    assert settled.lvs("sync", "show").stdout.split()[-1] == "lvs"
    assert len(daemons(settled)) == 1


def test_an_agent_that_starts_in_a_new_boot_brings_settings_back(settled: Operator) -> None:
    """As in tests/lab/test_restore.py what the kernel lost is lost by hand, the module's table with it."""
    director, agent = settled.site.director, settled.agents["lb1"]
    assert settled.add(settled.vip(4), settled.rs(4)[:1]).status == 0
    settled.lvs("timeouts", "--tcp", "7200")
    settled.lvs("sync", "start", "master", "--interface", "eth0", "--sync-id", "7")
    running = daemons(settled)
    agent.kill()
    director.run("ipvsadm", "-C")
    director.run("ipvsadm", "--set", "900", "120", "300")
    director.run("ipvsadm", "--stop-daemon", "master")
    agent.start()
    assert (timeouts(settled), daemons(settled)) == ("7200 120 300", running)
    agent.kill()
    director.run("ipvsadm", "--set", "800", "120", "300")
    director.run("ipvsadm", "--stop-daemon", "master")
    agent.start()
    assert (timeouts(settled), daemons(settled)) == ("800 120 300", [])  # the table is there: it was done by hand
    drift = settled.lvs("reconcile", "--dry-run").stdout
    assert "tcp 800 s, not 7200 s" in drift
    settled.lvs("reconcile", "--yes")
    assert (timeouts(settled), daemons(settled)) == ("7200 120 300", running)
    assert settled.remove(settled.vip(4), settled.rs(4)[:1], prune=True, drain_timeout=None).status == 0
