"""Checks of a director when things come in a bad order: nothing stays out for ever, and nobody dead comes back."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from agent_common.changes import Outcome
from agent_common.check import AgentCheck, Kind
from agent_common.checker import Answer, Target
from agent_common.destination import Destination, DestinationKey, Forwarding, Standing, Verdict
from agent_common.errors import InternalError, InvalidInputError, LvsError, Reason
from agent_common.fake_checker import PASSED
from agent_common.health import DynamicWeight, Effect, Start, WeightSource
from agent_common.program import Ran
from agent_common.table import Entry, TableStep
from agent_common.virtual_server import VirtualServer, VirtualServerKey
from agent_director.fake_ipvs import FakeIpvs
from agent_director.health_log import EventKind, HealthLog
from agent_director.health_records import Stood
from agent_director.health_watch import HealthWatch
from agent_director.quorum_command import RunCommand
from agent_director.standing import Standings
from cli import operations
from tests.director.test_health_watch import (
    CHECK,
    POLICY,
    RS1,
    RS2,
    RS3,
    WEIGHTS,
    apply,
    checked,
    delete_health,
    fail,
    following,
    health,
    set_health,
    site,
    until,
    wanted,
    weights,
)
from tests.hosts import WEB, WEB6, DirectorHost, run


class FailingIpvs(FakeIpvs):
    """A kernel that may refuse to change many things at once, or with which the agent dies before it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = False
        self.dies = False
        self.died = False
        self.unreadable: set[VirtualServerKey] = set()

    def virtual_server(self, key: VirtualServerKey) -> VirtualServer | None:
        """Return one virtual server, or None."""
        if key in self.unreadable:
            raise InternalError(f"cannot read {key}", Reason.INTERNAL)
        return super().virtual_server(key)

    def take(self, steps: Sequence[TableStep]) -> list[LvsError | None]:
        """Carry out many steps, or none."""
        if self.dies:
            self.died = True
            raise AgentDiedError
        if self.refuses:
            raise InternalError("cannot change anything: no memory", Reason.INTERNAL)
        return super().take(steps)


class AgentDiedError(BaseException):
    """Nothing comes after it."""


async def failing_site(effect: Effect = Effect.WEIGHT_ZERO) -> tuple[DirectorHost, FailingIpvs]:
    ipvs = FailingIpvs()
    return await site(replace(POLICY, effect=effect), ipvs=ipvs), ipvs


def watch_of(host: DirectorHost, log: HealthLog | None = None, run_command: RunCommand | None = None) -> HealthWatch:
    return HealthWatch(
        host.ipvs,
        host.health,
        host.destinations,
        Standings(host.ipvs, host.state, host.health, host.destinations),
        run,
        host.checker,
        log or host.health_log,
        run_command or host.run_command,
    )


async def dies_before_the_kernel_is_written(host: DirectorHost, ipvs: FailingIpvs) -> DirectorHost:
    """Return the next agent, after the one that has just heard something new has died between journal and kernel."""
    ipvs.dies = True
    await until(lambda: ipvs.died)
    ipvs.dies = False
    again = host.restarted()
    again.checker.answers.update(host.checker.answers)
    await again.restore.start(new_boot=False)
    return again


@pytest.mark.parametrize("effect", Effect)
class TestDeathBetweenJournalAndKernel:
    async def test_who_was_to_go_out_goes_out(self, effect: Effect) -> None:
        host, ipvs = await failing_site(effect)
        task = asyncio.ensure_future(host.health_watch.follow())
        await checked(host)
        fail(host, RS1)
        again = await dies_before_the_kernel_is_written(host, ipvs)
        with pytest.raises(AgentDiedError):
            await task
        async with following(again):
            await until(lambda: not weights(again).get(RS1))
            assert again.restore.drift() == []
            fail(again, RS1, answer=PASSED)
            await until(lambda: weights(again) == WEIGHTS)

    @pytest.mark.parametrize("is_dead", [False, True])
    async def test_who_was_to_come_back_comes_back_when_it_is_proven(self, effect: Effect, is_dead: bool) -> None:
        host, ipvs = await failing_site(effect)
        task = asyncio.ensure_future(host.health_watch.follow())
        fail(host, RS1)
        await until(lambda: not weights(host).get(RS1))
        fail(host, RS1, answer=PASSED)
        again = await dies_before_the_kernel_is_written(host, ipvs)
        with pytest.raises(AgentDiedError):
            await task
        if is_dead:
            fail(again, RS1)
        async with following(again):
            if is_dead:
                await checked(again)
                assert not weights(again).get(RS1)
                assert again.restore.drift() == []
                fail(again, RS1, answer=PASSED)
            await until(lambda: weights(again) == WEIGHTS)
            assert again.restore.drift() == []


async def test_who_was_to_get_another_part_of_its_weight_keeps_the_one_that_it_has() -> None:
    """By death between journal and kernel; it was in before and after."""
    policy = replace(
        POLICY, check=replace(CHECK, kind=AgentCheck()), dynamic_weight=DynamicWeight(source=WeightSource.AGENT_LOAD)
    )
    ipvs = FailingIpvs()
    host = await site(policy, ipvs=ipvs)
    await apply(host, *(operations.update_destination(WEB, key, weight=100) for key in WEIGHTS))
    fail(host, *WEIGHTS, answer=Answer(passed=True, percent=40))
    task = asyncio.ensure_future(host.health_watch.follow())
    await until(lambda: set(weights(host).values()) == {40})
    fail(host, *WEIGHTS, answer=Answer(passed=True, percent=60))
    again = await dies_before_the_kernel_is_written(host, ipvs)
    with pytest.raises(AgentDiedError):
        await task
    async with following(again):
        while (now := set(weights(again).values())) != {60}:
            assert now <= {40, 60}
            await asyncio.sleep(0.005)


async def test_who_was_to_be_back_at_weight_zero_is_not_taken_for_removed_by_hand() -> None:
    host, ipvs = await failing_site(Effect.REMOVE)
    task = asyncio.ensure_future(host.health_watch.follow())
    fail(host, RS1)
    await until(lambda: RS1 not in weights(host))
    ipvs.dies = True
    await apply(host, set_health(replace(POLICY, effect=Effect.WEIGHT_ZERO)))
    again = await dies_before_the_kernel_is_written(host, ipvs)
    with pytest.raises(AgentDiedError):
        await task
    async with following(again):
        await until(lambda: weights(again) == {**WEIGHTS, RS1: 0})
        assert again.restore.drift() == []
        fail(again, RS1, answer=PASSED)
        await until(lambda: weights(again) == WEIGHTS)


@pytest.mark.parametrize("effect", Effect)
async def test_who_was_to_go_out_does_so_later_where_the_kernel_refuses_at_the_next_start(effect: Effect) -> None:
    host, ipvs = await failing_site(effect)
    task = asyncio.ensure_future(host.health_watch.follow())
    await checked(host)
    fail(host, RS1)
    again = await dies_before_the_kernel_is_written(host, ipvs)
    with pytest.raises(AgentDiedError):
        await task
    ipvs.refuses = True
    async with following(again):
        await checked(again)  # the others are checked all the same
        assert weights(again) == WEIGHTS
        ipvs.refuses = False
        await until(lambda: not weights(again).get(RS1))
        assert again.restore.drift() == []


@pytest.mark.parametrize("effect", Effect)
class TestKernelThatRefuses:
    async def test_who_cannot_be_put_back_is_put_back_later(self, effect: Effect) -> None:
        host, ipvs = await failing_site(effect)
        async with following(host):
            fail(host, RS1)
            await until(lambda: not weights(host).get(RS1))
            ipvs.refuses = True
            fail(host, RS1, answer=PASSED)
            await until(lambda: "no memory" in health(host, RS1).note)
            assert host.restore.drift() == []
            ipvs.refuses = False
            await until(lambda: weights(host) == WEIGHTS)

    async def test_who_cannot_be_taken_out_is_taken_out_later(self, effect: Effect) -> None:
        host, ipvs = await failing_site(effect)
        async with following(host):
            await checked(host)
            ipvs.refuses = True
            fail(host, RS1)
            await until(lambda: "no memory" in health(host, RS1).note)
            ipvs.refuses = False
            await until(lambda: not weights(host).get(RS1))

    async def test_who_is_checked_no_more_gets_its_weight_back_later(self, effect: Effect) -> None:
        host, ipvs = await failing_site(effect)
        async with following(host):
            fail(host, RS1)
            await until(lambda: not weights(host).get(RS1))
            ipvs.refuses = True
            await apply(host, delete_health())
            await asyncio.sleep(0.1)
            ipvs.refuses = False
            await until(lambda: weights(host) == WEIGHTS)


class TestByHand:
    async def test_who_got_a_weight_by_hand_while_it_was_out_is_taken_out_when_it_fails_again(self) -> None:
        async with following(await site()) as host:
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
            host.ipvs.edit_destination(WEB, Destination(key=RS1, weight=77))
            fail(host, RS1, answer=PASSED)
            await until(lambda: health(host, RS1).percent == 100)
            assert weights(host)[RS1] == 77
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
            fail(host, RS1, answer=PASSED)
            await until(lambda: weights(host) == WEIGHTS)

    async def test_who_was_put_back_by_hand_is_in(self) -> None:
        async with following(await site()) as host:
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
            host.ipvs.edit_destination(WEB, Destination(key=RS1, weight=4))
            fail(host, RS1, answer=PASSED)
            await until(lambda: health(host, RS1).percent == 100)
            assert health(host, RS1).note == ""
            assert host.restore.drift() == []

    async def test_only_the_weight_is_changed_of_what_somebody_has_changed(self) -> None:
        async with following(await site()) as host:
            changed = Destination(key=RS1, weight=4, forwarding=Forwarding.MASQUERADING, upper_threshold=9)
            host.ipvs.edit_destination(WEB, changed)
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
            fail(host, RS1, answer=PASSED)
            await until(lambda: weights(host)[RS1] == 4)
            (found,) = (each.destination for each in host.ipvs.destinations(WEB) if each.destination.key == RS1)
            assert found == changed

    async def test_who_cannot_be_changed_keeps_nobody_else_in(self) -> None:
        async with following(await site(replace(POLICY, max_changes=1))) as host:
            await checked(host)
            host.ipvs.edit_destination(WEB, Destination(key=RS1, weight=0))
            fail(host, RS1)
            await until(lambda: "somebody" in health(host, RS1).note)
            fail(host, RS2)
            await until(lambda: weights(host)[RS2] == 0)


class TestAdoption:
    async def test_who_becomes_foreign_again_while_it_is_out_has_the_weight_that_it_had(self) -> None:
        for effect in Effect:
            async with following(await site(replace(POLICY, effect=effect))) as host:
                foreign = DestinationKey(address=RS1.address + 100, port=80)
                host.ipvs.add_destination(WEB, Destination(key=foreign, weight=8))
                (change,) = await apply(host, operations.adopt_destination(WEB, foreign))
                await checked(host)
                fail(host, foreign)
                await until(lambda: not weights(host).get(foreign))  # noqa: B023  # it is awaited here
                await host.changes.revert(change.id)
                assert weights(host)[foreign] == 8
                assert not host.destinations.get(WEB, foreign).managed

    async def test_so_has_who_was_taken_in_with_a_table(self) -> None:
        for effect in Effect:
            async with following(await site(replace(POLICY, effect=effect))) as host:
                foreign = DestinationKey(address=RS1.address + 100, port=80)
                host.ipvs.add_destination(WEB, Destination(key=foreign, weight=8))
                there = [each.destination for each in host.ipvs.destinations(WEB)]
                entry = Entry(
                    virtual_server=host.virtual_servers.get(WEB), destinations={each.key: each for each in there}
                )
                (change,) = await apply(host, operations.apply_table({WEB: entry}, replace=True))
                await checked(host)
                fail(host, foreign)
                await until(lambda: not weights(host).get(foreign))  # noqa: B023  # it is awaited here
                await host.changes.revert(change.id)
                assert weights(host)[foreign] == 8
                assert not host.destinations.get(WEB, foreign).managed


class TestTable:
    async def test_a_scheduler_that_the_checks_forbid_does_not_come_with_a_table(self) -> None:
        host = await site(replace(POLICY, slow_start=30.0))
        entry = Entry(
            virtual_server=VirtualServer(key=WEB, scheduler="mh"),
            destinations={each.destination.key: each.destination for each in host.ipvs.destinations(WEB)},
        )
        with pytest.raises(InvalidInputError, match="moves clients"):
            await apply(host, operations.apply_table({WEB: entry}, replace=True))


class TestRestart:
    async def test_who_was_displaced_by_the_sorry_server_and_died_then_is_not_put_back(self) -> None:
        policy = replace(POLICY, quorum=9, sorry=RS3)
        async with following(await site(policy)) as host:
            fail(host, RS1)
            await until(lambda: weights(host) == {RS1: 0, RS2: 0, RS3: 6})
            fail(host, RS2)
            await until(lambda: health(host, RS2).verdict is Verdict.DOWN)
        await apply(host, set_health(replace(policy, quorum=5)))
        again = host.restarted()
        fail(again, RS1, RS2)
        async with following(again):
            seen = set()
            for _ in range(40):
                seen.add(weights(again)[RS2])
                await asyncio.sleep(0.01)
            assert seen == {0}

    async def test_a_weight_that_rises_slowly_goes_on_from_where_it_was(self) -> None:
        policy = replace(POLICY, slow_start=3600.0)
        async with following(await site(policy)) as host:
            await apply(host, operations.update_destination(WEB, RS1, weight=100))
            fail(host, RS1)
            await until(lambda: weights(host)[RS1] == 0)
            fail(host, RS1, answer=PASSED)
            await until(lambda: weights(host)[RS1] == 5)
        again = host.restarted()
        async with following(again):
            await checked(again)
            assert weights(again)[RS1] == 5

    async def test_after_a_boot_who_had_a_part_of_its_weight_is_to_be_proven_like_all_others(self) -> None:
        host = await site(replace(POLICY, start=Start.DOWN))
        host.health.set_standings([(WEB, RS1, Stood(standing=Standing(percent=50)))])
        again = host.rebooted()
        await again.restore.start(new_boot=True)
        assert set(weights(again).values()) == {0}


async def test_the_sorry_server_goes_after_others_have_come_back() -> None:
    policy = replace(POLICY, quorum=9, sorry=RS3, max_changes=1)
    async with following(await site(policy)) as host:
        await until(lambda: weights(host)[RS3] == 0)
        fail(host, RS1)
        await until(lambda: weights(host) == {RS1: 0, RS2: 0, RS3: 6})
        fail(host, RS1, answer=PASSED)
        await until(lambda: weights(host)[RS3] == 0)
        assert weights(host)[RS1] or weights(host)[RS2]


async def test_a_virtual_server_that_cannot_be_read_keeps_no_other_from_being_checked() -> None:
    host, ipvs = await failing_site()
    ipvs.unreadable = {WEB6}
    host.health.set_policy(WEB6, POLICY)
    async with following(host):
        host.health_watch.touch(WEB6)
        await checked(host)
        fail(host, RS1)
        await until(lambda: weights(host)[RS1] == 0)
        ipvs.unreadable = set()
        await until(lambda: host.health_watch.server(WEB6) is not None)


async def test_the_command_of_a_quorum_waits_for_the_one_before_which_takes_long() -> None:
    host = await site(replace(POLICY, quorum=10, up_command=("/c/up",), down_command=("/c/down",)))
    ended: list[str] = []

    async def run_command(argv: Sequence[str], environment: Mapping[str, str], seconds: float) -> Ran:
        await asyncio.sleep(1.0 if argv[0] == "/c/down" else 0.0)
        ended.append(argv[0])
        return Ran(status=0)

    host.health_watch = watch_of(host, run_command=run_command)
    async with following(host):
        await checked(host)
        fail(host, RS3)
        await until(lambda: not host.health.has_quorum(WEB))
        fail(host, RS3, answer=PASSED)
        await until(lambda: host.health.has_quorum(WEB))
        assert ended == []
        await until(lambda: ended == ["/c/down", "/c/up"])


async def test_an_agent_that_stops_waits_for_the_command_of_a_quorum() -> None:
    """The one after it has nothing to tell."""
    begun, ended = [], []

    async def run_command(argv: Sequence[str], environment: Mapping[str, str], seconds: float) -> Ran:
        begun.append(argv[0])
        await asyncio.sleep(0.5)
        ended.append(argv[0])
        return Ran(status=0)

    host = await site(replace(POLICY, quorum=10, up_command=("/c/up",), down_command=("/c/down",)))
    host.health_watch = watch_of(host, run_command=run_command)
    async with following(host):
        await checked(host)
        fail(host, RS3)
        await until(lambda: begun == ["/c/down"])
    assert ended == ["/c/down"]


@pytest.mark.parametrize("is_spent", [False, True])
async def test_a_full_disk_keeps_nobody_out_whose_quorum_was_lost_meanwhile(*, is_spent: bool) -> None:
    async with following(await site()) as host:
        await checked(host)
        host.state.full, host.state.spent = True, is_spent
        fail(host, *WEIGHTS)
        await until(lambda: set(weights(host).values()) == {0})
        await until(lambda: health(host, RS1).percent == 0)
        fail(host, *WEIGHTS, answer=PASSED)
        await until(lambda: weights(host) == WEIGHTS)


class OddLog(HealthLog):
    """Cannot tell of anything."""

    def tell(
        self,
        kind: EventKind.ValueType,
        server: VirtualServerKey,
        destination: DestinationKey | None,
        detail: str,
        wall: float,
        *,
        is_meant: bool = False,
    ) -> None:
        """Raise what no log should."""
        raise UnicodeError


async def test_a_check_that_ends_with_an_unexpected_error_has_failed() -> None:
    """Else who is dead would stay in for ever."""

    async def odd(kind: Kind, target: Target, seconds: float) -> Answer:
        if target.address == RS1.address:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return PASSED

    host = await site()
    host.health_watch = host.watch_with(odd)
    async with following(host):
        await until(lambda: weights(host)[RS1] == 0)
        assert health(host, RS1).detail == "the check itself failed: [Errno 24] Too many open files"
        assert weights(host) == {**WEIGHTS, RS1: 0}


class DeafIpvs(FakeIpvs):
    """A kernel whose answer may be lost, once."""

    is_deaf = False

    def take(self, steps: Sequence[TableStep]) -> list[LvsError | None]:
        """Carry out many steps."""
        done = super().take(steps)
        if self.is_deaf:
            self.is_deaf = False
            raise InternalError("the kernel's answer is lost", Reason.INTERNAL)
        return done


@pytest.mark.parametrize("effect", Effect)
async def test_who_went_out_though_the_kernels_answer_was_lost_comes_back(effect: Effect) -> None:
    """It is not taken for what somebody has done by hand."""
    ipvs = DeafIpvs()
    async with following(await site(replace(POLICY, effect=effect), ipvs=ipvs)) as host:
        await checked(host)
        ipvs.is_deaf = True
        fail(host, RS1)
        await until(lambda: not weights(host).get(RS1) and health(host, RS1).percent == 0)
        assert health(host, RS1).note == ""
        fail(host, RS1, answer=PASSED)
        await until(lambda: weights(host) == WEIGHTS)
        ipvs.is_deaf = True
        fail(host, RS1)
        await until(lambda: not weights(host).get(RS1))
        ipvs.is_deaf = True
        fail(host, RS1, answer=PASSED)
        await until(lambda: weights(host) == WEIGHTS and health(host, RS1).percent == 100)


async def test_who_is_checked_again_stays_in_until_that_check_has_failed() -> None:
    """What the check before has said, which was wrong, is over."""
    slow = replace(POLICY, check=replace(CHECK, interval=0.5))
    async with following(await site(slow)) as host:
        fail(host, RS1)
        await until(lambda: weights(host)[RS1] == 0)
        await apply(host, set_health(replace(slow, overrides={RS1: None})))
        await until(lambda: weights(host) == WEIGHTS)
        fail(host, RS1, answer=PASSED)
        await apply(host, set_health(slow))
        for _ in range(100):
            assert weights(host) == WEIGHTS
            await asyncio.sleep(0.01)


async def test_what_cannot_be_told_is_done_all_the_same() -> None:
    host = await site()
    host.health_watch = watch_of(host, log=OddLog())
    async with following(host):
        fail(host, *WEIGHTS)
        await until(lambda: set(weights(host).values()) == {0})
        fail(host, *WEIGHTS, answer=PASSED)
        await until(lambda: weights(host) == WEIGHTS)


async def test_who_is_checked_no_more_has_lost_no_quorum() -> None:
    policy = replace(POLICY, down_command=("/c/down",))
    async with following(await site(policy)) as host:
        fail(host, *WEIGHTS)
        await until(lambda: not host.health.has_quorum(WEB))
        await apply(host, delete_health())
        await until(lambda: host.health.has_quorum(WEB))
        await apply(host, set_health(policy))
        await until(lambda: not host.health.has_quorum(WEB))
        assert host.commands == [("/c/down",), ("/c/down",)]


async def test_the_answer_to_a_check_that_was_changed_meanwhile_counts_no_more() -> None:
    slow = replace(POLICY, check=replace(CHECK, interval=0.6, timeout=0.6, fall=1))
    async with following(await site(slow)) as host:
        await checked(host, times=1)
        host.checker.hung.add(RS1.address)
        await checked(host, times=1)
        host.checker.hung.clear()
        await apply(host, set_health(replace(slow, check=replace(CHECK, fall=1))))
        seen = set()
        for _ in range(80):
            seen.add(weights(host)[RS1])
            await asyncio.sleep(0.01)
        assert seen == {4}


async def test_the_weight_follows_what_answers_say_and_is_the_operators_again_without_a_policy() -> None:
    dynamic = DynamicWeight(source=WeightSource.AGENT_LOAD, min_percent=20)
    policy = replace(POLICY, check=replace(CHECK, kind=AgentCheck()), dynamic_weight=dynamic)
    async with following(await site(policy)) as host:
        await apply(host, operations.update_destination(WEB, RS1, weight=100))
        fail(host, RS1, answer=Answer(passed=True, percent=40))
        await until(lambda: weights(host)[RS1] == 40)
        fail(host, RS1, answer=Answer(passed=True, percent=3))
        await until(lambda: weights(host)[RS1] == 20)
        assert wanted(host)[RS1] == 100
        assert host.restore.drift() == []
        await apply(host, delete_health())
        await until(lambda: weights(host)[RS1] == 100)


async def test_a_policy_that_was_changed_again_is_not_taken_back() -> None:
    host = await site(None)
    first, second = replace(POLICY, quorum=2), replace(POLICY, quorum=3)
    (change,) = await apply(host, set_health(first))
    await apply(host, set_health(second))
    ended = await host.changes.revert(change.id)
    assert ended.outcome is Outcome.KEPT
    assert host.healths.get(WEB) == second
