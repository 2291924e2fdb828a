"""What the workflows share: one run of a plan, with undo, and how it ends. A library: no printing, no typer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from agent_common.errors import LvsError
from cli.client import Clients
from cli.errors import ExitStatus, Interrupted, NoAnswerError, status_of, text_of
from cli.facts import DirectorFacts
from cli.outcome import Outcome, StepReport, StepResult
from cli.plan import Plan
from cli.preflight import read_director
from cli.request import Backend
from cli.runner import Failed, Interrupt, Runner
from cli.typed import NextCommand, once_all_run, suggested

_T = TypeVar("_T")


def _ignore(_: object) -> None:
    """The default of callbacks: a library does not print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a workflow: connections, the wish to stop, and whom to tell of plan and steps as they happen."""

    clients: Clients
    interrupt: Interrupt
    on_plan: Callable[[Plan], None] = _ignore
    on_step: Callable[[StepReport], None] = _ignore
    transaction: str = field(default_factory=lambda: str(uuid.uuid4()))
    dry_run: bool = False


async def read_directors(backend: Backend, run: Run) -> list[DirectorFacts]:
    """Read every director, the authority first."""
    addresses = list(dict.fromkeys(key.address for key in backend.real_servers))
    names = run.clients.site.director_names()
    return await together(read_director(run.clients[name], backend.key, addresses) for name in names)


def begin(plan: Plan, run: Run, outcome: Outcome) -> bool:
    """Tell of the plan and of what was found as it is; return whether the plan is to be carried out."""
    outcome.warnings.extend(plan.warnings)
    outcome.commands.extend(plan.commands)
    run.on_plan(plan)
    if run.dry_run:
        outcome.plan = plan.lines()
        outcome.message = "dry run: nothing was changed"
        return False
    for report in plan.found:
        outcome.steps.append(report)
        run.on_step(report)
    return True


async def carry_out(plan: Plan, run: Run, outcome: Outcome, done: str, if_left: NextCommand) -> Outcome:
    """Carry out a plan: on failure before the decision take it back, afterwards go on.

    done is the message of a good end, if_left what to type when an agent was lost and something may be left.
    """
    runner = make_runner(run, outcome)
    failed = await runner.run(plan.steps)
    if failed is not None:
        return await undo(runner, failed, outcome, if_left)
    ended = [await runner.forward(step) for step in plan.following]
    outcome.message = done
    if not all(ended):
        outcome.status = ExitStatus.UNFINISHED
        outcome.message = f"decided, but not yet done everywhere: {failures(outcome)}"
        outcome.commands.append(once_all_run())
    return outcome


async def undo(runner: Runner, failed: Failed, outcome: Outcome, if_left: NextCommand) -> Outcome:
    """Take back what was made before a step failed, and say what is true now."""
    left = await runner.undo()
    outcome.message = _why(failed)
    if not left:
        outcome.status = ExitStatus.ROLLED_BACK
        kept = any(step.result is StepResult.KEPT for step in outcome.steps)
        outcome.message += "; everything is as it was before" + (", except what is marked kept" if kept else "")
        return outcome
    outcome.status = ExitStatus.UNFINISHED
    outcome.message += "; not everything could be taken back"
    for step in left:
        outcome.warnings.append(f"perhaps left on {step.agent}, by: {'; '.join(step.details) or step.title}")
    outcome.commands.append(if_left)
    return outcome


def failures(outcome: Outcome) -> str:
    """Return the steps that failed, or of which nobody knows, as one line."""
    bad = [step for step in outcome.steps if step.result in (StepResult.FAILED, StepResult.UNKNOWN)]
    return "; ".join(f"{step.agent}: {step.title}" for step in bad)


def make_runner(run: Run, outcome: Outcome) -> Runner:
    """Return a runner whose reports go into the outcome and to whoever listens."""

    def report(step: StepReport) -> None:
        outcome.steps.append(step)
        run.on_step(step)

    return Runner(run.clients, run.transaction, run.interrupt, report)


def refused(outcome: Outcome, error: LvsError | NoAnswerError | Interrupted) -> Outcome:
    """Fill in the outcome of a command that ended before it changed anything."""
    if isinstance(error, Interrupted):
        outcome.status, outcome.message = ExitStatus.ROLLED_BACK, "interrupted; nothing was changed"
        return outcome
    outcome.status = status_of(error)
    if isinstance(error, LvsError):
        outcome.commands.extend(suggested(error))
    text = text_of(error)
    outcome.message = text if outcome.status is ExitStatus.USAGE else f"{text}; nothing was changed"
    return outcome


async def together(questions: Iterable[Awaitable[_T]]) -> list[_T]:
    """Await several questions at once; the first failure is raised after all have ended."""
    asked: list[asyncio.Future[_T]] = []
    try:
        asked.extend(asyncio.ensure_future(question) for question in questions)
    except BaseException:  # one of them could not even be asked
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        raise
    answers = await asyncio.gather(*asked, return_exceptions=True)
    good: list[_T] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        good.append(answer)
    return good


def _why(failed: Failed) -> str:
    if isinstance(failed.error, Interrupted):
        return f"interrupted before: {failed.step.agent}: {failed.step.title}"
    text = failed.error.message if isinstance(failed.error, LvsError) else failed.error.why
    if not failed.step.operations:
        return f"failed on {failed.step.agent}: {failed.step.title}: {text}"
    return f"cannot {failed.step.title} on {failed.step.agent}: {text}"
