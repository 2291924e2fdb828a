"""The transactions of one agent: states, leases, locks, fences, and what stands after it died or its host was off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent_common.errors import (
    ConflictError,
    DiffersError,
    ExhaustedError,
    InvalidInputError,
    LvsError,
    NotFoundError,
    Reason,
    RefusedError,
)
from agent_common.neighbours import NoNeighbours
from agent_common.operation import Change, Operation
from agent_common.proposal import Proposal
from agent_common.transaction import Following, Participant, Transaction, TransactionState, from_body, to_body
from agent_common.transactions import KEPT_TRANSACTIONS, RETRY_SECONDS
from agent_common.virtual_server import parse_key
from agent_director.fake_ipvs import FakeIpvs
from cli import operations
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost, holder

T = "add-1"
LEASE = 60.0
RS1, RS2 = destination("192.168.0.104").key, destination("192.168.0.105").key

PREPARED, READY = TransactionState.PREPARED, TransactionState.READY
COMMITTED, ABORTED = TransactionState.COMMITTED, TransactionState.ABORTED


def proposal(*asked: Operation, name: str = T, authority: str = "id", etag: str = "") -> Proposal:
    members = tuple(Participant(agent_id=each) for each in dict.fromkeys(("id", "other", authority)))
    return Proposal(id=name, authority=authority, participants=members, operations=asked, lease=LEASE, etag=etag)


def addition(name: str = T, rs: str = "192.168.0.104", **more: str) -> Proposal:
    """A director's part of an add-backend."""
    return proposal(
        operations.create_virtual_server(WEB, None, None),
        operations.create_vip(VIP, holder(WEB, "id"), device="eth0"),
        operations.create_destination(WEB, destination(rs).key, None, None),
        name=name,
        **more,
    )


def preparation(name: str = T, **more: str) -> Proposal:
    """A real server's part of it."""
    return proposal(operations.create_vip(VIP, holder(WEB, "id")), name=name, **more)


def backends(host: DirectorHost) -> dict[str, list[str]]:
    ipvs = host.ipvs
    return {
        str(server.key): sorted(str(each.destination.key) for each in ipvs.destinations(server.key))
        for server in ipvs.virtual_servers()
    }


async def state_of(host: DirectorHost | RealServerHost, name: str = T) -> tuple[TransactionState, bool]:
    transaction = await host.transactions.get(name)
    return transaction.state, transaction.settled


async def reason_of(host: DirectorHost | RealServerHost, asked: Proposal) -> Reason:
    with pytest.raises(LvsError) as caught:
        await host.transactions.prepare(asked)
    return caught.value.reason


@pytest.fixture
def director() -> DirectorHost:
    return DirectorHost()


@pytest.fixture
def rs() -> RealServerHost:
    return RealServerHost()


class TestRelease:
    """What an older transaction has decided to take away stays with a newer one that wants it."""

    RELEASE = operations.delete_vip(VIP, holder(WEB, "id"), fence=1)

    @pytest.fixture
    async def wanted_again(self, rs: RealServerHost) -> RealServerHost:
        """The VIP is held, with fence 1, and a second transaction, which finds it in place, is prepared."""
        await rs.transactions.prepare(preparation())
        await rs.transactions.commit(T, 0)
        await rs.transactions.prepare(preparation(name="again"))
        return rs

    async def test_it_waits_while_that_is_not_decided(self, wanted_again: RealServerHost) -> None:
        with pytest.raises(ConflictError, match="wanted by transaction again") as caught:
            await wanted_again.changes.apply(self.RELEASE, "")
        assert (caught.value.reason, caught.value.metadata["transaction"]) == (Reason.LOCKED, "again")

    async def test_it_stays_with_one_that_is_committed(self, wanted_again: RealServerHost) -> None:
        await wanted_again.transactions.commit("again", 0)
        change = await wanted_again.changes.apply(self.RELEASE, "")
        assert (change.made, wanted_again.vips.get(VIP).present) == (False, True)

    async def test_it_goes_once_that_is_undone(self, wanted_again: RealServerHost) -> None:
        await wanted_again.transactions.abort("again")
        await wanted_again.changes.apply(self.RELEASE, "")
        assert not wanted_again.vips.get(VIP).present


class Announcements(NoNeighbours):
    """Notes which VIPs the other hosts are told of."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def announce(self, change: Change) -> None:
        if change.vip.after.present and not change.vip.before.present:
            self.told.append(change.vip.after.address)


class TestAnnouncement:
    """The other hosts hear of a new VIP when it is certain that it stays."""

    async def test_at_the_commit_and_once(self) -> None:
        neighbours = Announcements()
        director = DirectorHost(neighbours=neighbours)
        fence = (await director.transactions.prepare(addition()))[0].fence
        assert (director.vips.get(VIP).present, neighbours.told) == (True, [])
        await director.transactions.commit(T, fence)
        await director.transactions.commit(T, fence)
        assert neighbours.told == [str(VIP)]

    async def test_never_if_it_is_taken_back(self) -> None:
        neighbours = Announcements()
        director = DirectorHost(neighbours=neighbours)
        await director.transactions.prepare(addition())
        await director.transactions.abort(T)
        assert (director.vips.get(VIP).present, neighbours.told) == (False, [])

    async def test_of_what_is_made_anew_at_the_commit(self) -> None:
        neighbours = Announcements()
        director = DirectorHost(neighbours=neighbours)
        await director.transactions.prepare(addition())
        director.addresses.remove_address(VIP, 32, "eth0")
        await director.transactions.commit(T, 0)
        assert neighbours.told == [str(VIP)]

    async def test_at_the_commit_of_a_vip_alone(self) -> None:
        neighbours = Announcements()
        director = DirectorHost(neighbours=neighbours)
        await director.transactions.prepare(proposal(operations.create_vip(VIP, holder(WEB, "id"), device="eth0")))
        await director.transactions.commit(T, 0)
        assert neighbours.told == [str(VIP)]

    async def test_by_whoever_completes_it_after_the_agent_died(self) -> None:
        director = DirectorHost(neighbours=Announcements())
        await director.transactions.prepare(addition())
        lose_scheduler(director)  # the commit fails after the decision
        await director.transactions.commit(T, 0)
        director.ipvs.schedulers = FakeIpvs().schedulers
        neighbours = Announcements()
        director.neighbours = neighbours
        again = director.restarted()
        await again.transactions.start()
        again.clock.now += RETRY_SECONDS
        await again.transactions.go_on()
        assert await state_of(again) == (COMMITTED, True)
        assert neighbours.told == [str(VIP)]


class TestPrepare:
    """What is inert is made, everything else only reserved."""

    async def test_a_destination_is_reserved_and_its_empty_virtual_server_made(self, director: DirectorHost) -> None:
        transaction, _ = await director.transactions.prepare(addition())
        assert (transaction.state, transaction.settled) == (PREPARED, True)
        assert [change.made for change in transaction.changes] == [True, True, True]
        assert backends(director) == {str(WEB): []}
        assert director.vips.get(VIP).present
        assert director.destinations.committed() == {}  # what is reserved does not come back after a reboot

    async def test_the_same_again_gives_the_same_answer(self, director: DirectorHost) -> None:
        first = await director.transactions.prepare(addition())
        assert await director.transactions.prepare(addition()) == first

    async def test_another_one_of_that_name_is_refused(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        with pytest.raises(DiffersError):
            await director.transactions.prepare(addition(rs="192.168.0.105"))

    async def test_what_cannot_be_done_leaves_nothing_but_a_tombstone(self, director: DirectorHost) -> None:
        asked = addition()
        director.neighbours.ask = refuse  # type: ignore[method-assign]  # another host has the VIP
        assert await reason_of(director, asked) is Reason.VIP_TAKEN
        assert backends(director) == {}
        assert await state_of(director) == (ABORTED, True)
        assert await reason_of(director, asked) is Reason.TRANSACTION_ABORTED
        assert (await director.transactions.abort(T))[0].problems == ()  # nothing is kept

    async def test_a_host_that_changed_since_it_was_planned_is_a_conflict(self, director: DirectorHost) -> None:
        _, etag = await director.transactions.validate(addition())
        assert backends(director) == {}
        await director.changes.apply(operations.create_virtual_server(WEB, "rr", None), "")
        assert await reason_of(director, addition(etag=etag)) is Reason.CHANGED_MEANWHILE
        _, etag = await director.transactions.validate(addition())
        await director.transactions.prepare(addition(etag=etag))

    @pytest.mark.parametrize("lease", [4.9, 900.1, 0.0, -1.0])
    async def test_a_lease_out_of_range(self, director: DirectorHost, lease: float) -> None:
        with pytest.raises(InvalidInputError, match="out of range"):
            await director.transactions.prepare(replace(addition(), lease=lease))

    async def test_an_authority_that_does_not_take_part(self, director: DirectorHost) -> None:
        asked = replace(addition(), participants=(Participant(agent_id="other"),))
        with pytest.raises(InvalidInputError, match="authority: 'id' is not among the participants"):
            await director.transactions.prepare(asked)

    @pytest.mark.parametrize("name", ["", "x" * 65])
    async def test_a_name_that_is_none(self, director: DirectorHost, name: str) -> None:
        with pytest.raises(InvalidInputError, match="transaction_id"):
            await director.transactions.prepare(replace(addition(), id=name))

    async def test_without_operations_an_authority_only_decides(self, director: DirectorHost) -> None:
        await director.transactions.prepare(proposal())
        assert (await director.transactions.commit(T, 0)).state is COMMITTED


class TestOutcome:
    """Committed or aborted, whatever is asked afterwards."""

    async def test_the_commit_adds_the_destination(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        transaction = await director.transactions.commit(T, 0)
        assert (transaction.state, transaction.settled) == (COMMITTED, True)
        assert backends(director) == {str(WEB): [str(RS1)]}
        assert await director.transactions.commit(T, 0) == transaction
        with pytest.raises(ConflictError) as caught:
            await director.transactions.abort(T)
        assert caught.value.reason is Reason.TRANSACTION_COMMITTED

    async def test_the_abort_leaves_nothing(self, director: DirectorHost, rs: RealServerHost) -> None:
        for host, asked in ((director, addition()), (rs, preparation())):
            await host.transactions.prepare(asked)
            transaction, details = await host.transactions.abort(T)
            assert (transaction.state, transaction.settled, bool(details)) == (ABORTED, True, True)
            assert not host.vips.get(VIP).present
            assert (await host.transactions.abort(T))[0] == transaction
            for late in (host.transactions.ready, host.transactions.commit):
                with pytest.raises(ConflictError):
                    await late(T, 0)
        assert backends(director) == {}

    async def test_one_that_is_not_known_is_remembered_as_aborted(self, director: DirectorHost) -> None:
        for ask in (director.transactions.abort, director.transactions.resolve):
            await ask(ask.__name__)
            assert await reason_of(director, addition(ask.__name__)) is Reason.TRANSACTION_ABORTED

    async def test_reading_one_that_is_not_known_remembers_nothing(self, director: DirectorHost) -> None:
        with pytest.raises(NotFoundError):
            await director.transactions.get(T)
        assert await director.transactions.list_all(decided=True) == []

    async def test_where_the_kernel_refuses_after_the_decision_it_is_tried_again(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        lose_scheduler(director)
        transaction = await director.transactions.commit(T, 0)
        assert (transaction.state, transaction.settled) == (COMMITTED, False)
        assert "scheduler" in transaction.problems[0]
        director.ipvs.schedulers = FakeIpvs().schedulers
        director.clock.now += 4.9
        await director.transactions.go_on()
        assert await state_of(director) == (COMMITTED, False)
        director.clock.now += 0.1
        await director.transactions.go_on()
        assert await state_of(director) == (COMMITTED, True)
        assert backends(director) == {str(WEB): [str(RS1)]}

    async def test_what_somebody_removed_after_the_preparation_is_made_again(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        director.ipvs.remove_virtual_server(WEB)
        transaction = await director.transactions.commit(T, 0)
        assert (transaction.settled, transaction.problems) == (True, ())
        assert backends(director) == {str(WEB): [str(RS1)]}

    @pytest.mark.parametrize("kind", ["director", "real server"])
    async def test_a_vip_that_somebody_removed_after_the_preparation_is_there_when_the_commit_answers(
        self, director: DirectorHost, rs: RealServerHost, kind: str
    ) -> None:
        host, asked = (director, addition()) if kind == "director" else (rs, preparation())
        await host.transactions.prepare(asked)
        before = host.vips.get(VIP)
        host.addresses.remove_address(VIP, 32, before.present_device)
        transaction = await host.transactions.commit(T, 0)
        assert (transaction.settled, transaction.problems) == (True, ())
        assert host.vips.get(VIP) == before

    async def test_what_somebody_changed_after_the_preparation_is_no_hindrance(self, director: DirectorHost) -> None:
        """It is drift, and told there; and what somebody else, or the same, has removed is made again all the same."""
        await director.transactions.prepare(addition())
        [server] = director.ipvs.virtual_servers()
        director.ipvs.edit_virtual_server(replace(server, scheduler="sh"))
        director.addresses.remove_address(VIP, 32, "eth0")
        transaction = await director.transactions.commit(T, 0)
        assert (transaction.settled, transaction.problems) == (True, ())
        assert director.ipvs.virtual_servers()[0].scheduler == "sh"
        assert director.vips.get(VIP).present
        assert backends(director) == {str(WEB): [str(RS1)]}

    async def test_of_what_somebody_removed_after_the_preparation_no_weight_is_set(
        self, director: DirectorHost
    ) -> None:
        """It stays removed, and the commit says so; the other destination gets its weight, and nothing is locked."""
        for name, rs in ((T, "192.168.0.104"), ("add-2", "192.168.0.105")):
            await director.transactions.prepare(addition(name, rs))
            await director.transactions.commit(name, 0)
        weights = [operations.update_destination(WEB, each, weight=5) for each in (RS1, RS2)]
        await director.transactions.prepare(proposal(*weights, name="weight-1"))
        director.ipvs.remove_destination(WEB, RS1)
        transaction = await director.transactions.commit("weight-1", 0)
        assert transaction.settled
        assert [(each.gone, each.made) for each in transaction.changes] == [(True, False), (False, True)]
        assert list(transaction.changes[0].warnings) == [f"there is no destination {RS1} in {WEB}"]
        assert [(each.destination.key, each.current_weight) for each in director.ipvs.destinations(WEB)] == [(RS2, 5)]
        assert await director.transactions.list_all() == []
        director.ipvs.remove_destination(WEB, RS2)
        with pytest.raises(NotFoundError):  # before the decision it is an error
            await director.transactions.prepare(proposal(weights[1], name="weight-2"))

    async def test_a_full_disk_at_the_commit_decides_nothing(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        director.state.full = True
        with pytest.raises(ExhaustedError):
            await director.transactions.commit(T, 0)
        assert await state_of(director) == (PREPARED, True)
        assert backends(director) == {str(WEB): []}

    async def test_what_somebody_else_uses_by_now_stays(self, rs: RealServerHost) -> None:
        """And is told."""
        await rs.transactions.prepare(preparation())
        await rs.changes.apply(operations.create_vip(VIP, holder("tcp/192.168.0.200:443", "id")), "")
        transaction, _ = await rs.transactions.abort(T)
        assert "needs it by now" in transaction.problems[0]
        assert rs.vips.get(VIP).present


class TestLease:
    """Who may give up alone, and when."""

    async def test_the_authority_aborts_when_it_has_ended(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        director.clock.now += LEASE - 0.1
        await director.transactions.go_on()
        assert (await state_of(director))[0] is PREPARED
        director.clock.now += 0.1
        await director.transactions.go_on()
        assert await state_of(director) == (ABORTED, True)
        assert backends(director) == {}

    async def test_whoever_asks_the_authority_after_the_end_has_it_aborted(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        assert (await director.transactions.resolve(T)).state is PREPARED
        director.clock.now += LEASE
        assert (await director.transactions.resolve(T)).state is ABORTED

    async def test_another_director_waits_for_the_decision(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition(authority="other"))
        director.clock.now += 10 * LEASE
        await director.transactions.go_on()
        assert (await director.transactions.resolve(T)).state is PREPARED
        assert (await director.transactions.commit(T, 0)).state is COMMITTED

    async def test_a_real_server_undoes_alone_until_it_is_ready(self, rs: RealServerHost) -> None:
        for name, ready, left in (("a", False, ABORTED), ("b", True, READY)):
            await rs.transactions.prepare(preparation(name, authority="other"))
            if ready:
                await rs.transactions.ready(name, 0)
            rs.clock.now += LEASE
            await rs.transactions.go_on()
            assert (await state_of(rs, name))[0] is left
            assert rs.vips.get(VIP).present is ready

    async def test_it_runs_again_when_it_is_renewed(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        director.clock.now += LEASE - 1
        await director.transactions.renew(T, 0, 30.0)
        assert director.transactions.lease_left(await director.transactions.get(T)) == 30.0
        director.clock.now += 29
        await director.transactions.go_on()
        assert (await state_of(director))[0] is PREPARED

    async def test_a_coordinator_that_comes_back_after_its_end_is_told(self, director: DirectorHost) -> None:
        """It was stopped for longer than its lease."""
        transaction, _ = await director.transactions.prepare(addition())
        director.clock.now += LEASE
        await director.transactions.go_on()
        for late in (director.transactions.ready, director.transactions.commit):
            with pytest.raises(ConflictError):
                await late(T, transaction.fence)
        with pytest.raises(ConflictError):
            await director.transactions.renew(T, transaction.fence, LEASE)


class TestLocks:
    """A lock never waits: whoever meets one is told whose it is."""

    async def test_one_destination_has_one_change_at_a_time(self, director: DirectorHost) -> None:
        await director.changes.apply(operations.create_virtual_server(WEB, None, None), "")
        add = proposal(operations.create_destination(WEB, RS1, None, None))
        await director.transactions.prepare(add)
        director_again = replace(add, id="add-2")
        assert await reason_of(director, director_again) is Reason.LOCKED
        with pytest.raises(ConflictError) as caught:
            await director.changes.apply(add.operations[0], "")
        assert caught.value.metadata["transaction"] == T
        other = proposal(operations.create_destination(WEB, RS2, None, None), name="add-3")
        await director.transactions.prepare(other)

    async def test_whoever_makes_a_virtual_server_has_it_alone(self, director: DirectorHost) -> None:
        """Were its transaction undone, another one's destination would have no virtual server."""
        await director.transactions.prepare(addition())
        assert await reason_of(director, addition("add-2", "192.168.0.105")) is Reason.LOCKED
        await director.transactions.commit(T, 0)
        await director.transactions.prepare(addition("add-3", "192.168.0.105"))
        await director.transactions.commit("add-3", 0)
        assert backends(director) == {str(WEB): [str(RS1), str(RS2)]}

    async def test_a_virtual_server_is_not_edited_under_a_change(self, director: DirectorHost) -> None:
        await director.changes.apply(operations.create_virtual_server(WEB, None, None), "")
        await director.transactions.prepare(proposal(operations.create_destination(WEB, RS1, None, None)))
        with pytest.raises(ConflictError):
            await director.changes.apply(operations.delete_virtual_server(WEB), "")

    async def test_one_hold_on_a_vip_is_not_shared_by_two_transactions(self, rs: RealServerHost) -> None:
        """The first would take it back while the second counts on it."""
        await rs.transactions.prepare(preparation())
        assert await reason_of(rs, preparation("add-2")) is Reason.LOCKED
        other = proposal(operations.create_vip(VIP, holder("tcp/192.168.0.200:443", "id")), name="add-3")
        await rs.transactions.prepare(other)
        await rs.transactions.abort(T)
        assert rs.vips.get(VIP).present

    async def test_the_end_of_a_transaction_ends_its_locks(self, director: DirectorHost) -> None:
        for end in (director.transactions.commit, director.transactions.abort):
            await director.transactions.prepare(addition(end.__name__))
            await end(end.__name__, 0)
            await director.changes.apply(operations.delete_virtual_server(WEB, force=True), "")

    async def test_two_virtual_servers_do_not_disturb_each_other(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        key = parse_key("tcp/192.168.0.201:80")
        await director.transactions.prepare(proposal(operations.create_virtual_server(key, None, None), name="add-2"))


class TestFence:
    """A name may come twice; a message to the first does nothing to the second."""

    async def test_a_late_message_to_an_earlier_life_is_refused(self, director: DirectorHost) -> None:
        first, _ = await director.transactions.prepare(addition())
        await director.transactions.abort(T, first.fence)
        await director.transactions.forget(T)
        second, _ = await director.transactions.prepare(addition())
        assert second.fence > first.fence
        for late in (director.transactions.ready, director.transactions.commit, director.transactions.abort):
            with pytest.raises(ConflictError) as caught:
                await late(T, first.fence)
            assert caught.value.reason is Reason.STALE_FENCE
        assert (await director.transactions.commit(T, second.fence)).state is COMMITTED

    async def test_a_name_that_came_again_is_not_forgotten_with_its_earlier_life(self, director: DirectorHost) -> None:
        await director.transactions.abort(T)
        await director.transactions.forget(T)
        await director.transactions.prepare(addition())
        for number in range(KEPT_TRANSACTIONS + 2):
            await director.transactions.abort(f"t{number}")
        assert (await state_of(director))[0] is PREPARED

    async def test_what_is_not_over_is_not_forgotten(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        with pytest.raises(RefusedError) as caught:
            await director.transactions.forget(T)
        assert caught.value.reason is Reason.TRANSACTION_OPEN
        await director.transactions.forget("nobody's")

    async def test_only_so_many_are_remembered(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        for number in range(KEPT_TRANSACTIONS + 10):
            await director.transactions.abort(f"t{number}")
        found = [each.id for each in await director.transactions.list_all(decided=True)]
        assert len(found) <= KEPT_TRANSACTIONS + 2
        assert T in found  # it is open
        assert "t0" not in found

    async def test_a_decision_is_not_forgotten_for_names_that_somebody_makes_up(self, director: DirectorHost) -> None:
        """Also by the next agent: others ask how it ended, and would be told that it was aborted."""
        prepared = (await director.transactions.prepare(addition()))[0]
        await director.transactions.commit(T, prepared.fence)
        host = director
        for round_ in "ab":
            for number in range(KEPT_TRANSACTIONS + 2):
                await host.transactions.abort(f"{round_}{number}")
            assert (await state_of(host))[0] is COMMITTED
            host = host.restarted()
            await host.transactions.start()


class TestRestart:
    """What another agent on the same state directory makes of it, in the same boot or in the next."""

    async def test_what_is_prepared_stays_so_in_the_same_boot(self, director: DirectorHost, rs: RealServerHost) -> None:
        for host, asked in ((director, addition()), (rs, preparation())):
            await host.transactions.prepare(asked)
            again = host.restarted()
            assert await again.transactions.start() == []
            assert await state_of(again) == (PREPARED, True)
            assert await reason_of(again, replace(asked, id="add-2")) is Reason.LOCKED
            assert (await again.transactions.commit(T, 0)).settled

    async def test_after_a_reboot_nothing_undecided_is_left_of_an_authority(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        again = director.rebooted()
        await again.transactions.start()
        await again.restore.start(new_boot=True)
        assert await state_of(again) == (ABORTED, True)
        assert backends(again) == {}
        assert again.vips.list_all() == []

    async def test_after_a_reboot_what_is_committed_comes_back(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        await director.transactions.commit(T, 0)
        again = director.rebooted()
        await again.transactions.start()
        await again.restore.start(new_boot=True)
        assert backends(again) == {str(WEB): [str(RS1)]}

    async def test_after_a_reboot_a_real_server_that_is_ready_still_waits_for_the_decision(
        self, rs: RealServerHost
    ) -> None:
        await rs.transactions.prepare(preparation(authority="other"))
        await rs.transactions.ready(T, 0)
        again = rs.rebooted()
        await again.transactions.start()
        await again.restore.start()
        assert (await state_of(again))[0] is READY
        assert again.vips.get(VIP).present
        await again.transactions.go_on()
        assert (await state_of(again))[0] is READY

    async def test_an_agent_that_died_after_the_decision_goes_on(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        leave(director, COMMITTED)
        again = director.restarted()
        await again.transactions.start()
        await again.transactions.go_on()
        assert await state_of(again) == (COMMITTED, True)
        assert backends(again) == {str(WEB): [str(RS1)]}

    @pytest.mark.parametrize("adds", [True, False], ids=["addition", "removal"])
    async def test_after_a_reboot_what_was_decided_is_made_before_clients_come(
        self, director: DirectorHost, *, adds: bool
    ) -> None:
        """The VIP comes last: nobody is sent to a destination whose removal was decided, or finds a new one missing."""
        await director.transactions.prepare(addition())
        if not adds:
            await director.transactions.commit(T, 0)
            operation = operations.delete_destination(WEB, RS1)
            await director.transactions.prepare(proposal(operation, name="remove-1"))
        leave(director, COMMITTED, T if adds else "remove-1")
        seen = []

        class Watching(NoNeighbours):
            async def ask(self, change: Change) -> None:
                if change.HasField("vip"):
                    seen.append(backends(again))

        director.neighbours = Watching()
        again = director.rebooted()
        await again.start()
        assert seen == [{str(WEB): [str(RS1)] if adds else []}]
        assert again.vips.get(VIP).present
        assert all(each.settled for each in await again.transactions.list_all(decided=True))

    async def test_an_agent_that_died_in_its_undo_goes_on(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        leave(director, ABORTED)
        again = director.restarted()
        await again.transactions.start()
        assert await state_of(again) == (ABORTED, True)
        assert backends(again) == {}


def leave(host: DirectorHost, state: TransactionState, name: str = T) -> None:
    """Have on disk what an agent leaves that dies right after it has recorded an outcome."""
    body = host.state.get("transaction", name)
    assert body is not None
    host.state.put("transaction", name, {**body, "state": state.value, "settled": False})


def lose_scheduler(host: DirectorHost) -> None:
    """Clear the table, and have the kernel refuse to make it anew."""
    host.ipvs.remove_virtual_server(WEB)
    host.ipvs.schedulers = frozenset()


async def refuse(change: object) -> None:
    raise RefusedError("another host answers for it", Reason.VIP_TAKEN)


def test_a_transaction_survives_its_record() -> None:
    """Whatever is in it."""
    transaction = Transaction(
        id=T,
        state=READY,
        purpose="add 192.168.0.104:80",
        authority="id",
        participants=(Participant(agent_id="id", address="192.168.0.10:9710"),),
        fence=7,
        lease=60.0,
        expires=160.5,
        boot="boot-1",
        operations=addition().operations,
        problems=("one",),
        created=1.5,
    )
    assert from_body(T, to_body(transaction)) == transaction


class TestFollowing:
    """What others do after the decision: kept by the authority until it is done, or nobody wants it any more."""

    @pytest.fixture
    async def drained(self, director: DirectorHost) -> DirectorHost:
        """A director that has decided to remove a destination, and drains it."""
        await director.transactions.prepare(addition())
        await director.transactions.commit(T, 0)
        await director.transactions.prepare(removal())
        await director.transactions.commit("remove-1", 0)
        return director

    async def test_it_is_open_until_it_is_finished_and_locks_nothing(self, drained: DirectorHost) -> None:
        (known,) = await drained.transactions.list_all()
        assert (known.id, known.state, known.settled) == ("remove-1", COMMITTED, True)
        assert [each.title for each in known.following] == ["remove it"]
        await drained.transactions.prepare(addition("add-2", rs="192.168.0.105"))
        await drained.transactions.abort("add-2")
        assert await drained.transactions.finish("remove-1") == await drained.transactions.finish("remove-1")
        assert await drained.transactions.list_all() == []

    async def test_connections_have_so_long_to_end(self, drained: DirectorHost) -> None:
        (known,) = await drained.transactions.list_all()
        assert drained.transactions.lease_left(known) == 20.0
        drained.clock.now += 15
        assert drained.transactions.lease_left(known) == 5.0
        drained.clock.now += 15
        assert drained.transactions.lease_left(known) == 0.0

    async def test_after_a_reboot_there_is_nothing_to_wait_for(self, drained: DirectorHost) -> None:
        rebooted = drained.rebooted()
        await rebooted.transactions.start()
        (known,) = await rebooted.transactions.list_all()
        assert rebooted.transactions.lease_left(known) == 0.0
        assert len(known.following) == 1

    async def test_it_is_given_up_when_the_drain_is_ended(self, drained: DirectorHost) -> None:
        drained.clock.now += 10
        await drained.transactions.go_on()
        assert await drained.transactions.list_all() != []
        await drained.changes.apply(operations.update_destination(WEB, RS1, draining=False), "")
        drained.clock.now += 10
        await drained.transactions.go_on()
        assert await drained.transactions.list_all() == []
        assert "takes connections" in (await drained.transactions.get("remove-1")).problems[0]

    async def test_a_drain_right_after_an_undrain_is_not_the_earlier_one(self, drained: DirectorHost) -> None:
        """What an lvs that died wanted removed is only drained now: nobody has asked again for its removal."""
        for draining in (False, True):
            operation = operations.update_destination(WEB, RS1, draining=draining)
            await drained.transactions.prepare(proposal(operation, name=f"drain-{draining}"))
            await drained.transactions.commit(f"drain-{draining}", 0)
        assert await drained.transactions.list_all() == []
        assert "takes connections" in (await drained.transactions.get("remove-1")).problems[0]

    async def test_it_cannot_be_finished_before_the_decision(self, director: DirectorHost) -> None:
        await director.transactions.prepare(addition())
        with pytest.raises(RefusedError, match="it is prepared"):
            await director.transactions.finish(T)
        with pytest.raises(NotFoundError):
            await director.transactions.finish("nobody")

    async def test_only_the_authority_takes_it(self, director: DirectorHost) -> None:
        asked = replace(removal(), authority="other")
        with pytest.raises(InvalidInputError, match=r"^following: is for the authority"):
            await director.transactions.prepare(asked)

    @pytest.mark.parametrize("seconds", [-1.0, 86401.0])
    async def test_the_wait_has_bounds(self, director: DirectorHost, seconds: float) -> None:
        with pytest.raises(InvalidInputError, match=r"^drain_timeout: .* out of range \(0 to 86400 s\)"):
            await director.transactions.prepare(replace(removal(), drain_timeout=seconds))


def removal() -> Proposal:
    """The authority's part of a remove-backend: the drain now, the removal later."""
    gone = operations.delete_destination(WEB, RS1, only_if_draining=True)
    following = Following(agent=Participant(agent_id="id"), title="remove it", operations=[gone])
    drain = proposal(operations.update_destination(WEB, RS1, draining=True), name="remove-1")
    return replace(drain, following=(following,), drain_timeout=20.0)
