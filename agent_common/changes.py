"""Changes of a host, one at a time: planned, recorded on disk, written to the kernel, read back, and revertible.

The record comes before the kernel: an agent that dies in between still knows what it may have done, and a caller that
never got its answer can have the change reverted by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from lvsagent.v1 import operation_pb2

from agent_common.errors import (
    TAKEN_BACK,
    UNFINISHED,
    ConflictError,
    InvalidInputError,
    LvsError,
    NotFoundError,
    Reason,
    RefusedError,
)
from agent_common.failpoint import Failpoints
from agent_common.locks import Locks
from agent_common.neighbours import Neighbours
from agent_common.operation import Change, Operation
from agent_common.records import from_record, to_record
from agent_common.state import State
from agent_common.worker import Run

KEPT_CHANGES = 1000
"""So many changes are remembered; older ones can no longer be reverted by name."""

KEPT_TABLES = 5
"""So many of them are of whole tables: each is as large as what it changed."""

_KIND = "change"
_TABLE_KIND = "table_change"

_T = TypeVar("_T")


class Outcome(enum.Enum):
    """How a revert ended."""

    REVERTED = "reverted"
    NOTHING = "nothing"
    KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverted:
    """How a revert ended, and a line for each thing that was done or stays."""

    outcome: Outcome
    details: tuple[str, ...] = ()


class Resources(Protocol):
    """What an agent can change. Synchronous: it runs in the worker thread."""

    def plan(self, operation: Operation, earlier: Sequence[Change]) -> Change:
        """Say what an operation would change, without changing anything.

        earlier are the changes planned, not yet made, before it. Raises what forbids the operation.
        """

    def write(self, change: Change) -> None:
        """Make the change, and read it back."""

    def revert(self, change: Change) -> Reverted:
        """Take back what of the change still stands, each thing by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """For which transaction something is made, past whose locks, and what failpoints call the step.

    is_decided: it only goes forward, and what somebody has removed meanwhile is not changed any more.
    """

    owner: str = ""
    step: str = "change"
    is_decided: bool = False


class BatchError(Exception):
    """An operation of several failed; those before it were reverted, unless the error has UNFINISHED.

    begun are those that may stand then, the failed one among them if it was begun.
    """

    def __init__(self, earlier: Sequence[Change], error: LvsError, begun: Sequence[Change] = ()) -> None:
        super().__init__(str(error))
        self.earlier = tuple(earlier)
        self.begun = tuple(begun)
        self.error = error


class Changes:
    """Applies and reverts changes of one host, one at a time."""

    def __init__(
        self,
        resources: Resources,
        state: State,
        run: Run,
        neighbours: Neighbours,
        locks: Locks | None = None,
        failpoints: Failpoints | None = None,
    ) -> None:
        self._locks = locks or Locks()
        self._failpoints = failpoints or Failpoints()
        self._resources = resources
        self._state = state
        self._run = run
        self._neighbours = neighbours
        self._lock = asyncio.Lock()

    async def apply(self, operation: Operation, change_id: str, *, validate_only: bool = False) -> Change:
        """Carry out one operation, or with validate_only say what it would do; see apply_all."""
        try:
            return (await self.apply_all([operation], change_id, validate_only=validate_only))[0]
        except BatchError as failure:
            raise failure.error from failure

    async def apply_all(
        self, operations: Sequence[Operation], change_id: str, *, validate_only: bool = False
    ) -> list[Change]:
        """Carry out operations in order, all or none, as one change with one name.

        The same name again returns the first answer. Raises BatchError with the failing operation's error, and
        ConflictError if the change was reverted before it came.
        """
        change_id = check_change_id(change_id)
        async with self._host():
            if validate_only:
                planned = await self.plan(operations, change_id)
                self._check_locks(planned)
                return planned
            known = await self._known(change_id)
            if known is not None:
                return known
            await self._run(self._state.check_room)
            self._failpoints.reach("change", "before_journal")
            made = await self.make(operations, change_id, lambda made: self._record(change_id, made, done=True))
            self._failpoints.reach("change", "after_journal")
            await self.announce(made)
            self._failpoints.reply("change")
            return made

    def _check_locks(self, planned: Sequence[Change]) -> None:
        """Raise BatchError where another transaction may still change what is planned, or found in place."""
        for number, change in enumerate(planned):
            try:
                self._locks.check([change])
            except LvsError as error:
                raise BatchError(planned[:number], error) from error

    async def revert(self, change_id: str) -> Reverted:
        """Take a change back by name; one that is not known is remembered, so that it is refused if it comes."""
        change_id = check_change_id(change_id)
        async with self._host():
            with self._state.reserve():
                return await self._revert(change_id)

    async def exclusively(self, work: Callable[[], Awaitable[_T]], *, reserve: bool = False) -> _T:
        """Do something to the host while no change is under way; plan, make and take_back are for use in there.

        reserve: it ends what is open, or undoes it, and may write though the disk is full.
        """
        async with self._host():
            with self._state.reserve() if reserve else contextlib.nullcontext():
                return await work()

    async def plan(self, operations: Sequence[Operation], change_id: str) -> list[Change]:
        """Return what operations would change, one after the other; raises BatchError."""
        planned: list[Change] = []
        for operation in operations:
            try:
                planned.append(await self._plan(operation, change_id, planned))
            except LvsError as error:
                raise BatchError(planned, error) from error
        return planned

    async def make(
        self,
        operations: Sequence[Operation],
        change_id: str,
        record: Callable[[Sequence[Change]], None],
        *,
        errand: Errand | None = None,
    ) -> list[Change]:
        """Carry out operations, all or none; what record writes of them is all that stays. Raises BatchError.

        The neighbours are not told yet: until it is certain that an address stays, they keep whom they have for it.
        """
        errand = errand or Errand()
        begun: list[Change] = []
        for number, operation in enumerate(operations):
            try:
                await self._apply_next(operation, change_id, begun, errand)
            except LvsError as error:
                await self._give_up_after(change_id, begun, error)
                raise BatchError(begun[:number], error, begun) from error

        def end() -> None:
            with self._state.transaction():
                self._state.delete(_KIND, change_id)
                record(begun)

        try:
            await self._run(end)
        except LvsError as error:  # nobody may be told that it failed while it stands
            await self._give_up_after(change_id, begun, error)
            raise BatchError(begun[:-1], error, begun) from error
        return begun

    async def remembered(self, change_id: str) -> list[Change]:
        """Return what a change of this name did, as far as it is remembered."""
        body = await self._run(lambda: self._state.get(_KIND, change_id))
        return [] if body is None else _load(body["changes"])

    async def announce(self, changes: Sequence[Change]) -> None:
        """Tell the neighbours of the addresses that changes added."""
        for change in changes:
            if change.made:
                await self._neighbours.announce(change)

    async def take_back(self, changes: Sequence[Change]) -> Reverted:
        """Revert changes, the last first, what of each still stands; raises RefusedError if one cannot be."""
        ended = await self._revert_all(changes)
        details = tuple(line for one in ended for line in one.details)
        for outcome in (Outcome.KEPT, Outcome.REVERTED):
            if any(one.outcome is outcome for one in ended):
                return Reverted(outcome=outcome, details=details)
        return Reverted(outcome=Outcome.NOTHING, details=details)

    async def settle(self) -> list[str]:
        """At start, take back what the agent died in the middle of; return what could not be, a line each.

        Nobody was told that it is done, and who comes back to revert it by name finds nothing left to do.
        """
        failures = []
        for change_id, body in (await self._run(lambda: self._state.list(_KIND))).items():
            if body["status"] == "begun":
                try:
                    await self._give_up(change_id, _load(body["changes"]))
                except LvsError as error:
                    failures.append(f"cannot take back change {change_id}, in which the agent died: {error.message}")
        return failures

    @asynccontextmanager
    async def _host(self) -> AsyncIterator[None]:
        """Have the host, whose journal tells what it shall be, to oneself; raises RefusedError if that is corrupt."""
        async with self._lock:
            await self._run(self._state.check_intact)
            yield

    async def _revert(self, change_id: str) -> Reverted:
        body = await self._run(lambda: self._state.get(_KIND, change_id))
        ended = await self.take_back([] if body is None else _load(body["changes"]))
        await self._run(lambda: self._remember_reverted(change_id))
        return ended

    def _remember_reverted(self, change_id: str) -> None:
        with self._state.transaction():
            self._state.put(_KIND, change_id, {"status": "reverted", "changes": []})
            self._state.keep_newest(_KIND, KEPT_CHANGES)

    async def _apply_next(self, operation: Operation, change_id: str, begun: list[Change], errand: Errand) -> None:
        try:
            change = await self._plan(operation, change_id, ())
        except NotFoundError as error:
            if not errand.is_decided or operation.WhichOneof("operation") != "update_destination":
                raise
            begun.append(Change(id=change_id, gone=True, warnings=[error.message]))
            return
        self._locks.check([change], errand.owner)
        if not change.made:
            begun.append(change)
            return
        await self._neighbours.ask(change)
        begun.append(change)
        await self._run(lambda: self._write(change, change_id, begun, errand.step))
        await self._neighbours.confirm(change)

    async def _give_up_after(self, change_id: str, begun: Sequence[Change], error: LvsError) -> None:
        """Revert what was begun before an error; if that fails, too, the record stays and the error says so."""
        try:
            await self._give_up(change_id, begun)
            if any(change.made for change in begun):
                error.metadata[TAKEN_BACK] = change_id
        except LvsError as failure:
            error.message += f"; and not everything could be taken back: {failure.message}"
            error.metadata[UNFINISHED] = change_id

    async def _plan(self, operation: Operation, change_id: str, earlier: Sequence[Change]) -> Change:
        change = await self._run(lambda: self._resources.plan(operation, earlier))
        change.id = change_id
        return change

    def _write(self, change: Change, change_id: str, begun: Sequence[Change], step: str) -> None:
        self._record(change_id, begun, done=False)
        self._failpoints.reach(step, "before_kernel")
        self._resources.write(change)
        self._failpoints.reach(step, "after_kernel")

    async def _give_up(self, change_id: str, begun: Sequence[Change]) -> None:
        with self._state.reserve():
            await self._revert_all(begun)
            await self._run(lambda: self._state.delete(_KIND, change_id))

    async def _revert_all(self, changes: Sequence[Change]) -> list[Reverted]:
        """Revert each, the last first; one that fails does not keep the others from being tried."""
        await self._run(self._state.check_intact)  # it may have been found corrupt a moment ago
        ended: list[Reverted] = []
        failures: list[LvsError] = []
        for change in reversed(changes):
            if not change.made:
                continue
            try:
                ended.append(await self._revert_one(change))
            except LvsError as error:
                failures.append(error)
        if failures:
            raise RefusedError("; ".join(error.message for error in failures), failures[0].reason) from failures[0]
        return ended

    async def _revert_one(self, change: Change) -> Reverted:
        """Revert one; the neighbours are asked and told of it as of a change that does the same."""
        opposite = _opposite(change)
        await self._neighbours.ask(opposite)
        ended = await self._run(lambda: self._resources.revert(change))
        if ended.outcome is Outcome.REVERTED:
            try:
                await self._neighbours.confirm(opposite)
            except LvsError:
                await self._run(lambda: self._resources.revert(opposite))
                raise
            await self._neighbours.announce(opposite)
        return ended

    async def _known(self, change_id: str) -> list[Change] | None:
        body = await self._run(lambda: self._state.get(_KIND, change_id))
        if body is None:
            return None
        if body["status"] == "reverted":
            raise ConflictError(f"cannot apply change {change_id}: it was reverted already", Reason.CHANGE_REVERTED)
        if body["status"] == "begun":  # the agent died in it: what stands of it goes, and it is made anew
            await self._give_up(change_id, _load(body["changes"]))
            return None
        return _load(body["changes"])

    def _record(self, change_id: str, changes: Sequence[Change], *, done: bool) -> None:
        with self._state.transaction():
            bodies = [to_record(change) for change in changes]
            self._state.put(_KIND, change_id, {"status": "done" if done else "begun", "changes": bodies})
            self._state.keep_newest(_KIND, KEPT_CHANGES)
            if done and any(change.HasField("table") for change in changes):
                self._keep_newest_tables(change_id)

    def _keep_newest_tables(self, change_id: str) -> None:
        self._state.put(_TABLE_KIND, change_id, {})
        for name in list(self._state.list(_TABLE_KIND))[:-KEPT_TABLES]:
            self._state.delete(_TABLE_KIND, name)
            self._state.delete(_KIND, name)


def check_change_id(change_id: str) -> str:
    """Return the caller's name for a change, or a new one if it is empty; names are at most 64 characters long."""
    if len(change_id) > 64:
        raise InvalidInputError("change_id", "change_id: longer than 64 characters")
    return change_id or str(uuid.uuid4())


def _load(bodies: Sequence[dict[str, object]]) -> list[Change]:
    return [from_record(body, Change()) for body in bodies]


def _opposite(change: Change) -> Change:
    """Return the change that taking a VIP's back amounts to; other resources are nobody else's business."""
    if change.WhichOneof("resource") != "vip":
        return change
    return Change(
        id=change.id, made=True, vip=operation_pb2.VipChange(before=change.vip.after, after=change.vip.before)
    )
