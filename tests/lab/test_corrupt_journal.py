"""Agents that start on a journal that is not as it was written: the kernel stays, reads answer, nothing is changed.

`make faults` runs all cases, `make test` one of them; the seed is printed and can be given (--seed).
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.agents import Agent
from lab.site import STATE, VIP
from tests.lab.operator import PORT, Operator
from tests.lab.test_agents import health

ONE_SIXTH = True


@pytest.fixture(scope="module")
def serving(operator: Operator) -> Iterator[Operator]:
    """A site that serves one backend; at the end it is as it was, whatever became of the journals."""
    before = operator.snapshots()
    assert operator.add(operator.vip(4), operator.rs(4)[:1]).status == 0
    yield operator
    assert operator.remove(operator.vip(4), operator.rs(4)[:1], prune=True, drain_timeout=None).status == 0
    assert operator.differences(before) == ""


def journal(agent: Agent) -> Path:
    return STATE / agent.host.name / "state.db"


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    """One bit of a record, wherever the file has it: SQLite itself does not see it."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(data[:18] + b"\1\1" + data[20:])  # what is in memory has no log
        (body,) = connection.execute("SELECT body FROM record WHERE kind = 'vip'").fetchone()
    good = body.encode()
    return data.replace(good, good.replace(b"lo", b"ln", 1))


def kernels(operator: Operator) -> dict[str, dict[str, str]]:
    return operator.snapshots([operator.site.director, *operator.site.real_servers])


def changes_nothing(serving: Operator, name: str, damage: Callable[[bytes], bytes]) -> None:
    """It serves reads and says DEGRADED, commands end with 13 and name the journal; with the old file all is well."""
    agent, file = serving.agents[name], journal(serving.agents[name])
    before = kernels(serving)
    agent.stop()
    good = file.read_bytes()
    bad = damage(good)
    file.write_bytes(bad)
    agent.start()
    assert serving.differences(before) == ""

    status = serving.lvs("status").stdout
    assert f"{VIP}:{PORT}" in status
    assert "DEGRADED" in status
    shown = status if name == "lb1" else serving.lvs("rs", "show", serving.rs(4)[0]).stdout
    assert f"DEGRADED: the journal {file} is corrupt" in shown
    with grpc.insecure_channel(f"unix:{agent.socket}") as channel:
        assert health(health_pb2_grpc.HealthStub(channel)) == health_pb2.HealthCheckResponse.NOT_SERVING
    added = serving.add(serving.vip(4), serving.rs(4))
    assert added.status == 13, added.message
    removed = serving.remove(serving.vip(4), serving.rs(4)[:1], prune=True, drain_timeout=None)
    assert removed.status in (10, 13), removed.message
    for outcome in (added, removed):
        assert f"the journal {file} is corrupt" in outcome.message
    assert serving.differences(before) == ""
    assert serving.curl(serving.vip(4)) == "rs1"
    assert agent.stop() == 0
    assert file.read_bytes() == bad
    assert serving.differences(before) == ""

    file.write_bytes(good)
    agent.start()
    assert "DEGRADED" not in serving.lvs("status").stdout


def way_out_for_a_real_server(serving: Operator) -> None:
    """docs/how-to/troubleshooting.md: with an empty journal it is added as at first, and removed without trace."""
    agent, (address, _) = serving.agents["rs1"], serving.rs(4)
    backend = ("--vip", serving.vip(4), "--rs", address)
    lose(agent)
    serving.lvs("remove-backend", *backend, "--no-rs-agent", "--force", "--drain-timeout", "1")
    agent.stop()
    for file in journal(agent).parent.glob("state.db*"):
        file.unlink()
    agent.host.run("ip", "route", "del", VIP, "dev", "lo", "scope", "host")
    agent.host.run("ip", "addr", "del", f"{VIP}/32", "dev", "lo")
    for name in ("all.arp_ignore", "all.arp_announce", "lo.arp_ignore", "lo.arp_announce"):
        agent.host.run("sysctl", "-qw", f"net.ipv4.conf.{name}=0")
    agent.start()
    serving.lvs("add-backend", *backend)
    assert serving.curl(serving.vip(4)) == "rs1"
    assert "DEGRADED" not in serving.lvs("status").stdout


def way_out_for_a_director(serving: Operator) -> None:
    """The same for it: clients are served until it is made anew."""
    agent, (address, _) = serving.agents["lb1"], serving.rs(4)
    before = kernels(serving)
    lose(agent)
    agent.stop()
    for file in journal(agent).parent.glob("state.db*"):
        file.unlink()
    agent.start()
    assert serving.differences(before) == ""
    assert serving.curl(serving.vip(4)) == "rs1"
    assert "foreign" in serving.lvs("status").stdout
    serving.lvs("service", "remove", f"tcp/{serving.vip(4)}", "--force")
    agent.host.run("ip", "addr", "del", f"{VIP}/32", "dev", "eth0")
    agent.host.run("ip", "route", "del", VIP, "dev", "eth0", "scope", "host")
    serving.lvs("vip", "remove", VIP, "--rs", address, "--force")
    serving.lvs("add-backend", "--vip", serving.vip(4), "--rs", address)
    assert serving.curl(serving.vip(4)) == "rs1"
    assert "foreign" not in serving.lvs("status").stdout


def lose(agent: Agent) -> None:
    """Have an agent run on a journal that is corrupt."""
    agent.stop()
    journal(agent).write_bytes(b"garbage" * 1000)
    agent.start()


CASES: dict[str, Callable[[Operator], None]] = {
    "director-truncated": lambda serving: changes_nothing(serving, "lb1", truncate),
    "real-server-flipped": lambda serving: changes_nothing(serving, "rs1", flip),
    "way-out-for-a-real-server": way_out_for_a_real_server,
    "way-out-for-a-director": way_out_for_a_director,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All cases, or one."""
    names = list(CASES)
    if metafunc.config.getoption("--faults") != "all":
        names = random.Random(metafunc.config.getoption("--seed")).sample(names, 1)  # noqa: S311  # repeatable
    metafunc.parametrize("case", names)


def test_an_agent_on_a_corrupt_journal(serving: Operator, case: str) -> None:
    """Each of the cases says what it guarantees."""
    CASES[case](serving)
