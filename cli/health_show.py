"""lvs health show and lvs health log: what they ask for, and how it is printed."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from lvsagent.v1 import health_pb2

from agent_common.virtual_server import VirtualServerKey
from cli import health_tables, session, tables
from cli.client import AgentClient, Clients
from cli.errors import status_of, text_of
from cli.health_reading import get_health, list_events, list_health
from cli.interrupt import Interrupt
from cli.reading import Reading, read_all
from cli.show import run_reading
from cli.site import AgentName, Site
from cli.terminal import Terminal

Events = Sequence[Reading[list[health_pb2.HealthEvent]]]


def run_health_show(site: Site, terminal: Terminal, key: VirtualServerKey | None) -> int:
    """Print the policies of every director and what the checks say; return the exit status."""

    async def read(client: AgentClient) -> list[health_pb2.HealthStatus]:
        return await list_health(client) if key is None else [await get_health(client, key)]

    def lines(agent: AgentName, statuses: list[health_pb2.HealthStatus]) -> list[str]:
        return health_tables.health_lines(statuses, datetime.datetime.now(datetime.UTC), terminal.width)

    return run_reading(site, terminal, site.director_names(), read, lines)


def run_health_log(site: Site, terminal: Terminal, key: VirtualServerKey | None, *, limit: int) -> int:
    """Print the newest events of every director as one list, and return the worst exit status."""

    async def read(client: AgentClient) -> list[health_pb2.HealthEvent]:
        return await list_events(client, key, limit)

    async def run(clients: Clients, interrupt: Interrupt) -> Events:
        return await read_all(clients, site.director_names(), read)

    readings = session.run(site, terminal, run)
    if terminal.json:
        terminal.document({"agents": [tables.reading_as_json(each) for each in readings]})
        return _worst(readings)
    terminal.lines(
        health_tables.event_lines(
            [(each.agent, each.answer) for each in readings if each.answer is not None], terminal.width
        )
    )
    for each in readings:
        if each.error is not None:
            terminal.say(f"lvs: {text_of(each.error)}")
    return _worst(readings)


def _worst(readings: Events) -> int:
    return max((int(status_of(each.error)) for each in readings if each.error is not None), default=0)
