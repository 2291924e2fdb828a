"""add-backend run again (P5): what is in place stays, and says so; what went missing by hand is put back.

Each test finds a finished site and leaves it so; ip, ipvsadm and /proc tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_common.destination import Forwarding
from agent_common.virtual_server import Persistence
from cli.interrupt import Interrupt
from cli.outcome import Outcome, StepResult
from tests.lab.attempt import attempt
from tests.lab.operator import PORT, Operator, told

ONE_FAMILY = True


@pytest.fixture(scope="module")
def finished(operator: Operator) -> Iterator[dict[str, dict[str, str]]]:
    """Both real servers behind the VIPs of both families, and what the hosts with agents look like then.

    In the end they are removed, and every host is as it was before: nothing that was put back was counted twice.
    """
    before = operator.snapshots()
    for family in (4, 6):
        assert operator.add(operator.vip(family), operator.rs(family)).status == 0
    yield operator.snapshots(agent.host for agent in operator.agents.values())
    for family in (4, 6):
        outcome = operator.remove(operator.vip(family), operator.rs(family), prune=True, drain_timeout=None)
        assert outcome.status == 0
    assert operator.differences(before) == ""


@pytest.fixture
def same(operator: Operator, finished: dict[str, dict[str, str]]) -> Iterator[Operator]:
    """The operator of a finished site, which is as it was at the end of the test."""
    yield operator
    assert operator.differences(finished) == ""


def again(operator: Operator, family: int, **options: Any) -> Outcome:
    """The command that made the site, for the first real server."""
    return operator.add(operator.vip(family), operator.rs(family)[:1], **options)


def destination(operator: Operator, family: int) -> list[str]:
    """The first real server behind the VIP, as ipvsadm names it."""
    rs = operator.rs(family)[0]
    return ["-t", operator.vip(family), "-r", f"{rs}:{PORT}" if family == 4 else f"[{rs}]:{PORT}"]


def says_in_one_line(outcome: Outcome, line: str) -> None:
    """Status 0, and what was put back is a line of its own."""
    assert outcome.status == 0, outcome
    assert [each for step in outcome.steps for each in step.details].count(line) == 1, outcome.steps


def weight(operator: Operator, family: int, value: int | None = None) -> str:
    """Set the weight of the first real server by hand, or read it."""
    names = destination(operator, family)
    if value is not None:
        operator.site.director.run("ipvsadm", "-e", *names, "-g", "-w", str(value))
    (rule,) = [
        line for line in operator.site.director.out("ipvsadm", "-Sn").splitlines() if " ".join(names[1:]) in line
    ]
    return rule.rpartition(" ")[2]


def test_a_finished_command_run_again_changes_nothing(same: Operator, family: int) -> None:
    """Status 0; it says what is in place, as text and as JSON."""
    vip, rs = same.vip(family), same.rs(family)
    argv = ("add-backend", "--vip", vip, "--rs", rs[0], "--rs", rs[1])
    if family == 4:
        done = same.lvs(*argv, status=0)
        assert "nothing to do" in done.stdout
        for address in rs:
            assert any(line.startswith("in place") and address in line for line in done.stderr.splitlines())
    else:
        document = same.lvs_json(*argv)
        assert document["exit_status"] == 0
        assert [each["result"] for host in document["hosts"] for each in host["steps"]] == ["in place", "in place"]


def test_an_explicit_weight_that_is_there_is_in_place(same: Operator) -> None:
    """--weight 1, scheduler and forwarding method as they are: nothing to do."""
    outcome = again(same, 4, weight=1, scheduler="wlc")
    assert (outcome.status, [step.result for step in outcome.steps]) == (0, [StepResult.IN_PLACE])


def test_a_weight_that_was_changed_by_hand(same: Operator, family: int) -> None:
    """In place without --weight; with it 13, and the message gives the command that sets it."""
    weight(same, family, 5)
    assert again(same, family).status == 0
    assert weight(same, family) == "5"
    outcome = again(same, family, weight=3)
    assert outcome.status == 13
    rs = destination(same, family)[3]
    assert f"lvs weight --vip {same.vip(family)} --rs {rs} 3" in told(outcome)
    assert "director" in outcome.message
    assert weight(same, family) == "5"
    weight(same, family, 1)


def test_a_weight_that_was_set_to_0_by_hand_is_not_raised(same: Operator, family: int) -> None:
    """Somebody wanted no connections there: 13, naming lvs weight, also without --weight."""
    weight(same, family, 0)
    for options in ({}, {"weight": 1}):
        outcome = again(same, family, **options)
        assert outcome.status == 13
        assert f"lvs weight --vip {same.vip(family)} --rs {destination(same, family)[3]} 1" in told(outcome)
    assert weight(same, family) == "0"
    weight(same, family, 1)


def test_a_real_server_that_drains_is_not_added_again(same: Operator) -> None:
    """13, and the message gives the command that ends the drain."""
    vip, rs = same.vip(4), same.rs(4)[:1]
    assert same.weigh(vip, rs, draining=True).status == 0
    outcome = again(same, 4)
    assert outcome.status == 13
    assert f"lvs undrain --vip {vip} --rs {rs[0]}:{PORT}" in told(outcome)
    assert weight(same, 4) == "0"
    assert same.weigh(vip, rs, draining=False).status == 0


def test_another_scheduler_persistence_or_method_is_refused(same: Operator, family: int) -> None:
    """What is there is not changed: 13, naming what it is and what was asked for."""
    assert "scheduler wlc, not rr" in (outcome := again(same, family, scheduler="rr")).message
    assert outcome.status == 13
    assert f"lvs service edit tcp/{same.vip(family)} --scheduler rr" in told(outcome)
    outcome = again(same, family, forwarding=Forwarding.MASQUERADING)
    assert outcome.status == 13
    assert "forwarding method dr, not nat" in outcome.message
    outcome = again(same, family, persistence=Persistence(timeout=60))
    assert outcome.status == 13
    assert "no persistence, not 60 s" in outcome.message


def test_a_destination_that_was_deleted_by_hand_is_put_back(same: Operator, family: int) -> None:
    """And serves again; the other one is not touched."""
    names = destination(same, family)
    same.site.director.run("ipvsadm", "-d", *names)
    says_in_one_line(again(same, family, weight=1), f"add {names[3]} to tcp/{same.vip(family)}, dr, weight 1")
    assert weight(same, family) == "1"


def test_a_virtual_server_that_was_deleted_by_hand_is_put_back(same: Operator) -> None:
    """With the destinations that the command names."""
    same.site.director.run("ipvsadm", "-D", "-t", same.vip(4))
    outcome = same.add(same.vip(4), same.rs(4))
    says_in_one_line(outcome, f"add virtual server tcp/{same.vip(4)} wlc")
    assert same.curl(same.vip(4)) in ("rs1", "rs2")


@pytest.mark.parametrize("name", ["all/arp_ignore", "all/arp_announce", "lo/arp_ignore", "lo/arp_announce"])
def test_a_sysctl_that_was_set_to_0_is_put_back(same: Operator, name: str) -> None:
    """The real server is silent again, before it gets another connection."""
    rs = same.site.real_servers[0]
    path = Path("/proc/sys/net/ipv4/conf") / name
    rs.inside(lambda: path.write_text("0"))
    says_in_one_line(again(same, 4), f"set {name} from 0 to {name.endswith('announce') + 1}")


def test_a_repair_that_is_interrupted_keeps_what_a_holder_needs_and_says_so(same: Operator) -> None:
    """Silence and destination went by hand: the silence, which the held VIP needs, stays put back; no more."""
    rs = same.site.real_servers[0]
    ignore = Path("/proc/sys/net/ipv4/conf/all/arp_ignore")
    rs.inside(lambda: ignore.write_text("0"))
    same.site.director.run("ipvsadm", "-d", *destination(same, 4))
    stop = Interrupt()
    outcome = attempt(same, same.vip(4), same.rs(4)[:1], after="prepare VIP", then=stop.set, interrupt=stop)
    assert outcome.status == 10
    assert outcome.message.endswith("except what is marked kept")
    assert [step.title for step in outcome.steps if step.result is StepResult.KEPT]
    assert rs.inside(ignore.read_text).strip() == "1"
    assert destination(same, 4)[3] not in same.site.director.out("ipvsadm", "-Sn")
    assert again(same, 4).status == 0
