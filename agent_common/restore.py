"""Brings back what was committed and the kernel has lost (promise P6), and remembers what could not be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from agent_common.errors import ConflictError, LvsError
from agent_common.held_vip import HeldVips
from agent_common.locks import Locks
from agent_common.neighbours import Neighbours
from agent_common.operation import Change
from agent_common.state import State
from agent_common.virtual_server import IpAddress, parse_address
from agent_common.worker import Run

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is not as it was committed, for people, and whether that is still so."""

    text: str
    stands: Callable[[], bool]


class Problems:
    """What is wrong with the journal, and what was found at start until it is mended. Belongs to the worker thread."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._found: list[Problem] = []

    def add(self, text: str, stands: Callable[[], bool] = lambda: True) -> None:
        """Note a problem, once, in the log too."""
        if all(problem.text != text for problem in self._found):
            _log.warning("degraded: %s", text)
            self._found.append(Problem(text=text, stands=stands))

    def add_all(self, texts: Iterable[str]) -> None:
        """Note problems that stand until the agent starts again."""
        for text in texts:
            self.add(text)

    def texts(self) -> list[str]:
        """Return what still stands."""
        self._found = [problem for problem in self._found if problem.stands()]
        return [*self._state.problems(), *(problem.text for problem in self._found)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """How many VIPs were missing, how many of those are back, and how many were left since a transaction has them."""

    tried: int = 0
    back: int = 0
    locked: int = 0


async def restore_vips(
    vips: HeldVips, neighbours: Neighbours, run: Run, problems: Problems, locks: Locks | None = None
) -> Restored:
    """Put back the VIPs that are missing, all of them asked for at once, and announce them.

    One that another host answers for stays away, and is a problem; with locks one that a transaction has is left.
    """
    restoring = _Restoring(vips, problems, locks)
    planned = await run(restoring.plan)
    refusals = await _ask(neighbours.ask, planned)
    written = await run(lambda: restoring.write(planned, refusals))
    refusals = await _ask(neighbours.confirm, written)
    for change, refusal in zip(written, refusals, strict=True):
        if refusal is None:
            await neighbours.announce(change)
    back = await run(lambda: restoring.note(written, refusals))
    return Restored(tried=len(planned), back=back, locked=restoring.locked)


class _Restoring:
    """The parts of it that belong to the worker thread."""

    def __init__(self, vips: HeldVips, problems: Problems, locks: Locks | None) -> None:
        self._vips = vips
        self._problems = problems
        self._locks = locks
        self.locked = 0

    def plan(self) -> list[Change]:
        """Return what is missing."""
        planned = []
        for vip in self._vips.list_all():
            try:
                change = self._vips.plan_restore(vip.address)
            except LvsError as error:
                self._failed(vip.address, error)
                continue
            if change.made and not self._is_locked(change):
                planned.append(change)
        return planned

    def _is_locked(self, change: Change) -> bool:
        if self._locks is None:
            return False
        try:
            self._locks.check([change])
        except ConflictError:
            self.locked += 1
            return True
        return False

    def write(self, planned: Sequence[Change], refusals: Sequence[LvsError | None]) -> list[Change]:
        """Put back what nobody else has; return what is there now."""
        written = []
        for change, refusal in zip(planned, refusals, strict=True):
            address = parse_address(change.vip.after.address, "vip")
            if refusal is not None:
                self._failed(address, refusal)
                continue
            try:
                self._vips.restore(change.vip)
            except LvsError as error:
                self._failed(address, error)
            else:
                written.append(change)
        return written

    def note(self, written: Sequence[Change], refusals: Sequence[LvsError | None]) -> int:
        """Take off again what turned out to be another host's, and note it; return how many did not."""
        for change, refusal in zip(written, refusals, strict=True):
            if refusal is not None:
                self._vips.withdraw(change.vip)
                self._failed(parse_address(change.vip.after.address, "vip"), refusal)
        return sum(refusal is None for refusal in refusals)

    def _failed(self, address: IpAddress, error: LvsError) -> None:
        self._problems.add(f"VIP {address} is not restored: {error.message}", lambda: self._is_missing(address))

    def _is_missing(self, address: IpAddress) -> bool:
        try:
            # A tentative address is one that a further try has just added: what came of the last one still holds.
            return self._vips.plan_restore(address).made or self._vips.is_tentative(address)
        except LvsError:
            return True


async def _ask(question: Callable[[Change], Awaitable[None]], changes: Sequence[Change]) -> list[LvsError | None]:
    """Ask the neighbours about all changes at once; return what each answer was, None for no objection."""
    answers = await asyncio.gather(*(question(change) for change in changes), return_exceptions=True)
    for answer in answers:
        if answer is not None and not isinstance(answer, LvsError):
            raise answer
    return [answer if isinstance(answer, LvsError) else None for answer in answers]
