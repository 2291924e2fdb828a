"""drain, undrain and weight, from reading the agents to the outcome. A library: no printing, no typer."""

from __future__ import annotations

from agent_common.errors import LvsError
from cli import plan_weight
from cli.drain import wait_until_drained
from cli.errors import ExitStatus, Interrupted, NoAnswerError
from cli.outcome import Outcome
from cli.plan import Plan
from cli.preflight import read_real_server, validate_director
from cli.request import SetWeight
from cli.site import real_server
from cli.together import together
from cli.typed import SAME_AGAIN, NextCommand
from cli.workflow import Run, begin, carry_out, read_directors, refused, until_undisturbed


async def set_weight(request: SetWeight, run: Run) -> Outcome:
    """Drain, end a drain, or set a weight, on every director or on none.

    Returns the outcome with its exit status; raises nothing that an operator could be told.
    """
    outcome = await until_undisturbed(run, lambda run: _attempt(request, run))
    if outcome.status is ExitStatus.DONE and not run.dry_run and request.draining and request.wait is not None:
        return await _wait(request, run, outcome)
    return outcome


async def _attempt(request: SetWeight, run: Run) -> Outcome:
    outcome = Outcome(transaction=run.transaction)
    try:
        plan = await run.interrupt.during(plan_set_weight(request, run))
    except (LvsError, NoAnswerError, Interrupted) as error:
        return refused(outcome, error)
    if not begin(plan, run, outcome):
        return outcome
    names = ", ".join(str(key) for key in request.backend.real_servers)
    done = f"{names} in {request.backend.key}: {plan_weight.describe(request)}"
    if plan.steps:
        await carry_out(plan, run, outcome, done)
    else:
        outcome.message = f"nothing to do: {done}"
    return outcome


async def plan_set_weight(request: SetWeight, run: Run) -> Plan:
    """Read every agent that matters and return the plan; raises what forbids it."""
    directors = await read_directors(request.backend, run)
    addresses = list(dict.fromkeys(key.address for key in request.backend.real_servers))
    asked = [each for each in addresses if plan_weight.raises_from_zero(request, directors, each)]
    found = await together(
        read_real_server(
            run.clients[real_server(each)],
            request.backend.key,
            plan_weight.real_server_operations(request, directors, each),
        )
        for each in asked
    )
    wanted = plan_weight.director_operations(request, directors)
    validated = await together(validate_director(run.clients[facts.agent], facts, wanted) for facts in directors)
    return plan_weight.plan(request, validated, dict(zip(asked, found, strict=True)))


async def _wait(request: SetWeight, run: Run, outcome: Outcome) -> Outcome:
    """Wait for the connections of a drain; the drain stays, whatever comes of it."""
    try:
        left = await together(
            wait_until_drained(run.clients[agent], request.backend.key, key, request.wait or 0.0, run.interrupt.sleep)
            for agent in run.clients.site.director_names()
            for key in request.backend.real_servers
        )
    except (LvsError, NoAnswerError, Interrupted) as error:
        return _still_waiting(outcome, f"but cannot say whether its connections have ended: {error}")
    if sum(left):
        return _still_waiting(outcome, f"{sum(left)} connections are left after {request.wait:g} s")
    outcome.message += "; no connections are left"
    return outcome


def _still_waiting(outcome: Outcome, why: str) -> Outcome:
    outcome.status = ExitStatus.UNFINISHED
    outcome.message += f"; {why}"
    outcome.commands.append(NextCommand(purpose="to go on waiting", command=SAME_AGAIN))
    return outcome
