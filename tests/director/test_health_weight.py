"""Weights that follow the answers of checks, rise slowly, or are those of a destination with a check of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent_common.check import AgentCheck, HttpCheck, ScriptCheck, TcpCheck
from agent_common.checker import Answer
from agent_common.errors import InvalidInputError
from agent_common.fake_checker import PASSED
from agent_common.health import DynamicWeight, Floor, HealthPolicy, WeightSource
from cli import operations
from tests.director.test_health_watch import (
    CHECK,
    POLICY,
    RS1,
    RS2,
    WEIGHTS,
    apply,
    checked,
    delete_health,
    fail,
    following,
    health,
    next_agent,
    set_health,
    site,
    until,
    wanted,
    weights,
)
from tests.hosts import WEB

LOAD = replace(
    POLICY,
    check=replace(CHECK, kind=AgentCheck()),
    dynamic_weight=DynamicWeight(source=WeightSource.AGENT_LOAD, min_percent=25, max_percent=200),
)


def says(percent: int | None) -> Answer:
    return Answer(passed=True, percent=percent)


class TestDynamic:
    async def test_it_goes_on_through_a_restart(self) -> None:
        async with following(await site(LOAD)) as host:
            await apply(host, operations.update_destination(WEB, RS1, weight=100))
            fail(host, RS1, answer=says(30))
            await until(lambda: weights(host)[RS1] == 30)
        again = await next_agent(host)
        again.checker.hung.add(RS1.address)
        async with following(again):
            await checked(again, 1)
            assert weights(again)[RS1] == 30

    async def test_it_is_taken_for_no_slow_start_then(self) -> None:
        async with following(await site(replace(LOAD, slow_start=60.0))) as host:
            await apply(host, operations.update_destination(WEB, RS1, weight=100))
            fail(host, RS1, answer=says(40))
            await until(lambda: weights(host)[RS1] == 40)
        again = await next_agent(host)
        fail(again, RS1, answer=says(40))
        async with following(again):
            await checked(again)
            assert weights(again)[RS1] == 40

    async def test_who_is_checked_no_more_has_the_whole(self) -> None:
        async with following(await site(LOAD)) as host:
            fail(host, RS1, answer=says(50))
            await until(lambda: weights(host) == {**WEIGHTS, RS1: 2})
            await apply(host, set_health(replace(LOAD, overrides={RS1: None})))
            await until(lambda: weights(host) == WEIGHTS)

    async def test_who_is_kept_in_for_the_floor_gets_no_more_than_before(self) -> None:
        async with following(await site(replace(LOAD, floor=Floor(destinations=3)))) as host:
            await apply(host, operations.update_destination(WEB, RS1, weight=100))
            fail(host, RS1, answer=says(30))
            await until(lambda: weights(host)[RS1] == 30)
            fail(host, RS1)
            await until(lambda: "kept in" in health(host, RS1).note)
            await checked(host, 1)
            assert weights(host)[RS1] == 30

    async def test_the_weight_is_the_percentage_that_the_answer_says_of_what_the_operator_wants(self) -> None:
        async with following(await site(LOAD)) as host:
            fail(host, RS1, answer=says(50))
            await until(lambda: weights(host) == {**WEIGHTS, RS1: 2})
            assert wanted(host) == WEIGHTS
            assert host.restore.drift() == []
            await apply(host, operations.update_destination(WEB, RS1, weight=20))
            await until(lambda: weights(host)[RS1] == 10)

    async def test_it_stays_within_its_bounds_and_is_never_0(self) -> None:
        async with following(await site(LOAD)) as host:
            fail(host, RS1, answer=says(0))
            fail(host, RS2, answer=says(100_000))
            await until(lambda: weights(host) == {**WEIGHTS, RS1: 1, RS2: 10})

    async def test_an_answer_that_says_nothing_leaves_it(self) -> None:
        async with following(await site(LOAD)) as host:
            fail(host, RS1, answer=says(50))
            await until(lambda: weights(host)[RS1] == 2)
            fail(host, RS1, answer=says(None))
            await checked(host)
            assert weights(host)[RS1] == 2

    async def test_it_is_kept_through_a_restart_and_goes_with_the_policy(self) -> None:
        async with following(await site(LOAD)) as host:
            fail(host, RS1, answer=says(50))
            await until(lambda: weights(host)[RS1] == 2)
        again = await next_agent(host)
        fail(again, RS1, answer=says(50))
        async with following(again):
            await checked(again)
            assert weights(again)[RS1] == 2
            assert again.restore.drift() == []
            await apply(again, delete_health())
            await until(lambda: weights(again) == WEIGHTS)

    @pytest.mark.parametrize(
        ("source", "kind"),
        [
            (WeightSource.AGENT_LOAD, HttpCheck()),
            (WeightSource.HTTP_BODY, TcpCheck()),
            (WeightSource.HTTP_HEADER, AgentCheck()),
            (WeightSource.SCRIPT_STATUS, HttpCheck()),
            (WeightSource.HTTP_BODY, HttpCheck(method="HEAD")),
        ],
    )
    def test_a_source_that_the_check_does_not_have_is_refused(
        self, source: WeightSource, kind: AgentCheck | HttpCheck | TcpCheck | ScriptCheck
    ) -> None:
        dynamic = DynamicWeight(source=source, header="X-Weight" if source is WeightSource.HTTP_HEADER else "")
        with pytest.raises(InvalidInputError, match="dynamic_weight"):
            HealthPolicy(check=replace(CHECK, kind=kind), dynamic_weight=dynamic).validate()


class TestSlowStart:
    async def test_after_a_recovery_the_weight_rises_to_the_whole(self) -> None:
        async with following(await site(replace(POLICY, slow_start=1.0))) as host:
            await apply(host, operations.update_destination(WEB, RS1, weight=1000))
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
            fail(host, RS1, answer=PASSED)
            seen: list[int] = []

            def is_whole() -> bool:
                seen.append(weights(host)[RS1])
                return seen[-1] == 1000

            await until(is_whole)
            assert seen == sorted(seen)
            assert len(set(seen)) > 10
            assert host.restore.drift() == []

    async def test_who_was_never_out_has_its_whole_weight(self) -> None:
        async with following(await site(replace(POLICY, slow_start=100.0))) as host:
            await checked(host)
            assert weights(host) == WEIGHTS


class TestOverrides:
    async def test_a_destination_may_be_checked_in_its_own_way_or_not_at_all(self) -> None:
        own = replace(CHECK, kind=HttpCheck(path="/own"))
        async with following(await site(replace(POLICY, overrides={RS1: own, RS2: None}))) as host:
            fail(host, RS1, RS2)
            await until(lambda: weights(host) == {**WEIGHTS, RS1: 0})
            await asyncio.sleep(0.2)
            assert weights(host)[RS2] == 5
            assert host.checker.asked[RS2.address] == 0

    async def test_one_that_is_checked_no_more_comes_back_in(self) -> None:
        async with following(await site()) as host:
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
            await apply(host, set_health(replace(POLICY, overrides={RS1: None})))
            await until(lambda: weights(host) == WEIGHTS)
