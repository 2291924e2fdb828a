"""Transactions of a whole site: reads them at every agent, and finishes those whose coordinator is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from lvsagent.v1 import host_service_pb2

from agent_common.errors import LvsError, NotFoundError
from agent_common.transaction import TransactionState
from agent_common.virtual_server import parse_address
from agent_common.wire_transaction import unpack_state
from cli.client import Clients
from cli.drain import QUIET_SECONDS
from cli.errors import ExitStatus, Interrupted, NoAnswerError, status_of, text_of
from cli.follow import as_steps, connections_left, follow
from cli.interrupt import Interrupt
from cli.outcome import Outcome, StepReport
from cli.reading import Reading, read_all
from cli.resolve import Resolution, Resolved, agent_of, resolve_one
from cli.site import AgentName, Role, real_server
from cli.transaction_client import Transaction, TransactionClient
from cli.typed import SAME_AGAIN, NextCommand
from cli.workflow import Run, refused, reporter

_T = TypeVar("_T")

_PATIENCE_SECONDS = QUIET_SECONDS + 1.0
"""So long whoever does not wait looks whether connections have ended."""

_MARGIN_SECONDS = 0.2
"""A lease is asked after again so long after its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An open transaction, and an agent that has it."""

    agent: AgentName
    transaction: Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the agents that answer have, and the errors of those that do not."""

    known: list[Known] = field(default_factory=list)
    silent: dict[AgentName, LvsError | NoAnswerError] = field(default_factory=dict)

    @property
    def worst(self) -> LvsError | NoAnswerError | None:
        """Return the error of a director that cannot be read; real servers that took part once may be gone for good."""
        return next((error for agent, error in self.silent.items() if agent.role is Role.DIRECTOR), None)

    def __add__(self, other: Found) -> Found:
        """Return both."""
        return Found(known=self.known + other.known, silent=self.silent | other.silent)


async def directors_by_id(clients: Clients) -> dict[str, AgentName]:
    """Return the directors that answer by their identity."""
    readings = await read_all(clients, clients.site.director_names(), lambda client: client.host())
    return {each.answer.agent_id: each.agent for each in readings if each.answer is not None}


async def resolve_transactions(
    name: str, run: Run, *, wait: bool = False, assume: TransactionState | None = None
) -> Outcome:
    """Finish one transaction, or with an empty name all that are open; wait for leases that still run."""
    outcome = Outcome(transaction=name)

    report = reporter(run, outcome)
    try:
        directors = await run.interrupt.during(directors_by_id(run.clients))
        answers = await run.interrupt.during(_find(name, run.clients))
        found = _one_record_each(answers.known)
        outcome.warnings.extend(f"what it has open is not known: {text_of(each)}" for each in answers.silent.values())
        if name and not found:
            found = await _bury(name, run.clients, directors.values())
        if name and not found:
            outcome.message = f"no agent has heard of {name}: nothing to resolve"
            return _conclude(outcome, [], answers.worst)
        resolved = []
        for each in found:
            ended = await resolve_one(run.clients, each.transaction, directors, report, assume)
            while wait and ended.resolution is Resolution.RUNNING and await _slept(run.interrupt, ended.lease_left):
                again = await TransactionClient(run.clients[each.agent]).get(each.transaction.id)
                ended = await resolve_one(run.clients, again, directors, report, assume)
            authority = directors.get(each.transaction.authority)
            if ended.resolution is Resolution.FINISHED and authority is not None:
                try:
                    ended = await _follow(ended, authority, directors, run, report, wait=wait)
                except (LvsError, NoAnswerError) as error:  # what was done by then is told
                    ended = replace(ended, resolution=Resolution.STUCK, problems=[text_of(error)])
            resolved.append(ended)
    except (LvsError, NoAnswerError, Interrupted) as error:
        return refused(outcome, error)
    return _conclude(outcome, resolved, None if name else answers.worst)


async def _bury(name: str, clients: Clients, directors: Iterable[AgentName]) -> list[Known]:
    """Have directors refuse a transaction that none of them knows, should it come late; raises what they say.

    Return it as those have it who were in the middle of preparing it.
    """
    answers = [
        Known(agent=each, transaction=await TransactionClient(clients[each]).resolve(name)) for each in directors
    ]
    return [each for each in answers if is_open(each.transaction)]


async def _follow(
    ended: Resolved,
    authority: AgentName,
    directors: dict[str, AgentName],
    run: Run,
    report: Callable[[StepReport], None],
    *,
    wait: bool,
) -> Resolved:
    """Do what follows the decision, if there is something left; connections that are still there are waited for."""
    client = TransactionClient(run.clients[authority])
    transaction = await client.get(ended.name)
    if not transaction.following:  # none of one that is aborted, or finished
        return ended
    agents = [agent_of(each.agent, directors) for each in transaction.following]
    unknown = [each.agent.address for each, agent in zip(transaction.following, agents, strict=True) if agent is None]
    if unknown:
        problems = [f"{each} is not among the directors given" for each in dict.fromkeys(unknown)]
        return replace(ended, resolution=Resolution.STUCK, problems=problems)
    steps = as_steps(transaction.following, [agent for agent in agents if agent is not None])
    left = transaction.lease_left.ToTimedelta().total_seconds()
    seconds = left if wait else min(left, _PATIENCE_SECONDS)
    connections = await connections_left(steps, seconds, run.clients, run.interrupt.sleep) if left else 0
    if connections and seconds < left:
        return replace(ended, resolution=Resolution.RUNNING, lease_left=left - seconds)
    followed = await follow(steps, run.clients, report)
    if followed.left and not followed.cancelled:
        problems = [f"{step.agent}: {step.title} is not done" for step in followed.left]
        return replace(ended, resolution=Resolution.STUCK, problems=problems)
    await client.finish(ended.name)
    return ended


async def read_transactions(clients: Clients, *, decided: bool = False) -> Found:
    """Return the transactions of every agent that answers: directors, and all real servers that ever took part in one.

    A real server may still wait for a decision that the director has long since come to.
    """
    remembered = await _list(clients, clients.site.director_names(), decided=True)
    known = [each for each in remembered.known if decided or is_open(each.transaction)]
    agents = {*(real_server(each) for each in clients.site.rs_agents), *_real_servers(remembered.known)}
    return replace(remembered, known=known) + await _list(clients, sorted(agents, key=str), decided=decided)


def is_open(transaction: Transaction) -> bool:
    """Whether there is still something to do about it."""
    return not (unpack_state(transaction).is_decided and transaction.settled) or bool(transaction.following)


async def get_transactions(clients: Clients, name: str) -> Found:
    """Return one transaction as every agent has it that takes part and answers."""
    found = await _get(clients, [*clients.site.director_names(), *map(real_server, clients.site.rs_agents)], name)
    asked = {*(each.agent for each in found.known), *found.silent}
    others = [agent for agent in _real_servers(found.known) if agent not in asked]
    return found + await _get(clients, others, name)


async def _find(name: str, clients: Clients) -> Found:
    return await (get_transactions(clients, name) if name else read_transactions(clients))


def _one_record_each(found: Sequence[Known]) -> list[Known]:
    """Return one record of each transaction that is to be resolved."""
    by_name = {each.transaction.id: each for each in found}
    for each in found:  # a record that says who takes part is worth more than a tombstone
        if each.transaction.participants:
            by_name[each.transaction.id] = each
    return list(by_name.values())


async def _slept(interrupt: Interrupt, lease_left: float) -> bool:
    """Sleep until a lease has ended; return whether nobody has interrupted it."""
    try:
        await interrupt.sleep(lease_left + _MARGIN_SECONDS)
    except Interrupted:
        return False
    return True


def _conclude(outcome: Outcome, resolved: list[Resolved], unread: LvsError | NoAnswerError | None) -> Outcome:
    by_resolution = {each: [one for one in resolved if one.resolution is each] for each in Resolution}
    finished = [f"{one.name} is {one.state}" for one in by_resolution[Resolution.FINISHED]]
    running = [f"{one.name} may still go on for {one.lease_left:.0f} s" for one in by_resolution[Resolution.RUNNING]]
    stuck = [f"{one.name}: {'; '.join(one.problems)}" for one in by_resolution[Resolution.STUCK]]
    outcome.message = "; ".join([*stuck, *running, *finished]) or outcome.message or "nothing to resolve"
    if stuck:
        outcome.status = ExitStatus.UNFINISHED
    elif running:
        outcome.status = ExitStatus.CONFLICT
    elif unread is not None:
        outcome.status = ExitStatus.UNFINISHED if finished else status_of(unread)
        outcome.message = f"cannot tell whether that is all: {text_of(unread)}; elsewhere: {outcome.message}"
    if stuck or running:
        outcome.commands.append(NextCommand(purpose="to go on", command=SAME_AGAIN))
    return outcome


def _real_servers(found: Iterable[Known]) -> list[AgentName]:
    """Return the real servers that take part in transactions."""
    addresses = {
        each.address
        for known in found
        for each in known.transaction.participants
        if each.kind == host_service_pb2.AGENT_KIND_REALSERVER
    }
    return [real_server(parse_address(each, "participant")) for each in sorted(addresses)]


async def _list(clients: Clients, agents: Iterable[AgentName], *, decided: bool) -> Found:
    readings = await read_all(clients, agents, lambda client: TransactionClient(client).list_all(decided=decided))
    known = [Known(agent=each.agent, transaction=one) for each in readings for one in each.answer or ()]
    return Found(known=known, silent=_silent(readings))


async def _get(clients: Clients, agents: Iterable[AgentName], name: str) -> Found:
    readings = await read_all(clients, agents, lambda client: TransactionClient(client).get(name))
    known = [Known(agent=each.agent, transaction=each.answer) for each in readings if each.answer is not None]
    return Found(known=known, silent=_silent(readings))


def _silent(readings: Iterable[Reading[_T]]) -> dict[AgentName, LvsError | NoAnswerError]:
    """Return the errors of agents that do not say what they have; "not known here" says it."""
    errors = ((each.agent, each.error) for each in readings)
    return {agent: error for agent, error in errors if error is not None and not isinstance(error, NotFoundError)}
