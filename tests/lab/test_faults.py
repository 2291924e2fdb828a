"""add-backend while agents are killed at every failpoint, and its coordinator at every message, on a real kernel.

After each: no director has a destination whose real server lacks the VIP; then the agent runs again, and whoever comes
next finishes: all hosts agree, nothing is locked, and the kernel is what was committed or what was before.

`make faults` runs all cases, `make test` a sample; the seed is printed and can be given (--seed).
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from agent_common.vip import VipMode
from cli.add_backend import add_backend
from cli.client import Clients
from cli.errors import ExitStatus
from cli.interrupt import Interrupt
from cli.outcome import Outcome
from cli.remove_backend import remove_backend
from cli.request import AddBackend, Backend, RemoveBackend, parse_backend
from cli.site import Site as AgentSite
from cli.transactions import read_transactions, resolve_transactions
from cli.workflow import Run
from lab.host import Host
from lab.site import STATE, VIP, VIP6, Site
from tests.faults import Died, Fault, Wire
from tests.lab.conftest import UsualSite
from tests.lab.operator import Operator, address_of

LEASE = 5.0

PLACES = {
    "prepare": ("before_journal", "before_kernel", "after_kernel", "after_journal", "before_reply", "after_reply"),
    "ready": ("before_journal", "after_journal", "before_reply", "after_reply"),
    "commit": ("before_journal", "after_journal", "before_kernel", "after_kernel", "before_reply", "after_reply"),
    "abort": ("before_journal", "after_journal", "before_kernel", "after_kernel", "before_reply", "after_reply"),
}
"""The failpoints of an agent (agent_common/failpoint.py)."""

DEATHS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
LOSSES = (Fault.LOST, Fault.ANSWER_LOST, Fault.TWICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault: an agent (by its host's name) at a failpoint, or a message by its number."""

    family: int
    directors: int
    real_servers: int
    victim: str = ""
    failpoint: str = ""
    message: int = -1
    fault: Fault | None = None

    def __str__(self) -> str:
        fault = self.fault.name.lower() if self.fault else ""
        what = self.victim + self.failpoint if self.victim else f"message{self.message}-{fault}"
        return f"ipv{self.family}-{self.directors}d{self.real_servers}r-{what}"


def all_cases() -> list[Case]:
    """Every failpoint of every agent, and every message, on one and two directors and one to three real servers."""
    layouts = [(4, d, r) for d in (1, 2) for r in (1, 2, 3)] + [(6, 1, 1), (6, 2, 2)]
    return [case for family, d, r in layouts for case in _cases(family, d, r)]


def _cases(family: int, directors: int, real_servers: int) -> Iterator[Case]:
    def case(**more: object) -> Case:
        return Case(family=family, directors=directors, real_servers=real_servers, **more)  # type: ignore[arg-type]

    victims = [(f"lb{n}", "director") for n in range(1, directors + 1)]
    victims += [(f"rs{n}", "realserver") for n in range(1, real_servers + 1)]
    for name, role in victims:
        for step, places in PLACES.items():
            if (step == "ready" and role == "director") or (step == "abort" and directors + real_servers > 3):
                continue
            for place in places:
                if not (role == "realserver" and step == "commit" and "kernel" in place):  # nothing is reserved there
                    yield case(victim=name, failpoint=f"{role}.{step}.{place}")
    messages = 2 * directors + 3 * real_servers
    for number in range(messages):
        for fault in (*DEATHS, *LOSSES):
            yield case(message=number, fault=fault)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All cases, or a sample that fits the usual site."""
    if "case" not in metafunc.fixturenames:
        return
    wanted = metafunc.config.getoption("--faults")
    cases = all_cases()
    if wanted != "all":
        fitting = [case for case in cases if case.directors == 1 and case.real_servers <= 2]
        cases = random.Random(metafunc.config.getoption("--seed")).sample(fitting, int(wanted))  # noqa: S311  # repeatable
    metafunc.parametrize("case", cases, ids=str)


@pytest.fixture(scope="module")
def fault_site(request: pytest.FixtureRequest, usual_site: UsualSite) -> Iterator[Operator]:
    """The usual site, or for all cases one of two directors and three real servers."""
    if request.config.getoption("--faults") != "all":
        yield usual_site.get()
        return
    usual_site.end()
    with Site.make(directors=2, real_servers=3) as made:
        yield Operator.at(made)


class Attempt:
    """The hosts of one case, and commands on them."""

    def __init__(self, operator: Operator, case: Case) -> None:
        self.operator = operator
        self.case = case
        site = operator.site
        self.directors = site.directors[: case.directors]
        self.real_servers = site.real_servers[: case.real_servers]
        self.vip = operator.vip(case.family)

    @property
    def backend(self) -> Backend:
        return parse_backend(self.vip, [address_of(host, self.case.family) for host in self.real_servers], "tcp")

    def agents(self) -> AgentSite:
        whole = self.operator.agent_site()
        return dataclasses.replace(whole, directors=whole.directors[: self.case.directors], lock_timeout=2 * LEASE)

    def run(self, work: Callable[[Run], object]) -> Outcome:
        """Run a workflow in a process of its own, as it were: with its own connections."""

        async def go() -> Outcome:
            async with Clients(self.agents(), lambda call: None) as clients:
                return await work(Run(clients=clients, interrupt=Interrupt(), lease=LEASE))  # type: ignore[misc, no-any-return]

        return asyncio.run(go())

    def add(self) -> Outcome:
        mode = VipMode.EXTERNAL if self.case.directors > 1 else None
        return self.run(lambda run: add_backend(AddBackend(backend=self.backend, vip_mode=mode), run))

    def remove(self) -> Outcome:
        request = RemoveBackend(backend=self.backend, drain_timeout=None, prune=True)
        return self.run(lambda run: remove_backend(request, run))

    def resolve(self) -> Outcome:
        return self.run(lambda run: resolve_transactions("", run, wait=True))

    def open_transactions(self) -> list[str]:
        async def go() -> list[str]:
            async with Clients(self.agents(), lambda call: None) as clients:
                found = await read_transactions(clients)
                return [f"{each.agent} {each.transaction.id} {each.transaction.state}" for each in found]

        return asyncio.run(go())

    def served(self, director: Host) -> set[str]:
        """The real servers' addresses in a director's table, by ipvsadm."""
        rules = director.out("ipvsadm", "-Sn")
        return set(re.findall(r"-r \[?([0-9a-f.:]+?)\]?:\d+ ", rules))

    def has_vip(self, host: Host) -> bool:
        vip = VIP if self.case.family == 4 else VIP6
        return f" {vip}/" in host.out("ip", "-o", "addr", "show", "dev", "lo")

    def assert_safe(self) -> None:
        """P1: whoever gets clients has the VIP."""
        for director in self.directors:
            for host in self.real_servers:
                if address_of(host, self.case.family) in self.served(director):
                    assert self.has_vip(host), f"{director.name} sends clients to {host.name}, which has no VIP"

    def is_everywhere(self) -> bool:
        wanted = {address_of(host, self.case.family) for host in self.real_servers}
        return all(self.served(each) == wanted for each in self.directors) and all(map(self.has_vip, self.real_servers))

    def is_nowhere(self) -> bool:
        return not any(map(self.served, self.directors)) and not any(map(self.has_vip, self.real_servers))


def test_in_the_end_it_is_all_or_nothing(fault_site: Operator, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever dies, and whenever."""
    attempt = Attempt(fault_site, case)
    victims = [agent for name, agent in fault_site.agents.items() if name == case.victim]
    with monkeypatch.context() as patch:
        wire = Wire(patch)
        if case.fault is not None:
            wire.fault = (case.message, case.fault)
        for agent in victims:
            (STATE / agent.host.name / "failpoint").write_text(case.failpoint)
        if ".abort." in case.failpoint:  # something else must fail for anybody to be asked to abort
            wire.fault = (case.directors + case.real_servers, Fault.LOST)
        outcome = None
        try:
            outcome = attempt.add()
        except Died:
            assert case.fault in DEATHS
    attempt.assert_safe()
    for agent in victims:
        (STATE / agent.host.name / "failpoint").unlink(missing_ok=True)
        time.sleep(0.1)  # after_reply comes a moment after the reply
        if not agent.is_running:
            agent.start()
        attempt.assert_safe()
    if outcome is not None and outcome.status is ExitStatus.DONE:
        assert attempt.is_everywhere()
    resolved = attempt.resolve()
    assert resolved.status is ExitStatus.DONE, resolved.message
    attempt.assert_safe()
    assert attempt.is_everywhere() or attempt.is_nowhere()
    if outcome is not None and outcome.status is ExitStatus.ROLLED_BACK:
        assert attempt.is_nowhere()
    assert attempt.open_transactions() == []
    again = attempt.add()
    assert again.status is ExitStatus.DONE, again.message
    assert attempt.is_everywhere()
    gone = attempt.remove()
    assert gone.status is ExitStatus.DONE, gone.message
    assert attempt.is_nowhere()
