"""Finishes transactions whose coordinator is gone: reads the decision at the authority, and carries it to the others.

Whoever may change anything may do so; the outcome is the same whoever does, and however often.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lvsagent.v1 import host_service_pb2

from agent_common.errors import LvsError, NotFoundError, Reason, RefusedError
from agent_common.transaction import Participant, TransactionState
from agent_common.virtual_server import parse_address
from agent_common.wire_transaction import unpack_state
from cli.client import Clients
from cli.errors import NoAnswerError, text_of
from cli.outcome import StepReport, StepResult
from cli.site import AgentName, real_server
from cli.transaction_client import Transaction, TransactionClient
from cli.typed import suggest


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

    Raises RefusedError, before anything is changed, if somebody answers who knows better than who assumes.
    """
    if assume is None:
        answer = await _ask_authority(clients, found, directors)
        if isinstance(answer, Resolved):
            return answer
        participants, state = list(answer.participants) or list(found.participants), unpack_state(answer)
    else:
        await _check_assumption(clients, found, directors, assume)
        participants, state = list(found.participants), assume
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


async def _ask_authority(
    clients: Clients, found: Transaction, directors: dict[str, AgentName]
) -> Transaction | Resolved:
    """Return the transaction as its authority has decided it, or how it ends here because there is no decision.

    While the lease runs where it was found, the coordinator may live: the authority is only read then. It may have
    decided; if it has not heard of the transaction yet, the resolver's question would make it decide to abort.
    """
    left = found.lease_left.ToTimedelta().total_seconds()
    lives = not unpack_state(found).is_decided and left > 0
    running = Resolved(name=found.id, resolution=Resolution.RUNNING, lease_left=left)
    authority = directors.get(found.authority)
    if authority is None:
        addresses = (each.address for each in found.participants if each.agent_id == found.authority)
        where = next(addresses, found.authority)
        why = f"its authority does not answer, or is not among the directors given: {where}"
        return running if lives else _stuck(found.id, why)
    client = TransactionClient(clients[authority])
    try:
        answer = await (client.get(found.id) if lives else client.resolve(found.id))
    except (LvsError, NoAnswerError) as error:
        return running if lives else _stuck(found.id, text_of(error))
    state = unpack_state(answer)
    if state.is_decided:
        return answer
    left = answer.lease_left.ToTimedelta().total_seconds()
    return replace(running, state=state, lease_left=left)


async def _check_assumption(
    clients: Clients, found: Transaction, directors: dict[str, AgentName], assumed: TransactionState
) -> None:
    """Raise RefusedError if the authority answers, or another agent has been told of another decision."""
    for participant in found.participants:
        agent = agent_of(participant, directors)
        if agent is None:
            continue
        is_authority = participant.agent_id == found.authority
        try:
            state = unpack_state(await TransactionClient(clients[agent]).get(found.id))
        except NotFoundError:
            if is_authority:
                raise _known_better(found.id, f"{agent} decides, and answers: it has not heard of it") from None
        except (LvsError, NoAnswerError):
            pass  # it cannot tell
        else:
            if is_authority:
                raise _known_better(found.id, f"{agent} decides, and answers: it is {state} there")
            if state.is_decided and state is not assumed:
                raise _known_better(found.id, f"{agent} was told that it is {state}")


def _known_better(name: str, who: str) -> LvsError:
    error = RefusedError(f"cannot assume how {name} ended: {who}", Reason.TRANSACTION_DIFFERS, transaction=name)
    return suggest(error, "to do what was decided", f"lvs txn resolve {name} --wait")


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
