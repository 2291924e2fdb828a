"""Ctrl-C and SIGTERM at every point of add-backend: all is undone (10), or, when it is complete, it stays (0).

That the hosts are as before is asserted by the fixture `pristine`, by ip, ipvsadm and /proc.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.lab.attempt import PLAN, Ended, Lvs, attempt
from tests.lab.operator import PORT, Operator

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
    lvs.until("done      director")
    lvs.send(signal.SIGINT)
    lvs.until("add VIP")
    lvs.send(signal.SIGINT)
    assert_rolled_back(lvs.end())


@pytest.mark.parametrize("after", [PLAN, "prepare VIP", "wait until", "add virtual server", "add VIP"])
def test_ctrl_c_between_two_steps(pristine: Operator, after: str) -> None:
    """Whatever was made by then is undone."""
    outcome = attempt(pristine, pristine.vip(6), [pristine.rs(6)[0]], interrupt_after=after)
    assert outcome.status == 10
    assert outcome.message.startswith("interrupted before: ")
    assert outcome.message.endswith("everything is as it was before")


def test_ctrl_c_after_the_last_step_comes_too_late(pristine: Operator) -> None:
    """Everything was complete: status 0, the site serves, and a removal leaves no trace."""
    vip, rs = pristine.vip(6), [pristine.rs(6)[0]]
    outcome = attempt(pristine, vip, rs, interrupt_after=f"add [{rs[0]}]")
    assert (outcome.status, outcome.message) == (0, f"[{rs[0]}]:{PORT} added behind tcp/{vip}")
    assert pristine.curl(vip) == "rs1"
    assert pristine.remove(vip, rs, prune=True, drain_timeout=None).status == 0


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
