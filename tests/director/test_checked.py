"""A virtual server under watch: in what order destinations are changed, how many at a time, and what waits."""

from __future__ import annotations

from dataclasses import replace

from agent_common.check import Check, TcpCheck
from agent_common.destination import WHOLE, Destination, DestinationKey, Standing
from agent_common.health import Effect, Floor, HealthPolicy
from agent_common.virtual_server import parse_address
from agent_director.checked import Checked, CheckedServer
from agent_director.health_records import Stood
from agent_director.judge import Judge
from tests.hosts import WEB

CHECK = Check(kind=TcpCheck())
POLICY = HealthPolicy(check=CHECK, floor=Floor(destinations=0))


def key(number: int) -> DestinationKey:
    return DestinationKey(address=parse_address(f"192.168.0.{100 + number}", "rs"), port=80)


def checked(number: int, *, is_up: bool, is_out: bool = False, **fields: object) -> Checked:
    return Checked(
        destination=Destination(key=key(number)),
        check=CHECK,
        judge=Judge(is_up=is_up, since=0.0, turned=float(number), proven=True),
        stood=Stood(standing=Standing(percent=0) if is_out else WHOLE),
        **fields,  # type: ignore[arg-type]
    )


def server(*members: Checked, policy: HealthPolicy = POLICY, has_quorum: bool = True) -> CheckedServer:
    return CheckedServer(
        key=WEB,
        policy=policy,
        effect=Effect.WEIGHT_ZERO,
        has_quorum=has_quorum,
        since=0.0,
        members={each.destination.key: each for each in members},
    )


def order(one: CheckedServer, now: float = 100.0) -> list[tuple[DestinationKey, int]]:
    return [(key, stood.standing.percent) for key, stood in one.decide(now, 0.0).wanted]


def test_who_is_dead_goes_first_and_who_is_up_only_once_the_sorry_server_is_in() -> None:
    members = checked(1, is_up=True), checked(2, is_up=False), checked(9, is_up=True, is_out=True)
    lost = server(*members, policy=replace(POLICY, quorum=2, sorry=key(9)))
    assert order(lost) == [(key(2), 0), (key(9), 100), (key(1), 0)]


def test_the_sorry_server_goes_once_the_others_are_in() -> None:
    members = checked(9, is_up=True), checked(1, is_up=True, is_out=True), checked(2, is_up=True, is_out=True)
    regained = server(*members, policy=replace(POLICY, sorry=key(9)), has_quorum=False)
    assert [percent for _, percent in order(regained)] == [100, 100, 0]


def test_no_more_are_changed_than_there_is_room_for_and_the_rest_is_decided_soon() -> None:
    one = server(*(checked(number, is_up=False) for number in range(5)), policy=replace(POLICY, max_changes=2))
    assert len(one.decide(100.0, 0.0).wanted) == 2
    later = one.decide(100.5, 0.0)
    assert len(later.wanted) == 1
    assert later.again == 0.5


def test_what_was_refused_waits_for_its_moment_and_takes_nobody_elses_place() -> None:
    refused = checked(1, is_up=False, refused="somebody has set its weight to 0", again=101.0)
    one = server(refused, checked(2, is_up=False), policy=replace(POLICY, max_changes=1))
    first = one.decide(100.0, 0.0)
    assert [key for key, _ in first.wanted] == [key(2)]
    assert first.again == 1.0
    assert order(one, 101.0) == [(key(2), 0)]
    assert order(server(refused), 101.0) == [(key(1), 0)]


def test_that_something_was_refused_is_said_no_more_once_it_is_not_wanted() -> None:
    one = checked(1, is_up=False, refused="somebody has set its weight to 0", again=101.0)
    both = server(one)
    one.judge.is_up = True
    assert order(both) == []
    assert (one.health().note, one.again) == ("", 0.0)


def test_who_was_long_up_gets_no_more_falls_on_record_than_can_count() -> None:
    judge = Judge(is_up=True, since=0.0, turned=0.0)
    judge.falls.extend(float(each) for each in range(1000))
    assert len(judge.falls) == 100
