"""Steps that only wait: until an application takes connections or passes its check, until none are left."""

from __future__ import annotations

import time

from lvsagent.v1 import health_service_pb2

from agent_common.errors import Reason, RefusedError
from cli.client import Clients
from cli.drain import wait_until_drained
from cli.interrupt import Interrupt
from cli.outcome import StepReport, StepResult
from cli.plan import Step

MAX_CHECK_SECONDS = 60.0
"""So long a director checks for one call (HealthService.ProbeDestination)."""

LEAST_CHECK_SECONDS = 1.0
"""With less time left no further call is made: a director begins no check that would end too late."""


async def wait_as(step: Step, clients: Clients, interrupt: Interrupt) -> StepReport:
    """Wait as a step says; raises RefusedError if it is in vain, NoAnswerError, and Interrupted."""
    if step.listener is not None:
        return await _until_it_listens(step, clients, interrupt)
    if step.check is not None:
        return await _until_it_passes(step, step.check, clients, interrupt)
    return await _until_drained(step, clients, interrupt)


async def _until_it_listens(step: Step, clients: Clients, interrupt: Interrupt) -> StepReport:
    assert step.listener is not None  # noqa: S101  # the caller has looked
    deadline = time.monotonic() + step.seconds
    client = clients[step.agent]
    while True:
        wait = min(max(deadline - time.monotonic(), 0.0), clients.site.timeout)
        answer = await interrupt.during(client.check_listener(step.listener, wait))
        if answer.listening:
            break
        if time.monotonic() >= deadline:
            raise RefusedError(
                f"nothing takes connections there after {step.seconds:g} s: {answer.detail}", Reason.IN_USE
            )
    warnings = (step.wildcard_warning,) if answer.wildcard and step.wildcard_warning else ()
    return StepReport(agent=step.agent, title=step.title, result=StepResult.DONE, warnings=warnings)


async def _until_it_passes(
    step: Step, check: health_service_pb2.ProbeDestinationRequest, clients: Clients, interrupt: Interrupt
) -> StepReport:
    """Each call begins to count anew how many pass in a row, so it waits as long as one may."""
    deadline = time.monotonic() + step.seconds
    client = clients[step.agent]
    while True:
        wait = min(max(deadline - time.monotonic(), 0.0), MAX_CHECK_SECONDS)
        answer = await interrupt.during(client.check_destination(check, wait))
        if answer.passed:
            details = (answer.detail,) if answer.detail else ()
            return StepReport(agent=step.agent, title=step.title, result=StepResult.DONE, details=details)
        if time.monotonic() + LEAST_CHECK_SECONDS >= deadline:
            within = f" within {step.seconds:g} s" if step.seconds else ""
            raise RefusedError(f"it has not passed{within}: {answer.detail}", Reason.IN_USE)


async def _until_drained(step: Step, clients: Clients, interrupt: Interrupt) -> StepReport:
    assert step.drained is not None  # noqa: S101  # the caller has looked
    server, destination = step.drained
    left = await wait_until_drained(clients[step.agent], server, destination, step.seconds, interrupt.sleep)
    warnings = (f"{left} connections of {destination} are cut",) if left else ()
    return StepReport(agent=step.agent, title=step.title, result=StepResult.DONE, warnings=warnings)
