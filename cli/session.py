"""Runs the asynchronous part of a command: connections, Ctrl-C, the trace of calls, the exit status."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from agent_common.operation import Operation
from cli.client import Clients
from cli.connection import Call
from cli.interrupt import Interrupt
from cli.outcome import Outcome
from cli.site import AgentName, Site
from cli.terminal import Terminal

if TYPE_CHECKING:
    from cli.plan import Plan
    from cli.workflow import Run

_T = TypeVar("_T")


def run_workflow(
    site: Site, terminal: Terminal, workflow: Callable[[Run], Awaitable[Outcome]], *, dry_run: bool, lease: float = 60.0
) -> int:
    """Run a changing command to its end, print its outcome, and return the exit status; the lease is in seconds."""

    from cli.workflow import Run  # a command that only reads does not need the coordinator

    async def work(clients: Clients, interrupt: Interrupt) -> Outcome:
        settings = Run(
            clients=clients,
            interrupt=interrupt,
            on_plan=terminal.plan,
            on_step=terminal.step,
            dry_run=dry_run,
            lease=lease,
        )
        return await workflow(settings)

    outcome = run(site, terminal, work, changes=True)
    terminal.outcome(outcome)
    return int(outcome.status)


def run_single(
    site: Site,
    terminal: Terminal,
    title: str,
    operation: Operation,
    agents: Sequence[AgentName],
    *,
    dry_run: bool,
    warnings: Sequence[str] = (),
    confirm: Callable[[Plan], Awaitable[bool]] | None = None,
) -> int:
    """Carry out one operation on each of some agents, all or none, and return the exit status.

    confirm is asked first whether the plan shall be carried out.
    """
    from cli.single import change_each

    return run_workflow(
        site,
        terminal,
        lambda run: change_each(title, operation, agents, run, warnings=warnings, confirm=confirm),
        dry_run=dry_run,
    )


def run(
    site: Site, terminal: Terminal, work: Callable[[Clients, Interrupt], Awaitable[_T]], *, changes: bool = False
) -> _T:
    """Run with connections; one that changes something is told of Ctrl-C, one that only reads just ends."""

    def trace(call: Call) -> None:
        terminal.debug(f"{call.seconds * 1000:7.1f} ms  {call.agent}  {call.method}  {call.result}")

    async def connected() -> _T:
        interrupt = Interrupt()
        for number in (signal.SIGINT, signal.SIGTERM) if changes else ():
            asyncio.get_running_loop().add_signal_handler(number, interrupt.set)
        async with Clients(site, trace) as clients:
            result = await work(clients, interrupt)
            terminal.debug(f"{len(clients.calls)} round trips")
            return result

    return asyncio.run(connected())
