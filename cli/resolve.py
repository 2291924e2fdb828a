"""Finishes transactions whose coordinator is gone: reads the decision at the authority, and carries it to the others.

Whoever may change anything may do so; the outcome is the same whoever does, and however often.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from lvsagent.v1 import host_service_pb2

from agent_common.errors import LvsError, NotFoundError
from agent_common.transaction import Participant, TransactionState
from agent_common.virtual_server import parse_address
from agent_common.wire_transaction import unpack_state
from cli.client import Clients
from cli.errors import NoAnswerError, text_of
from cli.outcome import StepReport, StepResult
from cli.site import AgentName, real_server
from cli.transaction_client import Transaction, TransactionClient


class Resolution(enum.Enum):
    """What became of a transaction: everybody follows the decision, its lease still runs, or it cannot be finished."""

    FINISHED = "finished"
    RUNNING = "running"
    STUCK = "stuck"


@dataclass(slots=True, kw_only=True)
class Resolved:
    """One transaction; lease_left is in seconds, problems are lines for people."""

    name: str
    resolution: Resolution
    state: TransactionState | None = None
    lease_left: float = 0.0
    problems: list[str] = field(default_factory=list)


async def resolve_one(
    clients: Clients,
    found: Transaction,
    directors: dict[str, AgentName],
    report: Callable[[StepReport], None],
    assume: TransactionState | None = None,
) -> Resolved:
    """Carry the decision of one transaction to everybody; assume stands for an authority that cannot tell any more.

    While the lease runs where it was found, the coordinator may live: the authority is only read then. It may have
    decided; if it has not heard of the transaction yet, the resolver's question would make it decide to abort.
    """
    participants = list(found.participants)
    state = assume
    if state is not None:
        contradiction = await _contradiction(clients, found, directors, state)
        if contradiction:
            return _stuck(found.id, f"{contradiction}; go on without --assume")
    else:
        left = found.lease_left.ToTimedelta().total_seconds()
        lives = not unpack_state(found).is_decided and left > 0
        authority = directors.get(found.authority)
        if authority is None and lives:
            return Resolved(name=found.id, resolution=Resolution.RUNNING, lease_left=left)
        if authority is None:
            where = next((each.address for each in participants if each.agent_id == found.authority), found.authority)
            return _stuck(found.id, f"its authority does not answer, or is not among the directors given: {where}")
        client = TransactionClient(clients[authority])
        try:
            answer = await (client.get(found.id) if lives else client.resolve(found.id))
        except (LvsError, NoAnswerError) as error:
            if lives:
                return Resolved(name=found.id, resolution=Resolution.RUNNING, lease_left=left)
            return _stuck(found.id, text_of(error))
        participants = list(answer.participants) or participants
        state = unpack_state(answer)
        if not state.is_decided:
            left = answer.lease_left.ToTimedelta().total_seconds()
            return Resolved(name=found.id, resolution=Resolution.RUNNING, state=state, lease_left=left)
    problems = []
    for participant in sorted(participants, key=lambda each: each.agent_id != found.authority):
        agent = agent_of(participant, directors)
        is_needed = assume is None or participant.agent_id != found.authority
        if agent is not None:
            problems.extend(await _carry(clients, agent, found.id, state, report, is_needed=is_needed))
        elif is_needed:
            problems.append(f"{participant.address} is not among the directors given")
    resolution = Resolution.STUCK if problems else Resolution.FINISHED
    return Resolved(name=found.id, resolution=resolution, state=state, problems=problems)


async def _contradiction(
    clients: Clients, found: Transaction, directors: dict[str, AgentName], assumed: TransactionState
) -> str:
    """Return who knows better than the operator: an authority that answers, or another agent that has been told."""
    for participant in found.participants:
        agent = agent_of(participant, directors)
        if agent is None:
            continue
        is_authority = participant.agent_id == found.authority
        try:
            state = unpack_state(await TransactionClient(clients[agent]).get(found.id))
        except NotFoundError:
            if is_authority:
                return f"{agent}, the authority, answers"
        except (LvsError, NoAnswerError):
            pass  # it cannot tell
        else:
            if is_authority:
                return f"{agent}, the authority, answers: it is {state} there"
            if state.is_decided and state is not assumed:
                return f"{agent} has it as {state}"
    return ""


async def _carry(
    clients: Clients,
    agent: AgentName,
    name: str,
    state: TransactionState,
    report: Callable[[StepReport], None],
    *,
    is_needed: bool,
) -> list[str]:
    """Have one agent follow the decision; return what keeps it from that, if its part is needed."""
    client = TransactionClient(clients[agent])
    verb = "commit" if state is TransactionState.COMMITTED else "abort"
    try:
        if state is TransactionState.COMMITTED:
            answer, details = await client.commit(name, 0), []
        else:
            aborted = await client.abort(name)
            answer, details = aborted.transaction, list(aborted.details)
    except NotFoundError:
        return []  # it was forgotten, so it was over
    except (LvsError, NoAnswerError) as error:
        report(StepReport(agent=agent, title=f"{verb} {name}", result=StepResult.UNKNOWN, details=(text_of(error),)))
        if not is_needed:
            return []
        return [str(error) if isinstance(error, NoAnswerError) else f"{agent}: {error.message}"]
    problems = list(answer.problems)
    result = StepResult.DONE if answer.settled else StepResult.FAILED
    report(StepReport(agent=agent, title=f"{verb} {name}", result=result, details=(*details, *problems)))
    return [] if answer.settled else [f"{agent}: {problem}" for problem in problems or ["it is not done"]]


def _stuck(name: str, why: str) -> Resolved:
    return Resolved(name=name, resolution=Resolution.STUCK, problems=[why])


def agent_of(participant: Participant, directors: dict[str, AgentName]) -> AgentName | None:
    """Return how to reach an agent that takes part; None for a director that was not given."""
    if participant.kind == host_service_pb2.AGENT_KIND_REALSERVER:
        return real_server(parse_address(participant.address, "participant"))
    return directors.get(participant.agent_id)
