"""Checks of a director: what they make of the kernel's weights, beside what is wanted, through every restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from lvsagent.v1 import health_pb2

from agent_common import wire
from agent_common.check import Check, Kind, TcpCheck
from agent_common.checker import Answer, Target
from agent_common.destination import (
    Destination,
    DestinationHealth,
    DestinationKey,
    Forwarding,
    Tunnel,
    TunnelType,
    Verdict,
)
from agent_common.errors import (
    ConflictError,
    DiffersError,
    ExhaustedError,
    InvalidInputError,
    NotFoundError,
    Reason,
    RefusedError,
)
from agent_common.fake_checker import FAILED, PASSED
from agent_common.health import Damping, Effect, Floor, HealthPolicy, Start
from agent_common.operation import Change, Operation
from agent_common.table import Entry
from agent_common.virtual_server import VirtualServer
from agent_common.wire_health import pack_policy
from agent_director.fake_ipvs import FakeIpvs
from agent_director.health_gate import MAX_WAITING, HealthGate
from cli import operations
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import destination
from tests.hosts import WEB, DirectorHost, run

RS1, RS2, RS3 = (destination(f"192.168.0.{number}", weight=number - 100).key for number in (104, 105, 106))
WEIGHTS = {RS1: 4, RS2: 5, RS3: 6}
CHECK = Check(kind=TcpCheck(), interval=0.1, timeout=0.05, rise=2, fall=2)
POLICY = HealthPolicy(
    check=CHECK, start=Start.UP, floor=Floor(destinations=0), damping=Damping(hold=0), max_changes=1000
)


def set_health(policy: HealthPolicy, etag: str = "") -> Operation:
    request = health_pb2.SetHealthRequest(virtual_server=wire.pack_key(WEB), policy=pack_policy(policy), etag=etag)
    return Operation(set_health=request)


def delete_health(*, allow_missing: bool = False) -> Operation:
    return Operation(
        delete_health=health_pb2.DeleteHealthRequest(virtual_server=wire.pack_key(WEB), allow_missing=allow_missing)
    )


async def apply(host: DirectorHost, *wanted: Operation) -> list[Change]:
    return [await host.changes.apply(each, "") for each in wanted]


def weights(host: DirectorHost) -> dict[DestinationKey, int]:
    """What the kernel has."""
    return {status.destination.key: status.current_weight for status in host.ipvs.destinations(WEB)}


async def next_agent(host: DirectorHost) -> DirectorHost:
    """Return the agent after this one, as it has started."""
    again = host.restarted()
    await again.restore.start(new_boot=False)
    return again


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what is awaited is in the kernel
            await asyncio.sleep(0.01)


async def checked(host: DirectorHost, times: int = 4) -> None:
    """Wait until every destination has been asked so many times more."""
    before = dict(host.checker.asked)
    there = [each.key.address for each in host.destinations.committed_in(WEB).values()]
    await until(lambda: all(host.checker.asked[each] >= before.get(each, 0) + times for each in there))


@contextlib.asynccontextmanager
async def following(host: DirectorHost) -> AsyncIterator[DirectorHost]:
    """Have a host's checks go on, as its agent has."""
    task = asyncio.ensure_future(host.health_watch.follow())
    try:
        yield host
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def site(
    policy: HealthPolicy | None = POLICY, scheduler: str = "wrr", ipvs: FakeIpvs | None = None
) -> DirectorHost:
    """Three destinations behind a VIP, and how they are checked."""
    host = DirectorHost(ipvs=ipvs)
    await apply(
        host,
        operations.create_virtual_server(WEB, scheduler, None),
        *(operations.create_destination(WEB, key, None, weight) for key, weight in WEIGHTS.items()),
    )
    if policy is not None:
        await apply(host, set_health(policy))
    return host


def fail(host: DirectorHost, *keys: DestinationKey, answer: Answer = FAILED) -> None:
    host.checker.answers.update(dict.fromkeys((key.address for key in keys), answer))


def health(host: DirectorHost, key: DestinationKey) -> DestinationHealth:
    found = host.health_watch.report(WEB, key)
    assert found is not None
    return found


def wanted(host: DirectorHost) -> dict[DestinationKey, int]:
    """What the operator wants, as it is shown."""
    return {each.destination.key: each.destination.weight for each in host.destinations.list_all(WEB)}


async def test_who_fails_gets_weight_zero_and_comes_back_with_the_weight_that_the_operator_wants() -> None:
    async with following(await site()) as host:
        fail(host, RS1)
        await until(lambda: weights(host) == {**WEIGHTS, RS1: 0})
        assert wanted(host) == WEIGHTS
        status = host.destinations.get(WEB, RS1)
        assert status.is_out
        assert status.health is not None
        assert (status.health.verdict, status.health.detail) == (Verdict.DOWN, "connection refused")
        fail(host, RS1, answer=PASSED)
        await until(lambda: weights(host) == WEIGHTS)
        assert not host.destinations.get(WEB, RS1).is_out
        assert host.restore.drift() == []


async def test_one_failure_less_than_fall_takes_nobody_out() -> None:
    async with following(await site(replace(POLICY, check=replace(CHECK, fall=100)))) as host:
        fail(host, RS1)
        await checked(host)
        assert weights(host) == WEIGHTS


async def test_a_weight_that_is_set_meanwhile_is_what_comes_back() -> None:
    async with following(await site()) as host:
        fail(host, RS1)
        await until(lambda: weights(host)[RS1] == 0)
        (change,) = await apply(host, operations.update_destination(WEB, RS1, weight=9))
        assert "kept until its checks" in change.actions[0]
        assert weights(host)[RS1] == 0
        assert host.restore.drift() == []
        fail(host, RS1, answer=PASSED)
        await until(lambda: weights(host)[RS1] == 9)


async def test_a_drain_that_ends_meanwhile_leaves_it_out() -> None:
    async with following(await site()) as host:
        fail(host, RS1)
        await until(lambda: weights(host)[RS1] == 0)
        await apply(
            host,
            operations.update_destination(WEB, RS1, draining=True),
            operations.update_destination(WEB, RS1, draining=False),
        )
        assert weights(host)[RS1] == 0
        assert wanted(host)[RS1] == 4


async def test_who_drains_and_comes_up_again_goes_on_draining() -> None:
    async with following(await site()) as host:
        await apply(host, operations.update_destination(WEB, RS1, draining=True))
        fail(host, RS1)
        await until(lambda: host.health.standing(WEB, RS1).percent == 0)
        fail(host, RS1, answer=PASSED)
        await until(lambda: host.health.standing(WEB, RS1).percent == 100)
        assert weights(host)[RS1] == 0
        assert host.destinations.get(WEB, RS1).destination.draining


async def test_creating_one_that_is_out_finds_it_in_place() -> None:
    async with following(await site()) as host:
        fail(host, RS1)
        await until(lambda: weights(host)[RS1] == 0)
        for weight in (None, 4):
            (change,) = await apply(host, operations.create_destination(WEB, RS1, None, weight))
            assert not change.made
        with pytest.raises(DiffersError, match="weight 4, not 3"):
            await apply(host, operations.create_destination(WEB, RS1, None, 3))


class TestRemoval:
    async def test_where_weight_zero_refuses_clients_it_is_removed_and_still_shown(self) -> None:
        async with following(await site(scheduler="sh")) as host:
            fail(host, RS1)
            await until(lambda: weights(host) == {RS2: 5, RS3: 6})
            assert wanted(host) == WEIGHTS
            status = host.destinations.get(WEB, RS1)
            assert status.absent
            assert status.current_weight == 0
            assert host.restore.drift() == []
            fail(host, RS1, answer=PASSED)
            await until(lambda: weights(host) == WEIGHTS)

    async def test_it_can_be_changed_and_removed_while_it_is_out(self) -> None:
        async with following(await site(replace(POLICY, effect=Effect.REMOVE))) as host:
            fail(host, RS1, RS2)
            await until(lambda: weights(host) == {RS3: 6})
            await apply(host, operations.update_destination(WEB, RS1, weight=7))
            assert wanted(host)[RS1] == 7
            (change,) = await apply(host, operations.delete_destination(WEB, RS2))
            assert change.made
            assert set(wanted(host)) == {RS1, RS3}
            await host.changes.revert(change.id)
            assert wanted(host) == {**WEIGHTS, RS1: 7}
            fail(host, RS1, RS2, answer=PASSED)
            await until(lambda: weights(host) == {**WEIGHTS, RS1: 7})


class TestRestart:
    async def test_an_agent_that_starts_again_keeps_who_is_down_out_until_that_is_proven_up(self) -> None:
        async with following(await site()) as host:
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
        again = await next_agent(host)
        assert weights(again)[RS1] == 0
        fail(again, RS1)
        async with following(again):
            await checked(again)
            assert weights(again) == {**WEIGHTS, RS1: 0}
            fail(again, RS1, answer=PASSED)
            await until(lambda: weights(again) == WEIGHTS)

    @pytest.mark.parametrize("effect", Effect)
    async def test_a_host_that_boots_again_keeps_who_is_down_out(self, effect: Effect) -> None:
        async with following(await site(replace(POLICY, effect=effect))) as host:
            fail(host, RS1)
            await until(lambda: not weights(host).get(RS1))
        again = host.rebooted()
        await again.restore.start(new_boot=True)
        assert {key: weight for key, weight in weights(again).items() if weight} == {RS2: 5, RS3: 6}
        assert (RS1 in weights(again)) == (effect is Effect.WEIGHT_ZERO)
        async with following(again):
            await until(lambda: weights(again) == WEIGHTS)

    async def test_after_a_boot_all_begin_down_if_they_are_to_be_proven_and_the_quorum_is_not_lost_by_it(self) -> None:
        async with following(await site(replace(POLICY, start=Start.DOWN))) as host:
            await checked(host)
        again = host.rebooted()
        await again.restore.start(new_boot=True)
        assert set(weights(again).values()) == {0}
        async with following(again):
            await until(lambda: weights(again) == WEIGHTS)
            server = again.health_watch.server(WEB)
            assert server is not None
            assert server.has_quorum

    async def test_checks_that_end_with_the_agent_while_nothing_runs_change_nothing(self) -> None:
        async with following(await site()) as host:
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
        before = table(host.ipvs)
        fail(host, RS1, answer=PASSED)
        await asyncio.sleep(0.3)
        assert table(host.ipvs) == before


class TestStart:
    async def test_a_new_destination_gets_no_clients_before_it_is_proven(self) -> None:
        async with following(await site(replace(POLICY, start=Start.DOWN))) as host:
            assert weights(host) == WEIGHTS  # who serves when the policy is set goes on
            fresh = destination("192.168.0.107").key
            fail(host, fresh)
            await apply(host, operations.create_destination(WEB, fresh, None, 3))
            assert weights(host)[fresh] == 0
            await checked(host)
            assert weights(host) == {**WEIGHTS, fresh: 0}
            fail(host, fresh, answer=PASSED)
            await until(lambda: weights(host)[fresh] == 3)

    async def test_one_that_has_passed_the_gate_begins_with_its_weight(self) -> None:
        async with following(await site(replace(POLICY, start=Start.DOWN))) as host:
            fresh = destination("192.168.0.107").key
            passage = await host.health_gate.check(WEB, fresh, None, 5.0)
            assert (passage.passed, passage.checks) == (True, 2)
            await apply(host, operations.create_destination(WEB, fresh, None, 3))
            assert weights(host)[fresh] == 3

    async def test_the_gate_says_what_the_last_check_said(self) -> None:
        host = await site()
        fail(host, RS1)
        passage = await host.health_gate.check(WEB, RS1, None, 0.3)
        assert (passage.passed, passage.detail) == (False, "connection refused")
        assert passage.checks >= 2

    async def test_the_gate_asks_through_the_tunnel_that_there_will_be(self) -> None:
        host = await site()
        gue = Tunnel(type=TunnelType.GUE, port=5555)
        asked: list[Target] = []

        async def ask(kind: Kind, target: Target, seconds: float) -> Answer:
            asked.append(target)
            return PASSED

        host.health_gate = HealthGate(host.health, host.destinations, ask, run)
        fresh = destination("192.168.0.107").key
        await host.health_gate.check(WEB, fresh, Forwarding.TUNNELING, None, tunnel=gue)
        assert {each.tunnel for each in asked} == {gue}

    async def test_the_gate_lets_pass_who_is_not_checked(self) -> None:
        host = await site(replace(POLICY, overrides={RS1: None}, sorry=RS2))
        for key in (RS1, RS2):
            passage = await host.health_gate.check(WEB, key, None, 5.0)
            assert (passage.passed, passage.checks) == (True, 0)

    async def test_before_the_gate_so_many_wait_and_no_more(self) -> None:
        host = await site(replace(POLICY, check=replace(CHECK, interval=60.0, timeout=60.0, rise=1)))
        host.checker.hung.add(RS1.address)
        waiting = [asyncio.ensure_future(host.health_gate.check(WEB, RS1, None, 60.0)) for _ in range(MAX_WAITING)]
        await until(lambda: host.checker.asked[RS1.address] == MAX_WAITING)
        with pytest.raises(ExhaustedError) as caught:
            await host.health_gate.check(WEB, RS2, None, None)
        assert caught.value.reason is Reason.TOO_MANY_CALLS
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        assert (await host.health_gate.check(WEB, RS2, None, None)).passed

    async def test_without_a_policy_there_is_no_gate(self) -> None:
        with pytest.raises(NotFoundError):
            await (await site(None)).health_gate.check(WEB, RS1, None, 5.0)


class TestByHand:
    async def test_a_weight_of_zero_that_somebody_has_set_by_hand_is_never_raised(self) -> None:
        async with following(await site()) as host:
            host.ipvs.edit_destination(WEB, Destination(key=RS1, weight=0))
            fail(host, RS1)
            await until(lambda: "somebody" in health(host, RS1).note)
            fail(host, RS1, answer=PASSED)
            await checked(host)
            assert weights(host)[RS1] == 0
            assert [each.fields for each in host.restore.drift()] == [("weight",)]

    async def test_who_is_dead_is_taken_out_whatever_weight_somebody_has_given_it(self) -> None:
        async with following(await site()) as host:
            host.ipvs.edit_destination(WEB, Destination(key=RS1, weight=77))
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)

    async def test_who_was_removed_by_hand_is_not_added_again(self) -> None:
        async with following(await site()) as host:
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
            host.ipvs.remove_destination(WEB, RS1)
            fail(host, RS1, answer=PASSED)
            await checked(host)
            assert RS1 not in weights(host)

    async def test_a_weight_set_by_hand_of_one_that_is_out_is_drift_and_repaired_to_zero(self) -> None:
        async with following(await site()) as host:
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
            host.ipvs.edit_destination(WEB, Destination(key=RS1, weight=4))
            (drift,) = host.restore.drift()
            change = host.resources.plan_repair(drift.resource)
            assert change.made
            host.resources.repair(change)
            assert weights(host)[RS1] == 0
            assert host.restore.drift() == []


class TestQuorum:
    POLICY = replace(POLICY, quorum=7, hysteresis=2, up_command=("/c/up",), down_command=("/c/down",))

    async def test_commands_run_once_each_time_it_is_lost_and_regained(self) -> None:
        async with following(await site(self.POLICY)) as host:
            fail(host, RS1, RS3)
            await until(lambda: weights(host) == {RS1: 0, RS2: 5, RS3: 0})
            await checked(host)
            assert host.commands == []  # 5 is not below 7 less 2
            fail(host, RS2)
            await until(lambda: host.commands == [("/c/down",)])
            fail(host, RS2, RS3, answer=PASSED)
            await until(lambda: host.commands == [("/c/down",), ("/c/up",)])
            await checked(host)
            assert len(host.commands) == 2

    async def test_that_it_is_lost_outlives_the_agent(self) -> None:
        async with following(await site(self.POLICY)) as host:
            fail(host, RS1, RS2, RS3)
            await until(lambda: not host.health.has_quorum(WEB))
        again = host.restarted()
        fail(again, RS1, RS2, RS3)
        async with following(again):
            await checked(again)
            assert again.commands == []
            fail(again, RS1, RS2, RS3, answer=PASSED)
            await until(lambda: again.commands == [("/c/up",)])

    async def test_the_sorry_server_serves_alone_while_it_is_lost_and_through_a_restart(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "agent_director.health_log")
        async with following(await site(replace(self.POLICY, sorry=RS3))) as host:
            await until(lambda: weights(host) == {**WEIGHTS, RS3: 0})
            fail(host, RS1, RS2)
            await until(lambda: weights(host) == {RS1: 0, RS2: 0, RS3: 6})
            assert health(host, RS3).note == "the sorry server serves, alone"
            await until(lambda: ": the sorry server serves, alone" in caplog.text)
        again = await next_agent(host)
        assert weights(again) == {RS1: 0, RS2: 0, RS3: 6}
        assert again.restore.drift() == []
        async with following(again):
            await until(lambda: weights(again) == {**WEIGHTS, RS3: 0})

    async def test_the_sorry_server_need_not_pass_what_the_others_must(self) -> None:
        """It says that it is sorry, with 503 or another text."""
        policy = replace(self.POLICY, sorry=RS3)
        async with following(await site(policy)) as host:
            fail(host, *WEIGHTS)
            await until(lambda: weights(host) == {RS1: 0, RS2: 0, RS3: 6})
            assert health(host, RS3).verdict is Verdict.UNCHECKED
            await apply(host, set_health(replace(policy, overrides={RS3: CHECK})))
            await until(lambda: weights(host)[RS3] == 0)

    async def test_who_is_no_sorry_server_any_more_is_proven_before_it_serves(self) -> None:
        """It was not asked anything as long as it was one."""
        policy = replace(POLICY, sorry=RS3, start=Start.DOWN)
        async with following(await site(policy)) as host:
            await until(lambda: weights(host) == {**WEIGHTS, RS3: 0})
            fail(host, RS3)
            await apply(host, set_health(replace(policy, sorry=None)))
            for _ in range(50):
                assert weights(host)[RS3] == 0
                await asyncio.sleep(0.01)
            fail(host, RS3, answer=PASSED)
            await until(lambda: weights(host) == WEIGHTS)

    async def test_the_sorry_server_serves_when_all_others_have_been_removed(self) -> None:
        async with following(await site(replace(self.POLICY, sorry=RS3))) as host:
            await until(lambda: weights(host)[RS3] == 0)
            await apply(host, *(operations.delete_destination(WEB, key) for key in (RS1, RS2)))
            await until(lambda: weights(host) == {RS3: 6})


async def test_who_drains_is_not_removed_when_its_check_fails() -> None:
    """Its connections would end, and who waits for the drain's end would take it for done."""
    async with following(await site(replace(POLICY, effect=Effect.REMOVE))) as host:
        await apply(host, operations.update_destination(WEB, RS1, draining=True))
        fail(host, RS1)
        await until(lambda: health(host, RS1).verdict is Verdict.DOWN)
        await checked(host)
        assert weights(host).get(RS1) == 0


async def test_all_that_fail_at_once_leave_the_floor_in_and_raise_an_alarm() -> None:
    async with following(await site(replace(POLICY, floor=Floor(destinations=1)))) as host:
        fail(host, *WEIGHTS)
        await until(lambda: sorted(weights(host).values())[:2] == [0, 0])
        await checked(host)
        server = host.health_watch.server(WEB)
        assert server is not None
        assert "all destinations are down" in server.alarm
        assert sum(weight > 0 for weight in weights(host).values()) == 1
        fail(host, *WEIGHTS, answer=PASSED)
        await until(lambda: weights(host) == WEIGHTS)
        await until(lambda: not server.alarm)


async def test_no_more_than_so_many_are_changed_in_a_second() -> None:
    async with following(await site(replace(POLICY, max_changes=1))) as host:
        await checked(host)
        fail(host, *WEIGHTS)
        seen = []
        for _ in range(25):
            seen.append(sum(weight == 0 for weight in weights(host).values()))
            await asyncio.sleep(0.1)
        assert seen[-1] == 3
        assert max(later - earlier for earlier, later in zip(seen, seen[9:], strict=False)) <= 2


async def test_what_hangs_is_taken_out_and_keeps_nobody_else_from_being_checked() -> None:
    async with following(await site()) as host:
        host.checker.hung.add(RS1.address)
        await until(lambda: weights(host) == {**WEIGHTS, RS1: 0})
        assert "no answer" in health(host, RS1).detail


class TestPolicy:
    async def test_without_its_policy_everybody_gets_back_what_the_operator_wants(self) -> None:
        async with following(await site()) as host:
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
            (change,) = await apply(host, delete_health())
            assert any("put back" in each for each in change.actions)
            await until(lambda: weights(host) == WEIGHTS)
            asked = dict(host.checker.asked)
            await asyncio.sleep(0.3)
            assert dict(host.checker.asked) == asked
            assert host.destinations.get(WEB, RS1).health is None

    async def test_that_also_holds_for_an_agent_that_died_in_between(self) -> None:
        async with following(await site()) as host:
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
        await apply(host, delete_health())
        async with following(host.restarted()):
            await until(lambda: weights(host) == WEIGHTS)

    async def test_an_equal_one_is_no_change_and_a_reverted_one_is_as_before(self) -> None:
        host = await site()
        (same,) = await apply(host, set_health(POLICY))
        assert not same.made
        (change,) = await apply(host, set_health(replace(POLICY, quorum=3)))
        await host.changes.revert(change.id)
        assert host.healths.get(WEB) == POLICY

    async def test_one_that_has_changed_meanwhile_is_not_overwritten(self) -> None:
        host = await site()
        with pytest.raises(ConflictError):
            await apply(host, set_health(replace(POLICY, quorum=3), etag="none"))

    async def test_it_goes_with_its_virtual_server_and_comes_back_with_it(self) -> None:
        host = await site()
        (change,) = await apply(host, operations.delete_virtual_server(WEB, force=True))
        assert host.health.policies() == {}
        await host.changes.revert(change.id)
        assert host.healths.get(WEB) == POLICY

    async def test_so_it_does_when_a_table_is_replaced(self) -> None:
        host = await site()
        (change,) = await apply(host, operations.apply_table({}, replace=True))
        assert host.health.policies() == {}
        await host.changes.revert(change.id)
        assert host.healths.get(WEB) == POLICY
        assert weights(host) == WEIGHTS

    async def test_a_table_that_says_what_the_kernel_has_leaves_who_is_out_as_it_is(self) -> None:
        async with following(await site()) as host:
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
            server = host.virtual_servers.get(WEB)
            entry = Entry(virtual_server=server, destinations={each.key: each for each in _seen(host)})
            (change,) = await apply(host, operations.apply_table({WEB: entry}, replace=True))
            assert not change.made
            assert wanted(host)[RS1] == 4

    async def test_a_foreign_virtual_server_is_not_checked(self) -> None:
        host = DirectorHost()
        host.ipvs.add_virtual_server(VirtualServer(key=WEB))
        with pytest.raises(RefusedError, match="foreign"):
            await apply(host, set_health(POLICY))

    async def test_a_quorum_above_the_sum_of_weights_is_refused(self) -> None:
        host = await site(None)
        with pytest.raises(InvalidInputError, match=r"quorum.*15") as caught:
            await apply(host, set_health(replace(POLICY, quorum=16)))
        assert caught.value.field == "policy.quorum"

    @pytest.mark.parametrize("scheduler", ["sh", "mh", "dh"])
    async def test_no_weight_moves_slowly_where_each_step_moves_clients(self, scheduler: str) -> None:
        host = await site(None, scheduler)
        with pytest.raises(InvalidInputError, match="moves clients"):
            await apply(host, set_health(replace(POLICY, slow_start=30.0)))

    async def test_nor_may_such_a_scheduler_come_later(self) -> None:
        host = await site(replace(POLICY, slow_start=30.0))
        with pytest.raises(InvalidInputError, match="moves clients"):
            await apply(host, operations.update_virtual_server(VirtualServer(key=WEB, scheduler="mh"), ["scheduler"]))


async def test_the_disk_that_is_full_keeps_nobody_in_who_is_dead() -> None:
    async with following(await site()) as host:
        host.state.full = host.state.spent = True
        fail(host, RS1)
        await until(lambda: weights(host) == {**WEIGHTS, RS1: 0})


def _seen(host: DirectorHost) -> list[Destination]:
    return [each.destination for each in host.ipvs.destinations(WEB)]
