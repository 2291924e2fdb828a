"""What is printed: commands as they can be typed here, and what was found as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_common.settings import Value
from cli.errors import ExitStatus
from cli.options import _options_given
from cli.outcome import Outcome, StepReport, StepResult
from cli.site import AgentName, Role
from cli.terminal import Terminal
from cli.typed import SAME_AGAIN, NextCommand

TYPED = "lvs --insecure drain --vip 192.168.0.200:80 --rs 192.168.0.104 --director lb1"


def outcome() -> Outcome:
    return Outcome(
        status=ExitStatus.UNFINISHED,
        message="not finished",
        commands=[
            NextCommand(purpose="to go on", command=SAME_AGAIN),
            NextCommand(purpose="to cancel", command="lvs undrain --vip 192.168.0.200:80 --rs 192.168.0.104"),
        ],
    )


def test_commands_stand_on_lines_of_their_own_with_the_options_that_reach_the_agents(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Terminal("table", typed=TYPED, given="--insecure --director lb1").outcome(outcome())
    assert capsys.readouterr().err.splitlines() == [
        "lvs: not finished",
        "to go on:",
        f"  {TYPED}",
        "to cancel:",
        "  lvs --insecure --director lb1 undrain --vip 192.168.0.200:80 --rs 192.168.0.104",
    ]


def test_they_are_as_whole_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal("json", typed=TYPED).outcome(outcome())
    found = json.loads(capsys.readouterr().out)["commands"]
    assert found == [
        {"purpose": "to go on", "command": TYPED},
        {"purpose": "to cancel", "command": "lvs undrain --vip 192.168.0.200:80 --rs 192.168.0.104"},
    ]


def test_the_options_given_are_those_that_say_where_the_agents_are() -> None:
    flags: dict[str, Value | None] = {
        "director": ("lb1", "lb2"),
        "insecure": True,
        "timeout": 3.0,
        "output": "json",
        "tls_ca": None,
    }
    assert _options_given(flags, Path("/my file")) == "--config '/my file' --director lb1 --director lb2 --insecure"


def test_what_is_not_there_is_not_called_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    agent = AgentName(role=Role.DIRECTOR, name="unix:/run/x.sock", label="lb1")
    Terminal("table").step(StepReport(agent=agent, title="192.168.0.104:80 in WEB", result=StepResult.ABSENT))
    assert capsys.readouterr().err == "not there director lb1: 192.168.0.104:80 in WEB\n"
