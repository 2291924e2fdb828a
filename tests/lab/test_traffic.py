"""Clients' traffic through the VIP: SCTP, persistence, hashing, thresholds."""

from __future__ import annotations

import itertools
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest

from agent_common.virtual_server import Persistence
from lab.process import Process
from lab.site import VIP, VIP6, Sources
from lab.traffic import ask, ask_all, ask_sctp, connect
from tests.lab.operator import Operator, told

ONE_FAMILY = True
PORTS = itertools.count(8400)
"""A connection, and what persistence keeps, outlives its test."""


def address(family: int) -> str:
    return VIP if family == 4 else VIP6


@pytest.fixture
def port(operator: Operator) -> Iterator[int]:
    """A port with a web server on both real servers."""
    number = next(PORTS)
    servers = [operator.site.serve_http(rs, number, address="::") for rs in operator.site.real_servers]
    yield number
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def sources(operator: Operator) -> Sources:
    return operator.site.client_sources(60)


def serve(operator: Operator, family: int, port: int, **options: object) -> None:
    outcome = operator.add(operator.vip(family, port), operator.rs(family), **options)  # type: ignore[arg-type]
    assert outcome.status == 0, told(outcome)


def clear(operator: Operator, family: int, port: int, protocol: str = "tcp") -> None:
    vip, real_servers = operator.vip(family, port), operator.rs(family)
    outcome = operator.remove(vip, real_servers, protocol=protocol, prune=True, drain_timeout=None)
    assert outcome.status == 0, told(outcome)


def test_sctp_is_answered_through_the_vip(operator: Operator, family: int) -> None:
    """By a program that binds the VIP, once it is there: else its answers would offer the real server's own address."""
    subprocess.run(["modprobe", "sctp"], check=True)
    number, rs = next(PORTS), operator.site.real_servers[0]
    started: list[Process] = []

    def start(step: object) -> None:
        if not started and "prepare VIP" in str(step):
            started.append(operator.site.serve_sctp(rs, number, address(family)))

    vip, own = operator.vip(family, number), operator.rs(family)[:1]
    outcome = operator.add(vip, own, protocol="sctp", on_step=start)
    assert outcome.status == 0, told(outcome)
    assert [ask_sctp(operator.site.client, address(family), number) for _ in range(2)] == ["rs1"] * 2
    assert f"SCTP {vip}" in " ".join(operator.site.director.out("ipvsadm", "-Ln").split())
    started[0].stop()
    assert operator.remove(vip, own, protocol="sctp", prune=True, drain_timeout=None).status == 0


def test_a_persistent_client_stays_with_its_real_server(
    operator: Operator, port: int, family: int, sources: Sources
) -> None:
    """Round robin would change it with every connection; other clients get the other one."""
    serve(operator, family, port, scheduler="rr", persistence=Persistence(timeout=300))
    clients = sources.of(family)[:10]
    answers = [ask_all(operator.site.client, address(family), port, clients) for _ in range(3)]
    assert answers[1:] == answers[:1] * 2
    assert Counter(answers[0]) == {"rs1": 5, "rs2": 5}
    clear(operator, family, port)


@pytest.mark.parametrize("scheduler", ["sh", "mh"])
def test_a_hashed_client_comes_to_the_same_real_server_again(
    operator: Operator, port: int, family: int, sources: Sources, scheduler: str
) -> None:
    """And after its weight was set, and after the agent was started again."""
    serve(operator, family, port, scheduler=scheduler)
    clients = sources.of(family)

    def ask_them() -> list[str]:
        return ask_all(operator.site.client, address(family), port, clients)

    answers = ask_them()
    assert set(answers) == {"rs1", "rs2"}
    assert ask_them() == answers
    agent = operator.agents["lb1"]
    agent.kill()
    agent.start()
    assert ask_them() == answers
    clear(operator, family, port)


def test_above_its_threshold_a_destination_gets_nothing_more(operator: Operator, port: int, family: int) -> None:
    """The other one takes what comes then."""
    serve(operator, family, port, scheduler="rr")
    first = operator.rs(family)[0]
    key = f"tcp/{operator.vip(family, port)}"
    operator.lvs("destination", "edit", key, first, "--upper-threshold", "2")
    held = [connect(operator.site.client, address(family), port) for _ in range(8)]
    assert Counter(ask(each) for each in held) == {"rs1": 2, "rs2": 6}
    clear(operator, family, port)
