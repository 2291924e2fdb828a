"""remove-backend and what follows it, in every state that the model can reach; without any one of its rules it breaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol.agent import Rules
from tests.protocol.check import check, without
from tests.protocol.removal import BACKEND, HOLD, Removal, undrain
from tests.protocol.site import DONE, Operations, addition

ONE, TWO = ("A",), ("A", "B")

Command = Callable[[tuple[str, ...]], Operations]


def again(directors: tuple[str, ...]) -> Operations:
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
def test_what_is_added_again_or_undrained_meanwhile_keeps_its_vip(command: Command, *, decided: bool) -> None:
    """However late those come who finish the removal."""
    found = check(Removal(ONE, [command(ONE)], Rules(), decided=decided))
    assert found.violations == {}
    assert any(state.coordinators[1].step == DONE for state in found.quiet), "the control: it succeeds"


@pytest.mark.parametrize("command", [undrain, again])
@pytest.mark.parametrize("decided", [False, True])
def test_wide_the_same_with_two_directors(command: Command, *, decided: bool) -> None:
    """As above, from the beginning of the removal too."""
    assert check(Removal(TWO, [command(TWO)], Rules(), decided=decided)).violations == {}


@pytest.mark.parametrize(("finishers", "decided"), [(1, False), (2, True)])
def test_wide_added_again(finishers: int, *, decided: bool) -> None:
    """As above, with one director: from the beginning, and with two who finish it."""
    assert check(Removal(ONE, [again(ONE)], Rules(), finishers=finishers, decided=decided)).violations == {}


@pytest.mark.parametrize(
    ("rule", "command", "directors", "broken"),
    [
        ("asks_every_director", None, TWO, "blackhole"),
        ("asks_anew", again, ONE, "blackhole"),
        ("locks_before_asking", again, ONE, "blackhole"),
        ("forgets_only", again, ONE, "taken away"),
        ("only_if_draining", undrain, ONE, "taken away"),
        ("absent_is_locked", again, ONE, "blackhole"),
        ("asks_for_what_is_in_place", undrain, TWO, "taken away"),
    ],
)
def test_every_rule_is_needed(rule: str, command: Command | None, directors: tuple[str, ...], broken: str) -> None:
    """Left out, it is refuted by a way to a state that must not be; it is printed."""
    decided = rule != "asks_for_what_is_in_place"
    others = [] if command is None else [command(directors)]
    assert broken in check(Removal(directors, others, without(rule), decided=decided), until=broken).violations
