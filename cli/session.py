"""Runs the asynchronous part of a command: connections, Ctrl-C, the trace of calls, the exit status."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent_common.errors import LvsError
from cli.client import Call, Clients
from cli.errors import Interrupted, NoAnswerError
from cli.outcome import Outcome
from cli.runner import Interrupt
from cli.site import Site
from cli.terminal import Terminal
from cli.workflow import Run, refused

_T = TypeVar("_T")


def run_workflow(
    site: Site, terminal: Terminal, workflow: Callable[[Run], Awaitable[Outcome]], *, dry_run: bool
) -> int:
    """Run a changing command to its end, print its outcome, and return the exit status."""

    async def run(clients: Clients, interrupt: Interrupt) -> Outcome:
        settings = Run(
            clients=clients,
            interrupt=interrupt,
            on_plan=terminal.plan,
            on_step=terminal.step,
            dry_run=dry_run,
        )
        return await workflow(settings)

    outcome = _run(site, terminal, run)
    terminal.outcome(outcome)
    return int(outcome.status)


def run_query(site: Site, terminal: Terminal, query: Callable[[Clients], Awaitable[_T]]) -> _T | int:
    """Run a reading command; returns what it read, or the exit status of what went wrong, which has been printed."""

    async def run(clients: Clients, interrupt: Interrupt) -> _T | Outcome:
        try:
            return await query(clients)
        except (LvsError, NoAnswerError, Interrupted) as error:
            return refused(Outcome(), error)

    result = _run(site, terminal, run)
    if isinstance(result, Outcome):
        terminal.outcome(result)
        return int(result.status)
    return result


def _run(site: Site, terminal: Terminal, work: Callable[[Clients, Interrupt], Awaitable[_T]]) -> _T:
    def trace(call: Call) -> None:
        terminal.debug(f"{call.seconds * 1000:7.1f} ms  {call.agent}  {call.method}  {call.result}")

    async def run() -> _T:
        interrupt = Interrupt()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupt.set)
        async with Clients(site, trace) as clients:
            result = await work(clients, interrupt)
            terminal.debug(f"{len(clients.calls)} round trips")
            return result

    return asyncio.run(run())
