"""adopt, from reading the agents to the outcome. A library: no printing, no typer."""

from __future__ import annotations

from agent_common.errors import LvsError
from cli import plan_adopt
from cli.errors import Interrupted, NoAnswerError
from cli.outcome import Outcome
from cli.plan import Plan
from cli.plan_adopt import Adopt
from cli.preflight import read_director, read_real_server, validate_director
from cli.site import real_server
from cli.together import together
from cli.workflow import Run, begin, refused, run_steps, until_undisturbed


async def adopt(request: Adopt, run: Run) -> Outcome:
    """Make foreign things of a virtual server ours as they are, on every host or on none.

    Returns the outcome with its exit status; raises nothing that an operator could be told.
    """
    return await until_undisturbed(run, lambda run: _attempt(request, run))


async def _attempt(request: Adopt, run: Run) -> Outcome:
    outcome = Outcome(transaction=run.transaction)
    try:
        plan = await run.interrupt.during(plan_adoption(request, run))
    except (LvsError, NoAnswerError, Interrupted) as error:
        return refused(outcome, error)
    if not begin(plan, run, outcome):
        return outcome
    what = f"{', '.join(str(key) for key in request.destinations)} in " if request.destinations else ""
    if not plan.steps:
        outcome.message = f"nothing to adopt: {what}{request.key}"
        return outcome
    return await run_steps(plan.steps, run, outcome, f"adopted {what}{request.key}")


async def plan_adoption(request: Adopt, run: Run) -> Plan:
    """Read every agent that matters and return the plan; raises what forbids it."""
    names = run.clients.site.director_names()
    directors = await together(read_director(run.clients[name], request.key) for name in names)
    plan_adopt.check(request, directors)
    request = plan_adopt.with_held_vips(request, directors)
    routes = plan_adopt.addresses(request, directors)
    directors = await together(read_director(run.clients[name], request.key, routes) for name in names)
    directors = [
        await validate_director(run.clients[facts.agent], facts, wanted)
        if (wanted := plan_adopt.director_operations(request, directors, facts))
        else facts
        for facts in directors
    ]
    asked = plan_adopt.real_servers(request, directors) if request.ask_real_servers else []
    found = await together(
        read_real_server(
            run.clients[real_server(each)],
            request.key,
            plan_adopt.real_server_operations(request, directors, each),
        )
        for each in asked
    )
    for address, facts in zip(asked, found, strict=True):
        if not plan_adopt.is_left_out(facts) or str(address) not in facts.addresses():
            facts.check(address)
    return plan_adopt.plan(request, directors, dict(zip(asked, found, strict=True)))
