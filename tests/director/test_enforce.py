"""enforce: what two readings have found comes back by itself, ten things a pass, and never what is foreign."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address

import pytest

from agent_common.destination import Destination
from agent_common.drift_watch import DriftWatch
from agent_common.enforce import Enforcer
from agent_common.proposal import Proposal
from agent_common.transaction import Participant
from agent_common.virtual_server import VirtualServer, parse_key
from cli import operations
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost, holder, run

DNS = parse_key("udp/192.168.0.9:53")
BACKENDS = [destination(str(IPv4Address("192.168.0.101") + number), weight=7) for number in range(25)]


@pytest.fixture
async def host() -> DirectorHost:
    """A director with 25 destinations, whose agent enforces; what is foreign is there, too."""
    host = DirectorHost()
    await host.changes.apply(operations.create_virtual_server(WEB, "rr", None), "")
    await host.changes.apply(operations.create_vip(VIP, holder(WEB)), "")
    for each in BACKENDS:
        await host.changes.apply(operations.create_destination(WEB, each.key, None, 7), "")
    host.ipvs.add_virtual_server(VirtualServer(key=DNS))
    host.watch = DriftWatch(host.restore.drift, Enforcer(host.restore.mend, host.repairs).mend, run)
    return host


def set_weight(host: DirectorHost, each: Destination, weight: int) -> None:
    host.ipvs.edit_destination(WEB, dataclasses.replace(each, weight=weight))


async def test_what_was_changed_and_removed_by_hand_is_back_after_two_readings(
    host: DirectorHost, caplog: pytest.LogCaptureFixture
) -> None:
    """One line in the log for each; a weight that was set to 0 is raised."""
    before = table(host.ipvs)
    set_weight(host, BACKENDS[0], 0)
    host.ipvs.remove_destination(WEB, BACKENDS[1].key)
    await host.watch.look()
    assert table(host.ipvs) != before
    await host.watch.look()
    assert table(host.ipvs) == before
    assert f"enforce: set weight of {BACKENDS[0].key} in {WEB} back from 0 to 7" in caplog.text
    assert f"enforce: put back {BACKENDS[1].key} in {WEB}, dr, weight 7" in caplog.text


async def test_a_virtual_server_comes_back_before_its_destinations(host: DirectorHost) -> None:
    before = table(host.ipvs)
    host.ipvs.remove_virtual_server(WEB)
    for _ in range(4):
        await host.watch.look()
    assert table(host.ipvs) == before


async def test_ten_things_a_pass_and_the_rest_in_the_next(host: DirectorHost) -> None:
    for each in BACKENDS:
        set_weight(host, each, 1)
    await host.watch.look()
    left = []
    for _ in range(3):
        await host.watch.look()
        left.append(sum(each.current_weight == 1 for each in host.ipvs.destinations(WEB)))
    assert left == [15, 5, 0]


async def test_what_a_transaction_has_is_left_and_keeps_nothing_else_from_being_repaired(host: DirectorHost) -> None:
    proposal = Proposal(
        id="t1",
        authority="id",
        participants=(Participant(agent_id="id"),),
        operations=tuple(operations.update_destination(WEB, each.key, weight=9) for each in BACKENDS[:11]),
        lease=60,
    )
    transaction, _ = await host.transactions.prepare(proposal)
    for each in BACKENDS[:12]:
        set_weight(host, each, 1)
    await host.watch.look()
    await host.watch.look()
    weights = {each.destination.key: each.current_weight for each in host.ipvs.destinations(WEB)}
    assert [weights[each.key] for each in BACKENDS[:12]] == [1] * 11 + [7]
    await host.transactions.abort("t1", transaction.fence)
    await host.watch.look()
    await host.watch.look()
    assert {each.current_weight for each in host.ipvs.destinations(WEB)} == {7}


async def test_what_is_tried_in_vain_is_told_once_and_comes_last(
    host: DirectorHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.ipvs.edit_virtual_server(VirtualServer(key=WEB, scheduler="wrr"))
    host.ipvs.schedulers = frozenset({"wrr"})
    await host.watch.look()
    await host.watch.look()
    for each in BACKENDS[:10]:
        set_weight(host, each, 1)
    await host.watch.look()
    await host.watch.look()
    assert {each.current_weight for each in host.ipvs.destinations(WEB)} == {7}
    assert caplog.text.count(f"enforce: cannot repair {WEB}") == 1


async def test_without_enforce_nothing_of_it_is_touched(host: DirectorHost) -> None:
    host.watch = DriftWatch(host.restore.drift, host.restore.mend, run)
    set_weight(host, BACKENDS[0], 0)
    by_hand = table(host.ipvs)
    for _ in range(3):
        await host.watch.look()
    assert table(host.ipvs) == by_hand


async def test_on_a_real_server_it_is_as_without() -> None:
    """All that can differ there is mended in any case."""
    host = RealServerHost()
    await host.changes.apply(operations.create_vip(VIP, holder(WEB)), "")
    host.addresses.remove_address(VIP, 32, "lo")
    watch = DriftWatch(host.restore.drift, Enforcer(host.restore.mend, host.repairs).mend, run)
    await watch.look()
    await watch.look()
    assert host.vips.get(VIP).present
