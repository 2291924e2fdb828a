"""remove-backend, from reading the agents to the outcome. A library: no printing, no typer."""

from __future__ import annotations

import asyncio

from agent_common.errors import LvsError
from cli import plan_remove
from cli.errors import ExitStatus, Interrupted, NoAnswerError
from cli.outcome import Outcome, StepResult
from cli.plan_add import target
from cli.plan_remove import Removal
from cli.preflight import read_real_server
from cli.request import RemoveBackend
from cli.runner import Runner
from cli.site import Role, real_server
from cli.workflow import Run, begin, make_runner, read_directors, refused, together, undo


async def remove_backend(request: RemoveBackend, run: Run) -> Outcome:
    """Take real servers out from behind a virtual server: drain, wait, remove, give the VIP back.

    Returns the outcome with its exit status; raises nothing that an operator could be told.
    """
    outcome = Outcome(transaction=run.transaction)
    try:
        removal = await plan_remove_backend(request, run)
    except (LvsError, NoAnswerError, Interrupted) as error:
        ended = refused(outcome, error)
        if isinstance(error, NoAnswerError) and error.agent.startswith(Role.REAL_SERVER):
            ended.message += "; if that real server is gone for good, use --no-rs-agent"
        return ended
    if not begin(removal.as_plan(), run, outcome):
        return outcome
    return await _carry_out(request, removal, run, outcome)


async def plan_remove_backend(request: RemoveBackend, run: Run) -> Removal:
    """Read every agent and return what a removal does; raises what forbids it."""
    directors = await read_directors(request.backend, run)
    addresses = list(dict.fromkeys(key.address for key in request.backend.real_servers))
    asked = [each for each in addresses if plan_remove.asks_real_server(request, directors, each)]
    vip = request.backend.key.address
    found = await together(read_real_server(run.clients[real_server(each)], vip, None) for each in asked)
    run.interrupt.check()
    return plan_remove.plan(request, directors, dict(zip(asked, found, strict=True)))


async def _carry_out(request: RemoveBackend, removal: Removal, run: Run, outcome: Outcome) -> Outcome:
    runner = make_runner(run, outcome)
    # Where the drain has begun before, that was the decision; its connections are waited for all the same.
    has_wait = bool(removal.drains or removal.waits)
    decision, *others = (removal.drains if has_wait else removal.deletes) or (None,)
    if decision is not None:
        failed = await runner.run([decision])
        if failed is not None:
            return await undo(runner, failed, outcome)
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
            return _done(request, outcome)
    return _unfinished(request, removal, outcome)


async def _wait(runner: Runner, removal: Removal) -> None:
    """Wait for every destination at once; an agent that does not answer is met again at the removal."""
    answers = await asyncio.gather(*(runner.wait(step) for step in removal.waits), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer


def _done(request: RemoveBackend, outcome: Outcome) -> Outcome:
    names = ", ".join(str(key) for key in request.backend.real_servers)
    changed = any(step.result is StepResult.DONE for step in outcome.steps)
    outcome.message = f"{names} removed from {request.backend.key}" if changed else "nothing to remove"
    return outcome


def _interrupted(request: RemoveBackend, outcome: Outcome) -> Outcome:
    outcome.status = ExitStatus.UNFINISHED
    names = ", ".join(str(key) for key in request.backend.real_servers)
    outcome.message = f"interrupted while {names} drains: it stays behind {request.backend.key} with weight 0"
    outcome.commands.append(f"go on: {_command(request)}")
    options = " ".join(f"--rs {key}" for key in request.backend.real_servers)
    outcome.commands.append(f"cancel: lvs undrain {target(request.backend.key)} {options}")
    return outcome


def _unfinished(request: RemoveBackend, removal: Removal, outcome: Outcome) -> Outcome:
    outcome.status = ExitStatus.UNFINISHED
    bad = [step for step in outcome.steps if step.result in (StepResult.FAILED, StepResult.UNKNOWN)]
    outcome.message = "not finished: " + "; ".join(f"{step.agent}: {step.title}" for step in bad)
    if removal.releases and bad and bad[0].agent.role is Role.DIRECTOR:
        outcome.message += "; the real servers keep the VIP, since a director may still send them clients"
    outcome.commands.append(f"once every agent runs again: {_command(request)}")
    return outcome


def _command(request: RemoveBackend) -> str:
    options = " ".join(f"--rs {key}" for key in request.backend.real_servers)
    return f"lvs remove-backend {target(request.backend.key)} {options}" + (" --prune" if request.prune else "")
