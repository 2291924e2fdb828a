"""Agents of tests.hosts behind real gRPC on unix sockets, with the servicers and handlers of the real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import grpc
from lvsagent.v1 import (
    arp_service_pb2,
    audit_service_pb2,
    backend_service_pb2,
    change_service_pb2,
    drift_service_pb2,
    health_service_pb2,
    host_service_pb2,
    ipvs_service_pb2,
    ipvs_settings_service_pb2,
    transaction_service_pb2,
    vip_service_pb2,
)

from agent_common.access import Access, Callers, Everybody, Remembered
from agent_common.audit_file import AuditFile, open_audit
from agent_common.audit_service import AuditServicer
from agent_common.change_service import ChangeServicer
from agent_common.checks import NetworkChecks
from agent_common.drift_service import DriftServicer
from agent_common.endpoint import Endpoint
from agent_common.handlers import Handlers, Service
from agent_common.host_service import HostServicer, Identity
from agent_common.identity import Role
from agent_common.listening import Listeners
from agent_common.transaction_service import TransactionServicer
from agent_common.vip_service import VipServicer
from agent_director.health_service import HealthServicer
from agent_director.ipvs_service import IpvsServicer, pack_server
from agent_director.ipvs_settings_service import IpvsSettingsServicer
from agent_realserver.arp_service import ArpServicer
from agent_realserver.backend import HeldHere
from agent_realserver.backend_service import BackendServicer
from cli.client import Clients
from cli.connection import Call
from cli.site import Site
from tests.hosts import DirectorHost, RealServerHost, run

Host = DirectorHost | RealServerHost

ADMINS = Access(Everybody(name="a test", role=Role.ADMIN))
"""Whoever calls may do everything."""


def services(host: Host, agent_id: str = "id", audit: AuditFile | None = None) -> list[Service]:
    """Return the services of an agent, as its __main__ makes them."""
    common = {
        vip_service_pb2: VipServicer(host.vips, host.changes, run),
        change_service_pb2: ChangeServicer(host.changes),
        transaction_service_pb2: TransactionServicer(host.transactions),
        audit_service_pb2: AuditServicer(audit or open_audit(Path("/nonexistent"))),
        drift_service_pb2: DriftServicer(host.watch, host.repairs, host.state.check_intact),
    }
    if isinstance(host, DirectorHost):
        identity = Identity(kind=host_service_pb2.AGENT_KIND_DIRECTOR, agent_id=agent_id)
        servicers = {
            **common,
            ipvs_service_pb2: IpvsServicer(host.ipvs, host.virtual_servers, host.destinations, host.changes, run),
            ipvs_settings_service_pb2: IpvsSettingsServicer(host.settings, host.changes, run),
            health_service_pb2: HealthServicer(
                host.healths,
                host.destinations,
                host.health_watch,
                host.health_gate,
                host.health_log,
                host.changes,
                run,
            ),
            host_service_pb2: HostServicer(
                identity,
                host.addresses,
                host.sockets,
                run,
                ipvs_version=lambda: host.ipvs.info().version,
                settled_fence=host.transactions.settled_fence,
                leftovers=host.destinations.leftovers,
                problems=host.problems.texts,
                read_server=lambda key: pack_server(host.virtual_servers, host.destinations, key),
                read_policy=host.health.policy,
            ),
        }
    else:
        identity = Identity(kind=host_service_pb2.AGENT_KIND_REALSERVER, agent_id=agent_id)
        servicers = {
            **common,
            arp_service_pb2: ArpServicer(host.silence, host.vips, host.changes, run),
            backend_service_pb2: BackendServicer(
                HeldHere(host.silence, host.addresses, run),
                Listeners(host.addresses, host.sockets, run),
                NetworkChecks(),
            ),
            host_service_pb2: HostServicer(
                identity,
                host.addresses,
                host.sockets,
                run,
                problems=host.problems.texts,
                settled_fence=host.transactions.settled_fence,
            ),
        }
    return [
        Service(descriptor=descriptor, servicer=servicer)
        for module, servicer in servicers.items()
        for descriptor in module.DESCRIPTOR.services_by_name.values()
    ]


@asynccontextmanager
async def served(path: Path, offered: Sequence[Service], access: Access = ADMINS) -> AsyncIterator[grpc.aio.Server]:
    """Serve on a unix socket; ends like an agent does."""
    handlers = Handlers()
    server = handlers.make_server(access, offered)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield server
    finally:
        await server.stop(grace=None)
        await handlers.finish()


class Served:
    """A site whose agents run in this process: hosts by name, servers by name, and clients that reach them."""

    def __init__(self, folder: Path, stack: AsyncExitStack, callers: Callers | None = None) -> None:
        self._callers = callers
        self._folder = folder
        self._stack = stack
        self._servers: dict[str, grpc.aio.Server] = {}
        self._directors: list[Endpoint] = []
        self._real_servers: dict[str, Endpoint] = {}
        self.calls: list[Call] = []

    async def start(self, name: str, host: Host) -> None:
        """Start an agent: a director by any name, a real server by its address."""
        path = self.path(name)
        path.unlink(missing_ok=True)
        host.identify(f"id-of-{name}")
        remembered = Remembered(operations=host.transactions.operations_of, changes=host.changes.remembered)
        access = ADMINS if self._callers is None else Access(self._callers, remembered)
        offered = services(host, host.agent_id)
        self._servers[name] = await self._stack.enter_async_context(served(path, offered, access))
        endpoint = Endpoint(path=str(path))
        if isinstance(host, RealServerHost):
            self._real_servers[name] = endpoint
        elif endpoint not in self._directors:
            self._directors.append(endpoint)

    async def kill(self, name: str) -> None:
        """End an agent at once; its socket refuses from now on."""
        await self._servers[name].stop(grace=None)
        self.path(name).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Return where an agent's socket is."""
        return self._folder / f"{name}.sock"

    async def clients(self, seconds: float = 5.0, lock_seconds: float = 10.0) -> Clients:
        """Return fresh connections to every agent that was ever started."""
        site = Site(
            directors=tuple(self._directors),
            rs_agents={ip_address(name): endpoint for name, endpoint in self._real_servers.items()},
            timeout=seconds,
            lock_timeout=lock_seconds,
        )
        return await self._stack.enter_async_context(Clients(site, self.calls.append))


@asynccontextmanager
async def serving(folder: Path, hosts: Mapping[str, Host]) -> AsyncIterator[Served]:
    """Run agents until the end of the context."""
    async with AsyncExitStack() as stack:
        site = Served(folder, stack)
        for name, host in hosts.items():
            await site.start(name, host)
        yield site
