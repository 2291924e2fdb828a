"""lvs restore while the director's agent is killed: the table is the old one or the new one, never between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.table import write
from cli.reading import list_drift
from lab.agents import Agent
from lab.site import STATE
from tests.failpoint_table import documented
from tests.lab.operator import Operator

ONE_EACH = True
PLACES = ("before_journal", "before_kernel", "after_kernel", "after_journal", "before_reply", "after_reply")
SERVERS, TRIES = 100, 8


def saved(operator: Operator) -> set[str]:
    """The kernel's table, by ipvsadm."""
    return {line.rstrip() for line in operator.site.director.out("ipvsadm", "-S", "-n").splitlines()}


@pytest.fixture
def agent(operator: Operator) -> Iterator[Agent]:
    """The director's agent; its table is empty, before and after."""
    assert saved(operator) == set()
    yield operator.agents[operator.site.director.name]
    operator.lvs("restore", "--replace", "/dev/null")
    assert saved(operator) == set()


@pytest.fixture
def tables(operator: Operator, agent: Agent, tmp_path: Path) -> tuple[set[str], set[str], Path]:
    """The table that is there, the one that is asked for, and the file that asks.

    Half of the virtual servers stay, of which one loses a destination and another has one edited; the others go.
    """
    lines = list(write(SERVERS))
    half = len(lines) // 2
    first = tmp_path / "first"
    first.write_text("\n".join(lines[:half]))
    operator.lvs("restore", str(first))
    wanted = [line for line in lines[half // 2 :] if line != lines[half // 2 + 1]]
    wanted[1] = wanted[1].replace("-w 1", "-w 7")
    rules = tmp_path / "rules"
    rules.write_text("\n".join(wanted))
    assert saved(operator) == set(lines[:half])
    return set(lines[:half]), set(wanted), rules


@pytest.mark.parametrize("place", PLACES)
def test_an_agent_that_dies_leaves_one_of_the_two_tables(
    operator: Operator, agent: Agent, tables: tuple[set[str], set[str], Path], place: str
) -> None:
    """And lvs, typed again, makes the new one of either."""
    old, new, rules = tables
    (STATE / agent.host.name / "failpoint").write_text(f"director.change.{place}")
    done = operator.lvs("restore", "--replace", str(rules), status=None)
    deadline = time.monotonic() + 5
    while agent.is_running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not agent.is_running
    assert done.returncode in documented()[f"change.{place}"], done.stderr
    agent.start()
    assert saved(operator) == (new if place in ("after_journal", "before_reply", "after_reply") else old)
    operator.lvs("restore", "--replace", str(rules))
    assert saved(operator) == new
    assert operator.ask(lambda client: list_drift(client, look_now=True)) == []


def test_an_agent_that_is_killed_between_two_sends_leaves_the_old_table(
    operator: Operator, agent: Agent, tables: tuple[set[str], set[str], Path]
) -> None:
    """Its start takes back what the kernel has got by then, whatever that is."""
    old, new, rules = tables
    between = False
    with ThreadPoolExecutor(1) as pool:
        for _ in range(TRIES):
            table = Path(f"/proc/{agent.pid}/net/ip_vs")
            before = table.read_text()
            doing = pool.submit(operator.lvs, "restore", "--replace", str(rules), status=None)
            while table.read_text() == before and not doing.done():
                pass
            agent.kill()
            left = saved(operator)
            between = left not in (old, new)
            status = doing.result().returncode
            agent.start()
            found = saved(operator)
            assert (status == 11 and found in (old, new)) or (status == 0 and found == new)
            if between:
                break
            back = rules.with_suffix(".back")
            back.write_text("\n".join(sorted(old)))
            operator.lvs("restore", "--replace", str(back))
    assert between, "it was never killed between two sends"
    operator.lvs("restore", "--replace", str(rules))
    assert saved(operator) == new
