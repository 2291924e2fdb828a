"""Does what follows the decision of a transaction: only forward, and again as often as it takes.

Each step has a name of its own, made of the transaction's: done once, it is not done a second time by whoever comes
later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from agent_common.errors import LvsError, Reason
from agent_common.transaction import Following
from agent_common.wire import unpack_destination_key, unpack_key
from cli.client import Clients
from cli.drain import wait_until_drained
from cli.errors import NoAnswerError, text_of
from cli.outcome import StepReport, StepResult
from cli.plan import Step, report_made
from cli.runner import again
from cli.site import AgentName


@dataclass(slots=True, kw_only=True)
class Followed:
    """The steps that were not done; cancelled if somebody has ended the drain, so that they are not wanted any more."""

    left: list[Step] = field(default_factory=list)
    cancelled: bool = False


async def follow(
    steps: Sequence[Step], transaction: str, clients: Clients, report: Callable[[StepReport], None]
) -> Followed:
    """Carry out what is left to do.

    A step waits for all before it at agents of the other kind: a real server gives a VIP up when every director has
    removed the destination, and a director forgets it when the real server has.
    """
    followed = Followed()
    for number, step in enumerate(steps):
        if any(each.agent.role is not step.agent.role for each in followed.left):
            followed.left.append(step)
            continue
        ended = await _do(step, f"{transaction}.{number}", clients)
        report(ended)
        if ended.result not in (StepResult.DONE, StepResult.IN_PLACE):
            followed.left.append(step)
            followed.cancelled = followed.cancelled or ended.result is StepResult.KEPT
    return followed


async def _do(step: Step, change_id: str, clients: Clients) -> StepReport:
    client = clients[step.agent]
    try:
        if len(step.operations) == 1:
            changes = [await again(lambda: client.apply(step.operations[0], change_id))]
        else:
            changes = await again(lambda: client.apply_all(step.operations, change_id))
    except (LvsError, NoAnswerError) as error:
        if isinstance(error, LvsError) and error.reason is Reason.NOT_DRAINING:
            result = StepResult.KEPT
        else:
            result = StepResult.UNKNOWN if isinstance(error, NoAnswerError) and error.sent else StepResult.FAILED
        return StepReport(agent=step.agent, title=step.title, result=result, details=(text_of(error),))
    return report_made(step, changes)


def as_steps(following: Sequence[Following], agents: Sequence[AgentName]) -> list[Step]:
    """Return what an authority has kept as steps, each at the agent beside it."""
    return [
        Step(agent=agent, title=each.title, operations=tuple(each.operations))
        for each, agent in zip(following, agents, strict=True)
    ]


async def connections_left(
    steps: Sequence[Step], seconds: float, clients: Clients, sleep: Callable[[float], Awaitable[None]]
) -> int:
    """Wait so many seconds for the connections of what is to be removed while it drains; return how many are left."""
    left = 0
    for step in steps:
        for operation in step.operations:
            deletion = operation.delete_destination
            if deletion.only_if_draining:
                key = unpack_key(deletion.virtual_server, "virtual_server")
                destination = unpack_destination_key(deletion.destination, "destination")
                left += await wait_until_drained(clients[step.agent], key, destination, seconds, sleep)
    return left
