"""The coordinator of the power cuts: runs workflows of the library, in a kernel of its own that keeps its power.

    python -m tests.power.coordinator FOLDER

It imports gRPC once for all cases. An order is FOLDER/N.order, its answer FOLDER/N.answer (both JSON). While a message
is held there is FOLDER/held, and it goes on when there is FOLDER/go. With FOLDER/kill it dies in what it does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent_common.endpoint import Endpoint
from cli.add_backend import add_backend
from cli.client import Clients
from cli.interrupt import Interrupt
from cli.outcome import Outcome
from cli.remove_backend import remove_backend
from cli.request import AddBackend, RemoveBackend, parse_backend, parse_forwarding
from cli.site import Site as AgentSite
from cli.transactions import read_transactions, resolve_transactions
from cli.workflow import Run
from lab.machine import write_whole
from tests.faults import Died, Fault, Wire

POLL_SECONDS = 0.02


def main() -> None:
    """Take orders until it is killed."""
    folder = Path(sys.argv[1])
    number = 1
    while True:
        order = folder / f"{number}.order"
        if order.exists():
            answer = obey(folder, json.loads(order.read_text()))
            write_whole(folder / f"{number}.answer", json.dumps(answer))
            number += 1
        time.sleep(POLL_SECONDS)


def obey(folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order: how it ended (`died`, or the exit status and what lvs says), and the messages sent."""
    with pytest.MonkeyPatch.context() as patch:
        wire = Wire(patch)
        wire.dies_of_silence = order.get("dies_of_silence", False)
        wire.hold = lambda: held(folder)
        if order.get("fault"):
            wire.fault = (order["message"], Fault[order["fault"]])
        try:
            ended = asyncio.run(until_killed(folder, run(order)))
        except (Died, asyncio.CancelledError):
            ended = {"died": True}
    return {**ended, "sent": wire.sent}


async def held(folder: Path) -> None:
    """Say that it is time, and wait until it has happened."""
    write_whole(folder / "held", "")
    await sign(folder / "go")


async def until_killed(folder: Path, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Do something to its end, or until it is killed in the middle: then it does nothing more."""
    working, killed = asyncio.ensure_future(work), asyncio.ensure_future(sign(folder / "kill"))
    await asyncio.wait((working, killed), return_when=asyncio.FIRST_COMPLETED)
    working.cancel()
    killed.cancel()
    return await working


async def sign(file: Path) -> None:
    """Wait for a file, which somebody makes outside this kernel."""
    while not taken(file):  # noqa: ASYNC110  # nothing tells us
        await asyncio.sleep(POLL_SECONDS)


def taken(file: Path) -> bool:
    """Whether there is such a file; then it is gone."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True


async def run(order: dict[str, Any]) -> dict[str, Any]:
    """Run a workflow with connections of its own."""
    director = Endpoint(host=order["director"], port=9710)
    site = AgentSite(directors=(director,), rs_agents={}, insecure=True, timeout=order["timeout"])
    async with Clients(site, lambda call: None) as clients:
        if order["workflow"] == "open":
            found = (await read_transactions(clients)).known
            return {"open": [f"{each.agent} {each.transaction.id} {each.transaction.state}" for each in found]}
        run = Run(clients=clients, interrupt=Interrupt(), lease=order["lease"])
        outcome = await workflow(order)(run)
        return {"status": outcome.status.name, "message": outcome.message}


def workflow(order: dict[str, Any]) -> Callable[[Run], Awaitable[Outcome]]:
    """What is to be run."""
    if order["workflow"] == "resolve":
        return lambda run: resolve_transactions("", run, wait=True)
    backend = parse_backend(order["vip"], [order["rs"]], "tcp")
    if order["workflow"] == "add":
        forwarding = parse_forwarding(order.get("forward"))
        # By force: the machine of the director forwards nothing, and no client asks there.
        return lambda run: add_backend(AddBackend(backend=backend, forwarding=forwarding, force=True), run)
    request = RemoveBackend(backend=backend, drain_timeout=None, prune=True)
    return lambda run: remove_backend(request, run)


if __name__ == "__main__":
    main()
