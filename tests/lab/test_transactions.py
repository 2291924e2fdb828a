"""lvs itself dies, stands still, or has company: transactions on a real kernel, seen by ipvsadm and ip."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from cli.add_backend import add_backend
from cli.client import Clients
from cli.errors import ExitStatus
from cli.interrupt import Interrupt
from cli.outcome import Outcome
from cli.remove_backend import remove_backend
from cli.request import AddBackend, RemoveBackend, parse_backend
from cli.site import Site
from cli.workflow import Run
from lab.site import VIP
from tests.lab.attempt import Lvs, run_printed
from tests.lab.kernel_view import KernelView
from tests.lab.operator import PORT, Operator

LEASE = 5
ONE_EACH = True

CALLS = ("PrepareTransaction", "ReadyTransaction", "CommitTransaction")


def start(operator: Operator, lease: int = LEASE) -> Lvs:
    """Start add-backend of both real servers, with every call printed."""
    rs = [word for each in operator.rs(4) for word in ("--rs", each)]
    return Lvs(operator, "--debug", "add-backend", "--vip", operator.vip(4), *rs, "--lease", str(lease))


def view(operator: Operator) -> KernelView:
    """What ipvsadm and ip say of both real servers."""
    site = operator.site
    return KernelView(directors=site.directors, real_servers=site.real_servers, family=4)


def served(operator: Operator) -> list[str]:
    """The real servers behind the virtual server, by ipvsadm."""
    return sorted(view(operator).served(operator.site.director))


def open_transactions(operator: Operator) -> list[object]:
    """What lvs txn list shows, as JSON."""
    found: list[object] = operator.lvs_json("txn", "list")["transactions"]
    return found


@pytest.mark.parametrize("call", CALLS)
def test_lvs_is_killed_and_nobody_comes(pristine: Operator, call: str) -> None:
    """Within its lease the director is consistent by itself; whoever types lvs txn resolve --wait has all hosts so."""
    operator = pristine
    lvs = start(operator)
    lvs.until(call)
    lvs.send(signal.SIGKILL)
    lvs.end()
    view(operator).assert_safe()
    time.sleep(LEASE + 2)
    view(operator).assert_safe()
    assert served(operator) == ([] if call != "CommitTransaction" else operator.rs(4))
    done = run_printed(operator, "lvs txn resolve --wait")
    assert done.returncode == 0, done.stderr
    view(operator).assert_safe()
    assert open_transactions(operator) == []
    if served(operator):
        assert operator.remove(operator.vip(4), operator.rs(4), prune=True, drain_timeout=None).status == 0


@pytest.mark.parametrize("call", ["CommitTransaction", "DeleteDestination"])
def test_lvs_is_killed_in_a_removal(pristine: Operator, call: str) -> None:
    """The real server that is removed has the VIP as long as it may get clients; whoever comes later finishes it."""
    operator = pristine
    vip, (first, second) = operator.vip(4), operator.rs(4)
    assert operator.add(vip, [first, second]).status == 0
    lvs = Lvs(operator, "--debug", "remove-backend", "--vip", vip, "--rs", first)
    lvs.until(call)
    lvs.send(signal.SIGKILL)
    lvs.end()
    view(operator).assert_safe()
    if call == "CommitTransaction":
        assert f"-r {first}:{PORT} -g -w 0" in operator.site.director.out("ipvsadm", "-Sn")
        assert operator.curl(vip) == "rs2"
    assert len(open_transactions(operator)) == 1
    done = run_printed(operator, "lvs txn resolve --wait")
    assert done.returncode == 0, done.stderr
    assert served(operator) == [second]
    assert f" {VIP}/" not in operator.site.real_servers[0].out("ip", "-o", "addr", "show", "dev", "lo")
    assert open_transactions(operator) == []
    assert operator.curl(vip) == "rs2"
    assert operator.remove(vip, [second], prune=True, drain_timeout=None).status == 0


def test_a_removal_is_cancelled_by_the_end_of_the_drain(pristine: Operator) -> None:
    """What a dead lvs has left to do is not done to a destination that takes connections again."""
    operator = pristine
    vip, (first, second) = operator.vip(6), operator.rs(6)
    # Not wlc: it counts what earlier tests' closed connections left on a destination, and would ask only the other.
    assert operator.add(vip, [first, second], scheduler="rr").status == 0
    lvs = Lvs(operator, "--debug", "remove-backend", "--vip", vip, "--rs", first)
    lvs.until("CommitTransaction")
    lvs.send(signal.SIGKILL)
    lvs.end()
    operator.lvs("undrain", "--vip", vip, "--rs", first)
    done = run_printed(operator, "lvs txn resolve --wait")
    assert done.returncode == 0, done.stderr
    assert open_transactions(operator) == []
    assert {operator.curl(vip) for _ in range(4)} == {"rs1", "rs2"}
    assert operator.remove(vip, [first, second], prune=True, drain_timeout=None).status == 0


@contextmanager
def stopped_when_prepared(operator: Operator, lease: int, hours: int) -> Iterator[Lvs]:
    """An lvs that stands still once every agent has prepared, while the time of day is so many hours off."""
    lvs = start(operator, lease)
    for _ in range(3):  # both real servers, and the director
        lvs.until("PrepareTransaction")
    lvs.send(signal.SIGSTOP)
    operator.site.director.run("date", "--set", f"@{time.time() + 3600 * hours:.0f}")
    try:
        yield lvs
    finally:
        operator.site.director.run("date", "--set", f"@{time.time() - 3600 * hours:.0f}")


def test_a_lease_that_runs_is_not_over_when_the_clock_is_set_forward(pristine: Operator) -> None:
    """Leases do not run by the time of day."""
    operator = pristine
    with stopped_when_prepared(operator, lease=60, hours=1) as lvs:
        operator.lvs("txn", "resolve", status=12)
        lvs.send(signal.SIGCONT)
        assert lvs.end().status == 0
    assert view(operator).is_everywhere()
    assert operator.remove(operator.vip(4), operator.rs(4), prune=True, drain_timeout=None).status == 0


def test_a_lease_that_is_over_does_not_last_when_the_clock_is_set_back(pristine: Operator) -> None:
    """Nor in this direction: what it held is free after its seconds."""
    operator = pristine
    with stopped_when_prepared(operator, lease=LEASE, hours=-1) as lvs:
        time.sleep(LEASE + 2)
        operator.lvs("txn", "resolve")
        assert view(operator).is_nowhere()
        lvs.send(signal.SIGCONT)
        assert lvs.end().status == 10
    assert open_transactions(operator) == []


def test_lvs_that_stood_still_for_twice_its_lease_does_nothing_late(pristine: Operator) -> None:
    """Whatever it was about to do when it goes on: its transaction was aborted meanwhile, and nothing comes of it."""
    operator = pristine
    lvs = start(operator)
    lvs.until("PrepareTransaction")
    lvs.send(signal.SIGSTOP)
    time.sleep(2 * LEASE)
    lvs.send(signal.SIGCONT)
    ended = lvs.end()
    assert ended.status == 10, ended.stderr
    assert ended.stderr.rstrip().endswith("everything is as it was before")
    assert served(operator) == []
    assert open_transactions(operator) == []


def test_several_at_once_on_one_vip(pristine: Operator) -> None:
    """Ten add one real server, the other, or both, at the same time: all end well, and each is there once."""
    operator = pristine
    first, second = operator.rs(4)
    outcomes = asyncio.run(_race(operator, [[first], [second], [first, second], [second, first], [first]] * 2))
    assert [(each.status, each.message) for each in outcomes if each.status is not ExitStatus.DONE] == []
    assert served(operator) == [first, second]
    view(operator).assert_safe()
    assert open_transactions(operator) == []
    assert operator.remove(operator.vip(4), [first, second], prune=True, drain_timeout=None).status == 0


def patient(operator: Operator) -> Site:
    """A site whose commands wait long for each other: in the guest each of them takes seconds."""
    return replace(operator.agent_site(), lock_timeout=90.0)


async def _race(operator: Operator, sets: list[list[str]]) -> list[Outcome]:
    async def add(rs: list[str]) -> Outcome:
        async with Clients(patient(operator), lambda call: None) as clients:
            request = AddBackend(backend=parse_backend(operator.vip(4), rs, "tcp"))
            return await add_backend(request, Run(clients=clients, interrupt=Interrupt()))

    return await asyncio.gather(*map(add, sets))


def test_what_one_adds_another_does_not_remove_in_the_middle(pristine: Operator) -> None:
    """An addition and a removal of the same backend at once: one after the other, whichever comes first."""
    operator = pristine
    backend = parse_backend(operator.vip(4), [operator.rs(4)[0]], "tcp")

    async def both() -> tuple[Outcome, Outcome]:
        site = patient(operator)
        async with Clients(site, lambda call: None) as one, Clients(site, lambda call: None) as two:
            removal = RemoveBackend(backend=backend, drain_timeout=None, prune=True)
            return await asyncio.gather(
                add_backend(AddBackend(backend=backend), Run(clients=one, interrupt=Interrupt())),
                remove_backend(removal, Run(clients=two, interrupt=Interrupt())),
            )

    added, removed = asyncio.run(both())
    assert added.status is ExitStatus.DONE, added.message
    assert removed.status in (ExitStatus.DONE, ExitStatus.CONFLICT), removed.message
    view(operator).assert_safe()
    assert operator.curl(f"{VIP}:{PORT}") in ("rs1", "")
    outcome = operator.remove(operator.vip(4), operator.rs(4)[:1], prune=True, drain_timeout=None)
    assert outcome.status == 0, outcome.message
