"""Reads directors' health checks: policies, what the checks say, and what has happened. A library: no printing."""

from __future__ import annotations

from dataclasses import replace

from lvsagent.v1 import health_pb2, health_service_pb2

from agent_common import wire
from agent_common.errors import NotFoundError, Reason, RefusedError
from agent_common.health import HealthPolicy
from agent_common.paging import MAX_PAGE
from agent_common.virtual_server import VirtualServerKey
from agent_common.wire_health import unpack_policy
from cli.client import AgentClient
from cli.errors import NoAnswerError
from cli.reading import DirectorState, read_director


async def get_health(client: AgentClient, key: VirtualServerKey) -> health_pb2.HealthStatus:
    """Return the policy of one virtual server and what its checks say; raises NotFoundError."""
    request = health_service_pb2.GetHealthRequest(virtual_server=wire.pack_key(key))
    answer: health_service_pb2.GetHealthResponse = await client.ask(client.health.GetHealth, request)
    return answer.status


async def find_health(client: AgentClient, key: VirtualServerKey) -> health_pb2.HealthStatus | None:
    """Return the same, or None for a virtual server that is not checked; raises NotFoundError if it is not there."""
    try:
        return await get_health(client, key)
    except NotFoundError as error:
        if error.reason is Reason.VIRTUAL_SERVER_NOT_FOUND:
            raise
        return None


async def list_health(client: AgentClient) -> list[health_pb2.HealthStatus]:
    """Return all of them."""
    found: list[health_pb2.HealthStatus] = []
    token = ""
    while True:
        request = health_service_pb2.ListHealthRequest(page_token=token)
        page: health_service_pb2.ListHealthResponse = await client.ask(client.health.ListHealth, request)
        found.extend(page.statuses)
        token = page.next_page_token
        if not token:
            return found


async def find_policies(client: AgentClient) -> dict[VirtualServerKey, HealthPolicy]:
    """Return all policies; an agent that is older has none."""
    found = await _list_known(client)
    return {wire.unpack_key(each.virtual_server): unpack_policy(each.policy) for each in found}


async def _list_known(client: AgentClient) -> list[health_pb2.HealthStatus]:
    """Return what list_health does, or nothing from an agent that is older, and so checks nothing."""
    try:
        return await list_health(client)
    except NoAnswerError as error:
        if not error.unknown:
            raise
        return []


async def read_checked(client: AgentClient) -> DirectorState:
    """Return all of a director, with what its checks say, as far as it can say that.

    One with a corrupt journal says so among its problems.
    """
    state = await read_director(client)
    try:
        return replace(state, health=await _list_known(client) if state.host.ipvs_version else [])
    except RefusedError as error:
        if error.reason is not Reason.JOURNAL_CORRUPT:
            raise
    return state


async def list_events(client: AgentClient, key: VirtualServerKey | None, limit: int) -> list[health_pb2.HealthEvent]:
    """Return at most so many of the newest events, of one virtual server or of all."""
    found: list[health_pb2.HealthEvent] = []
    token = ""
    while len(found) < limit:
        request = health_service_pb2.ListHealthEventsRequest(
            virtual_server=None if key is None else wire.pack_key(key),
            page_size=min(limit - len(found), MAX_PAGE),
            page_token=token,
        )
        page: health_service_pb2.ListHealthEventsResponse = await client.ask(client.health.ListHealthEvents, request)
        found.extend(page.events)
        token = page.next_page_token
        if not token:
            break
    return found
