"""Does what follows the decision of a transaction: only forward, and again as often as it takes."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from agent_common.errors import LvsError, Reason
from agent_common.operation import Change
from agent_common.transaction import Following
from agent_common.wire import unpack_destination_key, unpack_key
from cli.client import Clients
from cli.drain import wait_until_drained
from cli.errors import NoAnswerError, text_of
from cli.outcome import StepReport, StepResult
from cli.plan import Step, report_made
from cli.runner import again
from cli.site import AgentName
from cli.together import together


@dataclass(slots=True, kw_only=True)
class Followed:
    """The steps that were not done; cancelled if somebody has ended the drain, so that they are not wanted any more."""

    left: list[Step] = field(default_factory=list)
    cancelled: bool = False


async def follow(steps: Sequence[Step], clients: Clients, report: Callable[[StepReport], None]) -> Followed:
    """Carry out what is left to do.

    A step waits for all before it at agents of the other kind: a real server gives a VIP up when every director has
    said that the destination is gone, and a director forgets it when the real server has. Where another transaction has
    a lock, all is asked again, for --lock-timeout: that one may have added the destination anew.
    """
    deadline = time.monotonic() + clients.site.lock_timeout
    told = set[int]()
    while True:
        followed = Followed()
        failures: list[StepReport] = []
        locked = False
        for number, step in enumerate(steps):
            if any(each.agent.role is not step.agent.role for each in followed.left):
                followed.left.append(step)
                continue
            try:
                ended = report_made(step, await again(lambda step=step: _ask(step, clients)))  # type: ignore[misc]
            except (LvsError, NoAnswerError) as error:
                followed.left.append(step)
                failures.append(_failed(step, error))
                reason = error.reason if isinstance(error, LvsError) else None
                followed.cancelled = followed.cancelled or reason is Reason.NOT_DRAINING
                locked = locked or reason is Reason.LOCKED
                continue
            if ended.result is StepResult.DONE and number not in told:  # what is so already needs no telling
                told.add(number)
                report(ended)
        if not locked or time.monotonic() >= deadline:
            for each in failures:
                report(each)
            return followed
        await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311  # others must not try in step


async def _ask(step: Step, clients: Clients) -> Sequence[Change]:
    """Have an agent do a step, under a new name: what was done once may have to be done again."""
    client, change_id = clients[step.agent], str(uuid.uuid4())
    if len(step.operations) == 1:
        return [await client.apply(step.operations[0], change_id)]
    return await client.apply_all(step.operations, change_id)


def _failed(step: Step, error: LvsError | NoAnswerError) -> StepReport:
    result = StepResult.UNKNOWN if isinstance(error, NoAnswerError) and error.sent else StepResult.FAILED
    if isinstance(error, LvsError) and error.reason is Reason.NOT_DRAINING:
        result = StepResult.KEPT
    return StepReport(agent=step.agent, title=step.title, result=result, details=(text_of(error),))


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
    deletions = [
        (step.agent, operation.delete_destination)
        for step in steps
        for operation in step.operations
        if operation.delete_destination.only_if_draining
    ]
    left = await together(
        wait_until_drained(
            clients[agent],
            unpack_key(deletion.virtual_server, "virtual_server"),
            unpack_destination_key(deletion.destination, "destination"),
            seconds,
            sleep,
        )
        for agent, deletion in deletions
    )
    return sum(left)
