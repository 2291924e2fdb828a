"""What follows from verdicts: who is in and with what weight, the floor, the quorum, the sorry server, slow starts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_common.check import AgentCheck, Check, TcpCheck
from agent_common.destination import WHOLE, DestinationKey, Standing
from agent_common.health import DynamicWeight, Effect, Floor, HealthPolicy, WeightSource
from agent_common.virtual_server import parse_address
from agent_director.health_effect import SLOW_STEPS, Decision, Member, decide

OUT = Standing(percent=0)
POLICY = HealthPolicy(check=Check(kind=TcpCheck()), floor=Floor(destinations=0))


def key(number: int) -> DestinationKey:
    return DestinationKey(address=parse_address(f"192.168.0.{100 + number}", "rs"), port=80)


def member(number: int, *, is_up: bool = True, weight: int = 1, **fields: object) -> Member:
    return Member(key=key(number), weight=weight, is_up=is_up, **fields)  # type: ignore[arg-type]


def after(
    members: list[Member], policy: HealthPolicy = POLICY, effect: Effect = Effect.WEIGHT_ZERO, *, quorum: bool = True
) -> Decision:
    return decide(policy, effect, members, has_quorum=quorum)


def standings(decision: Decision) -> list[int]:
    return [decision.standings[each].standing.percent for each in sorted(decision.standings)]


def test_who_is_up_is_in_and_who_is_down_is_out() -> None:
    assert standings(after([member(1), member(2, is_up=False), member(3)])) == [100, 0, 100]


def test_out_by_removal_is_out_of_the_kernel() -> None:
    decision = after([member(1), member(2, is_up=False)], effect=Effect.REMOVE)
    assert decision.standings[key(2)].standing == Standing(percent=0, removed=True)


class TestFloor:
    def test_below_the_floor_nobody_is_taken_out_and_the_first_to_fail_went_first(self) -> None:
        policy = replace(POLICY, floor=Floor(destinations=1))
        failed = [member(number, is_up=False, down_since=10 - number) for number in (1, 2, 3)]
        decision = after(failed, policy)
        assert standings(decision) == [100, 0, 0]
        assert "must stay" in decision.standings[key(1)].note
        assert "all destinations are down" in decision.alarm

    def test_who_is_out_already_is_not_put_back_for_the_floor(self) -> None:
        policy = replace(POLICY, floor=Floor(destinations=2))
        assert standings(after([member(1), member(2, is_up=False, is_out=True)], policy)) == [100, 0]

    def test_who_was_kept_in_goes_when_another_has_come_back(self) -> None:
        policy = replace(POLICY, floor=Floor(destinations=1))
        assert standings(after([member(1, is_up=False), member(2, is_up=False, is_out=True)], policy)) == [100, 0]
        assert standings(after([member(1, is_up=False), member(2, is_out=True)], policy)) == [0, 100]

    def test_a_floor_in_percent_is_rounded_up_and_counts_who_takes_connections(self) -> None:
        policy = replace(POLICY, floor=Floor(percent=50))
        members = [member(number, is_up=False, down_since=number) for number in (1, 2, 3)]
        assert standings(after([*members, member(4, weight=0)], policy)) == [0, 100, 100, 100]

    def test_one_without_weight_is_out_whatever_the_floor(self) -> None:
        policy = replace(POLICY, floor=Floor(destinations=2))
        assert standings(after([member(1), member(2, is_up=False, weight=0)], policy)) == [100, 0]

    @given(
        st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3), st.integers(0, 5)), max_size=8),
        st.integers(0, 9),
    )
    def test_no_decision_leaves_fewer_in_than_the_floor_unless_fewer_were(
        self, drawn: list[tuple[bool, bool, int, int]], floor: int
    ) -> None:
        members = [
            member(number, is_up=up, is_out=out, weight=weight, down_since=since)
            for number, (up, out, weight, since) in enumerate(drawn)
        ]
        decision = after(members, replace(POLICY, floor=Floor(destinations=floor)))
        able = [each for each in members if each.weight]
        staying = sum(decision.standings[each.key].standing.percent > 0 for each in able)
        could = sum(each.is_up or not each.is_out for each in able)
        assert staying >= min(floor, could)
        assert all(decision.standings[each.key].standing == WHOLE for each in members if each.is_up)


class TestQuorum:
    POLICY = replace(POLICY, quorum=5, hysteresis=2)

    @pytest.mark.parametrize(("weight", "had", "has"), [(3, True, True), (2, True, False), (6, False, False)])
    def test_it_is_lost_below_quorum_less_hysteresis_and_not_regained_before_both(
        self, weight: int, had: bool, has: bool
    ) -> None:
        decision = after([member(1, weight=weight), member(2, is_up=False, weight=9)], self.POLICY, quorum=had)
        assert (decision.has_quorum, decision.weight_up) == (has, weight)

    def test_it_is_regained_at_quorum_and_hysteresis(self) -> None:
        assert after([member(1, weight=7)], self.POLICY, quorum=False).has_quorum

    def test_who_is_not_proven_down_yet_keeps_it_from_being_lost(self) -> None:
        assert after([member(1, is_up=False, proven=False, weight=9)], self.POLICY).has_quorum

    def test_a_virtual_server_without_destinations_neither_loses_nor_regains_it(self) -> None:
        assert after([], self.POLICY).has_quorum
        assert not after([], self.POLICY, quorum=False).has_quorum


class TestSorry:
    POLICY = replace(POLICY, sorry=key(9))

    def test_it_waits_while_there_is_a_quorum(self) -> None:
        decision = after([member(1), member(9)], self.POLICY)
        assert standings(decision) == [100, 0]
        assert "sorry" in decision.standings[key(9)].note

    def test_it_serves_alone_once_the_quorum_is_lost_and_waits_again_later(self) -> None:
        policy = replace(self.POLICY, quorum=2)
        members = [member(1), member(2, is_up=False), member(9, is_out=True)]
        assert standings(after(members, policy)) == [0, 0, 100]
        assert standings(after([member(1), member(2), member(9)], policy, quorum=False)) == [100, 100, 0]

    def test_one_that_is_down_itself_does_not_serve(self) -> None:
        policy = replace(self.POLICY, quorum=2)
        decision = after([member(1), member(9, is_up=False, is_out=True)], policy)
        assert standings(decision) == [100, 0]
        assert decision.standings[key(9)].note == "the sorry server is down, so it does not serve"
        assert decision.alarm.endswith("; the sorry server is down, so it does not serve")

    def test_one_without_a_weight_does_not_serve(self) -> None:
        """It is drained, or has weight 0."""
        policy = replace(self.POLICY, quorum=2)
        decision = after([member(1), member(9, weight=0, is_out=True)], policy)
        assert standings(decision) == [100, 0]
        assert decision.alarm.endswith("; the sorry server has no weight, so it does not serve")
        assert not after([member(1), member(2), member(9, weight=0)], policy).alarm

    def test_it_does_not_count_for_the_quorum_nor_the_floor(self) -> None:
        policy = replace(self.POLICY, floor=Floor(destinations=1))
        decision = after([member(1, is_up=False), member(9, weight=0)], policy)
        assert not decision.has_quorum
        assert decision.standings[key(1)].standing == WHOLE


class TestFlapping:
    def test_who_flaps_is_out_though_it_is_up_and_it_is_said_when_that_ends(self) -> None:
        decision = after([member(1), member(2, held=40, is_out=True)])
        assert standings(decision) == [100, 0]
        assert "flaps" in decision.standings[key(2)].note
        assert decision.again == 40

    def test_nobody_is_held_out_whom_the_floor_needs(self) -> None:
        policy = replace(POLICY, floor=Floor(destinations=1))
        members = [member(1, is_up=False, is_out=True), member(2, held=40, is_out=True)]
        assert standings(after(members, policy)) == [0, 100]


class TestWeight:
    SLOW = replace(POLICY, slow_start=100.0)

    def test_it_rises_in_steps_from_little_to_the_whole(self) -> None:
        seen = [
            after([member(1, up_for=float(seconds))], self.SLOW).standings[key(1)].standing.percent
            for seconds in range(0, 101)
        ]
        assert seen == sorted(seen)
        assert (seen[0], seen[-1], len(set(seen))) == (100 // SLOW_STEPS, 100, SLOW_STEPS)

    def test_who_never_was_out_does_not_start_slowly(self) -> None:
        assert standings(after([member(1)], self.SLOW)) == [100]

    def test_the_next_step_is_awaited(self) -> None:
        assert after([member(1, up_for=2.0)], self.SLOW).again == pytest.approx(3.0)

    def test_what_the_answer_says_counts_only_with_a_dynamic_weight(self) -> None:
        dynamic = replace(
            POLICY,
            check=Check(kind=AgentCheck()),
            dynamic_weight=DynamicWeight(source=WeightSource.AGENT_LOAD),
        )
        assert standings(after([member(1, percent=40)], dynamic)) == [40]
        assert standings(after([member(1, percent=40)])) == [100]
