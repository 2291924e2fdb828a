"""Checks through the VIP by a mark: what stands in the kernel for their time, and what is left of them: nothing."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from agent_common.check import Check, GrpcCheck, HttpCheck, Kind, TcpCheck
from agent_common.check_mark import FIRST_MARK, MARKS, is_check_mark
from agent_common.checker import Answer, Target
from agent_common.destination import DestinationKey, Forwarding
from agent_common.errors import InvalidInputError, Reason, RefusedError
from agent_common.fake_address import FakeAddresses
from agent_common.health import HealthPolicy
from agent_common.virtual_server import Family, FirewallMark, VirtualServer, parse_key
from agent_director.fake_ipvs import FakeIpvs
from agent_director.marked_path import MarkedPaths
from cli import operations
from tests.hosts import WEB, WEB6, DirectorHost, own_address, run

RS = ip_address("192.168.0.104")
TARGET = Target(address=RS, port=80, virtual_server=WEB, through_vip=True, by_mark=True)


class Site:
    """A director's kernel, and who asks by a mark; seen is the kernel's table as it was then."""

    def __init__(self, *, accepts: bool = True) -> None:
        self.ipvs = FakeIpvs()
        self.asked: list[Target] = []
        self.seen: list[tuple[VirtualServer, DestinationKey, Forwarding]] = []
        addresses = FakeAddresses([own_address("192.168.0.10")])
        self.paths = MarkedPaths(self.ipvs, addresses, run, self.check, lambda device: accepts)

    async def check(self, kind: Kind, target: Target, seconds: float) -> Answer:
        self.asked.append(target)
        for key in self.ipvs.check_marks():
            server = self.ipvs.virtual_server(key)
            assert server is not None
            self.seen += [
                (server, each.destination.key, each.destination.forwarding) for each in self.ipvs.destinations(key)
            ]
        if isinstance(kind, HttpCheck):
            raise RuntimeError  # noqa: TRY004  # what a defect would raise
        return Answer(passed=True, detail="fine")


async def test_the_mark_leads_to_the_real_server_for_as_long_as_the_check_takes() -> None:
    site = Site()
    assert await site.paths(TcpCheck(), TARGET, 1.0) == Answer(passed=True, detail="fine")
    (asked,) = site.asked
    assert (asked.address, asked.port, asked.source) == (WEB.address, 80, ip_address("192.168.0.10"))  # type: ignore[union-attr]
    ((server, key, forwarding),) = site.seen
    assert server.key == FirewallMark(mark=asked.mark, family=Family.IPV4)
    assert (key, forwarding) == (DestinationKey(address=RS, port=80), Forwarding.DIRECT_ROUTING)
    assert site.ipvs.check_marks() == []


async def test_nothing_is_left_of_a_check_that_fails_in_an_unexpected_way() -> None:
    site = Site()
    with pytest.raises(RuntimeError):
        await site.paths(HttpCheck(), TARGET, 1.0)
    assert site.ipvs.check_marks() == []


async def test_where_no_answer_is_let_in_the_check_fails_and_says_so() -> None:
    site = Site(accepts=False)
    answer = await site.paths(TcpCheck(), TARGET, 1.0)
    assert not answer.passed
    assert "accept_local is 0" in answer.detail
    assert site.asked == []
    with pytest.raises(RefusedError) as caught:
        site.paths.check_route(RS)
    assert caught.value.reason is Reason.ACCEPT_LOCAL_OFF


def test_what_a_dead_agent_has_left_is_removed_and_no_other_mark() -> None:
    site = Site()
    for mark in (7, FIRST_MARK, FIRST_MARK + MARKS - 1, FIRST_MARK + MARKS):
        site.ipvs.add_virtual_server(VirtualServer(key=FirewallMark(mark=mark, family=Family.IPV4)))
    site.paths.clear()
    left = [each.key for each in site.ipvs.virtual_servers()]
    assert left == [FirewallMark(mark=mark, family=Family.IPV4) for mark in (7, FIRST_MARK + MARKS)]
    assert site.ipvs.check_marks() == []


async def test_operators_neither_see_nor_make_such_a_mark() -> None:
    host = DirectorHost()
    mark = FirewallMark(mark=FIRST_MARK, family=Family.IPV4)
    host.ipvs.add_virtual_server(VirtualServer(key=mark))
    assert host.virtual_servers.list_all() == []
    assert host.restore.drift() == []
    other = FirewallMark(mark=FIRST_MARK + 1, family=Family.IPV4)
    with pytest.raises(InvalidInputError, match="kept for checks"):
        await host.changes.apply(operations.create_virtual_server(other, "rr", None), "")
    assert not is_check_mark(WEB)


@pytest.mark.parametrize(
    ("check", "field"),
    [
        (Check(kind=TcpCheck(), by_mark=True), "policy.check.by_mark"),
        (Check(kind=GrpcCheck(), by_mark=True, through_vip=True), "policy.check.by_mark"),
    ],
)
def test_a_check_by_a_mark_that_cannot_be_is_refused(check: Check, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        HealthPolicy(check=check).validate()
    assert caught.value.field == field


def test_it_is_for_ipv4_and_a_vip_that_is_known() -> None:
    policy = HealthPolicy(check=Check(kind=TcpCheck(), by_mark=True, through_vip=True))
    policy.validate_for(VirtualServer(key=WEB), ())
    for key in (WEB6, parse_key("fwmark/7")):
        with pytest.raises(InvalidInputError):
            policy.validate_for(VirtualServer(key=key), ())
