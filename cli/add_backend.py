"""add-backend, from reading the agents to the outcome. A library: no printing, no typer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from agent_common.errors import InvalidInputError, LvsError
from agent_common.vip import VipMode
from agent_common.virtual_server import IpAddress
from cli import plan_add
from cli.errors import Interrupted, NoAnswerError
from cli.facts import DirectorFacts, RealServerFacts
from cli.outcome import Outcome
from cli.plan import Plan
from cli.preflight import read_real_server, validate_director
from cli.request import AddBackend
from cli.site import real_server
from cli.together import together
from cli.workflow import Run, begin, carry_out, read_directors, refused, until_undisturbed


async def add_backend(request: AddBackend, run: Run) -> Outcome:
    """Put real servers behind a virtual server, on all hosts or on none.

    Returns the outcome with its exit status; raises nothing that an operator could be told.
    """
    return await until_undisturbed(run, lambda run: _attempt(request, run))


async def _attempt(request: AddBackend, run: Run) -> Outcome:
    outcome = Outcome(transaction=run.transaction)
    try:
        plan = await run.interrupt.during(plan_add_backend(request, run))
    except (LvsError, NoAnswerError, Interrupted) as error:
        return refused(outcome, error)
    if not begin(plan, run, outcome):
        return outcome
    names = ", ".join(str(key) for key in request.backend.real_servers)
    if not plan.steps:
        outcome.message = f"nothing to do: {names} in place behind {request.backend.key}"
        return outcome
    done = f"{names} added behind {request.backend.key}"
    return await carry_out(plan, run, outcome, done)


async def plan_add_backend(request: AddBackend, run: Run) -> Plan:
    """Read every agent and return the plan; raises what forbids it."""
    clients = run.clients
    names = clients.site.director_names()
    if request.vip_mode is None:
        request = replace(request, vip_mode=clients.site.vip_mode)
    if request.vip_mode is VipMode.AGENT and len(names) > 1:
        raise InvalidInputError(
            "vip_mode", "vip_mode: agent with several directors would make two hosts answer for one VIP; use external"
        )
    directors = await read_directors(request.backend, run)
    addresses = list(dict.fromkeys(key.address for key in request.backend.real_servers))
    asked = [
        address
        for address in addresses
        if request.ask_real_servers and not any(facts.route(address).local for facts in directors)
    ]
    validated, prepared = await asyncio.gather(
        together(
            validate_director(clients[facts.agent], facts, plan_add.director_operations(request, directors, facts))
            for facts in directors
        ),
        together(_read_real_server(request, run, directors, address) for address in asked),
    )
    return plan_add.plan(request, validated, dict(zip(asked, prepared, strict=True)))


async def _read_real_server(
    request: AddBackend, run: Run, directors: Sequence[DirectorFacts], address: IpAddress
) -> RealServerFacts:
    wanted = plan_add.real_server_operations(request, directors, address)
    return await read_real_server(run.clients[real_server(address)], request.backend.key, wanted)
