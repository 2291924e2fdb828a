"""Brings what differs back to what was committed, because somebody asks for it (lvs reconcile) or it is enforced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent_common.changes import Changes
from agent_common.drift import Drift, DriftKind, Resource
from agent_common.errors import ConflictError, InvalidInputError, LvsError, Reason
from agent_common.locks import Locks
from agent_common.neighbours import Neighbours
from agent_common.operation import Change
from agent_common.transaction import tag
from agent_common.worker import Run

MAX_REPAIRS = 1000
"""In one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One thing to repair; etag is that of a change that was shown, or empty for whatever it takes."""

    drift: Drift
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What a repair did or would do, or why it did not."""

    change: Change
    error: LvsError | None = None

    @property
    def etag(self) -> str:
        """The tag of what it does: another one means that the host is not as it was."""
        return tag([self.change])


class Repairable(Protocol):
    """What of an agent can be repaired. Synchronous: it runs in the worker thread."""

    def plan_repair(self, resource: Resource) -> Change:
        """Say what would bring a resource back to what was committed; raises NotFoundError for what is not ours."""

    def repair(self, change: Change) -> None:
        """Do it, and read it back."""

    def withdraw(self, change: Change) -> None:
        """Take off again a VIP that turned out to be another host's; it stays committed."""


class Repairs:
    """Repairs things of one host, each by itself, while no other change is under way.

    What is committed stays as it is, so there is nothing to journal: an agent that dies in between finds the same
    drift again, or less.
    """

    def __init__(self, resources: Repairable, changes: Changes, neighbours: Neighbours, locks: Locks, run: Run) -> None:
        self._resources = resources
        self._changes = changes
        self._neighbours = neighbours
        self._locks = locks
        self._run = run

    async def repair(self, wanted: Sequence[Repair], *, validate_only: bool = False) -> list[Repaired]:
        """Repair things in order; what one meets is in its result.

        Raises ConflictError, before anything is done, if a transaction has one of them, or if one is not what was
        shown any more.
        """
        _check(wanted)

        async def work() -> list[Repaired]:
            planned = await self._plan([each.drift.resource for each in wanted])
            if validate_only:
                return planned
            for repair, plan in zip(wanted, planned, strict=True):
                _refuse_other(repair, plan)
                self._locks.check([plan.change])
            return [await self._carry_out(each) for each in planned]

        return await self._changes.exclusively(work)

    async def _plan(self, resources: Sequence[Resource]) -> list[Repaired]:
        planned: list[Repaired] = []
        for resource in resources:
            try:
                change = await self._run(lambda it=resource: self._resources.plan_repair(it))  # type: ignore[misc]
            except LvsError as error:
                planned.append(Repaired(change=Change(), error=error))
            else:
                planned.append(Repaired(change=change))
        return planned

    async def _carry_out(self, planned: Repaired) -> Repaired:
        change = planned.change
        if planned.error is not None or not change.made:
            return planned
        try:
            await self._neighbours.ask(change)
            await self._run(lambda: self._resources.repair(change))
            await self._confirm(change)
        except LvsError as error:
            return Repaired(change=Change(), error=error)
        return planned

    async def _confirm(self, change: Change) -> None:
        try:
            await self._neighbours.confirm(change)
        except LvsError:
            await self._run(lambda: self._resources.withdraw(change))
            raise
        await self._neighbours.announce(change)


def _check(wanted: Sequence[Repair]) -> None:
    if not 1 <= len(wanted) <= MAX_REPAIRS:
        raise InvalidInputError("repairs", f"repairs: {len(wanted)} are not 1 to {MAX_REPAIRS}")
    for each in wanted:
        if each.drift.kind is DriftKind.FOREIGN:
            raise InvalidInputError(
                "drift.kind", f"drift.kind: {each.drift.resource} is foreign, and is left alone; lvs adopt takes it in"
            )


def _refuse_other(repair: Repair, planned: Repaired) -> None:
    """Raise ConflictError if it is not what was shown; what is as committed by now needs no repair."""
    is_so = planned.error is None and not planned.change.made
    if repair.etag and repair.etag != planned.etag and not is_so:
        raise ConflictError(
            f"{repair.drift.resource} has changed since it was read",
            Reason.CHANGED_MEANWHILE,
            resource=str(repair.drift.resource),
        )
