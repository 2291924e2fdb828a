"""The workflows as a library: no printing, no typer. Each takes a request and returns an Outcome."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from agent_common.errors import InvalidInputError, LvsError
from agent_common.vip import VipMode
from agent_common.virtual_server import IpAddress
from cli import add_backend as adding
from cli.client import Clients
from cli.errors import ExitStatus, Interrupted, NoAnswerError, status_of
from cli.facts import DirectorFacts, RealServerFacts
from cli.outcome import Outcome, StepReport, StepResult
from cli.plan import Plan
from cli.preflight import read_director, read_real_server, validate_director
from cli.request import AddBackend
from cli.runner import Failed, Interrupt, Runner
from cli.site import real_server

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


async def add_backend(request: AddBackend, run: Run) -> Outcome:
    """Put real servers behind a virtual server, on all hosts or on none.

    Returns the outcome with its exit status; raises nothing that an operator could be told.
    """
    outcome = Outcome(transaction=run.transaction)
    try:
        plan = await plan_add_backend(request, run)
    except (LvsError, NoAnswerError, Interrupted) as error:
        return refused(outcome, error)
    outcome.warnings.extend(plan.warnings)
    run.on_plan(plan)
    names = ", ".join(str(key) for key in request.backend.real_servers)
    if run.dry_run:
        outcome.message = "dry run: nothing was changed"
        return outcome
    if not plan.steps:
        outcome.message = f"nothing to do: {names} in place behind {request.backend.key}"
        return outcome
    return await run_with_undo(plan, run, outcome, f"{names} added behind {request.backend.key}")


async def plan_add_backend(request: AddBackend, run: Run) -> Plan:
    """Read every agent and return the plan; raises what forbids it."""
    clients = run.clients
    names = clients.site.director_names()
    if request.vip_mode is VipMode.AGENT and len(names) > 1:
        raise InvalidInputError(
            "vip_mode", "vip_mode: agent with several directors would make two hosts answer for one VIP; use external"
        )
    addresses = list(dict.fromkeys(key.address for key in request.backend.real_servers))
    directors = await together(read_director(clients[name], request.backend.key, addresses) for name in names)
    authority = directors[0].host.agent_id
    wanted = adding.director_operations(request, authority, len(names))
    asked = [
        address
        for address in addresses
        if request.ask_real_servers and not any(facts.route(address).local for facts in directors)
    ]
    validated, prepared = await asyncio.gather(
        together(validate_director(clients[facts.agent], facts, wanted) for facts in directors),
        together(_read_real_server(request, run, directors, address) for address in asked),
    )
    run.interrupt.check()
    return adding.plan(request, validated, dict(zip(asked, prepared, strict=True)))


async def run_with_undo(plan: Plan, run: Run, outcome: Outcome, done: str) -> Outcome:
    """Carry out a plan whose steps can all be taken back; on failure take them back."""

    def report(step: StepReport) -> None:
        outcome.steps.append(step)
        run.on_step(step)

    runner = Runner(run.clients, run.transaction, run.interrupt, report)
    failed = await runner.run(plan.steps)
    if failed is None:
        outcome.message = done
        return outcome
    clean = await runner.undo()
    outcome.message = _why(failed)
    if clean:
        outcome.status = ExitStatus.ROLLED_BACK
        outcome.message += "; everything is as it was before"
        return outcome
    outcome.status = ExitStatus.UNFINISHED
    left = [step for step in outcome.steps if step.result is StepResult.UNKNOWN]
    outcome.message += "; not everything could be taken back: " + "; ".join(
        f"{step.agent}: {step.title.removeprefix('undo: ')}" for step in left
    )
    return outcome


def refused(outcome: Outcome, error: LvsError | NoAnswerError | Interrupted) -> Outcome:
    """Fill in the outcome of a command that ended before it changed anything."""
    if isinstance(error, Interrupted):
        outcome.status, outcome.message = ExitStatus.ROLLED_BACK, "interrupted; nothing was changed"
        return outcome
    outcome.status = status_of(error)
    text = error.message if isinstance(error, LvsError) else str(error)
    outcome.message = text if outcome.status is ExitStatus.USAGE else f"{text}; nothing was changed"
    return outcome


async def together(questions: Iterable[Awaitable[_T]]) -> list[_T]:
    """Await several questions at once; the first failure is raised after all have ended."""
    answers = await asyncio.gather(*questions, return_exceptions=True)
    good: list[_T] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        good.append(answer)
    return good


async def _read_real_server(
    request: AddBackend, run: Run, directors: Sequence[DirectorFacts], address: IpAddress
) -> RealServerFacts:
    operation = adding.real_server_operation(request, directors[0].host.agent_id, directors, address)
    return await read_real_server(run.clients[real_server(address)], request.backend.key.address, operation)


def _why(failed: Failed) -> str:
    if isinstance(failed.error, Interrupted):
        return f"interrupted before: {failed.step.agent}: {failed.step.title}"
    text = failed.error.message if isinstance(failed.error, LvsError) else failed.error.why
    return f"cannot {failed.step.title} on {failed.step.agent}: {text}"
