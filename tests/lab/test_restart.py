"""Agents stop, die, are upgraded and start again while clients ask the VIP: no request is lost (P6)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from lab.agents import Agent
from lab.site import STATE
from tests.lab.load import under_load
from tests.lab.operator import Operator
from tests.state_files import downgrade

ONE_EACH = True


@pytest.fixture
def serving(pristine: Operator) -> Iterator[Operator]:
    """Both real servers behind the VIP, in turn, so that each of them has half of the load."""
    assert pristine.add(pristine.vip(4), pristine.rs(4), scheduler="rr").status == 0
    yield pristine
    assert pristine.remove(pristine.vip(4), pristine.rs(4), prune=True, drain_timeout=None).status == 0


def kill(agent: Agent) -> None:
    agent.kill()
    agent.start()


def upgrade(agent: Agent) -> None:
    """Stop an agent, and start it with the state of the first version, which it migrates."""
    assert agent.stop() == 0
    downgrade(STATE / agent.host.name, 1)
    agent.start()


@pytest.mark.parametrize("again", [Agent.restart, kill, upgrade], ids=["stopped", "killed", "upgraded"])
def test_no_request_is_lost(serving: Operator, again: Callable[[Agent], None]) -> None:
    """Each agent in turn, the director's and both real servers'; the kernel is not touched, and the agents know all."""
    before = serving.snapshots()
    with under_load(serving.site.client, serving.vip(4)) as load:
        for agent in serving.agents.values():
            again(agent)
    assert load.lost == []
    assert load.answered > 100
    assert serving.differences(before) == ""
    assert [(each["answer"], each["problems"]) for each in serving.lvs_json("drift")["agents"]] == [([], [])] * 3


def test_a_request_that_gets_no_answer_is_seen(serving: Operator) -> None:
    """Where nothing serves: each of them is one that the test above would count."""
    with under_load(serving.site.client, serving.vip(4, port=9)) as load:
        time.sleep(0.5)
    assert load.answered == 0
    assert load.lost != []
