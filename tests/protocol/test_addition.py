"""add-backend, alone and two at once, in every state that the model can reach; no rule can go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol.agent import THERE, Rules
from tests.protocol.check import check, without
from tests.protocol.site import DONE, OVER, UNDONE, Command, Site, addition

ONE, TWO = ("A",), ("A", "B")

Scenario = Callable[..., Site]


def one(directors: tuple[str, ...], real_servers: int, rules: Rules, reboots: int = 0) -> Site:
    """One command."""
    names = [f"R{number}" for number in range(1, real_servers + 1)]
    return Site([*names, *directors], [addition(names, "X", directors)], rules=rules, reboots=reboots)


def two(first: Command, second: Command, rules: Rules, *, there: bool = False, patient: bool = False) -> Site:
    """Two commands at once; with there the virtual server is there already, and nobody holds a VIP for it."""
    names = sorted({*first.operations, *second.operations}, key=lambda name: (not name.startswith("R"), name))
    kernels = {name: frozenset({("X", THERE)}) for name in names if there and not name.startswith("R")}
    return Site(names, [first, second], rules=rules, kernels=kernels, patient=patient)


def same_destination(rules: Rules) -> Site:
    """Both add the same."""
    command = addition(["R1"], "X", ONE, hold_on_director=True)
    return two(command, command, rules)


def same_real_server(rules: Rules, *, patient: bool = False) -> Site:
    """Two virtual servers that share VIP and real server."""
    first, second = (addition(["R1"], server, ONE, hold_on_director=True) for server in ("X", "Y"))
    return two(first, second, rules, patient=patient)


def same_virtual_server(rules: Rules, *, there: bool = True, patient: bool = False) -> Site:
    """Two real servers behind one virtual server; each command may be the one that brings the VIP, or makes both."""
    first, second = (addition([name], "X", ONE, hold_on_director=there) for name in ("R1", "R2"))
    return two(first, second, rules, there=there, patient=patient)


@pytest.mark.parametrize(
    ("directors", "real_servers", "reboots"), [(ONE, 1, 1), (TWO, 1, 1), (ONE, 2, 0), (TWO, 2, 0), (TWO, 2, 1)]
)
def test_whatever_happens_it_is_all_or_nothing(directors: tuple[str, ...], real_servers: int, reboots: int) -> None:
    """Lost, late and doubled messages, deaths and stops anywhere, leases that end, clients that resolve meanwhile."""
    found = check(one(directors, real_servers, Rules(), reboots))
    assert found.violations == {}
    ends = {state.coordinators[0].step for state in found.quiet}
    assert {DONE, UNDONE, OVER} <= ends, "the control: it comes to every end"


@pytest.mark.parametrize("site", [same_destination, same_real_server])
def test_two_at_once_do_not_take_anything_from_each_other(site: Scenario) -> None:
    """Whatever one comes to, the other is whole or not there at all."""
    found = check(site(Rules()))
    assert found.violations == {}
    both = [state for state in found.quiet if [lvs.step for lvs in state.coordinators] == [DONE, DONE]]
    assert bool(both) is (site is same_real_server), "the control: both succeed where they do not want the same"


@pytest.mark.parametrize("there", [True, False])
def test_wide_two_real_servers_behind_one_virtual_server(*, there: bool) -> None:
    """As above; one of them makes what both need."""
    assert check(same_virtual_server(Rules(), there=there)).violations == {}


def test_wide_three_real_servers() -> None:
    """As above, of one command."""
    assert check(one(TWO, 3, Rules(), reboots=1)).violations == {}


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("ready_before_commit", "blackhole"),
        ("ready_does_not_expire", "blackhole"),
        ("asks_after_lost_commit", "blackhole"),
        ("undoes_the_authority_first", "blackhole"),
        ("other_director_asks", "split"),
        ("tombstones", "lock left"),
        ("tombstones", "blackhole"),
        ("reserves_only", "undecided"),
    ],
)
def test_every_rule_is_needed(rule: str, broken: str) -> None:
    """Left out, it is refuted by a way to a state that must not be; it is printed."""
    assert broken in check(one(TWO, 1, without(rule)), until=broken).violations


def test_leases_must_end_with_the_boot() -> None:
    """A rebooted authority that went on with what was undecided could be waited for for ever: its clock begins anew."""
    assert "stuck" in check(one(TWO, 1, without("reboot_ends_leases"), reboots=1)).violations


@pytest.mark.parametrize(
    ("rule", "site", "broken"),
    [
        ("locks", same_virtual_server, "taken away"),
        ("undo_compares", same_real_server, "blackhole"),
        ("holders_are_counted", same_real_server, "blackhole"),
        ("preflight_heeds_locks", same_virtual_server, "taken away"),
    ],
)
def test_every_rule_for_two_is_needed(rule: str, site: Scenario, broken: str) -> None:
    """As above, where two commands meet."""
    assert broken in check(site(without(rule), patient=True), until=broken).violations
