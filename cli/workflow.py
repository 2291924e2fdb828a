"""What the workflows share: one run of a plan, with undo, and how it ends. A library: no printing, no typer."""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from agent_common.errors import ConflictError, LvsError, Reason
from cli.client import Clients
from cli.coordinator import Coordinator
from cli.errors import ExitStatus, Interrupted, NoAnswerError, status_of, text_of
from cli.facts import DirectorFacts
from cli.interrupt import Interrupt
from cli.outcome import Outcome, StepReport, StepResult
from cli.plan import Plan, Step
from cli.preflight import read_director
from cli.request import Backend
from cli.resolve import resolve_one
from cli.runner import Failed, Runner
from cli.site import AgentName
from cli.together import together
from cli.transaction_client import TransactionClient
from cli.typed import NextCommand, once_all_run, suggested

_CONFLICTS = (Reason.LOCKED, Reason.CHANGED_MEANWHILE)


Confirm = Callable[[Plan], Awaitable[bool]]
"""Shows a plan to whoever is to say whether it shall be carried out, and returns the answer."""


def _ignore(_: object) -> None:
    """The default of callbacks: a library does not print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a workflow: connections, the wish to stop, and whom to tell of plan and steps as they happen.

    lease is how many seconds the coordinator may be silent before others undo what it has begun.
    """

    clients: Clients
    interrupt: Interrupt
    on_plan: Callable[[Plan], None] = _ignore
    on_step: Callable[[StepReport], None] = _ignore
    transaction: str = field(default_factory=lambda: str(uuid.uuid4()))
    dry_run: bool = False
    lease: float = 60.0


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


async def until_undisturbed(run: Run, attempt: Callable[[Run], Awaitable[Outcome]]) -> Outcome:
    """Plan and try again while others change the same things, under a new name each time, for --lock-timeout."""
    deadline = time.monotonic() + run.clients.site.lock_timeout
    while True:
        outcome = await attempt(run)
        if outcome.status is not ExitStatus.CONFLICT or time.monotonic() >= deadline:
            if outcome.locked_by:
                outcome.commands.append(to_resolve(outcome.locked_by, "to finish that one, if its lvs is gone"))
            return outcome
        if outcome.locked_by:
            await resolve_blocking(outcome.locked_by, run)
        try:
            await run.interrupt.sleep(random.uniform(0.1, 0.5))  # noqa: S311  # others must not try in step
        except Interrupted:
            return outcome
        run = replace(run, transaction=str(uuid.uuid4()))


async def resolve_blocking(name: str, run: Run) -> None:
    """Finish a transaction that stands in the way, if its coordinator is gone."""
    directors: dict[str, AgentName] = {}
    found = []
    for agent in run.clients.site.director_names():
        with contextlib.suppress(LvsError, NoAnswerError):
            directors[(await run.clients[agent].host()).agent_id] = agent
            found.append(await TransactionClient(run.clients[agent]).get(name))
    if found:
        await resolve_one(run.clients, found[0], directors, run.on_step)


async def run_steps(steps: Sequence[Step], run: Run, outcome: Outcome, done: str) -> Outcome:
    """Carry out steps that are changes of their own, one after the other; a failure takes back those before it.

    done is the message of a good end.
    """
    runner = make_runner(run, outcome)
    failed = await runner.run(steps)
    if failed is not None:
        return await undo(runner, failed, outcome, once_all_run())
    outcome.message = done
    return outcome


async def carry_out(plan: Plan, run: Run, outcome: Outcome, done: str) -> Outcome:
    """Carry out a plan as one transaction: a failure before the decision takes it back, afterwards it goes forward.

    done is the message of a good end.
    """
    coordinator = Coordinator(
        run.clients,
        run.transaction,
        run.interrupt,
        reporter(run, outcome),
        lease=run.lease,
        lock_timeout=run.clients.site.lock_timeout,
    )
    ending = await coordinator.run(plan)
    if ending.failed is not None:
        return ended_undone(ending.failed, ending.left, outcome, to_resolve(run.transaction))
    outcome.message = done
    if ending.unknown:
        outcome.message = "nobody knows whether it was decided: the first director does not answer"
    elif ending.left:
        outcome.message = f"decided, but not yet done everywhere: {failures(outcome)}"
    elif ending.edited and not plan.after:  # what is to be removed may be gone
        outcome.status = ExitStatus.UNFINISHED
        outcome.message = f"decided, but changed by hand meanwhile: {'; '.join(ending.edited)}"
        outcome.commands.append(NextCommand(purpose="to see what was changed by hand", command="lvs drift"))
    if ending.unknown or ending.left:
        outcome.status = ExitStatus.UNFINISHED
        outcome.commands.append(to_resolve(run.transaction))
    return outcome


def to_resolve(transaction: str, purpose: str = "to finish, once every agent runs again") -> NextCommand:
    """Return how to finish what was interrupted: whatever was decided is carried to every agent."""
    return NextCommand(purpose=purpose, command=f"lvs txn resolve {transaction} --wait")


async def undo(runner: Runner, failed: Failed, outcome: Outcome, if_left: NextCommand) -> Outcome:
    """Take back what was made before a step failed, and say what is true now."""
    return ended_undone(failed, await runner.undo(), outcome, if_left)


def ended_undone(failed: Failed, left: Sequence[Step], outcome: Outcome, if_left: NextCommand) -> Outcome:
    """Say why it failed, and whether something may be left."""
    outcome.message = _why(failed)
    outcome.locked_by = _locked_by(failed.error)
    if not left:
        is_conflict = isinstance(failed.error, ConflictError) and failed.error.reason in _CONFLICTS
        outcome.status = ExitStatus.CONFLICT if is_conflict else ExitStatus.ROLLED_BACK
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
    return Runner(run.clients, run.transaction, run.interrupt, reporter(run, outcome))


def reporter(run: Run, outcome: Outcome) -> Callable[[StepReport], None]:
    """Return what puts reports into the outcome and tells whoever listens."""

    def report(step: StepReport) -> None:
        outcome.steps.append(step)
        run.on_step(step)

    return report


def refused(outcome: Outcome, error: LvsError | NoAnswerError | Interrupted) -> Outcome:
    """Fill in the outcome of a command that ended before it changed anything."""
    if isinstance(error, Interrupted):
        outcome.status, outcome.message = ExitStatus.ROLLED_BACK, "interrupted; nothing was changed"
        return outcome
    outcome.status = status_of(error)
    outcome.locked_by = _locked_by(error)
    if isinstance(error, LvsError):
        outcome.commands.extend(suggested(error))
    text = text_of(error)
    outcome.message = text if outcome.status is ExitStatus.USAGE else f"{text}; nothing was changed"
    return outcome


def _locked_by(error: object) -> str:
    """Return the transaction whose lock was met, or ""."""
    if isinstance(error, ConflictError) and error.reason is Reason.LOCKED:
        return error.metadata.get("transaction", "")
    return ""


def _why(failed: Failed) -> str:
    if isinstance(failed.error, Interrupted):
        return f"interrupted before: {failed.step.agent}: {failed.step.title}"
    text = failed.error.message if isinstance(failed.error, LvsError) else failed.error.why
    if not failed.step.operations:
        return f"failed on {failed.step.agent}: {failed.step.title}: {text}"
    return f"cannot {failed.step.title} on {failed.step.agent}: {text}"
