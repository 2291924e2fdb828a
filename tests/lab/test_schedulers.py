"""A prepared and aborted add-backend changes the answer of no client: every scheduler, its flags, persistence (P3)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from agent_common.scheduler import SCHEDULERS
from agent_common.virtual_server import Persistence
from cli.outcome import StepReport, StepResult
from lab.process import Process
from lab.site import VIP, VIP6, Sources
from lab.traffic import ask_all
from tests.lab.operator import Operator

WEB = 8080
PERSISTENCE = Persistence(timeout=300)
PORTS = itertools.count(8100)
"""A persistence template outlives its test; with a port of its own each case has clients that nobody has seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How a virtual server chooses."""

    scheduler: str
    family: int
    flags: str = "none"
    persistent: bool = False

    def __str__(self) -> str:
        flags = "" if self.flags == "none" else f"-{self.flags}"
        return f"{self.scheduler}{flags}{'-persistent' if self.persistent else ''}-ipv{self.family}"


def all_served() -> list[Served]:
    """Every scheduler with each family, with its flags, and persistent."""
    flags = {"sh": ("sh-fallback", "sh-port"), "mh": ("mh-fallback", "mh-port")}
    return [
        Served(scheduler=scheduler, family=family, **more)  # type: ignore[arg-type]
        for scheduler in sorted(SCHEDULERS - {"twos"})
        for family in (4, 6)
        for more in ({}, {"persistent": True}, *({"flags": each} for each in flags.get(scheduler, ())))
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All of them in `make faults`, a sample in `make test`; those that hash always over IPv4."""
    chooser = random.Random(metafunc.config.getoption("--seed"))  # noqa: S311  # repeatable
    sampled = metafunc.config.getoption("--faults") != "all"
    if "served" in metafunc.fixturenames:
        cases = all_served()
        if sampled:
            hashing = [Served(scheduler=scheduler, family=4) for scheduler in ("dh", "mh", "sh")]
            cases = hashing + chooser.sample([case for case in cases if case not in hashing], 3)
        metafunc.parametrize("served", cases, ids=str)
    if "visited" in metafunc.fixturenames:
        cases = [case for case in all_served() if case.persistent]
        metafunc.parametrize("visited", chooser.sample(cases, 2) if sampled else cases, ids=str)


def test_a_rolled_back_addition_changes_the_answer_of_no_client(
    operator: Operator, one_server: Process, sources: Sources, served: Served
) -> None:
    """100 source addresses, asked before, during and after an add-backend that fails, get the answers that they got."""
    first, second = operator.rs(served.family)
    vip = operator.vip(served.family, WEB)
    persistence = PERSISTENCE if served.persistent else None
    assert operator.add(vip, [first], scheduler=served.scheduler, persistence=persistence).status == 0
    if served.flags != "none":
        operator.lvs("service", "edit", f"tcp/{vip}", "--scheduler-flags", served.flags)
    clients = sources.of(served.family)
    asked_before = ask(operator, WEB, clients)
    during: list[list[str]] = []
    fail_to_add(operator, vip, second, lambda: during.append(ask(operator, WEB, clients)))
    assert (during, ask(operator, WEB, clients)) == ([asked_before], asked_before)
    assert asked_before == ["rs1"] * 100
    assert operator.remove(vip, [first], prune=True, drain_timeout=None).status == 0


def test_templates_of_a_former_stay_send_no_client_to_a_newcomer(
    operator: Operator, vips: None, sources: Sources, visited: Served
) -> None:
    """100 clients are bound to a real server that goes and is added again: half of them ask only meanwhile."""
    port, clients = next(PORTS), sources.of(visited.family)
    with bound_to_second(operator, visited, port, clients) as (vip, second):
        assert ask(operator, port, clients[:50]) == ["rs1"] * 50  # their templates are made anew
        during: list[list[str]] = []
        fail_to_add(operator, vip, second, lambda: during.append(ask(operator, port, clients)))
        assert (during, ask(operator, port, clients)) == ([["rs1"] * 100], ["rs1"] * 100)


def test_templates_would_send_clients_to_a_destination_of_weight_0(
    operator: Operator, vips: None, sources: Sources, family: int
) -> None:
    """Why a destination is only reserved at preparation: this is what the tests above would see otherwise."""
    port, clients = next(PORTS), sources.of(family)[:10]
    served = Served(scheduler="rr", family=family, persistent=True)
    with bound_to_second(operator, served, port, clients) as (vip, second):
        where = f"{second}:{port}" if family == 4 else f"[{second}]:{port}"
        operator.site.director.run("ipvsadm", "-a", "-t", vip, "-r", where, "-g", "-w", "0")
        # It is dropped where the VIP is gone, and refused where another virtual server still has it there.
        with pytest.raises((ConnectionRefusedError, TimeoutError)):
            ask(operator, port, clients)
        operator.site.director.run("ipvsadm", "-d", "-t", vip, "-r", where)


def ask(operator: Operator, port: int, clients: Sequence[str]) -> list[str]:
    """Who answers each client; raises OSError where nobody does."""
    return ask_all(operator.site.client, VIP6 if ":" in clients[0] else VIP, port, clients)


def fail_to_add(operator: Operator, vip: str, newcomer: str, meanwhile: Callable[[], None]) -> None:
    """Add a real server whose application never starts; meanwhile is called when it is prepared, and nothing undone."""

    def look(step: StepReport) -> None:
        if step.result is StepResult.FAILED:
            meanwhile()

    outcome = operator.add(vip, [newcomer], ready_timeout=0.0, on_step=look)
    assert outcome.status == 10, outcome.message


@contextmanager
def bound_to_second(operator: Operator, served: Served, port: int, clients: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Let the second real server alone serve every client, and only the first from then on; yield VIP and second."""
    site, vip = operator.site, operator.vip(served.family, port)
    first, second = operator.rs(served.family)
    servers = [site.serve_http(rs, port, address="::") for rs in site.real_servers]
    assert operator.add(vip, [second], scheduler=served.scheduler, persistence=PERSISTENCE).status == 0
    assert ask(operator, port, clients) == ["rs2"] * len(clients)
    assert operator.add(vip, [first]).status == 0
    assert operator.remove(vip, [second], drain_timeout=None).status == 0
    servers[1].stop()
    yield vip, second
    assert operator.remove(vip, [first], prune=True, drain_timeout=None).status == 0
    servers[0].stop()


@pytest.fixture(scope="module")
def sources(operator: Operator) -> Sources:
    """100 addresses of the client in each family."""
    return operator.site.client_sources(100)


@pytest.fixture(scope="module")
def vips(operator: Operator) -> Iterator[None]:
    """The VIPs stay, so that the wire is asked once."""
    for vip in (VIP, VIP6):
        operator.lvs("vip", "add", vip)
    yield
    for vip in (VIP, VIP6):
        operator.lvs("vip", "remove", vip)


@pytest.fixture(scope="module")
def one_server(operator: Operator, vips: None) -> Process:
    """A web server on port 8080 of the first real server only."""
    return operator.site.serve_http(operator.site.real_servers[0], WEB, address="::")
