"""Waits until a drained destination has no connections left that count."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from lvsagent.v1 import ipvs_service_pb2

from agent_common import wire
from agent_common.destination import DestinationKey, DestinationStatus
from agent_common.errors import NotFoundError
from agent_common.virtual_server import Protocol, ServiceAddress, VirtualServerKey
from agent_common.wire_status import unpack_destination_status
from cli.client import AgentClient

QUIET_SECONDS = 5.0
"""So long after the last established connection: one that is closed on one side already counts as inactive."""

_POLL_SECONDS = 0.5


async def wait_until_drained(
    client: AgentClient,
    server: VirtualServerKey,
    destination: DestinationKey,
    seconds: float,
    sleep: Callable[[float], Awaitable[None]],
) -> int:
    """Wait at most so many seconds; return how many connections are left (0: drained, or the destination is gone).

    UDP has no established connections for IPVS: every entry counts. sleep may raise to end the wait.
    """
    deadline = time.monotonic() + seconds
    is_udp = isinstance(server, ServiceAddress) and server.protocol is Protocol.UDP
    quiet_since: float | None = None
    while True:
        status = await _read(client, server, destination)
        if status is None:
            return 0
        counts = status.inactive if is_udp else status.active
        now = time.monotonic()
        quiet_since = None if counts else quiet_since or now
        if quiet_since is not None and (is_udp or now - quiet_since >= QUIET_SECONDS or _is_empty(status)):
            return 0
        if now >= deadline:
            return counts
        await sleep(min(_POLL_SECONDS, deadline - now))


def _is_empty(status: DestinationStatus) -> bool:
    """Without any entry, not even half-closed ones, there is nothing to wait for."""
    return not status.active and not status.inactive


async def _read(client: AgentClient, server: VirtualServerKey, destination: DestinationKey) -> DestinationStatus | None:
    request = ipvs_service_pb2.GetDestinationRequest(
        virtual_server=wire.pack_key(server), destination=wire.pack_destination_key(destination)
    )
    try:
        answer: ipvs_service_pb2.GetDestinationResponse = await client.ask(client.ipvs.GetDestination, request)
    except NotFoundError:
        return None
    return unpack_destination_status(answer.status)
