"""remove-backend, from reading the agents to the outcome. A library: no printing, no typer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent_common.errors import LvsError
from agent_common.virtual_server import IpAddress
from cli import plan_remove
from cli.errors import ExitStatus, Interrupted, NoAnswerError
from cli.facts import DirectorFacts, RealServerFacts
from cli.outcome import Outcome, StepResult
from cli.plan_remove import Removal
from cli.preflight import read_real_server
from cli.request import RemoveBackend
from cli.runner import Runner
from cli.site import Role, real_server
from cli.together import together
from cli.typed import SAME_AGAIN, NextCommand, once_all_run, options_of
from cli.workflow import Run, begin, failures, make_runner, read_directors, refused, undo, until_undisturbed


async def remove_backend(request: RemoveBackend, run: Run) -> Outcome:
    """Take real servers out from behind a virtual server: drain, wait, remove, give the VIP back.

    Returns the outcome with its exit status; raises nothing that an operator could be told.
    """
    return await until_undisturbed(run, lambda run: _attempt(request, run))


async def _attempt(request: RemoveBackend, run: Run) -> Outcome:
    outcome = Outcome(transaction=run.transaction)
    try:
        removal = await run.interrupt.during(plan_remove_backend(request, run))
    except (LvsError, NoAnswerError, Interrupted) as error:
        if isinstance(error, NoAnswerError) and error.agent.startswith(Role.REAL_SERVER):
            outcome.commands.append(_without_agents(request))
        return refused(outcome, error)
    if not begin(removal.as_plan(), run, outcome):
        return outcome
    return await _carry_out(request, removal, run, outcome)


async def plan_remove_backend(request: RemoveBackend, run: Run) -> Removal:
    """Read every agent and return what a removal does; raises what forbids it."""
    directors = await read_directors(request.backend, run)
    addresses = list(dict.fromkeys(key.address for key in request.backend.real_servers))
    asked = [each for each in addresses if plan_remove.asks_real_server(request, directors, each)]
    found = await together(_read_real_server(request, run, directors, each) for each in asked)
    answers = {address: facts for address, facts in zip(asked, found, strict=True) if facts is not None}
    return plan_remove.plan(request, directors, answers)


async def _read_real_server(
    request: RemoveBackend, run: Run, directors: Sequence[DirectorFacts], address: IpAddress
) -> RealServerFacts | None:
    """Read a real server; None if it does not answer and nothing says that it has anything to give back."""
    try:
        return await read_real_server(run.clients[real_server(address)], request.backend.key.address, None)
    except NoAnswerError:
        if plan_remove.may_be_gone(request, directors, address):
            return None
        raise


async def _carry_out(request: RemoveBackend, removal: Removal, run: Run, outcome: Outcome) -> Outcome:
    runner = make_runner(run, outcome)
    # Where the drain has begun before, that was the decision; its connections are waited for all the same.
    has_wait = bool(removal.drains or removal.waits)
    decision, *others = (removal.drains if has_wait else removal.deletes) or (None,)
    if decision is not None:
        failed = await runner.run([decision])
        if failed is not None:
            return await undo(runner, failed, outcome, once_all_run())
    drained = [await runner.forward(step) for step in others] if has_wait else []
    try:
        await _wait(runner, removal)
    except Interrupted:
        return _interrupted(request, outcome)
    deletes = removal.deletes if has_wait else others
    deleted = [await runner.forward(step) for step in deletes]
    if all(drained) and all(deleted):
        released = [await runner.forward(step) for step in (*removal.releases, *removal.prunes)]
        if all(released):
            return _done(request, removal, outcome)
    return _unfinished(removal, outcome)


async def _wait(runner: Runner, removal: Removal) -> None:
    """Wait for every destination at once; an agent that does not answer is met again at the removal."""
    answers = await asyncio.gather(*(runner.wait(step) for step in removal.waits), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer


def _done(request: RemoveBackend, removal: Removal, outcome: Outcome) -> Outcome:
    names = ", ".join(str(key) for key in removal.removed)
    changed = any(step.result is StepResult.DONE for step in outcome.steps)
    outcome.message = "nothing to remove"
    if changed:
        outcome.message = f"{names} removed from {request.backend.key}" if names else "what was left is removed"
    return outcome


def _interrupted(request: RemoveBackend, outcome: Outcome) -> Outcome:
    outcome.status = ExitStatus.UNFINISHED
    names = ", ".join(str(key) for key in request.backend.real_servers)
    outcome.message = f"interrupted while {names} drains: it stays behind {request.backend.key} with weight 0"
    outcome.commands.append(NextCommand(purpose="to go on", command=SAME_AGAIN))
    outcome.commands.append(NextCommand(purpose="to cancel", command=f"lvs undrain {options_of(request.backend)}"))
    return outcome


def _unfinished(removal: Removal, outcome: Outcome) -> Outcome:
    outcome.status = ExitStatus.UNFINISHED
    outcome.message = f"not finished: {failures(outcome)}"
    bad = [step for step in outcome.steps if step.result in (StepResult.FAILED, StepResult.UNKNOWN)]
    if removal.releases and bad and bad[0].agent.role is Role.DIRECTOR:
        outcome.message += "; the real servers keep the VIP, since a director may still send them clients"
    outcome.commands.append(once_all_run())
    return outcome


def _without_agents(request: RemoveBackend) -> NextCommand:
    options = " --no-drain" if request.drain_timeout is None else ""
    options += " --prune" if request.prune else ""
    options += " --force" if request.force else ""
    return NextCommand(
        purpose="if that real server is gone for good",
        command=f"lvs remove-backend {options_of(request.backend)} --no-rs-agent{options}",
    )
