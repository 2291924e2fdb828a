"""The network between lvs and an agent breaks in the middle of add-backend, or is bad all along, on a real kernel.

lvs runs on a host of its own. What it asks is lost, or what it is answered: by a route to nowhere, so that both ends
only see silence. `make faults` runs all cases, `make test` a sample.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from cli.errors import ExitStatus
from lab.host import Host
from lab.site import VIP
from tests.lab.attempt import Lvs
from tests.lab.kernel_view import KernelView
from tests.lab.operator import PORT, Operator
from tests.lab.strays import asking, strayed

ONE_SIXTH = True

LEASE, TIMEOUT = 10, 5
"""Seconds; a director alone takes three to ask by ARP who has the VIP."""

SAMPLE = 2

CALLS = ("PrepareTransaction", "PrepareTransaction", "ReadyTransaction", "CommitTransaction")
"""What --debug tells as it happens: the real server, then the director has prepared, and so on."""

BAD_LINE = ("delay", "150ms", "50ms", "loss", "15%", "duplicate", "15%", "reorder", "25%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """After so many calls the network to one host is cut, in one direction."""

    calls: int
    victim: str
    answers: bool

    def __str__(self) -> str:
        return f"{self.victim}-{'answers' if self.answers else 'requests'}-after-{self.calls}"


CASES = [
    Case(calls=calls, victim=victim, answers=answers)
    for calls in range(1, len(CALLS) + 1)
    for victim in ("lb1", "rs1")
    for answers in (True, False)
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All cases, or a sample."""
    if "case" in metafunc.fixturenames:
        option = metafunc.config.getoption
        chosen = random.Random(option("--seed")).sample(CASES, SAMPLE)  # noqa: S311  # repeatable
        metafunc.parametrize("case", CASES if option("--faults") == "all" else chosen, ids=str)


@contextmanager
def cut(operator: Operator, case: Case) -> Iterator[None]:
    """Lose all that one end sends to the other."""
    victim, lvs = operator.site.host(case.victim), operator.site.client
    sender, receiver = (victim, lvs) if case.answers else (lvs, victim)
    sender.run("ip", "route", "add", "blackhole", receiver.ipv4)
    try:
        yield
    finally:
        sender.run("ip", "route", "del", "blackhole", receiver.ipv4)


@contextmanager
def bad_line(host: Host) -> Iterator[None]:
    """Delay, lose, repeat and reorder what a host sends."""
    host.run("tc", "qdisc", "add", "dev", host.device, "root", "netem", *BAD_LINE)
    try:
        yield
    finally:
        host.run("tc", "qdisc", "del", "dev", host.device, "root")


def start(operator: Operator, command: str, *more: str, timeout: int = TIMEOUT) -> Lvs:
    """Start lvs on the client's host, with every call printed."""
    site = operator.site
    backend = ("--vip", operator.vip(4), "--rs", site.real_servers[0].ipv4)
    reach = ("--director", site.director.ipv4, "--timeout", str(timeout), "--debug")
    return Lvs(operator, *reach, command, *backend, "--lease", str(LEASE), *more, host=site.client)


def view(operator: Operator) -> KernelView:
    site = operator.site
    return KernelView(directors=site.directors, real_servers=site.real_servers[:1], family=4)


def remove(operator: Operator) -> None:
    done = operator.remove(operator.vip(4), operator.rs(4)[:1], prune=True, drain_timeout=None)
    assert done.status is ExitStatus.DONE, done.message


def test_the_network_is_cut_in_the_middle(pristine: Operator, case: Case) -> None:
    """lvs says what is true; once the network is whole again, one command brings all hosts to one side."""
    operator, kernel = pristine, view(pristine)
    before = strayed(kernel.real_servers)
    with asking(operator.site.client, VIP, PORT):
        lvs = start(operator, "add-backend")
        for call in CALLS[: case.calls]:
            lvs.until(call)
        with cut(operator, case):
            ended = lvs.end()
            kernel.assert_safe()
        assert ended.status in (0, 10, 11), ended.stderr
        operator.lvs("txn", "resolve", "--wait")
        kernel.assert_safe()
        assert kernel.is_everywhere() or kernel.is_nowhere()
        if ended.status != 11:
            assert kernel.is_everywhere() is (ended.status == 0)
        assert operator.lvs_json("txn", "list")["transactions"] == []
    assert strayed(kernel.real_servers) == before
    remove(operator)


def test_the_network_is_bad_all_along(pristine: Operator) -> None:
    """Delay, loss, repetition and disorder of packets cost time, and nothing else."""
    operator, kernel = pristine, view(pristine)
    with bad_line(operator.site.director), bad_line(operator.site.real_servers[0]):
        ended = start(operator, "add-backend", timeout=20).end()
        assert ended.status == 0, ended.stderr
    assert kernel.is_everywhere()
    remove(operator)
