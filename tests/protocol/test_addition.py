"""The change protocol, checked in every state that it can reach; without any one of its rules it breaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.protocol.addition import Addition, Rules, State
from tests.protocol.explore import Exploration, explore


def check(protocol: Addition) -> Exploration[State]:
    return explore(
        protocol.initial,
        protocol.step,
        always={
            "blackhole": protocol.no_client_is_sent_to_a_real_server_without_vip,
            "undecided": protocol.nothing_undecided_is_in_a_directors_kernel,
            "split": protocol.all_decide_alike,
            "false success": protocol.success_means_done_everywhere,
        },
        finally_={"half": protocol.in_the_end_all_or_nothing},
    )


@pytest.mark.parametrize(("real_servers", "reboots"), [(1, 0), (1, 1), (2, 0)])
def test_whatever_happens_it_is_all_or_nothing(real_servers: int, reboots: int) -> None:
    """Lost, late and doubled messages, deaths and stops anywhere, leases that end, clients that ask meanwhile."""
    found = check(Addition(Rules(), real_servers, reboots))
    print(f"{real_servers} real servers, {reboots} reboots: {found.states} states, {len(found.finals)} ends")
    assert found.violations == {}
    ends = {state.coordinator for state in found.finals}
    assert ends == {"done", "gone"}, "the control: it comes to a good end, too"


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("ready_before_commit", "split"),
        ("asks_after_lost_commit", "split"),
        ("ready_does_not_expire", "split"),
        ("other_director_asks", "split"),
        ("tombstones", "split"),
        ("reserves_only", "undecided"),
    ],
)
def test_every_rule_is_needed(rule: str, broken: str) -> None:
    """Left out, it is refuted by a way to a state that must not be."""
    found = check(Addition(replace(Rules(), **{rule: False})))
    assert broken in found.violations, found
