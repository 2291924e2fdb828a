"""The transactions of a host: prepared, made ready, committed or aborted, each step on disk before the kernel follows.

docs/explanation/transactions.md tells the protocol, tests/protocol checks it. The outcome is decided by one record of
one director, the authority; every other agent follows what that says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent_common import transaction_rules as rules
from agent_common.changes import BatchError, Changes, Errand, Outcome
from agent_common.errors import (
    UNFINISHED,
    ConflictError,
    DiffersError,
    InvalidInputError,
    LvsError,
    NotFoundError,
    Reason,
    RefusedError,
)
from agent_common.failpoint import Failpoints
from agent_common.locks import Locks, claims_of
from agent_common.operation import Change, Operation
from agent_common.proposal import Proposal, check_name, check_participants, check_proposal
from agent_common.state import State
from agent_common.transaction import (
    FAILED_OPERATION,
    Participant,
    Transaction,
    TransactionState,
    check_lease,
    is_inert,
    tag,
)
from agent_common.transaction_records import TransactionRecords
from agent_common.worker import Run

KEPT_TRANSACTIONS = 1000
"""So many that are decided are remembered; of older ones a message that comes late finds nothing."""

WATCH_SECONDS = 1.0
RETRY_SECONDS = 5.0

_log = logging.getLogger(__name__)


def boot_time() -> float:
    """Return the seconds since the host was started, those of its sleep included (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Which agent this is: its identity, whether it is a director, and the boot of its host."""

    agent_id: str
    is_director: bool
    boot: str


class Transactions:
    """Carries transactions from one state to the next, one at a time."""

    def __init__(
        self,
        member: Member,
        changes: Changes,
        locks: Locks,
        state: State,
        run: Run,
        clock: Callable[[], float] = boot_time,
        failpoints: Failpoints | None = None,
    ) -> None:
        self._failpoints = failpoints or Failpoints()
        self._member = member
        self._changes = changes
        self._locks = locks
        self._state = state
        self._records = TransactionRecords(state)
        self._run = run
        self._clock = clock
        self._open: dict[str, Transaction] = {}
        self._tried: dict[str, float] = {}
        self._closed: dict[str, bool] = {}
        """Those that are over, the oldest first; whether it is only remembered so that it is refused when it comes."""
        """The names of those that are over, oldest first."""

    async def start(self) -> list[str]:
        """Take up what an earlier agent left, before anything is restored; return what cannot be undone, a line each.

        What it died in the middle of is taken back. After a reboot nothing is undecided here, except at a real server
        that is READY and at a director that is not the authority: they cannot know.
        """
        problems = await self._changes.settle()
        await self._run(self._load)
        for transaction in list(self._open.values()):
            try:
                if self._may_abort_alone(transaction) and transaction.boot != self._member.boot:
                    await self._abort(transaction)
                elif transaction.state is TransactionState.ABORTED:
                    await self._undo(transaction)
            except LvsError as error:
                _log.warning("transaction %s is not yet undone: %s", transaction.id, error.message)
        return problems

    async def complete(self) -> None:
        """At start, when the table is in the kernel again: make what was decided and is not made yet.

        What was prepared is not looked at: a VIP comes after this, when its destinations are there.
        """
        for transaction in list(self._open.values()):
            if transaction.state is TransactionState.COMMITTED:
                try:
                    await self._complete(transaction, _reserved(transaction))
                except LvsError as error:  # a full disk: `follow` tries again
                    _log.warning("transaction %s is not yet done: %s", transaction.id, error.message)

    async def follow(self) -> None:
        """Until cancelled: abort what this agent may abort alone when its lease ends, and settle what is decided."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self.go_on()
            except Exception:
                _log.exception("the watch of transactions goes on after an unexpected error")

    async def go_on(self) -> None:
        """Do what is due about the transactions that are open."""
        for name in list(self._open):
            try:
                await self._changes.exclusively(lambda name=name: self._go_on(name), reserve=True)  # type: ignore[misc]
            except LvsError as error:  # it does not keep the others from going on
                _log.warning("transaction %s cannot be ended now: %s", name, error.message)

    async def validate(self, proposal: Proposal) -> tuple[Transaction, str]:
        """Return what a proposal would become, and the tag of that; nothing is locked or recorded.

        Raises ConflictError where another transaction may still change what is found in place.
        """
        check_proposal(proposal)

        async def work() -> tuple[Transaction, str]:
            planned = await self._plan(proposal)
            self._locks.check(planned)
            return self._begin(proposal, planned), tag(planned)

        return await self._changes.exclusively(work)

    async def prepare(self, proposal: Proposal) -> tuple[Transaction, str]:
        """Lock, record, and make what is inert; the same proposal again gives the same answer."""
        check_proposal(proposal)
        return await self._changes.exclusively(lambda: self._prepare(proposal))

    async def ready(self, name: str, fence: int) -> Transaction:
        """Give up the right to undo alone; raises ConflictError if it is aborted."""

        async def work() -> Transaction:
            transaction = await self._known(name, fence)
            match transaction.state:
                case TransactionState.ABORTED:
                    raise rules.already_aborted(transaction)
                case TransactionState.PREPARED:
                    ready = await self._put(replace(transaction, state=TransactionState.READY), "ready")
                    self._failpoints.reply("ready")
                    return ready
                case _:
                    return transaction

        return await self._changes.exclusively(work)

    async def commit(self, name: str, fence: int) -> Transaction:
        """Record the decision, and make what was reserved; raises ConflictError if it is aborted."""

        async def work() -> Transaction:
            transaction = await self._known(name, fence)
            if transaction.state is TransactionState.ABORTED:
                raise rules.already_aborted(transaction)
            if transaction.state is not TransactionState.COMMITTED:
                # Where it was decided already it must be recorded; the decision itself may still be none.
                is_mine = transaction.authority == self._member.agent_id
                with contextlib.nullcontext() if is_mine else self._state.reserve():
                    transaction = await self._put(await self._decided(transaction), "commit")
                if transaction.settled:
                    await self._changes.announce(transaction.changes)
            with self._state.reserve():
                transaction = await self._complete(transaction)
                for each in [one for one in self._open.values() if one.is_followed]:  # before its drain begins anew
                    await self._give_up_if_cancelled(each)
            self._failpoints.reply("commit")
            return transaction

        return await self._changes.exclusively(work)

    async def abort(
        self, name: str, fence: int = 0, authority: str = "", participants: tuple[Participant, ...] = ()
    ) -> tuple[Transaction, tuple[str, ...]]:
        """Take back what was made; one that is not known is remembered. Raises ConflictError if it is committed."""
        check_participants(authority, participants)

        async def work() -> tuple[Transaction, tuple[str, ...]]:
            transaction = await self._find(name)
            if transaction is None:
                return await self._bury(name, authority, participants), ()
            rules.check_fence(transaction, fence)
            if transaction.state is TransactionState.COMMITTED:
                raise ConflictError(
                    f"cannot abort transaction {name}: it was committed", Reason.TRANSACTION_COMMITTED, transaction=name
                )
            return await self._abort(transaction)

        return await self._changes.exclusively(work, reserve=True)

    async def resolve(self, name: str) -> Transaction:
        """Return where it stands; an authority whose lease is over, or that does not know it, decides to abort."""

        async def work() -> Transaction:
            transaction = await self._find(name)
            if transaction is None:
                return await self._bury(name)
            if self._may_abort_alone(transaction) and self._is_over(transaction):
                return (await self._abort(transaction))[0]
            return transaction

        return await self._changes.exclusively(work, reserve=True)

    async def renew(self, name: str, fence: int, lease: float) -> Transaction:
        """Let the lease run again; raises ConflictError if the transaction is decided."""
        check_lease(lease)

        async def work() -> Transaction:
            transaction = await self._known(name, fence)
            if transaction.state is TransactionState.ABORTED:
                raise rules.already_aborted(transaction)
            if transaction.state is TransactionState.COMMITTED:
                return transaction
            expires = self._clock() + lease
            return await self._put(replace(transaction, lease=lease, expires=expires, boot=self._member.boot))

        return await self._changes.exclusively(work)

    async def finish(self, name: str) -> Transaction:
        """Note that what follows the decision is done everywhere; raises RefusedError if it is not committed."""

        async def work() -> Transaction:
            transaction = await self._known(name, 0)
            if transaction.state is not TransactionState.COMMITTED:
                raise RefusedError(
                    f"cannot finish transaction {name}: it is {transaction.state}",
                    Reason.TRANSACTION_OPEN,
                    transaction=name,
                )
            return await self._put(replace(transaction, following=())) if transaction.following else transaction

        return await self._changes.exclusively(work, reserve=True)

    async def get(self, name: str) -> Transaction:
        """Return one; raises NotFoundError."""
        return await self._known(name, 0)

    async def operations_of(self, name: str) -> list[Operation] | None:
        """Return all that is asked for by a transaction, here and of others after it; None if it is unknown."""
        found = await self._find(name)
        if found is None:
            return None
        return [*found.operations, *(each for part in found.following for each in part.operations)]

    async def list_all(self, *, decided: bool = False) -> list[Transaction]:
        """Return those that are open, or all that are remembered, oldest first."""
        found = await self._run(self._records.list_all)
        return sorted((each for each in found if decided or each.is_open), key=lambda each: each.fence)

    async def forget(self, name: str) -> None:
        """Forget one that is decided and settled; raises RefusedError for any other."""

        async def work() -> None:
            transaction = await self._find(name)
            if transaction is not None and transaction.is_open:
                raise RefusedError(
                    f"cannot forget transaction {name}: it is {transaction.state} and not finished here",
                    Reason.TRANSACTION_OPEN,
                    transaction=name,
                )
            await self._run(lambda: self._records.delete(name))
            self._closed.pop(name, None)

        await self._changes.exclusively(work, reserve=True)

    def settled_fence(self) -> int:
        """Return the fence up to which all that were prepared here are over; for the worker thread.

        Of one that is open nobody can say yet that it will have come to the directors, so it counts as newer.
        """
        still = [each.fence for each in list(self._open.values()) if each.is_locking and each.fence]
        return min(still) - 1 if still else self._records.last_fence()

    def lease_left(self, transaction: Transaction) -> float:
        """Return for how many seconds the lease still runs, or what follows may wait; 0 when it is over."""
        is_over = transaction.state.is_decided and not transaction.is_followed
        if is_over or transaction.boot != self._member.boot:
            return 0.0
        return max(transaction.expires - self._clock(), 0.0)

    # All that follows is called while no other change is under way.

    async def _prepare(self, proposal: Proposal) -> tuple[Transaction, str]:
        if proposal.following and proposal.authority != self._member.agent_id:
            raise InvalidInputError("following", "following: is for the authority, and this agent is another one")
        known = await self._find(proposal.id)
        if known is not None:
            return rules.check_same(known, proposal), tag(known.changes)
        await self._run(self._state.check_room)
        planned = await self._plan(proposal)
        if proposal.etag and proposal.etag != tag(planned):
            raise rules.changed_meanwhile(proposal)
        self._locks.check(planned)
        transaction = replace(self._begin(proposal, planned), fence=await self._run(self._records.last_fence) + 1)
        self._failpoints.reach("prepare", "before_journal")
        inert = [operation for operation in proposal.operations if is_inert(operation)]
        try:
            made = await self._changes.make(
                inert,
                rules.change_name(transaction),
                lambda made: self._write(replace(transaction, changes=rules.merge(proposal, planned, made))),
                errand=Errand(owner=proposal.id, step="prepare"),
            )
        except BatchError as failure:
            left = failure.begun if UNFINISHED in failure.error.metadata else ()
            with self._state.reserve():
                await self._put(
                    replace(
                        transaction,
                        state=TransactionState.ABORTED,
                        operations=tuple(inert[: len(left)]),
                        changes=tuple(left),
                        settled=not left,
                        problems=(failure.error.message,) if left else (),
                    )
                )
            if inert:
                failed = inert[len(failure.earlier)]
                failure.error.metadata[FAILED_OPERATION] = str(proposal.operations.index(failed))
            raise failure.error from failure
        transaction = replace(transaction, changes=rules.merge(proposal, planned, made))
        self._failpoints.reach("prepare", "after_journal")
        self._note(transaction)
        self._failpoints.reply("prepare")
        return transaction, tag(planned)

    async def _plan(self, proposal: Proposal) -> list[Change]:
        try:
            return await self._changes.plan(proposal.operations, proposal.id)
        except BatchError as failure:
            failure.error.metadata[FAILED_OPERATION] = str(len(failure.earlier))
            if proposal.etag and isinstance(failure.error, NotFoundError | DiffersError):  # it was planned, and went
                raise rules.changed_meanwhile(proposal, f": {failure.error.message}") from failure
            raise failure.error from failure

    def _begin(self, proposal: Proposal, planned: Sequence[Change]) -> Transaction:
        return Transaction(
            id=proposal.id,
            state=TransactionState.PREPARED,
            purpose=proposal.purpose,
            authority=proposal.authority,
            participants=proposal.participants,
            lease=proposal.lease,
            expires=self._clock() + proposal.lease,
            boot=self._member.boot,
            operations=proposal.operations,
            changes=tuple(planned),
            created=time.time(),
            following=proposal.following,
            drain_timeout=proposal.drain_timeout,
        )

    async def _decided(self, transaction: Transaction) -> Transaction:
        """Return it with the decision; from now on connections have so long to end."""
        return replace(
            transaction,
            state=TransactionState.COMMITTED,
            settled=not await self._due(transaction),
            problems=(),
            expires=self._clock() + transaction.drain_timeout,
            boot=self._member.boot,
        )

    async def _due(self, transaction: Transaction) -> dict[int, Operation]:
        """Return the operations that the commit makes, by their places.

        Those that were reserved, and of what was prepared that which somebody has removed meanwhile. What somebody has
        changed stays so: that is drift.
        """
        reserved = _reserved(transaction)
        return {
            place: operation
            for place, operation in enumerate(transaction.operations)
            if place in reserved or await self._is_gone(operation, transaction)
        }

    async def _is_gone(self, operation: Operation, transaction: Transaction) -> bool:
        try:
            return any(change.made for change in await self._changes.plan([operation], rules.change_name(transaction)))
        except BatchError:
            return False

    async def _complete(self, transaction: Transaction, due: dict[int, Operation] | None = None) -> Transaction:
        """Make what is due; where the kernel refuses, it stays to be done."""
        if transaction.settled:
            return transaction
        self._tried[transaction.id] = self._clock()
        due = await self._due(transaction) if due is None else due
        try:
            await self._changes.make(
                list(due.values()),
                rules.change_name(transaction),
                lambda made: self._write(rules.completed(transaction, dict(zip(due, made, strict=True)))),
                errand=Errand(owner=transaction.id, step="commit", is_decided=True),
            )
        except BatchError as failure:
            return await self._put_off(transaction, failure.error)
        done = await self._find(transaction.id)
        assert done is not None  # noqa: S101  # it was written a moment ago
        self._note(done)
        await self._changes.announce(done.made)
        return done

    async def _put_off(self, transaction: Transaction, error: LvsError) -> Transaction:
        """Say why a decided transaction is not done yet; `follow` tries again."""
        _log.warning("transaction %s is committed, and not yet done: %s", transaction.id, error.message)
        transaction = replace(transaction, problems=(error.message,))
        with contextlib.suppress(LvsError):  # a full disk: it is decided all the same
            await self._run(lambda: self._write(transaction))
        self._note(transaction)
        return transaction

    async def _abort(self, transaction: Transaction) -> tuple[Transaction, tuple[str, ...]]:
        if transaction.state is not TransactionState.ABORTED:
            transaction = await self._put(replace(transaction, state=TransactionState.ABORTED, settled=False), "abort")
        undone = await self._undo(transaction)
        self._failpoints.reply("abort")
        return undone

    async def _undo(self, transaction: Transaction) -> tuple[Transaction, tuple[str, ...]]:
        """Take back what the preparation made; where that fails, it stays to be done."""
        if transaction.settled:
            return transaction, transaction.problems
        self._tried[transaction.id] = self._clock()
        self._failpoints.reach("abort", "before_kernel")
        try:
            ended = await self._changes.take_back(transaction.made)
            self._failpoints.reach("abort", "after_kernel")
        except LvsError as error:
            _log.warning("transaction %s is aborted, and not yet undone: %s", transaction.id, error.message)
            return await self._put(replace(transaction, problems=(error.message,))), (error.message,)
        kept = ended.details if ended.outcome is Outcome.KEPT else ()
        return await self._put(replace(transaction, settled=True, problems=kept)), ended.details

    async def _go_on(self, name: str) -> None:
        transaction = self._open.get(name)
        if transaction is None:
            return
        if not transaction.state.is_decided:
            is_due = self._clock() - self._tried.get(name, 0.0) >= RETRY_SECONDS
            if is_due and self._may_abort_alone(transaction) and self._is_over(transaction):
                self._tried[name] = self._clock()
                _log.info("transaction %s is aborted: its lease has ended", name)
                await self._abort(transaction)
        elif self._clock() - self._tried.get(name, 0.0) >= RETRY_SECONDS:
            if not transaction.is_locking:
                self._tried[name] = self._clock()
                await self._give_up_if_cancelled(transaction)
            elif transaction.state is TransactionState.COMMITTED:
                await self._complete(transaction)
            else:
                await self._undo(transaction)

    async def _give_up_if_cancelled(self, transaction: Transaction) -> None:
        """Where a destination that is to go takes connections again, somebody has ended its drain: nothing follows."""
        for each in transaction.following:
            if each.agent.agent_id == self._member.agent_id:
                try:
                    await self._changes.plan(tuple(each.operations), rules.change_name(transaction))
                except BatchError as failure:
                    if failure.error.reason is Reason.NOT_DRAINING:
                        _log.info("transaction %s is given up: %s", transaction.id, failure.error.message)
                        await self._put(replace(transaction, following=(), problems=(failure.error.message,)))
                        return

    def _may_abort_alone(self, transaction: Transaction) -> bool:
        """The authority decides; a real server may until it is READY, since no decision comes before that."""
        mine = not self._member.is_director or transaction.authority == self._member.agent_id
        return transaction.state is TransactionState.PREPARED and mine

    def _is_over(self, transaction: Transaction) -> bool:
        return transaction.boot != self._member.boot or self._clock() >= transaction.expires

    async def _known(self, name: str, fence: int) -> Transaction:
        transaction = await self._find(name)
        if transaction is None:
            raise rules.unknown(name)
        rules.check_fence(transaction, fence)
        return transaction

    async def _find(self, name: str) -> Transaction | None:
        check_name(name)
        return await self._run(lambda: self._records.get(name))

    async def _bury(self, name: str, authority: str = "", participants: tuple[Participant, ...] = ()) -> Transaction:
        """Remember a transaction that never was here, so that it is refused when it comes late."""
        return await self._put(
            Transaction(
                id=name,
                state=TransactionState.ABORTED,
                authority=authority,
                participants=participants,
                created=time.time(),
            )
        )

    async def _put(self, transaction: Transaction, step: str = "") -> Transaction:
        self._failpoints.reach(step, "before_journal")
        await self._run(lambda: self._write(transaction))
        self._failpoints.reach(step, "after_journal")
        self._note(transaction)
        return transaction

    def _write(self, transaction: Transaction) -> None:
        """Write a transaction, and forget the oldest of those that are over, beyond so many of a kind."""
        oldest = [name for each in (False, True) for name in self._oldest(is_tombstone=each)]
        self._records.put(transaction, forget=oldest)
        for name in oldest:
            del self._closed[name]

    def _oldest(self, *, is_tombstone: bool) -> list[str]:
        """Return those beyond so many; names that somebody makes up must not make anybody forget a decision."""
        return [name for name, kind in self._closed.items() if kind is is_tombstone][:-KEPT_TRANSACTIONS]

    def _note(self, transaction: Transaction) -> None:
        """Keep in memory what is open, and its locks; they end when the kernel is as the transaction says."""
        if transaction.is_open:
            self._closed.pop(transaction.id, None)
            self._open[transaction.id] = transaction
        if transaction.is_locking:
            self._locks.take(transaction.id, transaction.authority, claims_of(transaction.changes))
        else:
            self._locks.release(transaction.id)
        if not transaction.is_open:
            self._open.pop(transaction.id, None)
            self._tried.pop(transaction.id, None)
            self._closed[transaction.id] = transaction.fence == 0

    def _load(self) -> None:
        for transaction in self._records.list_all():
            self._note(transaction)


def _reserved(transaction: Transaction) -> dict[int, Operation]:
    """Return the operations that wait for the commit, by their places."""
    return {place: each for place, each in enumerate(transaction.operations) if not is_inert(each)}
