"""An agent that is lost while it holds a change: status 11, what is left and where, and a command that removes it.

That the hosts are as before, once the printed command was run as it stands, is asserted by the fixture `pristine`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from cli.client import Clients
from cli.errors import NoAnswerError
from cli.outcome import Outcome
from lab.site import VIP, VIP6
from tests.lab.attempt import Ended, Lvs, attempt, make_answer, printed_command, run_printed
from tests.lab.operator import PORT, Operator, address_of

ONE_FAMILY = True

NOBODY = PORT + 7
"""A port on which no host serves."""

LEASE = 15.0
"""Seconds, where the printed command waits until it has ended."""

WAITING = "done      real server"
"""What lvs says when the real server is prepared, and the application is awaited."""


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def being_asked(operator: Operator, family: int) -> bool:
    """Whether the director is in the middle of its VIP step: asking by ARP, or with an address that is tentative."""
    director = operator.site.director
    if family == 4:
        return "eth0" in director.out("ip", "neigh", "show", VIP)
    return "tentative" in director.out("ip", "-6", "addr", "show", "dev", "eth0", "to", VIP6)


def assert_unfinished(ended: Ended, lost: str, *left: str) -> None:
    """Status 11; the agent is named together with what is left there."""
    assert ended.status == 11, ended.stderr
    told = [line for line in ended.stderr.splitlines() if f"perhaps left on {lost}" in line]
    assert told, ended.stderr
    for text in left:
        assert any(text in line for line in told), told
    assert "as it was before" not in ended.stderr


@pytest.mark.parametrize(("family", "loss"), [(4, "kill"), (4, "pause"), (6, "kill")])
def test_a_real_server_that_is_lost_while_the_application_is_awaited(
    pristine: Operator, family: int, loss: str
) -> None:
    """It has VIP and sysctls by then; when its agent runs again, the printed command takes them off."""
    rs, agent = pristine.rs(family)[0], pristine.agents["rs1"]
    lvs = Lvs(
        pristine,
        *("add-backend", "--vip", pristine.vip(family, NOBODY), "--rs", rs),
        *("--ready-timeout", "60", "--timeout", "2"),
    )
    lvs.until(WAITING)
    getattr(agent, loss)()
    ended = lvs.end()
    vip = VIP if family == 4 else VIP6
    assert vip in agent.host.out("ip", "addr", "show", "dev", "lo")
    assert_unfinished(ended, f"real server {rs}", f"add {vip}/", *(["arp_ignore"] if family == 4 else []))

    agent.start() if loss == "kill" else agent.resume()
    done = run_printed(pristine, printed_command(ended.stderr))
    assert done.returncode == 0, done.stderr


def test_the_command_that_failed_can_just_be_run_again(pristine: Operator) -> None:
    """What is left of the first try is in place for the second (P5); nothing is left after the removal."""
    vip, rs, agent = pristine.vip(6), [pristine.rs(6)[0]], pristine.agents["rs1"]
    unfinished = attempt(pristine, vip, rs, after="prepare VIP", then=agent.kill, timeout=2)
    assert unfinished.status == 11
    agent.start()
    assert pristine.add(vip, rs).status == 0
    assert pristine.curl(vip) == "rs1"
    assert pristine.remove(vip, rs, prune=True, drain_timeout=None).status == 0


def test_a_director_that_is_killed_in_its_vip_step(pristine: Operator, family: int) -> None:
    """It has the virtual server by then, IPv6 the VIP too; the real server gives back what it has at once.

    What the director was in the middle of, it takes back itself when it runs again.
    """
    host, director = pristine.site.real_servers[0], pristine.agents["lb1"]
    before = host.out("ip", "addr", "show", "dev", "lo")
    lvs = Lvs(pristine, "add-backend", "--vip", pristine.vip(family), "--rs", address_of(host, family))
    lvs.until("wait until something takes")
    wait_for(lambda: being_asked(pristine, family))
    director.kill()
    ended = lvs.end()
    assert pristine.vip(family) in director.host.out("ipvsadm", "-Sn")
    assert host.out("ip", "addr", "show", "dev", "lo") == before
    assert_unfinished(ended, "director", f"add virtual server tcp/{pristine.vip(family)}")

    director.start()
    done = run_printed(pristine, printed_command(ended.stderr))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("scheduler", ["wlc", "sh"])
def test_a_director_that_is_killed_before_the_destination(pristine: Operator, scheduler: str) -> None:
    """It has virtual server and VIP; the printed command works under sh too, which refuses to drain.

    Where gRPC has not seen yet that it is dead, the commit is sent, and nobody knows whether it was decided.
    """
    vip, rs, director = pristine.vip(6), pristine.rs(6)[0], pristine.agents["lb1"]
    outcome = attempt(pristine, vip, [rs], after="add VIP", then=director.kill, scheduler=scheduler, lease=LEASE)
    assert outcome.status == 11, outcome
    told = [*outcome.warnings, outcome.message]
    assert any("perhaps left on director" in line or "nobody knows whether it was decided" in line for line in told)
    director.start()
    (command,) = outcome.commands
    done = run_printed(pristine, command.command)
    assert done.returncode == 0, done.stderr


def interrupted_by(operator: Operator, action: Callable[[], object], timeout: float) -> Outcome:
    """Run add-backend over IPv4, and do something as soon as the director asks for the VIP."""

    def when_asked() -> None:
        wait_for(lambda: being_asked(operator, 4))
        action()

    thread = threading.Thread(target=when_asked)
    outcome = attempt(
        operator,
        operator.vip(4),
        [operator.rs(4)[0]],
        after="wait until",
        then=thread.start,
        timeout=timeout,
        lease=LEASE,
    )
    thread.join()
    return outcome


def test_a_director_that_stands_still_in_its_vip_step(pristine: Operator) -> None:
    """Going on, it finishes the step, long after the command has ended; the printed command removes that, too."""
    director = pristine.agents["lb1"]
    outcome = interrupted_by(pristine, director.pause, timeout=1)
    assert outcome.status == 11
    director.resume()
    make_answer(pristine, director)  # it lives, though the client of the step has gone
    (command,) = outcome.commands
    done = run_printed(pristine, command.command)
    assert done.returncode == 0, done.stderr


def test_an_answer_that_comes_too_late_is_undone(pristine: Operator) -> None:
    """The director needs three seconds for its question, --timeout gives it two: the undo waits for the step's end."""
    outcome = interrupted_by(pristine, lambda: None, timeout=2)
    assert outcome.status == 10, outcome
    assert "within 2 s" in outcome.message


def test_clients_that_go_away_do_an_agent_no_harm(pristine: Operator) -> None:
    """Whatever the moment at which a client gives up its call, the agent goes on."""
    agent = pristine.agents["lb1"]

    async def give_up(seconds: float) -> None:
        async with Clients(replace(pristine.agent_site(), timeout=seconds), lambda call: None) as clients:
            (name,) = clients.site.director_names()
            client = clients[name]
            await client.channel.channel_ready()
            with contextlib.suppress(NoAnswerError):
                await client.host(["192.168.0.104"] * 50)

    for milliseconds in range(1, 40, 2):
        asyncio.run(give_up(milliseconds / 1000))
    make_answer(pristine, agent)
    assert agent.is_running


def test_the_printed_command_spares_what_was_in_place_before(pristine: Operator) -> None:
    """One real server serves already, the other is lost: only the other is named, and the first goes on serving."""
    operator = pristine
    first, second = operator.rs(4)
    vip = operator.vip(4)
    assert operator.add(vip, [first]).status == 0
    before = operator.snapshots()
    agent = operator.agents["rs2"]
    outcome = attempt(operator, vip, [first, second], after="prepare VIP", then=agent.kill, timeout=2)
    assert outcome.status == 11
    agent.start()
    (command,) = outcome.commands
    done = run_printed(operator, command.command)
    assert done.returncode == 0, done.stderr
    assert operator.differences(before) == ""
    assert operator.curl(vip) == "rs1"
    assert operator.remove(vip, [first], prune=True, drain_timeout=None).status == 0
