"""Ctrl-C and SIGTERM at every point of add-backend: all is undone (10), or, when it is complete, it stays (0).

That the hosts are as before is asserted by the fixture `pristine`, by ip, ipvsadm and /proc.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_common.destination import Forwarding
from cli.interrupt import Interrupt
from cli.outcome import Outcome, StepResult
from tests.lab.attempt import PLAN, Ended, Lvs, attempt, ctrl_c
from tests.lab.operator import PORT, Operator

ONE_FAMILY = True

NOBODY = PORT + 7
"""A port on which no host serves."""


def add(operator: Operator, family: int, port: int, *options: str) -> Lvs:
    """Start add-backend with one real server."""
    return Lvs(operator, *options, "add-backend", "--vip", operator.vip(family, port), "--rs", operator.rs(family)[0])


def assert_rolled_back(ended: Ended) -> None:
    """Status 10, and it says so in one line at the end."""
    assert ended.status == 10, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("lvs: interrupted")
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_ctrl_c_during_preflight(pristine: Operator) -> None:
    """The real server's agent stands still: it is interrupted while it waits for the answer, and changes nothing."""
    agent = pristine.agents["rs1"]
    agent.pause()
    lvs = add(pristine, 4, PORT, "--debug", "--timeout", "30")
    lvs.until("BatchApply")  # the director has checked; the real server is all that is missing
    lvs.send(signal.SIGINT)
    agent.resume()
    ended = lvs.end()
    assert_rolled_back(ended)
    assert "nothing was changed" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_while_the_application_is_awaited(pristine: Operator, number: signal.Signals) -> None:
    """It ends at once, not at the end of --ready-timeout, which would be a minute later."""
    lvs = Lvs(
        pristine,
        *("add-backend", "--vip", pristine.vip(4, NOBODY), "--rs", pristine.rs(4)[0], "--ready-timeout", "600"),
    )
    lvs.until("done      real server")
    lvs.send(number)
    ended = lvs.end()
    assert_rolled_back(ended)
    assert "wait until something takes TCP" in ended.stderr.splitlines()[-1]


def test_ctrl_c_while_the_director_asks_for_the_vip(pristine: Operator, family: int) -> None:
    """The call that is under way is waited for, then everything is undone; a second Ctrl-C does not stop the undo."""
    lvs = add(pristine, family, PORT)
    lvs.until("wait until")  # what follows is the question, for more than a second, and then all else within 40 ms
    lvs.send(signal.SIGINT)
    lvs.until("add VIP")
    lvs.send(signal.SIGINT)
    assert_rolled_back(lvs.end())


@pytest.mark.parametrize("after", [PLAN, "prepare VIP", "wait until", "add VIP"])
def test_ctrl_c_between_two_steps(pristine: Operator, family: int, after: str) -> None:
    """Whatever was made by then is undone."""
    stop, rs = Interrupt(), [pristine.rs(family)[0]]
    assert_undone(attempt(pristine, pristine.vip(family), rs, after=after, then=stop.set, interrupt=stop))


@pytest.mark.parametrize("after", [PLAN, "add VIP"])
@pytest.mark.parametrize("kind", ["nat", "udp"])
def test_ctrl_c_between_two_steps_of_nat_and_udp(pristine: Operator, family: int, kind: str, after: str) -> None:
    """With nat the director alone is touched; with UDP the real server has the VIP by then."""
    options: dict[str, Any] = {"forwarding": Forwarding.MASQUERADING, "force": True}
    if kind == "udp":
        options = {"protocol": "udp"}
    stop, rs = Interrupt(), [pristine.rs(family)[0]]
    outcome = attempt(
        pristine,
        pristine.vip(family),
        rs,
        after=after,
        then=stop.set,
        interrupt=stop,
        ready_timeout=None,
        **options,
    )
    assert_undone(outcome)


@pytest.mark.parametrize(("after", "name"), [(PLAN, "rs1"), ("wait until", "lb1"), ("add VIP", "rs1")])
def test_ctrl_c_in_the_middle_of_a_step(pristine: Operator, family: int, after: str, name: str) -> None:
    """Its agent stands still meanwhile: what it was asked for is waited for, so that it is known, and then undone."""
    agent = pristine.agents[name]

    def stand_still() -> None:
        agent.pause()
        soon(0.3, ctrl_c)
        soon(0.6, agent.resume)

    outcome = attempt(pristine, pristine.vip(family), [pristine.rs(family)[0]], after=after, then=stand_still)
    assert_undone(outcome)
    assert outcome.steps[-1].result is StepResult.UNDONE


def test_ctrl_c_in_the_last_step_comes_too_late(pristine: Operator, family: int) -> None:
    """Everything was complete: status 0, the site serves, and a removal leaves no trace."""
    vip, rs = pristine.vip(family), [pristine.rs(family)[0]]
    director = pristine.agents["lb1"]

    def stand_still() -> None:
        director.pause()
        soon(0.3, ctrl_c)
        soon(0.6, director.resume)

    outcome = attempt(pristine, vip, rs, after="add VIP", then=stand_still)
    assert outcome.status == 0, outcome
    assert outcome.message.endswith(f"added behind tcp/{vip}")
    assert pristine.curl(vip) == "rs1"
    assert pristine.remove(vip, rs, prune=True, drain_timeout=None).status == 0


def soon(seconds: float, what: Callable[[], object]) -> None:
    """Do something a little later, while the command waits for an agent."""
    asyncio.get_running_loop().call_later(seconds, what)


def assert_undone(outcome: Outcome) -> None:
    """Interrupted, and everything is as it was."""
    assert outcome.status == 10, outcome
    assert outcome.message.startswith("interrupted before: ")
    assert outcome.message.endswith("everything is as it was before")


def test_ctrl_c_before_anything_has_happened(pristine: Operator) -> None:
    """While the program still loads its libraries: status 10 and one line, without a trace of Python."""
    lvs = add(pristine, 4, PORT)
    maps = Path(f"/proc/{lvs.pid}/maps")
    while "cygrpc" not in maps.read_text():
        time.sleep(0.01)
    lvs.send(signal.SIGINT)
    ended = lvs.end()
    assert_rolled_back(ended)
    assert "nothing was changed" in ended.stderr
