"""lvs health set, from reading the directors to the outcome. A library: no printing, no typer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent_common.errors import LvsError
from agent_common.health import NO_POLICY, HealthPolicy
from agent_common.virtual_server import VirtualServerKey
from agent_common.wire_health import unpack_policy
from cli import operations
from cli.client import AgentClient
from cli.errors import ExitStatus, Interrupted, NoAnswerError, naming
from cli.facts import DirectorFacts
from cli.health_options import HealthOptions, apply, in_options
from cli.health_reading import find_health
from cli.health_warnings import health_warnings
from cli.outcome import Outcome
from cli.preflight import read_director
from cli.single import attempt
from cli.site import AgentName
from cli.together import together
from cli.workflow import Run, refused, until_undisturbed

Found = tuple[HealthPolicy | None, str, DirectorFacts]
"""A policy and its etag, and what there is to be checked."""


async def set_health(key: VirtualServerKey, options: HealthOptions, run: Run) -> Outcome:
    """Change the policy of a virtual server on every director, each from what is there, or on none.

    Returns the outcome with its exit status; raises nothing that an operator could be told.
    """
    return await until_undisturbed(run, lambda run: _attempt(key, options, run))


async def _attempt(key: VirtualServerKey, options: HealthOptions, run: Run) -> Outcome:
    agents = run.clients.site.director_names()
    try:
        answers = await run.interrupt.during(together(_read(run.clients[agent], key) for agent in agents))
        found = dict(zip(agents, answers, strict=True))
        wanted = {agent: _applied(agent, options, policy, len(agents)) for agent, (policy, *_) in found.items()}
    except (LvsError, NoAnswerError, Interrupted) as error:
        return refused(Outcome(transaction=run.transaction), error)
    asked = {agent: operations.set_health(key, policy, found[agent][1]) for agent, policy in wanted.items()}
    whose = f"{options.rs} in {key}" if options.rs is not None else str(key)
    warnings = [*_differences(wanted)]
    for agent, (policy, _, facts) in found.items():
        warnings += health_warnings(options, policy, wanted[agent], facts)
    outcome = await attempt(f"set the health checks of {whose}", asked, run, warnings=warnings)
    if outcome.status is ExitStatus.USAGE:
        outcome.message = in_options(outcome.message)  # what only a director can tell it tells by fields
    return outcome


async def _read(client: AgentClient, key: VirtualServerKey) -> Found:
    with naming(client.agent):
        status = await find_health(client, key)
    facts = await read_director(client, key)
    return (None, NO_POLICY, facts) if status is None else (unpack_policy(status.policy), status.etag, facts)


def _applied(agent: AgentName, options: HealthOptions, policy: HealthPolicy | None, directors: int) -> HealthPolicy:
    if directors == 1:
        return apply(options, policy)
    with naming(agent):
        return apply(options, policy)


def _differences(wanted: Mapping[AgentName, HealthPolicy]) -> Iterator[str]:
    first, *others = wanted
    for each in others:
        if wanted[each] != wanted[first]:
            yield f"{each} will check in another way than {first}: what was not given differs (lvs health show)"
