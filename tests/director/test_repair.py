"""Repair of a director: exactly what was shown comes back to what was committed, and what is committed stays."""

from __future__ import annotations

import dataclasses

import pytest

from agent_common.destination import effective
from agent_common.drift import ArpInterface, DestinationName, Drift, DriftKind, Resource
from agent_common.errors import ConflictError, InvalidInputError, Reason, RefusedError
from agent_common.neighbours import NoNeighbours
from agent_common.operation import Change
from agent_common.proposal import Proposal
from agent_common.repair import Repair, Repaired
from agent_common.transaction import Participant
from agent_common.virtual_server import VirtualServer, parse_key
from cli import operations
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, DirectorHost, holder

RS1, RS2 = destination("192.168.0.104", weight=7), destination("192.168.0.105", weight=3)
FIRST, SECOND = (DestinationName(server=WEB, key=each.key) for each in (RS1, RS2))
DNS = parse_key("udp/192.168.0.9:53")


class Taken(NoNeighbours):
    """Another host turns out to have every VIP, once it is there (DAD)."""

    async def confirm(self, change: Change) -> None:
        raise RefusedError("another host answers for it", Reason.VIP_TAKEN)


@pytest.fixture
async def host() -> DirectorHost:
    """A director that serves; its second destination drains."""
    host = DirectorHost()
    for operation in (
        operations.create_virtual_server(WEB, "rr", None),
        operations.create_vip(VIP, holder(WEB)),
        operations.create_destination(WEB, RS1.key, None, 7),
        operations.create_destination(WEB, RS2.key, None, 3),
        operations.update_destination(WEB, RS2.key, draining=True),
    ):
        await host.changes.apply(operation, "")
    return host


def repairs(*resources: Resource, etags: tuple[str, ...] = ()) -> list[Repair]:
    shown = etags or ("",) * len(resources)
    drift = [Drift(kind=DriftKind.MODIFIED, resource=each) for each in resources]
    return [Repair(drift=each, etag=etag) for each, etag in zip(drift, shown, strict=True)]


def actions(results: list[Repaired]) -> list[str]:
    assert all(each.error is None for each in results), results
    return [line for each in results for line in each.change.actions]


def test_what_the_kernel_is_to_have_of_a_destination() -> None:
    """Weight 0 while it drains, and the kernel knows of no drain; else what was committed."""
    assert effective(RS1) == RS1
    assert effective(dataclasses.replace(RS1, draining=True)) == dataclasses.replace(RS1, weight=0)


async def test_what_was_changed_by_hand_is_set_back(host: DirectorHost) -> None:
    before, intent = table(host.ipvs), host.destinations.committed()
    host.ipvs.edit_virtual_server(VirtualServer(key=WEB, scheduler="wrr"))
    host.ipvs.edit_destination(WEB, dataclasses.replace(RS1, weight=0))
    host.ipvs.edit_destination(WEB, dataclasses.replace(RS2, weight=9))
    assert actions(await host.repairs.repair(repairs(WEB, FIRST, SECOND))) == [
        f"set scheduler of virtual server {WEB} back",
        f"set weight of {RS1.key} in {WEB} back from 0 to 7",
        f"set weight of {RS2.key} in {WEB} back from 9 to 0, since it drains",
    ]
    assert (table(host.ipvs), host.destinations.committed()) == (before, intent)


async def test_what_was_removed_by_hand_is_put_back(host: DirectorHost) -> None:
    """A virtual server with its destinations, beside a foreign one that is left; and the VIP with its route."""
    before = table(host.ipvs)
    host.ipvs.remove_virtual_server(WEB)
    host.addresses.remove_host_route(VIP, "eth0")
    host.addresses.remove_address(VIP, 32, "eth0")
    drift = {each.resource: each.kind for each in host.restore.drift()}
    assert drift == dict.fromkeys((WEB, FIRST, SECOND, VIP), DriftKind.MISSING)
    shown = await host.repairs.repair(repairs(*drift), validate_only=True)
    assert table(host.ipvs) == {}
    done = await host.repairs.repair(repairs(*drift, etags=tuple(each.etag for each in shown)))
    assert actions(done) == actions(shown)
    assert actions(done)[1:] == [
        f"put back {RS1.key} in {WEB}, dr, weight 7",
        f"put back {RS2.key} in {WEB}, dr, weight 0, since it drains",
        f"add {VIP}/32 to eth0",
        f"add route {VIP} scope host dev eth0",
    ]
    assert (table(host.ipvs), host.restore.drift()) == (before, [])


async def test_what_is_as_committed_by_now_is_left(host: DirectorHost) -> None:
    host.ipvs.edit_destination(WEB, dataclasses.replace(RS1, weight=5))
    (shown,) = await host.repairs.repair(repairs(FIRST), validate_only=True)
    host.ipvs.edit_destination(WEB, RS1)
    (done,) = await host.repairs.repair(repairs(FIRST, etags=(shown.etag,)))
    assert (done.error, done.change.made) == (None, False)


async def test_what_is_not_as_it_was_shown_any_more_stops_all_of_it(host: DirectorHost) -> None:
    host.ipvs.edit_destination(WEB, dataclasses.replace(RS1, weight=5))
    host.ipvs.remove_destination(WEB, RS2.key)
    shown = await host.repairs.repair(repairs(SECOND, FIRST), validate_only=True)
    host.ipvs.edit_destination(WEB, dataclasses.replace(RS1, weight=6))
    by_hand = table(host.ipvs)
    with pytest.raises(ConflictError, match="has changed since it was read") as caught:
        await host.repairs.repair(repairs(SECOND, FIRST, etags=tuple(each.etag for each in shown)))
    assert (caught.value.reason, table(host.ipvs)) == (Reason.CHANGED_MEANWHILE, by_hand)


async def test_what_a_transaction_has_is_left_to_it(host: DirectorHost) -> None:
    host.ipvs.edit_destination(WEB, dataclasses.replace(RS1, weight=5))
    by_hand = table(host.ipvs)
    proposal = Proposal(
        id="t1",
        authority="id",
        participants=(Participant(agent_id="id"),),
        operations=(operations.update_destination(WEB, RS1.key, weight=9),),
        lease=60,
    )
    await host.transactions.prepare(proposal)
    with pytest.raises(ConflictError, match="locked by transaction t1"):
        await host.repairs.repair(repairs(FIRST))
    assert table(host.ipvs) == by_hand


async def test_what_is_foreign_is_never_touched(host: DirectorHost) -> None:
    """Neither by its kind nor by its name; what one thing meets does not keep the others from being repaired."""
    host.ipvs.add_virtual_server(VirtualServer(key=DNS))
    host.ipvs.edit_destination(WEB, dataclasses.replace(RS1, weight=5))
    with pytest.raises(InvalidInputError, match="is foreign, and is left alone"):
        await host.repairs.repair([Repair(drift=Drift(kind=DriftKind.FOREIGN, resource=DNS))])
    *others, first = await host.repairs.repair(repairs(DNS, VIP6_OTHER, ArpInterface(name="eth0"), FIRST))
    assert [each.error.reason for each in others if each.error] == [
        Reason.VIRTUAL_SERVER_NOT_FOUND,
        Reason.VIP_NOT_FOUND,
        Reason.NOT_SUPPORTED,
    ]
    assert first.change.made


async def test_a_vip_that_another_host_has_is_taken_off_again_and_stays_committed(host: DirectorHost) -> None:
    host.addresses.remove_host_route(VIP, "eth0")
    host.addresses.remove_address(VIP, 32, "eth0")
    taken = DirectorHost(ipvs=host.ipvs, addresses=host.addresses, state=host.state, neighbours=Taken())
    (done,) = await taken.repairs.repair(repairs(VIP))
    assert done.error is not None
    assert done.error.reason is Reason.VIP_TAKEN
    assert not taken.vips.get(VIP).present
    (done,) = await host.repairs.repair(repairs(VIP))
    assert done.change.made
    assert host.vips.get(VIP).present


async def test_none_and_too_many_are_refused(host: DirectorHost) -> None:
    for wanted in ([], repairs(FIRST) * 1001):
        with pytest.raises(InvalidInputError, match="are not 1 to 1000"):
            await host.repairs.repair(wanted)


VIP6_OTHER = parse_key("tcp/[2001:db8::77]:80").address  # type: ignore[union-attr]
