"""lvs health show and lvs health log: what they ask for, and how it is printed."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from lvsagent.v1 import health_pb2

from agent_common.virtual_server import VirtualServerKey
from cli import health_tables
from cli.client import AgentClient
from cli.health_reading import get_health, list_events, list_health
from cli.reading import Reading
from cli.show import run_merged, run_reading
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

    def lines(readings: Events) -> list[str]:
        answers = [(each.agent, each.answer) for each in readings if each.answer is not None]
        return health_tables.event_lines(answers, terminal.width)

    return run_merged(site, terminal, site.director_names(), read, lines)
