"""lvs add-backend end to end: point 2 of the first milestone, by means that are not ours."""

from __future__ import annotations

import re

from tests.lab import by_hand
from tests.lab.operator import Operator

MOST_ROUND_TRIPS = 12


def test_two_commands_build_a_site_whose_real_servers_answer_in_turn(operator: Operator, family: int) -> None:
    """Requests through the VIP alternate, ipvsadm shows both real servers, and neither command asked too often."""
    vip, (first, second) = operator.vip(family), operator.rs(family)
    commands = (
        operator.lvs("--debug", "add-backend", "--vip", vip, "--rs", first, "--scheduler", "rr"),
        operator.lvs("--debug", "add-backend", "--vip", vip, "--rs", second),
    )
    for done in commands:
        (count,) = re.findall(r"^debug +(\d+) round trips$", done.stderr, re.MULTILINE)
        calls = [line for line in done.stderr.splitlines() if re.match(r"debug +[\d.]+ ms", line)]
        assert len(calls) == int(count) <= MOST_ROUND_TRIPS, done.stderr
    by_hand.assert_answers_alternate(operator, family)
    by_hand.assert_table(operator, family)


def test_hosts_are_what_a_person_would_have_set_by_hand(operator: Operator, family: int) -> None:
    """Addresses, routes and sysctls of the site that the test before has built."""
    by_hand.assert_director(operator.site.director, family)
    for rs in operator.site.real_servers:
        by_hand.assert_real_server(rs, family)


def test_the_director_alone_answers_arp_for_the_vip(operator: Operator) -> None:
    """Of the site that the first test has built."""
    by_hand.assert_only_the_director_answers_arp(operator)
