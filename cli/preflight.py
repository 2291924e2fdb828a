"""Reads from every agent what a plan needs, all agents at once, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lvsagent.v1 import vip_service_pb2

from agent_common import wire, wire_vip
from agent_common.errors import LvsError
from agent_common.operation import Operation
from agent_common.virtual_server import IpAddress, VirtualServerKey
from cli.client import AgentClient
from cli.errors import naming
from cli.facts import DirectorFacts, RealServerFacts

ELSEWHERE = {4: "198.51.100.1", 6: "2001:db8:ffff::1"}
"""An address that no host has (RFC 5737, RFC 3849): the route to it is the route to the world."""


async def read_director(
    client: AgentClient, key: VirtualServerKey, routes_to: Iterable[IpAddress] = ()
) -> DirectorFacts:
    """Read a director: itself, its routes, the virtual server and its destinations."""
    with naming(client.agent):
        host = await client.host((str(each) for each in routes_to), key)
    client.check_version(host.version)
    if not host.HasField("virtual_server"):
        return DirectorFacts(agent=client.agent, host=host)
    statuses = [wire.unpack_destination_status(each) for each in host.destinations]
    return DirectorFacts(
        agent=client.agent,
        host=host,
        server=wire.unpack_virtual_server(host.virtual_server.virtual_server),
        managed=host.virtual_server.managed,
        destinations={status.destination.key: status for status in statuses},
    )


async def validate_director(
    client: AgentClient, facts: DirectorFacts, operations: Sequence[Operation]
) -> DirectorFacts:
    """Have a director check the operations, if there are any, and return its facts with what it said."""
    if not operations:
        return facts
    changes, error = await client.try_all(operations, "", validate_only=True)
    return DirectorFacts(
        agent=facts.agent,
        host=facts.host,
        server=facts.server,
        managed=facts.managed,
        destinations=facts.destinations,
        changes=tuple(changes),
        error=error,
    )


async def read_real_server(client: AgentClient, vip: IpAddress, operation: Operation | None) -> RealServerFacts:
    """Read a real server and its VIP, or have it check the operation on the VIP if there is one."""
    with naming(client.agent):
        host = await client.host([ELSEWHERE[vip.version]])
    client.check_version(host.version)
    if operation is None:
        request = vip_service_pb2.GetVipRequest(address=str(vip))
        with naming(client.agent):
            answer: vip_service_pb2.GetVipResponse = await client.ask(client.vip.GetVip, request)
        return RealServerFacts(agent=client.agent, host=host, vip=wire_vip.unpack_vip(answer.vip))
    try:
        change = await client.apply(operation, "", validate_only=True)
    except LvsError as error:
        return RealServerFacts(agent=client.agent, host=host, error=error)
    return RealServerFacts(agent=client.agent, host=host, change=change)
