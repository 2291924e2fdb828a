"""A disk that fills up at any write: nothing new is begun, and what is open is ended with the room that is kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_common.changes import Outcome
from agent_common.errors import ExhaustedError, LvsError, Reason
from agent_common.fake_state import FakeState
from agent_common.operation import Operation
from agent_common.proposal import Proposal
from agent_common.state import Body
from agent_common.transaction import TransactionState
from cli import operations
from tests.common.test_transactions import LEASE, RS1, T, addition, backends, preparation, proposal, state_of
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost, holder

Host = DirectorHost | RealServerHost

COMMITTED, ABORTED = TransactionState.COMMITTED, TransactionState.ABORTED
MANY = 30


class FillingState(FakeState):
    """Its disk is full after so many writes from now on; None never."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None

    def put(self, kind: str, name: str, body: Body) -> None:
        self._count()
        super().put(kind, name, body)

    def delete(self, kind: str, name: str) -> None:
        self._count()
        super().delete(kind, name)

    def _count(self) -> None:
        if self.left is not None:
            self.left -= 1
            self.full = self.full or self.left < 0


def snapshot(host: Host) -> object:
    """All that a transaction can change on a host, but its own record."""
    kinds = ("vip", "virtual_server", "destination", "arp_sysctl", "change")
    state = {kind: host.state.list(kind) for kind in kinds}
    kernel = backends(host) if isinstance(host, DirectorHost) else dict(host.silence.values())
    return (state, kernel, sorted(str(each) for each in host.addresses.addresses()))


def director() -> tuple[Host, FillingState, Proposal]:
    state = FillingState()
    return DirectorHost(state=state), state, addition()


def real_server() -> tuple[Host, FillingState, Proposal]:
    state = FillingState()
    return RealServerHost(state=state), state, preparation()


either = pytest.mark.parametrize("make", [director, real_server])
Make = Callable[[], tuple[Host, FillingState, Proposal]]


@either
async def test_whenever_it_fills_up_in_a_preparation_nothing_of_it_is_left(make: Make) -> None:
    for writes in range(MANY):
        host, state, asked = make()
        before = snapshot(host)
        state.left = writes
        try:
            await host.transactions.prepare(asked)
        except ExhaustedError as error:
            assert error.reason is Reason.DISK_FULL
            assert snapshot(host) == before, f"full after {writes} writes"
            assert await host.transactions.list_all() == []
        else:
            return
    raise AssertionError("a preparation of so many writes?")


@either
async def test_whenever_it_fills_up_in_a_change_nothing_of_it_is_left(make: Make) -> None:
    for writes in range(MANY):
        host, state, asked = make()
        before = snapshot(host)
        state.left = writes
        try:
            await host.changes.apply(asked.operations[0], "c")
        except LvsError as error:
            assert error.reason is Reason.DISK_FULL
            assert snapshot(host) == before, f"full after {writes} writes"
        else:
            return
    raise AssertionError("a change of so many writes?")


@either
async def test_whenever_it_fills_up_in_an_abort_it_is_aborted(make: Make) -> None:
    for writes in range(MANY):
        host, state, asked = make()
        before = snapshot(host)
        await host.transactions.prepare(asked)
        state.left = writes
        await host.transactions.abort(T)
        assert await state_of(host) == (ABORTED, True)
        assert snapshot(host) == before, f"full after {writes} writes"
        if not state.full:
            return
    raise AssertionError("an abort of so many writes?")


async def test_whenever_it_fills_up_in_the_authoritys_commit_it_is_decided_and_done_or_neither() -> None:
    for writes in range(MANY):
        host, state, asked = director()
        assert isinstance(host, DirectorHost)
        await host.transactions.prepare(asked)
        state.left = writes
        try:
            await host.transactions.commit(T, 0)
        except ExhaustedError:
            assert writes == 0  # the decision itself
            assert (await host.transactions.abort(T))[0].settled
            assert backends(host) == {}
        else:
            assert await state_of(host) == (COMMITTED, True)
            assert backends(host) == {str(WEB): [str(RS1)]}
        if not state.full:
            return
    raise AssertionError("a commit of so many writes?")


async def test_what_others_have_decided_is_done_on_a_full_disk() -> None:
    """The other director's destination, and the real server's part."""
    host = DirectorHost()
    await host.transactions.prepare(addition(authority="other"))
    rs = RealServerHost()
    await rs.transactions.prepare(preparation(authority="other"))
    await rs.transactions.ready(T, 0)
    for each in (host, rs):
        each.state.full = True
        assert (await each.transactions.commit(T, 0)).settled
    assert backends(host) == {str(WEB): [str(RS1)]}


@either
async def test_a_lease_ends_on_a_full_disk(make: Make) -> None:
    host, state, asked = make()
    before = snapshot(host)
    await host.transactions.prepare(asked)
    state.full = True
    host.clock.now += LEASE
    await host.transactions.go_on()
    assert await state_of(host) == (ABORTED, True)
    assert snapshot(host) == before


async def test_a_change_is_reverted_by_name_on_a_full_disk() -> None:
    host = RealServerHost()
    values = dict(host.silence.values())
    await host.changes.apply(operations.create_vip(VIP, holder(WEB, "id")), "c")
    host.state.full = True
    assert (await host.changes.revert("c")).outcome is Outcome.REVERTED
    assert host.state.get("change", "c") == {"status": "reverted", "changes": []}
    assert not host.vips.get(VIP).present
    assert dict(host.silence.values()) == values


@either
async def test_nothing_new_is_begun_while_the_ballast_is_gone(make: Make) -> None:
    """Though a little room may be there: it is for what is open. Afterwards all is as ever."""
    host, state, asked = make()
    state.ballast, state.full = False, True
    for begin in (
        lambda: host.transactions.prepare(asked),
        lambda: host.changes.apply(asked.operations[0], "c"),
    ):
        with pytest.raises(ExhaustedError, match="cannot begin anything new"):
            await begin()
    state.full = False
    await host.transactions.prepare(asked)
    assert state.ballast


async def test_a_weight_that_cannot_be_recorded_is_refused() -> None:
    """Nothing of it is inert: its record is the only write of the preparation."""
    host = DirectorHost(state=(state := FillingState()))
    await host.changes.apply_all([operations.create_virtual_server(WEB, None, None), add()], "site")
    state.left = 0
    with pytest.raises(ExhaustedError):
        await host.transactions.prepare(proposal(operations.update_destination(WEB, RS1, weight=5)))
    assert await host.transactions.list_all() == []


def add() -> Operation:
    return operations.create_destination(WEB, RS1, None, None)


@either
async def test_at_boot_what_is_undecided_is_undone_on_a_full_disk(make: Make) -> None:
    host, state, asked = make()
    await host.transactions.prepare(asked)
    state.full = True
    again = host.rebooted()
    with again.state.reserve():
        await again.transactions.start()
    assert await state_of(again) == (ABORTED, True)
    assert not again.vips.get(VIP).present


@either
async def test_without_any_room_at_all_an_agent_starts_and_tries_again(make: Make) -> None:
    host, state, asked = make()
    await host.transactions.prepare(asked)
    state.full = state.spent = True
    again = host.rebooted()
    with again.state.reserve():
        await again.transactions.start()
    again.clock.now += 5
    await again.transactions.go_on()
    assert (await state_of(again))[0] is TransactionState.PREPARED
    state.full = False
    again.clock.now += 5
    await again.transactions.go_on()
    assert await state_of(again) == (ABORTED, True)
