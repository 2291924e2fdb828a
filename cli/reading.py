"""Reads agents, many at once and lists page by page. A library: no printing, no typer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lvsagent.v1 import (
    arp_service_pb2,
    arp_service_pb2_grpc,
    destination_pb2,
    drift_service_pb2,
    drift_service_pb2_grpc,
    health_pb2,
    host_service_pb2,
    ipvs_service_pb2,
    ipvs_settings_service_pb2,
    ipvs_settings_service_pb2_grpc,
    sync_daemon_pb2,
    timeouts_pb2,
    vip_pb2,
    vip_service_pb2,
)

from agent_common import wire
from agent_common.errors import InvalidInputError, LvsError, Reason, RefusedError
from agent_common.table import Entry
from agent_common.virtual_server import VirtualServerKey, parse_address
from cli.client import AgentClient, Clients
from cli.errors import NoAnswerError, naming
from cli.site import AgentName, Role, real_server
from cli.together import together

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Generic[_T]):
    """What an agent answered, or why it did not."""

    agent: AgentName
    answer: _T | None = None
    error: LvsError | NoAnswerError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A director's table; ipvs is the kernel's own version and size, None where one virtual server was asked for."""

    ipvs: ipvs_service_pb2.GetIpvsResponse | None
    virtual_servers: list[ipvs_service_pb2.GetVirtualServerResponse]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorState:
    """A director: itself, its virtual servers with their destinations, its VIPs, and what differs from its journal.

    health is what its checks say, where that was asked for.
    """

    host: host_service_pb2.GetHostResponse
    virtual_servers: list[ipvs_service_pb2.GetVirtualServerResponse]
    vips: list[vip_pb2.Vip]
    drift: list[drift_service_pb2.Drift]
    health: list[health_pb2.HealthStatus] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealServerState:
    """A real server: itself, its VIPs, its ARP sysctls, and what differs from its journal."""

    host: host_service_pb2.GetHostResponse
    vips: list[vip_pb2.Vip]
    arp: arp_service_pb2.GetArpResponse
    drift: list[drift_service_pb2.Drift]


async def read_all(
    clients: Clients, agents: Iterable[AgentName], read: Callable[[AgentClient], Awaitable[_T]]
) -> list[Reading[_T]]:
    """Read several agents at once; what one does not answer does not keep the others from being read."""

    async def one(agent: AgentName) -> Reading[_T]:
        try:
            client = clients[agent]
        except InvalidInputError as error:
            if agent.role is Role.DIRECTOR:  # the command line names it, and lacks something
                return Reading(agent=agent, error=error)
            why = error.message.removeprefix(f"{agent}: ")
            return Reading(agent=agent, error=NoAnswerError(str(agent), why, sent=False))
        try:
            with naming(agent):
                return Reading(agent=agent, answer=await read(client))
        except (LvsError, NoAnswerError) as error:
            return Reading(agent=agent, error=error)

    return await together(one(agent) for agent in agents)


async def read_director(client: AgentClient, *, look_now: bool = False) -> DirectorState:
    """Read a director; one without IPVS has no virtual servers, and says so in its version."""
    host = await client.host()
    servers = await list_virtual_servers(client) if host.ipvs_version else []
    return DirectorState(
        host=host,
        virtual_servers=servers,
        vips=await list_vips(client),
        drift=await list_drift(client, look_now=look_now),
    )


async def read_real_server(client: AgentClient) -> RealServerState:
    """Read a real server."""
    stub = arp_service_pb2_grpc.ArpServiceStub(client.channel)
    return RealServerState(
        host=await client.host(),
        vips=await list_vips(client),
        arp=await client.ask(stub.GetArp, arp_service_pb2.GetArpRequest()),
        drift=await list_drift(client),
    )


async def read_listing(client: AgentClient, key: VirtualServerKey | None, *, statistics: bool) -> Listing:
    """Read a director's whole table, or one virtual server; with statistics counters and rates, too."""
    if key is not None:
        return Listing(ipvs=None, virtual_servers=[await get_virtual_server(client, key, statistics=statistics)])
    ipvs = await client.ask(client.ipvs.GetIpvs, ipvs_service_pb2.GetIpvsRequest())
    return Listing(ipvs=ipvs, virtual_servers=await list_virtual_servers(client, statistics=statistics))


async def get_virtual_server(
    client: AgentClient, key: VirtualServerKey, *, statistics: bool = False
) -> ipvs_service_pb2.GetVirtualServerResponse:
    """Return one virtual server with its destinations; raises NotFoundError."""
    request = ipvs_service_pb2.GetVirtualServerRequest(key=wire.pack_key(key), statistics=statistics)
    answer: ipvs_service_pb2.GetVirtualServerResponse = await client.ask(client.ipvs.GetVirtualServer, request)
    return answer


async def list_destinations_of(client: AgentClient, key: VirtualServerKey) -> list[destination_pb2.DestinationStatus]:
    """Return the destinations of a virtual server; raises NotFoundError."""
    return list((await get_virtual_server(client, key)).destinations)


async def list_virtual_servers(
    client: AgentClient, *, statistics: bool = False
) -> list[ipvs_service_pb2.GetVirtualServerResponse]:
    """Return every virtual server of a director with its destinations."""
    found: list[ipvs_service_pb2.GetVirtualServerResponse] = []
    token = ""
    while True:
        page: ipvs_service_pb2.ListTableResponse = await client.ask(
            client.ipvs.ListTable, ipvs_service_pb2.ListTableRequest(page_token=token, statistics=statistics)
        )
        found.extend(page.virtual_servers)
        token = page.next_page_token
        if not token:
            return found


def table_of(servers: Iterable[ipvs_service_pb2.GetVirtualServerResponse]) -> dict[VirtualServerKey, Entry]:
    """Return what a director answered as a table."""
    table = {}
    for each in servers:
        server = wire.unpack_virtual_server(each.status.virtual_server)
        destinations = [wire.unpack_destination(status.destination) for status in each.destinations]
        table[server.key] = Entry(virtual_server=server, destinations={one.key: one for one in destinations})
    return table


async def get_timeouts(client: AgentClient) -> timeouts_pb2.TimeoutsStatus:
    """Return the timeouts of a director."""
    stub = ipvs_settings_service_pb2_grpc.IpvsSettingsServiceStub(client.channel)
    answer: ipvs_settings_service_pb2.GetTimeoutsResponse = await client.ask(
        stub.GetTimeouts, ipvs_settings_service_pb2.GetTimeoutsRequest()
    )
    return answer.status


async def list_sync_daemons(client: AgentClient) -> list[sync_daemon_pb2.SyncDaemonStatus]:
    """Return the sync daemons that run on a director."""
    stub = ipvs_settings_service_pb2_grpc.IpvsSettingsServiceStub(client.channel)
    answer: ipvs_settings_service_pb2.ListSyncDaemonsResponse = await client.ask(
        stub.ListSyncDaemons, ipvs_settings_service_pb2.ListSyncDaemonsRequest()
    )
    return list(answer.daemons)


async def list_vips(client: AgentClient, held_for: VirtualServerKey | None = None) -> list[vip_pb2.Vip]:
    """Return every VIP that an agent holds, or those of one virtual server.

    Raises RefusedError where a corrupt journal cannot tell whose they are.
    """
    key = None if held_for is None else wire.pack_key(held_for)
    found: list[vip_pb2.Vip] = []
    token = ""
    while True:
        page: vip_service_pb2.ListVipsResponse = await client.ask(
            client.vip.ListVips, vip_service_pb2.ListVipsRequest(page_token=token, held_for=key)
        )
        found.extend(page.vips)
        token = page.next_page_token
        if not token:
            return found


async def list_drift(client: AgentClient, *, look_now: bool = False) -> list[drift_service_pb2.Drift]:
    """Return what differs on a host from what was committed there; look_now: in two readings that are taken now.

    Without look_now nothing where a corrupt journal cannot tell: the host's problems say so.
    """
    try:
        return await _list_drift(client, look_now=look_now)
    except RefusedError as error:
        if look_now or error.reason is not Reason.JOURNAL_CORRUPT:
            raise
        return []


async def _list_drift(client: AgentClient, *, look_now: bool) -> list[drift_service_pb2.Drift]:
    stub = drift_service_pb2_grpc.DriftServiceStub(client.channel)
    found: list[drift_service_pb2.Drift] = []
    token = ""
    while True:
        page: drift_service_pb2.ListDriftResponse = await client.ask(
            stub.ListDrift, drift_service_pb2.ListDriftRequest(page_token=token, look_now=look_now)
        )
        found.extend(page.drift)
        token = page.next_page_token
        if not token:
            return found


def real_servers_of(states: Iterable[DirectorState]) -> list[AgentName]:
    """Return the agents of the real servers that directors send clients to, and of those that may still hold a VIP."""
    return _agents(states, lambda status: True)


def needed_real_servers(states: Iterable[DirectorState]) -> list[AgentName]:
    """Return those of them that must have an agent: not with nat, nor for what lvs did not make."""
    nat = destination_pb2.FORWARDING_METHOD_MASQUERADING
    return _agents(states, lambda status: status.managed and status.destination.forwarding_method != nat)


def _agents(
    states: Iterable[DirectorState], counts: Callable[[destination_pb2.DestinationStatus], bool]
) -> list[AgentName]:
    texts: set[str] = set()
    for state in states:
        statuses = [status for server in state.virtual_servers for status in server.destinations]
        texts.update(status.destination.key.address for status in statuses if counts(status))
        texts.update(leftover.real_server for leftover in state.host.leftovers)
    addresses = [parse_address(text, "real server") for text in texts]
    return [real_server(each) for each in sorted(addresses, key=lambda each: (each.version, each.packed))]
