"""Removals that are taken back: who served serves again, and nobody dead comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from agent_common.errors import InternalError, LvsError, Reason
from agent_common.fake_checker import PASSED
from agent_common.health import Floor, Start
from agent_common.operation import Operation
from agent_common.scheduler import SCHEDULERS
from agent_common.table import Entry, TableStep
from agent_common.virtual_server import VirtualServer, parse_key
from agent_director.fake_ipvs import FakeIpvs
from cli import operations
from tests.director.test_health_orders import AgentDiedError, FailingIpvs
from tests.director.test_health_watch import (
    CHECK,
    POLICY,
    RS1,
    RS2,
    RS3,
    WEIGHTS,
    apply,
    checked,
    fail,
    following,
    next_agent,
    site,
    until,
    wanted,
    weights,
)
from tests.hosts import WEB, DirectorHost

DOWN = replace(POLICY, start=Start.DOWN, check=replace(CHECK, interval=0.5), floor=Floor(destinations=1))
"""What is new gets no connections for half a second at least; a lost one would be seen."""


async def seen(host: DirectorHost, seconds: float) -> set[int | None]:
    """Return the weights that a destination has had meanwhile."""
    found, loop = set(), asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        found.add(weights(host).get(RS1))
        await asyncio.sleep(0.005)
    return found


async def test_a_removal_that_is_taken_back_puts_nobody_dead_back() -> None:
    async with following(await site()) as host:
        fail(host, RS1)
        await until(lambda: weights(host)[RS1] == 0)
        (change,) = await apply(host, operations.delete_destination(WEB, RS1))
        await host.changes.revert(change.id)
        assert weights(host)[RS1] == 0
        assert wanted(host) == WEIGHTS
        fail(host, RS1, answer=PASSED)
        await until(lambda: weights(host) == WEIGHTS)


async def test_a_virtual_server_whose_removal_is_taken_back_serves_at_once() -> None:
    async with following(await site(DOWN)) as host:
        await checked(host)
        (change,) = await apply(host, operations.delete_virtual_server(WEB, force=True))
        await host.changes.revert(change.id)
        assert weights(host) == WEIGHTS


async def test_but_nobody_dead_in_it() -> None:
    async with following(await site(DOWN)) as host:
        fail(host, RS1)
        await until(lambda: weights(host)[RS1] == 0)
        (change,) = await apply(host, operations.delete_virtual_server(WEB, force=True))
        await host.changes.revert(change.id)
        assert weights(host) == {**WEIGHTS, RS1: 0}


async def test_a_destination_whose_removal_is_taken_back_serves_at_once_and_one_that_is_added_again_does_not() -> None:
    async with following(await site(DOWN)) as host:
        await checked(host)
        (change,) = await apply(host, operations.delete_destination(WEB, RS1))
        await host.changes.revert(change.id)
        assert weights(host) == WEIGHTS
        key, add = RS1, operations.create_destination
        there = host.destinations.committed_one(WEB, key)
        assert there is not None
        await apply(host, operations.delete_destination(WEB, key), add(WEB, key, there.forwarding, there.weight))
        assert weights(host) == {**WEIGHTS, RS1: 0}


async def test_a_table_that_the_kernel_refuses_in_part_is_taken_back_to_what_served() -> None:
    async with following(await site(DOWN, ipvs=FakeIpvs(schedulers=SCHEDULERS - {"mh"}))) as host:
        await checked(host)
        other = VirtualServer(key=parse_key("tcp/192.168.0.200:81"), scheduler="mh")
        with pytest.raises(LvsError):
            await apply(host, operations.apply_table({other.key: Entry(virtual_server=other)}, replace=True))
        assert weights(host) == WEIGHTS


class RefusingIpvs(FakeIpvs):
    """A kernel that may refuse a whole table, once."""

    refuses = False

    def take(self, steps: Sequence[TableStep]) -> list[LvsError | None]:
        """Carry out many steps, or none."""
        if self.refuses:
            self.refuses = False
            raise InternalError("cannot change anything: no memory", Reason.INTERNAL)
        return super().take(steps)


def without_rs1(host: DirectorHost) -> Operation:
    """Ask for the table without one of its destinations."""
    left = host.destinations.committed_in(WEB)
    left.pop(RS1)
    wanted = Entry(virtual_server=host.virtual_servers.get(WEB), destinations=left)
    return operations.apply_table({WEB: wanted}, replace=True)


@pytest.mark.parametrize("start", Start)
async def test_an_older_table_that_is_taken_back_leaves_who_was_added_again_to_its_checks(start: Start) -> None:
    async with following(await site(replace(POLICY, start=start))) as host:
        await checked(host)
        there = host.destinations.committed_one(WEB, RS1)
        assert there is not None
        (change,) = await apply(host, without_rs1(host))
        fail(host, RS1)
        await apply(host, operations.create_destination(WEB, RS1, there.forwarding, there.weight))
        await checked(host)
        assert weights(host) == {**WEIGHTS, RS1: 0}
        await host.changes.revert(change.id)
        assert weights(host) == {**WEIGHTS, RS1: 0}
        fail(host, RS1, answer=PASSED)
        await until(lambda: weights(host) == WEIGHTS)


async def test_a_table_that_the_kernel_refuses_leaves_who_was_displaced_to_come_back() -> None:
    ipvs = RefusingIpvs()
    policy = replace(POLICY, start=Start.DOWN, quorum=9, sorry=RS3)
    async with following(await site(policy, ipvs=ipvs)) as host:
        await until(lambda: weights(host) == {**WEIGHTS, RS3: 0})
        fail(host, RS2)
        await until(lambda: weights(host) == {RS1: 0, RS2: 0, RS3: 6})
        await until(lambda: host.health.standing(WEB, RS1).is_out)
        ipvs.refuses = True
        with pytest.raises(LvsError):
            await apply(host, without_rs1(host))
        fail(host, RS2, answer=PASSED)
        await until(lambda: weights(host) == {**WEIGHTS, RS3: 0})


async def test_a_table_that_is_not_replaced_since_the_agent_died_goes_on_serving() -> None:
    """The kernel never heard of it."""
    ipvs = FailingIpvs()
    host = await site(DOWN, ipvs=ipvs)
    async with following(host):
        await checked(host)
    ipvs.dies = True
    with pytest.raises(AgentDiedError):
        await apply(host, operations.apply_table({}, replace=True))
    ipvs.dies = False
    again = await next_agent(host)
    assert weights(again) == WEIGHTS
    async with following(again):
        assert await seen(again, 0.7) == {WEIGHTS[RS1]}
