"""Somebody edits by hand, with ipvsadm and ip, what a command is in the middle of changing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from cli.add_backend import add_backend
from cli.client import Clients
from cli.connection import Call
from cli.errors import ExitStatus
from cli.interrupt import Interrupt
from cli.outcome import Outcome
from cli.remove_backend import remove_backend
from cli.request import AddBackend, RemoveBackend, SetWeight, parse_backend
from cli.set_weight import set_weight
from cli.site import Role
from cli.workflow import Run
from lab.site import VIP
from tests.lab.kernel_view import KernelView
from tests.lab.operator import Operator, told

PREPARED, COMMITTED, PLANNED = "PrepareTransaction", "CommitTransaction", "BatchApply"
ONE_EACH = True

GIVEN_UP_SECONDS = 15.0
"""The authority looks every five whether a destination that is to go takes connections again."""


@pytest.fixture
def serving(pristine: Operator) -> Iterator[Operator]:
    """Both real servers behind the VIP."""
    assert pristine.add(pristine.vip(4), pristine.rs(4)).status == 0
    yield pristine
    assert pristine.remove(pristine.vip(4), pristine.rs(4), prune=True, drain_timeout=None).status == 0


def edited(
    operator: Operator, workflow: Callable[[Run], Awaitable[Outcome]], method: str, edit: Callable[[], object]
) -> Outcome:
    """Run a command; as soon as the director has answered to a message, something happens once."""
    waiting = [edit]
    methods: list[str] = []

    def trace(call: Call) -> None:
        methods.append(call.method)
        if waiting and call.method.endswith(method) and call.agent.role is Role.DIRECTOR:
            waiting.pop()()

    async def run() -> Outcome:
        async with Clients(operator.agent_site(), trace) as clients:
            return await workflow(Run(clients=clients, interrupt=Interrupt()))

    outcome = asyncio.run(run())
    assert not waiting, f"the director was never sent {method}, but {methods}: {told(outcome)}"
    deadline = time.monotonic() + GIVEN_UP_SECONDS
    while found := operator.lvs_json("txn", "list")["transactions"]:
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    return outcome


def add(operator: Operator) -> Callable[[Run], Awaitable[Outcome]]:
    request = AddBackend(backend=parse_backend(operator.vip(4), operator.rs(4), "tcp"))
    return lambda run: add_backend(request, run)


def weigh(operator: Operator, weight: int) -> Callable[[Run], Awaitable[Outcome]]:
    request = SetWeight(backend=parse_backend(operator.vip(4), operator.rs(4)[:1], "tcp"), weight=weight)
    return lambda run: set_weight(request, run)


def remove(operator: Operator) -> Callable[[Run], Awaitable[Outcome]]:
    request = RemoveBackend(backend=parse_backend(operator.vip(4), operator.rs(4)[:1], "tcp"), drain_timeout=5.0)
    return lambda run: remove_backend(request, run)


def ipvsadm(operator: Operator, *argv: str) -> Callable[[], object]:
    return lambda: operator.site.director.run("ipvsadm", argv[0], "-t", operator.vip(4), *argv[1:])


def rules(operator: Operator) -> list[str]:
    """The destinations, by ipvsadm: address and port, method, weight."""
    lines = operator.site.director.out("ipvsadm", "-Sn").splitlines()
    return sorted(line.partition(" -r ")[2] for line in lines if " -r " in line)


def assert_everywhere(operator: Operator) -> None:
    """At once: the command has waited for it."""
    view = KernelView(directors=operator.site.directors, real_servers=operator.site.real_servers, family=4)
    assert view.is_everywhere(), rules(operator)
    assert f" {VIP}/" in operator.site.director.out("ip", "-o", "addr", "show", "eth0")


@pytest.mark.parametrize("where", ["table", "director", "real server"])
def test_what_was_prepared_and_removed_by_hand_is_there_in_the_end(pristine: Operator, where: str) -> None:
    operator, site = pristine, pristine.site
    edits: dict[str, Callable[[], object]] = {
        "table": lambda: site.director.run("ipvsadm", "-C"),
        "director": lambda: site.director.run("ip", "address", "del", f"{VIP}/32", "dev", "eth0"),
        "real server": lambda: site.real_servers[0].run("ip", "address", "del", f"{VIP}/32", "dev", "lo"),
    }
    outcome = edited(operator, add(operator), PREPARED, edits[where])
    assert outcome.status is ExitStatus.DONE, told(outcome)
    assert_everywhere(operator)
    assert operator.curl(operator.vip(4)) in ("rs1", "rs2")
    assert operator.remove(operator.vip(4), operator.rs(4), prune=True, drain_timeout=None).status == 0


def test_a_destination_that_somebody_adds_otherwise_meanwhile_is_not_overwritten(pristine: Operator) -> None:
    """The other one is added, and this one is told of, and foreign."""
    operator, first = pristine, pristine.rs(4)[0]
    outcome = edited(
        operator, add(operator), PREPARED, ipvsadm(operator, "-a", "-r", f"{first}:10000", "-m", "-w", "7")
    )
    assert outcome.status is ExitStatus.UNFINISHED, told(outcome)
    assert outcome.message.endswith(f"{first}:10000 was added by somebody else, and stays as it is")
    assert rules(operator) == [f"{first}:10000 -m -w 7", f"{operator.rs(4)[1]}:10000 -g -w 1"]
    ipvsadm(operator, "-d", "-r", f"{first}:10000")()
    assert operator.remove(operator.vip(4), operator.rs(4), prune=True, drain_timeout=None).status == 0


@pytest.mark.parametrize("when", [PLANNED, PREPARED])
def test_a_weight_that_somebody_sets_meanwhile_is_ours_in_the_end(serving: Operator, when: str) -> None:
    first, second = serving.rs(4)
    outcome = edited(serving, weigh(serving, 5), when, ipvsadm(serving, "-e", "-r", f"{first}:10000", "-g", "-w", "9"))
    assert outcome.status is ExitStatus.DONE, told(outcome)
    assert rules(serving) == [f"{first}:10000 -g -w 5", f"{second}:10000 -g -w 1"]


def test_a_destination_that_somebody_removes_meanwhile_gets_no_weight(serving: Operator) -> None:
    """It is told, nothing stays locked, and it comes back as any other that was removed by hand."""
    first, second = serving.rs(4)
    outcome = edited(serving, weigh(serving, 5), PREPARED, ipvsadm(serving, "-d", "-r", f"{first}:10000"))
    assert outcome.status is ExitStatus.UNFINISHED
    assert "changed by hand meanwhile" in outcome.message
    assert [each.command for each in outcome.commands] == ["lvs drift"]
    assert rules(serving) == [f"{second}:10000 -g -w 1"]
    assert serving.add(serving.vip(4), [first]).status == 0


def test_a_removal_goes_on_where_somebody_removes_the_destination(serving: Operator) -> None:
    first, second = serving.rs(4)
    outcome = edited(serving, remove(serving), COMMITTED, ipvsadm(serving, "-d", "-r", f"{first}:10000"))
    assert outcome.status is ExitStatus.DONE, told(outcome)
    assert rules(serving) == [f"{second}:10000 -g -w 1"]
    assert f" {VIP}/" not in serving.site.real_servers[0].out("ip", "-o", "addr", "show", "lo")


def test_a_removal_is_given_up_where_somebody_ends_its_drain(serving: Operator) -> None:
    first, second = serving.rs(4)
    outcome = edited(
        serving, remove(serving), COMMITTED, ipvsadm(serving, "-e", "-r", f"{first}:10000", "-g", "-w", "1")
    )
    assert outcome.status is ExitStatus.UNFINISHED
    assert "takes connections again" in outcome.message
    assert rules(serving) == [f"{first}:10000 -g -w 1", f"{second}:10000 -g -w 1"]
    assert_everywhere(serving)
