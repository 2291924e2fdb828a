"""Carries out a plan: a loop over its steps that, on failure or Ctrl-C, takes back what was changed, last first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lvsagent.v1 import change_service_pb2

from agent_common.errors import UNFINISHED, InternalError, LvsError, Reason, RefusedError
from cli.client import AgentClient, Clients
from cli.drain import wait_until_drained
from cli.errors import Interrupted, NoAnswerError, text_of
from cli.outcome import StepReport, StepResult
from cli.plan import Step

_T = TypeVar("_T")

_REVERT_TRIES = 3

Failure = LvsError | NoAnswerError | Interrupted


class Interrupt:
    """Ctrl-C and SIGTERM, noticed between the calls: a call that is under way is always waited for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Note the operator's wish to stop."""
        self._event.set()

    def check(self) -> None:
        """Raise Interrupted if the operator wants to stop."""
        if self._event.is_set():
            raise Interrupted("interrupted")

    async def during(self, reading: Awaitable[_T]) -> _T:
        """Await something that changes nothing, or raise Interrupted at once when the operator wants to stop."""
        work, stop = asyncio.ensure_future(reading), asyncio.ensure_future(self._event.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        if self._event.is_set():
            work.cancel()
        stop.cancel()
        await asyncio.gather(work, stop, return_exceptions=True)
        self.check()
        return work.result()

    async def sleep(self, seconds: float) -> None:
        """Sleep, or raise Interrupted at once when the operator wants to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        self.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The step that failed, and why."""

    step: Step
    error: Failure


class Runner:
    """Runs steps and remembers those that may have changed something, in order, so that they can be taken back."""

    def __init__(
        self, clients: Clients, transaction: str, interrupt: Interrupt, report: Callable[[StepReport], None]
    ) -> None:
        self._clients = clients
        self._transaction = transaction
        self._interrupt = interrupt
        self._report = report
        self._made: list[tuple[Step, str]] = []
        self._forward = 0

    async def run(self, steps: Sequence[Step]) -> Failed | None:
        """Run the steps in order; return the one that failed, or None."""
        for number, step in enumerate(steps):
            change_id = f"{self._transaction}.{number}"
            try:
                self._interrupt.check()
                await self._run_step(step, change_id)
            except (LvsError, NoAnswerError, Interrupted) as error:
                if step.operations and _may_have_changed(error):
                    self._made.append((step, change_id))  # it is taken back like one that was made
                if not isinstance(error, NoAnswerError) or not error.sent or not step.operations:
                    why = (text_of(error),)
                    self._report(StepReport(agent=step.agent, title=step.title, result=StepResult.FAILED, details=why))
                return Failed(step=step, error=error)
        return None

    async def forward(self, step: Step) -> bool:
        """Run a step after the decision: a failure is reported, and nothing is taken back."""
        self._forward += 1
        change_id = f"{self._transaction}.f{self._forward}"
        try:
            await self._run_step(step, change_id)
        except (LvsError, NoAnswerError) as error:
            result = StepResult.UNKNOWN if isinstance(error, NoAnswerError) and error.sent else StepResult.FAILED
            self._report(StepReport(agent=step.agent, title=step.title, result=result, details=(text_of(error),)))
            return False
        return True

    async def wait(self, step: Step) -> None:
        """Wait as a step says; raises Interrupted, and reports an agent that does not answer."""
        try:
            await self._run_step(step, "")
        except (LvsError, NoAnswerError) as error:
            why = (text_of(error),)
            self._report(StepReport(agent=step.agent, title=step.title, result=StepResult.FAILED, details=why))

    async def undo(self) -> list[Step]:
        """Take back every change, the last first, whatever fails; return the steps of which something may be left.

        What stays because others need it by now is not ours any more, and does not count as left.
        """
        left = []
        for step, change_id in reversed(self._made):
            report = await self._undo_step(step, change_id)
            self._report(report)
            if report.result is StepResult.UNKNOWN:
                left.append(step)
        return left

    async def _run_step(self, step: Step, change_id: str) -> None:
        if step.listener is not None:
            await self._wait_until_ready(step)
            return
        if step.drained is not None:
            await self._wait_until_drained(step)
            return
        client = self._clients[step.agent]
        if len(step.operations) == 1:
            changes = [await client.apply(step.operations[0], change_id)]
        else:
            changes = await client.apply_all(step.operations, change_id)
        made = any(change.made for change in changes)
        if made:
            self._made.append((step, change_id))
        self._report(
            StepReport(
                agent=step.agent,
                title=step.title,
                result=StepResult.DONE if made else StepResult.IN_PLACE,
                details=tuple(line for change in changes for line in change.actions),
                warnings=tuple(line for change in changes for line in change.warnings),
            )
        )

    async def _wait_until_ready(self, step: Step) -> None:
        assert step.listener is not None  # noqa: S101  # the caller has looked
        deadline = time.monotonic() + step.seconds
        client = self._clients[step.agent]
        while True:
            wait = min(max(deadline - time.monotonic(), 0.0), self._clients.site.timeout)
            answer = await self._interrupt.during(client.check_listener(step.listener, wait))
            if answer.listening:
                break
            if time.monotonic() >= deadline:
                raise RefusedError(
                    f"nothing takes connections there after {step.seconds:g} s: {answer.detail}", Reason.IN_USE
                )
        warnings = (step.wildcard_warning,) if answer.wildcard and step.wildcard_warning else ()
        self._report(StepReport(agent=step.agent, title=step.title, result=StepResult.DONE, warnings=warnings))

    async def _wait_until_drained(self, step: Step) -> None:
        assert step.drained is not None  # noqa: S101  # the caller has looked
        server, destination = step.drained
        left = await wait_until_drained(
            self._clients[step.agent], server, destination, step.seconds, self._interrupt.sleep
        )
        warnings = (f"{left} connections of {destination} are cut",) if left else ()
        self._report(StepReport(agent=step.agent, title=step.title, result=StepResult.DONE, warnings=warnings))

    async def _revert(self, client: AgentClient, change_id: str) -> change_service_pb2.RevertChangeResponse:
        """Ask again where the agent is there but slow: it may still be busy with the very change (an ARP question)."""
        for _ in range(_REVERT_TRIES - 1):
            try:
                return await client.revert(change_id)
            except NoAnswerError as error:
                if not error.sent:
                    raise
        return await client.revert(change_id)

    async def _undo_step(self, step: Step, change_id: str) -> StepReport:
        title = f"undo: {step.undo or step.title}"
        try:
            answer = await self._revert(self._clients[step.agent], change_id)
        except (LvsError, NoAnswerError) as error:
            return StepReport(agent=step.agent, title=title, result=StepResult.UNKNOWN, details=(text_of(error),))
        kept = answer.outcome == change_service_pb2.REVERT_OUTCOME_KEPT
        result = StepResult.KEPT if kept else StepResult.UNDONE
        return StepReport(agent=step.agent, title=title, result=result, details=tuple(answer.details))


def _may_have_changed(error: Failure) -> bool:
    """Whether an agent may have done something all the same: no answer, a defect, or an undo of its own that failed."""
    if isinstance(error, NoAnswerError):
        return error.sent
    return isinstance(error, InternalError) or (isinstance(error, LvsError) and UNFINISHED in error.metadata)
