"""Reads from every agent what a plan needs, all agents at once, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agent_common import wire, wire_vip
from agent_common.errors import LvsError
from agent_common.operation import Operation
from agent_common.virtual_server import Family, IpAddress, ServiceAddress, VirtualServerKey
from agent_common.wire_health import unpack_policy
from agent_common.wire_status import unpack_destination_status
from cli.client import AgentClient
from cli.errors import naming
from cli.facts import DirectorFacts, RealServerFacts
from cli.reading import list_vips

ELSEWHERE = {Family.IPV4: "198.51.100.1", Family.IPV6: "2001:db8:ffff::1"}
"""An address that no host has (RFC 5737, RFC 3849): the route to it is the route to the world."""


async def read_director(
    client: AgentClient, key: VirtualServerKey, routes_to: Iterable[IpAddress] = ()
) -> DirectorFacts:
    """Read a director: itself, its routes, the virtual server, its destinations and VIPs."""
    with naming(client.agent):
        host = await client.host((str(each) for each in routes_to), key)
        client.check_version(host.version)
        vips = await _vips_of(client, key)
    if not host.HasField("virtual_server"):
        return DirectorFacts(agent=client.agent, host=host, vips=vips)
    statuses = [unpack_destination_status(each) for each in host.destinations]
    return DirectorFacts(
        agent=client.agent,
        host=host,
        vips=vips,
        server=wire.unpack_virtual_server(host.virtual_server.virtual_server),
        managed=host.virtual_server.managed,
        destinations={status.destination.key: status for status in statuses},
        policy=unpack_policy(host.health) if host.HasField("health") else None,
    )


async def validate_director(
    client: AgentClient, facts: DirectorFacts, operations: Sequence[Operation]
) -> DirectorFacts:
    """Have a director check the operations, if there are any, and return its facts with what it said."""
    if not operations:
        return facts
    changes, error = await client.try_all(operations, "", validate_only=True)
    return replace(facts, changes=tuple(changes), error=error)


async def read_real_server(
    client: AgentClient, key: VirtualServerKey, operations: Sequence[Operation]
) -> RealServerFacts:
    """Read a real server and have it check the operations on its VIPs, if there are any; else read its VIPs, too."""
    with naming(client.agent):
        host = await client.host([ELSEWHERE[key.family]])
        client.check_version(host.version)
        if not operations:
            vips = tuple(map(wire_vip.unpack_vip, await list_vips(client, key)))
            return RealServerFacts(agent=client.agent, host=host, vips=vips)
    changes = []
    try:
        for operation in operations:
            changes.append(await client.apply(operation, "", validate_only=True))
    except LvsError as error:
        return RealServerFacts(agent=client.agent, host=host, error=error)
    return RealServerFacts(agent=client.agent, host=host, changes=tuple(changes))


async def _vips_of(client: AgentClient, key: VirtualServerKey) -> tuple[IpAddress, ...]:
    """Return the VIPs of a virtual server: a firewall mark's are those that the director holds for it."""
    if isinstance(key, ServiceAddress):
        return (key.address,)
    return tuple(wire_vip.unpack_vip(each).address for each in await list_vips(client, key))
