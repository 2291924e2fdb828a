"""remove-backend and what follows it, in every state that the model can reach; no rule can go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol.agent import Rules
from tests.protocol.check import check, without
from tests.protocol.removal import BACKEND, HOLD, Removal, undrain
from tests.protocol.site import DONE, Command, addition

ONE, TWO = ("A",), ("A", "B")

Other = Callable[[tuple[str, ...]], Command]


def again(directors: tuple[str, ...]) -> Command:
    """The same backend, added again."""
    return addition([BACKEND], "X", directors)


@pytest.mark.parametrize(("directors", "finishers"), [(ONE, 1), (ONE, 2), (TWO, 1)])
def test_whoever_finishes_it_the_backend_is_out_everywhere_or_nowhere(
    directors: tuple[str, ...], finishers: int
) -> None:
    """Nobody has to be there who began it."""
    found = check(Removal(directors, [], Rules(), finishers=finishers))
    assert found.violations == {}
    assert {bool(state.agents[0].has(HOLD)) for state in found.quiet} == {True, False}, "the control: both happen"


@pytest.mark.parametrize(("decided", "command"), [(False, undrain), (True, again)])
def test_what_is_added_again_or_undrained_meanwhile_keeps_its_vip(command: Other, *, decided: bool) -> None:
    """However late those come who finish the removal."""
    found = check(Removal(ONE, [command(ONE)], Rules(), decided=decided))
    assert found.violations == {}
    assert any(state.coordinators[1].step == DONE for state in found.quiet), "the control: it succeeds"


@pytest.mark.parametrize("command", [undrain, again])
@pytest.mark.parametrize("decided", [False, True])
def test_wide_the_same_with_two_directors(command: Other, *, decided: bool) -> None:
    """As above, from the beginning of the removal too."""
    assert check(Removal(TWO, [command(TWO)], Rules(), decided=decided)).violations == {}


@pytest.mark.parametrize(("finishers", "decided"), [(1, False), (2, True)])
def test_wide_added_again(finishers: int, *, decided: bool) -> None:
    """As above, with one director: from the beginning, and with two who finish it."""
    assert check(Removal(ONE, [again(ONE)], Rules(), finishers=finishers, decided=decided)).violations == {}


def test_what_is_being_added_keeps_its_vip() -> None:
    """A removal that finds no destination, since one is only about to be added."""
    assert check(Removal(ONE, [again(ONE)], Rules(), rest=True)).violations == {}


@pytest.mark.parametrize(
    ("rule", "command", "directors", "broken"),
    [
        ("asks_every_director", None, TWO, "blackhole"),
        ("only_if_draining", undrain, ONE, "taken away"),
        ("forgets_only", again, ONE, "taken away"),
        ("newer_keep_the_vip", again, ONE, "blackhole"),
    ],
)
def test_every_rule_is_needed(rule: str, command: Other | None, directors: tuple[str, ...], broken: str) -> None:
    """Left out, it is refuted by a way to a state that must not be; it is printed."""
    others = [] if command is None else [command(directors)]
    assert broken in check(Removal(directors, others, without(rule), decided=True), until=broken).violations


@pytest.mark.parametrize("rule", ["open_counts_as_newer", "absent_is_locked"])
def test_every_rule_for_what_is_being_added_is_needed(rule: str) -> None:
    """As above, where a removal finds no destination, since one is only about to be added."""
    removal = Removal(ONE, [again(ONE)], without(rule), rest=True, patient=True)
    assert "blackhole" in check(removal, until="blackhole").violations


def test_every_director_is_to_be_asked_for_the_end_of_a_drain() -> None:
    """One that has not heard of the drain yet would hear of it afterwards."""
    removal = Removal(TWO, [undrain(TWO)], without("asks_directors_alike"), patient=True)
    assert "taken away" in check(removal, until="taken away").violations
