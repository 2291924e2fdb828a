"""What lvs health set warns of: it works, and is hardly what is meant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lvsagent.v1 import host_service_pb2

from agent_common.check import Check, TcpCheck
from agent_common.destination import Destination, DestinationKey, DestinationStatus, Forwarding
from agent_common.health import Effect, Floor, HealthPolicy
from agent_common.virtual_server import Persistence, VirtualServer, parse_address, parse_key
from cli.check_options import CheckOptions
from cli.facts import DirectorFacts
from cli.health_options import HealthOptions, PolicyOptions, in_options
from cli.health_warnings import health_warnings
from cli.site import AgentName, Role
from tests.hosts import WEB

TCP = HealthPolicy(check=Check(kind=TcpCheck()))
QUIESCENT = "ipv4/vs/expire_quiescent_template"
NODEST = "ipv4/vs/expire_nodest_conn"


def key(last: int) -> DestinationKey:
    return DestinationKey(address=parse_address(f"192.168.0.{last}", "rs"), port=80)


def facts(
    *weights: int, server: VirtualServer | None = None, quiescent: int = 0, nodest: int = 1, draining: int = 0
) -> DirectorFacts:
    """Return a director with destinations 192.168.0.101:80 and so on of these weights; so many of the first drain."""
    values = {QUIESCENT: quiescent, NODEST: nodest}
    settings = [host_service_pb2.NetworkSetting(name=name, value=value) for name, value in values.items()]
    made = {}
    for number, weight in enumerate(weights):
        each = Destination(
            key=key(101 + number), forwarding=Forwarding.DIRECT_ROUTING, weight=weight, draining=number < draining
        )
        made[each.key] = DestinationStatus(destination=each, active=0, inactive=0, persistent=0, current_weight=weight)
    return DirectorFacts(
        agent=AgentName(role=Role.DIRECTOR, name="lb1:9710"),
        host=host_service_pb2.GetHostResponse(settings=settings),
        server=server or VirtualServer(key=WEB),
        destinations=made,
    )


def warned(found: DirectorFacts, *, was: HealthPolicy | None = TCP, rs: int = 0, kind: str = "", **given: Any) -> str:
    options = HealthOptions(
        check=CheckOptions(kind=kind or ("tcp" if rs else "")),
        policy=PolicyOptions(fields=given or {"quorum": 1}),
        rs=key(rs) if rs else None,
    )
    return "\n".join(health_warnings(options, was, replace(TCP, **given), found))


def test_what_is_no_destination_is_told_and_its_check_can_be_taken_away() -> None:
    assert "192.168.0.109:80 is no destination" in warned(facts(5), rs=109)
    assert not warned(facts(5), rs=101)
    assert not warned(facts(5), rs=109, kind="inherit")
    assert "192.168.0.109:80 is no destination" in warned(facts(5), sorry=key(109))
    assert not warned(facts(5), sorry=key(101))
    assert not warned(facts(5), sorry=None)


@pytest.mark.parametrize(
    ("floor", "found", "is_told"),
    [
        (Floor(destinations=2), facts(5, 5), True),
        (Floor(destinations=1), facts(5), True),
        (Floor(percent=60), facts(5, 5), True),
        (Floor(destinations=1), facts(5, 5), False),
        (Floor(destinations=0), facts(5), False),
        (Floor(destinations=1), facts(5, 5, draining=1), True),
        (Floor(destinations=1), facts(5, 0), True),
        (Floor(destinations=1), facts(), False),
    ],
)
def test_a_floor_that_keeps_all_in_is_told(floor: Floor, found: DirectorFacts, is_told: bool) -> None:
    """Of those that count for it: with a weight, and not draining."""
    assert ("whatever the checks say" in warned(found, floor=floor)) is is_told


def test_the_sorry_server_is_none_of_those_that_a_floor_keeps() -> None:
    assert "it in (192.168.0.101:80)" in warned(facts(5, 5), floor=Floor(destinations=1), sorry=key(102))


STICKY = VirtualServer(key=WEB, persistence=Persistence(timeout=600))


@pytest.mark.parametrize(
    ("found", "effect", "is_told"),
    [
        (facts(5, server=STICKY), None, True),
        (facts(5, server=STICKY), Effect.REMOVE, False),
        (facts(5, server=replace(STICKY, scheduler="dh")), None, False),
        (facts(5, server=replace(STICKY, scheduler="dh")), Effect.WEIGHT_ZERO, True),
        (facts(5, server=STICKY, quiescent=1), None, False),
        (facts(5), None, False),
    ],
)
def test_that_persistence_leads_clients_to_what_is_out_is_told_once(
    found: DirectorFacts, effect: Effect | None, is_told: bool
) -> None:
    """With the first policy, and when the effect is set; not with each change after that."""
    assert ("--effect remove" in warned(found, was=None, effect=effect)) is is_told
    assert ("--effect remove" in warned(found, effect=effect)) is is_told
    assert not warned(found)


def test_that_the_kernel_keeps_connections_to_what_is_out_is_told_once() -> None:
    assert "expire_nodest_conn is 0" in warned(facts(5, nodest=0), was=None)
    assert "expire_nodest_conn is 0" in warned(facts(5, nodest=0), effect=Effect.REMOVE)
    assert not warned(facts(5, nodest=0))
    assert not warned(facts(5), was=None)


@pytest.mark.parametrize("effect", [None, Effect.WEIGHT_ZERO, Effect.REMOVE])
def test_that_udp_clients_stay_with_what_is_out_is_told(effect: Effect | None) -> None:
    udp = VirtualServer(key=parse_key("udp/192.168.0.200:53"))
    assert ("keeps its port" in warned(facts(5, server=udp), was=None, effect=effect)) is (effect is not Effect.REMOVE)


def test_what_a_director_says_of_fields_is_said_of_options() -> None:
    assert in_options("director lb1: policy.quorum: 20 can never be reached") == (
        "director lb1: quorum: 20 can never be reached"
    )
    assert in_options("policy.overrides[1].check.timeout: is longer") == "check_timeout: is longer"
    assert in_options("no policy. No: more") == "no policy. No: more"
