"""add-backend and remove-backend while an agent is killed at any failpoint, or their coordinator at any message, or a
message is lost, late or comes twice; on a real kernel, under the traffic of clients.

After each: no director has a destination whose real server lacks the VIP; then the agent runs again, and whoever comes
next finishes: all hosts agree, nothing is locked, and the kernel is what was committed or what was before. No packet of
a client ever came to a real server that did not have the VIP.

`make faults` runs all cases, `make test` a sample; the seed is printed and can be given (--seed).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from agent_common.failpoint import REPLY_SECONDS
from agent_common.vip import VipMode
from cli.add_backend import add_backend
from cli.client import Clients as AgentClients
from cli.errors import ExitStatus
from cli.interrupt import Interrupt
from cli.outcome import Outcome
from cli.remove_backend import remove_backend
from cli.request import AddBackend, Backend, RemoveBackend, parse_backend
from cli.site import Site as AgentSite
from cli.transactions import read_transactions, resolve_transactions
from cli.workflow import Run
from lab.site import STATE, VIP, VIP6, Site
from tests.failpoint_table import documented
from tests.faults import Died, Fault, Wire
from tests.lab.conftest import UsualSite
from tests.lab.fault_cases import Case, Command, all_cases
from tests.lab.kernel_view import KernelView
from tests.lab.operator import PORT, Operator, address_of
from tests.lab.strays import Clients, asking, strayed

LEASE = 5.0

DEATHS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)


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
        for family in ("ipv4", "ipv6"):  # by ports too: connections go to both directors
            made.client.run("sysctl", "-qw", f"net.{family}.fib_multipath_hash_policy=1")
        yield Operator.at(made)


class Attempt:
    """The hosts of one case, and commands on them."""

    def __init__(self, operator: Operator, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        self.operator = operator
        self.case = case
        site = operator.site
        self.directors = site.directors[: case.directors]
        self.real_servers = site.real_servers[: case.real_servers]
        self.kernel = KernelView(directors=self.directors, real_servers=self.real_servers, family=case.family)
        self.victims = [agent for name, agent in operator.agents.items() if name == case.victim]
        self._wire = Wire(monkeypatch)

    @property
    def backend(self) -> Backend:
        addresses = [address_of(host, self.case.family) for host in self.real_servers]
        return parse_backend(self.operator.vip(self.case.family), addresses, "tcp")

    @contextlib.contextmanager
    def clients(self) -> Iterator[Clients]:
        """Clients of the VIP; with several directors it is on each of them, and the clients' router uses them all."""
        site, family = self.operator.site, self.case.family
        vip, place = (VIP, f"{VIP}/32") if family == 4 else (VIP6, f"{VIP6}/128")
        with contextlib.ExitStack() as stack:
            if len(self.directors) > 1:
                hops = [part for host in self.directors for part in ("nexthop", "via", address_of(host, family))]
                site.client.run("ip", f"-{family}", "route", "add", place, *hops)
                stack.callback(site.client.run, "ip", f"-{family}", "route", "del", place)
                for host in self.directors:
                    host.run("ip", "address", "add", place, "dev", "lo")
                    stack.callback(host.run, "ip", "address", "del", place, "dev", "lo")
            yield stack.enter_context(asking(site.client, vip, PORT))

    def agents(self) -> AgentSite:
        whole = self.operator.agent_site()
        return dataclasses.replace(whole, directors=whole.directors[: self.case.directors], lock_timeout=2 * LEASE)

    def run(self, work: Callable[[Run], Awaitable[Outcome]]) -> Outcome:
        """Run a workflow in a process of its own, as it were: with its own connections."""

        async def go() -> Outcome:
            async with AgentClients(self.agents(), lambda call: None) as clients:
                outcome = await work(Run(clients=clients, interrupt=Interrupt(), lease=LEASE))
                await self._wire.arrive()
                return outcome

        return asyncio.run(go())

    def add(self) -> Outcome:
        mode = VipMode.EXTERNAL if self.case.directors > 1 else None
        return self.run(lambda run: add_backend(AddBackend(backend=self.backend, vip_mode=mode), run))

    def remove(self) -> Outcome:
        request = RemoveBackend(backend=self.backend, drain_timeout=None, prune=True)
        return self.run(lambda run: remove_backend(request, run))

    def resolve(self) -> Outcome:
        return self.run(lambda run: resolve_transactions("", run, wait=True))

    def meet_the_fault(self) -> Outcome | None:
        """Run the command of the case, and have its fault happen; None if the coordinator died."""
        case = self.case
        if case.fault is not None:
            self._wire.meet(case.message, case.fault)
        if ".abort." in case.failpoint:  # something else must fail for anybody to be asked to abort
            self._wire.meet(case.directors + case.real_servers, Fault.LOST)
        for agent in self.victims:
            (STATE / agent.host.name / "failpoint").write_text(case.failpoint)
        try:
            return self.add() if case.command is Command.ADD else self.remove()
        except Died:
            assert case.fault in DEATHS
            return None
        finally:
            self._wire.fault = None
            assert case.fault is None or self._wire.has_met, f"there was no message {case.message}: {self._wire.sent}"

    def start_victims(self) -> None:
        for agent in self.victims:
            deadline = time.monotonic() + 5.0  # after_reply comes a moment after the reply
            while agent.is_running and time.monotonic() < deadline:
                time.sleep(0.02)
            (STATE / agent.host.name / "failpoint").unlink(missing_ok=True)
            assert not agent.is_running, f"{agent.host.name} never came to {self.case.failpoint}"
            agent.start()

    def open_transactions(self) -> list[str]:
        async def go() -> list[str]:
            async with AgentClients(self.agents(), lambda call: None) as clients:
                found = (await read_transactions(clients)).known
                return [f"{each.agent} {each.transaction.id} {each.transaction.state}" for each in found]

        return asyncio.run(go())

    def is_done(self) -> bool:
        return self.kernel.is_everywhere() if self.case.command is Command.ADD else self.kernel.is_nowhere()

    def is_undone(self) -> bool:
        return self.kernel.is_nowhere() if self.case.command is Command.ADD else self.kernel.is_everywhere()


def test_in_the_end_it_is_all_or_nothing(fault_site: Operator, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever dies, and whenever."""
    with monkeypatch.context() as patch:
        attempt = Attempt(fault_site, case, patch)
        before = strayed(attempt.real_servers)
        with attempt.clients() as clients:
            if case.command is Command.REMOVE:
                assert_done(attempt.add())
                time.sleep(5 * REPLY_SECONDS)  # else an agent may still be about to pass after_reply of the addition
            outcome = attempt.meet_the_fault()
            attempt.kernel.assert_safe()
            attempt.start_victims()
            attempt.kernel.assert_safe()
            if outcome is not None and outcome.status is ExitStatus.DONE:
                assert attempt.is_done()
            assert_done(attempt.resolve())
            attempt.kernel.assert_safe()
            assert attempt.is_done() or attempt.is_undone()
            if outcome is not None and outcome.status is ExitStatus.ROLLED_BACK:
                assert attempt.is_undone()
            assert attempt.open_transactions() == []
            if case.command is Command.ADD:
                assert_done(attempt.add())
                assert attempt.kernel.is_everywhere()
            assert_done(attempt.remove())
            assert attempt.kernel.is_nowhere()
        assert clients.answered > 0
        assert strayed(attempt.real_servers) == before
        if outcome is not None and case.failpoint:
            assert outcome.status in documented()[case.failpoint.partition(".")[2]], outcome.message


def assert_done(outcome: Outcome) -> None:
    assert outcome.status is ExitStatus.DONE, outcome.message


def test_a_client_that_comes_to_a_real_server_without_the_vip_is_counted(operator: Operator, family: int) -> None:
    """As the matrix would: somebody takes the VIP away while the agent, which would put it back, is stopped."""
    site = operator.site
    vip, place = (VIP, f"{VIP}/32") if family == 4 else (VIP6, f"{VIP6}/128")
    assert operator.add(operator.vip(family), [operator.rs(family)[0]]).status == 0
    agent = operator.agents["rs1"]
    agent.stop()
    before = strayed(site.real_servers)
    with asking(site.client, vip, PORT) as clients:
        while clients.answered < 3:
            time.sleep(0.1)
        assert strayed(site.real_servers) == before
        site.host("rs1").run("ip", "address", "del", place, "dev", "lo")
        until = time.monotonic() + 10
        while strayed(site.real_servers) == before:
            assert time.monotonic() < until
            time.sleep(0.1)
    agent.start()
    assert operator.remove(operator.vip(family), [operator.rs(family)[0]], prune=True, drain_timeout=None).status == 0
