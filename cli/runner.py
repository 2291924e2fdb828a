"""Carries out a plan: a loop over its steps that, on failure or Ctrl-C, takes back what was changed, last first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lvsagent.v1 import change_service_pb2

from agent_common.errors import LvsError
from cli.client import Clients
from cli.errors import Failure, Interrupted, NoAnswerError, may_have_changed, text_of
from cli.interrupt import Interrupt
from cli.outcome import StepReport, StepResult
from cli.plan import Step, report_made
from cli.waits import wait_as

_T = TypeVar("_T")

TRIES = 3
"""So often an agent is asked that gives no answer, where only that is missing: after the decision, and to undo."""


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

    async def run(self, steps: Sequence[Step]) -> Failed | None:
        """Run the steps in order; return the one that failed, or None."""
        for number, step in enumerate(steps):
            change_id = f"{self._transaction}.{number}"
            try:
                self._interrupt.check()
                await self._run_step(step, change_id)
            except (LvsError, NoAnswerError, Interrupted) as error:
                if step.operations and may_have_changed(error):
                    self._made.append((step, change_id))  # it is taken back like one that was made
                if not isinstance(error, NoAnswerError) or not error.sent or not step.operations:
                    why = (text_of(error),)
                    self._report(StepReport(agent=step.agent, title=step.title, result=StepResult.FAILED, details=why))
                return Failed(step=step, error=error)
        return None

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
        if not step.operations:
            self._report(await wait_as(step, self._clients, self._interrupt))
            return
        client = self._clients[step.agent]
        if len(step.operations) == 1:
            changes = [await client.apply(step.operations[0], change_id)]
        else:
            changes = await client.apply_all(step.operations, change_id)
        if any(change.made for change in changes):
            self._made.append((step, change_id))
        self._report(report_made(step, changes))

    async def _undo_step(self, step: Step, change_id: str) -> StepReport:
        title = f"undo: {step.undo or step.title}"
        try:
            is_table = any(operation.HasField("apply_table") for operation in step.operations)
            answer = await again(lambda: self._clients[step.agent].revert(change_id, is_table=is_table))
        except (LvsError, NoAnswerError) as error:
            return StepReport(agent=step.agent, title=title, result=StepResult.UNKNOWN, details=(text_of(error),))
        kept = answer.outcome == change_service_pb2.REVERT_OUTCOME_KEPT
        result = StepResult.KEPT if kept else StepResult.UNDONE
        return StepReport(agent=step.agent, title=title, result=result, details=tuple(answer.details))


async def again(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Ask again where the agent is there but slow: it may still be busy with the very change (an ARP question)."""
    for _ in range(TRIES - 1):
        try:
            return await ask()
        except NoAnswerError as error:
            if not error.sent:
                raise
    return await ask()
