"""remove-backend as a transaction: whoever dies in it, somebody else finishes it, or its cancellation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent_common.errors import ConflictError, ExhaustedError, Reason
from agent_common.proposal import Proposal
from agent_common.transaction import Participant
from agent_common.virtual_server import VirtualServer
from cli import operations
from cli.errors import ExitStatus
from cli.transactions import resolve_transactions
from tests.cli.served_site import Site, serving_site
from tests.cli.sites import RS1, RS2, table
from tests.cli.test_coordinator import BOTH, assert_safe, backends, pass_leases, until
from tests.director.ipvs_samples import destination
from tests.faults import Died, Fault, Gate, Wire
from tests.hosts import VIP, WEB

MESSAGES = {
    1: ["Prepare", "Commit", "DeleteDestination", "DeleteVip", "DeleteDestination", "Finish"],
    2: [
        *("Prepare", "Prepare", "Commit", "Commit", "DeleteDestination", "DeleteDestination"),
        *("DeleteVip", "DeleteDestination", "DeleteDestination", "Finish"),
    ],
}
"""By the number of directors. Each drains, removes, and in the end notes that the real server holds no VIP any more."""

CASES = [(directors, number) for directors, messages in MESSAGES.items() for number in range(len(messages))]
every_message = pytest.mark.parametrize(("site", "number"), CASES, indirect=["site"])


@pytest.fixture(params=[1])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    async with serving_site(tmp_path, directors=request.param) as made:
        assert (await made.add(RS1, RS2)).status is ExitStatus.DONE
        yield made


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch, site: Site) -> Wire:
    return Wire(monkeypatch)


async def assert_finished(site: Site, before: object) -> None:
    """The real server is out everywhere or as it was, and nothing is left to do."""
    assert_safe(site)
    if site.snapshot() != before:
        assert backends(site) == [{f"{RS2}:80"}] * len(site.directors)
        assert site.rs(RS1).vips.list_all() == []
        assert all(host.destinations.leftovers() == [] for host in site.directors)
    for host in site.hosts.values():
        assert await host.transactions.list_all() == []


@pytest.mark.parametrize("site", [1, 2], indirect=True)
async def test_the_messages(site: Site, wire: Wire) -> None:
    """Decided once; then the destination goes everywhere, then the VIP, then the note of it."""
    assert (await site.remove(RS1)).status is ExitStatus.DONE
    assert [each.removesuffix("Request") for each in wire.sent] == MESSAGES[len(site.directors)]


@every_message
@pytest.mark.parametrize("fault", [Fault.KILLED_BEFORE, Fault.KILLED_AFTER])
async def test_whoever_comes_later_finishes_it(site: Site, wire: Wire, number: int, fault: Fault) -> None:
    """Nobody but `lvs txn resolve` is needed, at whatever moment lvs dies."""
    before = site.snapshot()
    wire.fault = (number, fault)
    with pytest.raises(Died):
        await site.remove(RS1)
    wire.fault = None
    assert_safe(site)
    await pass_leases(site)
    assert_safe(site)
    resolved = await resolve_transactions("", await site.run())
    assert resolved.status is ExitStatus.DONE, resolved.message
    await assert_finished(site, before)
    assert (await site.remove(RS1)).status is ExitStatus.DONE
    assert backends(site) == [{f"{RS2}:80"}] * len(site.directors)


@every_message
@pytest.mark.parametrize("fault", [Fault.LOST, Fault.ANSWER_LOST, Fault.TWICE, Fault.LATE])
async def test_a_message_that_is_lost_or_late_or_comes_twice(site: Site, wire: Wire, number: int, fault: Fault) -> None:
    """The exit status says what is true."""
    before = site.snapshot()
    wire.fault = (number, fault)
    outcome = await site.remove(RS1)
    wire.fault = None
    await wire.arrive()
    assert_safe(site)
    match outcome.status:
        case ExitStatus.DONE:
            assert backends(site) == [{f"{RS2}:80"}] * len(site.directors)
        case ExitStatus.ROLLED_BACK:
            assert site.snapshot() == before
        case status:
            assert status is ExitStatus.UNFINISHED
    await pass_leases(site)
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.DONE
    await assert_finished(site, before)


@every_message
async def test_a_message_that_comes_when_all_is_over(site: Site, wire: Wire, number: int) -> None:
    """It is refused, or changes nothing, and leaves nothing open."""
    before = site.snapshot()
    wire.fault = (number, Fault.LATE)
    await site.remove(RS1)
    wire.fault = None
    await pass_leases(site)
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.DONE
    await assert_finished(site, before)
    over = site.snapshot()
    await wire.arrive()
    assert site.snapshot() == over
    await assert_finished(site, before)


async def test_connections_that_are_left_are_waited_for_and_in_the_end_cut(site: Site, wire: Wire) -> None:
    """Without --wait: 12, and for how long it may go on."""
    site.director.ipvs.set_connections(WEB, destination(RS1).key, active=3)
    wire.fault = (2, Fault.KILLED_BEFORE)
    working = asyncio.ensure_future(site.remove(RS1, drain_timeout=0.2))
    with pytest.raises(Died):
        await asyncio.wait_for(working, 5)
    wire.fault = None
    site.director.clock.now -= 20  # whose drain has only begun
    running = await resolve_transactions("", await site.run())
    assert running.status is ExitStatus.CONFLICT
    assert "may still go on for" in running.message
    assert backends(site) == [BOTH]
    site.director.clock.now += 20
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.DONE
    assert backends(site) == [{f"{RS2}:80"}]


async def test_the_end_of_the_drain_cancels_it(site: Site, wire: Wire) -> None:
    """What lvs left undone is not done to a destination that takes connections again."""
    wire.fault = (2, Fault.KILLED_BEFORE)
    with pytest.raises(Died):
        await site.remove(RS1)
    wire.fault = None
    assert (await site.weight(RS1, draining=False)).status is ExitStatus.DONE
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.DONE
    assert backends(site) == [BOTH]
    assert site.rs(RS1).vips.get(VIP).present
    assert await site.director.transactions.list_all() == []


async def test_lvs_that_still_waits_is_told_that_it_was_cancelled(site: Site, wire: Wire) -> None:
    """Another operator ends the drain while the first one waits."""
    site.director.ipvs.set_connections(WEB, destination(RS1).key, active=3)
    working = asyncio.ensure_future(site.remove(RS1, drain_timeout=30.0))
    await until(lambda: table(site.director, WEB)[f"{RS1}:80"].draining)
    assert (await site.weight(RS1, draining=False)).status is ExitStatus.DONE
    site.director.ipvs.set_connections(WEB, destination(RS1).key)
    outcome = await asyncio.wait_for(working, 10)
    assert outcome.status is ExitStatus.UNFINISHED
    assert "the drain was ended meanwhile" in outcome.message
    assert backends(site) == [BOTH]


async def test_a_real_server_that_cannot_be_told_keeps_its_vip_until_it_can(site: Site, wire: Wire) -> None:
    """Its disk is full: 11, and `lvs txn resolve` goes on from there."""
    before = site.snapshot()
    changes = site.rs(RS1).changes
    apply = changes.apply

    async def full(*_: Any, **__: Any) -> Any:
        raise ExhaustedError("cannot write the state: the disk is full", Reason.DISK_FULL)

    changes.apply = full  # type: ignore[method-assign]
    outcome = await site.remove(RS1)
    assert outcome.status is ExitStatus.UNFINISHED
    assert outcome.commands[-1].command == f"lvs txn resolve {outcome.transaction} --wait"
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.UNFINISHED
    assert [address for _, address in site.director.destinations.leftovers()] == [destination(RS1).key.address]
    changes.apply = apply  # type: ignore[method-assign]
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.DONE
    await assert_finished(site, before)


async def test_who_edits_the_virtual_server_meanwhile_is_waited_for(site: Site, wire: Wire) -> None:
    """The removal of the virtual server (--prune) needs it alone."""
    site.director.ipvs.set_connections(WEB, destination(RS1).key, active=3)
    working = asyncio.ensure_future(site.remove(RS1, RS2, prune=True, drain_timeout=30.0))
    await until(lambda: table(site.director, WEB)[f"{RS1}:80"].draining)
    edit = operations.update_virtual_server(VirtualServer(key=WEB, scheduler="rr"), ["scheduler"])
    me = Participant(agent_id=(await site.director.transactions.list_all())[0].authority)
    asked = Proposal(id="edit", authority=me.agent_id, participants=(me,), operations=(edit,), lease=60.0)
    await site.director.transactions.prepare(asked)
    site.director.ipvs.set_connections(WEB, destination(RS1).key)
    await asyncio.sleep(0.5)
    await site.director.transactions.abort("edit")
    outcome = await asyncio.wait_for(working, 10)
    assert outcome.status is ExitStatus.DONE, outcome.message
    assert site.director.ipvs.virtual_servers() == []


@pytest.mark.parametrize("drain_timeout", [None, 60.0])
@pytest.mark.parametrize("finished", [False, True])
async def test_what_was_added_anew_meanwhile_keeps_its_vip(
    site: Site, wire: Wire, drain_timeout: float | None, *, finished: bool
) -> None:
    """A removal whose lvs died is not carried on over the head of a later addition, whoever has removed it before."""
    wire.fault = (2, Fault.KILLED_BEFORE)
    with pytest.raises(Died):
        await site.remove(RS1, drain_timeout=drain_timeout)
    wire.fault = None
    if finished or drain_timeout is not None:
        assert (await site.remove(RS1, drain_timeout=drain_timeout)).status is ExitStatus.DONE
    assert (await site.add(RS1)).status is ExitStatus.DONE
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.DONE
    assert backends(site) == [BOTH]
    assert_safe(site)
    assert await site.director.transactions.list_all() == []


@every_message
@pytest.mark.parametrize("resolved", [True, False])
async def test_a_message_that_comes_when_the_real_server_was_added_again(
    site: Site, wire: Wire, number: int, resolved: bool
) -> None:
    """It takes nothing away from the backend that is there now; as long as it may, nobody says that one is there."""
    wire.fault = (number, Fault.LATE)
    await site.remove(RS1)
    wire.fault = None
    if resolved:
        await pass_leases(site)
        assert (await resolve_transactions("", await site.run())).status is ExitStatus.DONE
    for host, found in zip(site.directors, backends(site), strict=True):
        if f"{RS1}:80" in found:  # an unfinished removal left it draining
            end = operations.update_destination(WEB, destination(RS1).key, draining=False)
            with contextlib.suppress(ConflictError):
                await host.changes.apply(end, "")
    site.lock_timeout = 1.0
    added = await site.add(RS1)
    if not resolved and number in range(len(site.directors), 2 * len(site.directors)):  # the decision itself is late
        assert added.status in (ExitStatus.CONFLICT, ExitStatus.REFUSED), added.message
    else:
        assert added.status is ExitStatus.DONE, added.message
    await wire.arrive()
    assert_safe(site)
    assert backends(site) == [BOTH] * len(site.directors)


async def test_a_removal_does_not_take_the_vip_from_what_is_being_added(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds no destination yet, and the VIP; and it is so slow that the addition is over when it wants that."""
    assert (await site.remove(RS1)).status is ExitStatus.DONE
    decision = Gate(monkeypatch, "PrepareTransaction", "d1")
    adding = asyncio.ensure_future(site.add(RS1))
    await asyncio.wait_for(decision.reached.wait(), 5)
    release = Gate(monkeypatch, "DeleteVip", "")
    removing = asyncio.ensure_future(site.remove(RS1))
    await asyncio.wait_for(release.reached.wait(), 5)
    decision.open()
    assert (await asyncio.wait_for(adding, 10)).status is ExitStatus.DONE
    release.open()
    await asyncio.wait_for(removing, 15)
    assert backends(site) == [BOTH]
    assert_safe(site)


async def test_nobody_is_told_that_a_destination_is_gone_while_it_is_about_to_be_added(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real server may give up its VIP when it is gone."""
    assert (await site.remove(RS1)).status is ExitStatus.DONE
    decision = Gate(monkeypatch, "CommitTransaction", "d1")
    adding = asyncio.ensure_future(site.add(RS1))
    await asyncio.wait_for(decision.reached.wait(), 5)
    gone = operations.delete_destination(WEB, destination(RS1).key, only_if_draining=True)
    with pytest.raises(ConflictError):
        await site.director.changes.apply(gone, "")
    decision.open()
    assert (await asyncio.wait_for(adding, 10)).status is ExitStatus.DONE


@pytest.mark.parametrize("site", [2], indirect=True)
async def test_the_end_of_a_drain_waits_for_a_director_that_has_not_heard_of_the_drain(site: Site, wire: Wire) -> None:
    """Else that one would begin to drain when it hears of it, after lvs has ended with 0."""
    wire.fault = (3, Fault.KILLED_BEFORE)
    with pytest.raises(Died):
        await site.remove(RS1)
    wire.fault = None
    assert (await site.weight(RS1, draining=False)).status is ExitStatus.DONE
    assert (await resolve_transactions("", await site.run())).status is ExitStatus.DONE
    for host in site.directors:
        assert not table(host, WEB)[f"{RS1}:80"].draining
