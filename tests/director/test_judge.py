"""Verdicts: so many checks in a row turn them, and what flaps is held out."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from agent_common.check import Check, TcpCheck
from agent_common.checker import Answer
from agent_common.health import Damping
from agent_director.judge import Judge

CHECK = Check(kind=TcpCheck(), rise=2, fall=3)


def judge(*, is_up: bool) -> Judge:
    return Judge(is_up=is_up, since=0.0, turned=0.0)


def hear(judge: Judge, answers: Sequence[bool], *, begin: float = 0.0, every: float = 1.0) -> list[bool]:
    """Have a judge take answers, and return whether each was news."""
    return [
        judge.take(
            Answer(passed=each), CHECK, took=0.01, now=begin + number * every, wall=1000 + begin + number * every
        )
        for number, each in enumerate(answers)
    ]


def test_it_goes_down_with_the_last_of_fall_failures_in_a_row() -> None:
    one = judge(is_up=True)
    assert hear(one, [False, False, False]) == [False, False, True]
    assert (one.is_up, one.since, one.turned) == (False, 1002, 2)


def test_one_that_passes_between_begins_the_count_anew() -> None:
    one = judge(is_up=True)
    hear(one, [False, False, True, False, False])
    assert one.is_up
    assert one.against == 2


def test_it_comes_up_with_the_last_of_rise_passes_in_a_row() -> None:
    one = judge(is_up=False)
    assert hear(one, [True, False, True, True]) == [False, False, False, True]
    assert one.is_up


def test_that_it_is_down_is_news_once_it_is_proven_and_never_again() -> None:
    one = judge(is_up=False)
    assert hear(one, [False] * 5) == [False, False, True, False, False]
    assert one.proven


def test_that_it_is_up_as_was_assumed_is_none() -> None:
    one = judge(is_up=True)
    assert hear(one, [True] * 3) == [False] * 3
    assert one.proven


@given(st.lists(st.booleans(), max_size=60), st.booleans())
def test_the_verdict_is_that_of_the_last_long_enough_run(answers: list[bool], begins: bool) -> None:
    one = judge(is_up=begins)
    hear(one, answers)
    expected, run, last = begins, 0, None
    for each in answers:
        run = run + 1 if each is last else 1
        last = each
        if run >= (CHECK.rise if each else CHECK.fall):
            expected = each
    assert one.is_up == expected


class TestDamping:
    DAMPING = Damping(falls=3, window=100, hold=30)

    def flapping(self, falls: int, every: float) -> Judge:
        one = judge(is_up=True)
        for number in range(falls):
            hear(one, [False] * 3 + [True] * 2, begin=number * every, every=0.0)
        return one

    def test_what_falls_often_enough_within_the_window_is_held_from_its_last_fall_on(self) -> None:
        assert self.flapping(3, 10).held_until(self.DAMPING, 21) == 50

    def test_what_falls_less_often_is_not_held(self) -> None:
        assert self.flapping(2, 10).held_until(self.DAMPING, 11) == 0

    def test_falls_that_are_long_ago_do_not_count(self) -> None:
        assert self.flapping(3, 60).held_until(self.DAMPING, 121) == 0

    def test_it_is_held_no_longer_than_that(self) -> None:
        assert self.flapping(3, 10).held_until(self.DAMPING, 50) == 0

    def test_a_hold_of_zero_holds_nothing(self) -> None:
        assert self.flapping(9, 1).held_until(Damping(falls=2, window=100, hold=0), 9) == 0


class TestDynamicWeight:
    def test_a_small_difference_is_no_change_and_the_whole_always_is(self) -> None:
        one = judge(is_up=True)
        assert not one.weigh(97)
        assert one.weigh(60)
        assert not one.weigh(63)
        assert one.weigh(97)
        assert one.weigh(100)

    def test_an_answer_that_says_nothing_changes_nothing(self) -> None:
        one = judge(is_up=True)
        one.weigh(40)
        assert not one.weigh(None)
        assert one.percent == 40
