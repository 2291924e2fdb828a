"""remove-backend, from reading the agents to the outcome. A library: no printing, no typer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agent_common.errors import LvsError
from agent_common.virtual_server import IpAddress
from cli import plan_remove
from cli.errors import ExitStatus, Interrupted, NoAnswerError, text_of
from cli.facts import DirectorFacts, RealServerFacts
from cli.follow import Followed, follow
from cli.outcome import Outcome, StepReport, StepResult
from cli.plan import Step
from cli.plan_remove import Removal
from cli.preflight import read_real_server, validate_director
from cli.request import RemoveBackend
from cli.runner import again
from cli.site import Role, real_server
from cli.together import together
from cli.transaction_client import TransactionClient
from cli.typed import SAME_AGAIN, NextCommand, options_of
from cli.waits import wait_as
from cli.workflow import (
    Run,
    begin,
    carry_out,
    failures,
    read_directors,
    refused,
    reporter,
    to_resolve,
    until_undisturbed,
)


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
    directors = await together(
        validate_director(run.clients[each.agent], each, plan_remove.decided_operations(request, directors, each))
        for each in directors
    )
    answers = {address: facts for address, facts in zip(asked, found, strict=True) if facts is not None}
    return plan_remove.plan(request, directors, answers)


async def _read_real_server(
    request: RemoveBackend, run: Run, directors: Sequence[DirectorFacts], address: IpAddress
) -> RealServerFacts | None:
    """Read a real server; None if it does not answer and nothing says that it has anything to give back."""
    try:
        return await read_real_server(run.clients[real_server(address)], request.backend.key, ())
    except NoAnswerError:
        if plan_remove.may_be_gone(request, directors, address):
            return None
        raise


async def _carry_out(request: RemoveBackend, removal: Removal, run: Run, outcome: Outcome) -> Outcome:
    """Decide, wait for connections, and do what follows; where this process dies, `lvs txn resolve` goes on."""
    plan = removal.as_transaction()
    if not plan.steps and not plan.after:
        return _done(request, removal, outcome)
    await carry_out(plan, run, outcome, "")
    if outcome.status is not ExitStatus.DONE:
        return outcome
    report = reporter(run, outcome)
    try:
        await _wait(removal, run, report)
    except Interrupted:
        return _interrupted(request, run, outcome)
    followed = await follow(plan.after, run.clients, report)
    if followed.left:
        return _unfinished(removal, followed, run, outcome)
    if plan.after:
        await _finish(run, outcome)
    return _done(request, removal, outcome)


async def _wait(removal: Removal, run: Run, report: Callable[[StepReport], None]) -> None:
    """Wait for every destination at once; an agent that does not answer is met again at the removal."""

    async def wait(step: Step) -> None:
        try:
            report(await wait_as(step, run.clients, run.interrupt))
        except (LvsError, NoAnswerError) as error:
            why = (text_of(error),)
            report(StepReport(agent=step.agent, title=step.title, result=StepResult.FAILED, details=why))

    answers = await asyncio.gather(*(wait(step) for step in removal.waits), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer


async def _finish(run: Run, outcome: Outcome) -> None:
    """Have the authority note that all is done; where it does not answer, only that note is missing."""
    client = TransactionClient(run.clients[run.clients.site.director_names()[0]])
    try:
        await again(lambda: client.finish(run.transaction))
    except (LvsError, NoAnswerError) as error:
        outcome.warnings.append(f"all is done, but the first director does not know it yet: {text_of(error)}")
        outcome.commands.append(to_resolve(run.transaction))


def _done(request: RemoveBackend, removal: Removal, outcome: Outcome) -> Outcome:
    names = ", ".join(str(key) for key in removal.removed)
    changed = any(step.result is StepResult.DONE for step in outcome.steps)
    outcome.message = "nothing to remove"
    if changed:
        outcome.message = f"{names} removed from {request.backend.key}" if names else "what was left is removed"
    return outcome


def _interrupted(request: RemoveBackend, run: Run, outcome: Outcome) -> Outcome:
    outcome.status = ExitStatus.UNFINISHED
    names = ", ".join(str(key) for key in request.backend.real_servers)
    outcome.message = f"interrupted while {names} drains: it stays behind {request.backend.key} with weight 0"
    outcome.commands.append(to_resolve(run.transaction, "to go on"))
    outcome.commands.append(NextCommand(purpose="to cancel", command=f"lvs undrain {options_of(request.backend)}"))
    return outcome


def _unfinished(removal: Removal, followed: Followed, run: Run, outcome: Outcome) -> Outcome:
    outcome.status = ExitStatus.UNFINISHED
    if followed.cancelled:
        outcome.message = (
            "given up: the drain was ended meanwhile, and the destination takes connections again; "
            "what else was drained stays so"
        )
        outcome.commands.append(NextCommand(purpose="to remove it all the same", command=SAME_AGAIN))
        return outcome
    outcome.message = f"not finished: {failures(outcome)}"
    if removal.releases and followed.left[0].agent.role is Role.DIRECTOR:
        outcome.message += "; the real servers keep the VIP, since a director may still send them clients"
    outcome.commands.append(to_resolve(run.transaction))
    return outcome


def _without_agents(request: RemoveBackend) -> NextCommand:
    options = " --no-drain" if request.drain_timeout is None else ""
    options += " --prune" if request.prune else ""
    options += " --force" if request.force else ""
    return NextCommand(
        purpose="if that real server is gone for good",
        command=f"lvs remove-backend {options_of(request.backend)} --no-rs-agent{options}",
    )
