"""A whole site in memory: what preflight would read of it, and the plans that come of that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, ip_address

from lvsagent.v1 import host_service_pb2

from agent_common import wire
from agent_common.changes import BatchError
from agent_common.destination import Destination
from agent_common.errors import LvsError
from agent_common.fake_address import FakeAddresses, Gateway
from agent_common.operation import Operation
from agent_common.virtual_server import IpAddress, ServiceAddress, VirtualServerKey
from cli import plan_add, plan_remove, plan_weight
from cli.facts import DirectorFacts, RealServerFacts
from cli.plan import Plan, Step
from cli.plan_remove import Removal
from cli.request import AddBackend, Backend, RemoveBackend, SetWeight, parse_backend
from cli.site import AgentName, Role, real_server
from tests.hosts import DirectorHost, RealServerHost, own_address

RS1, RS2 = "192.168.0.104", "192.168.0.105"
D1, D2 = "d1:9710", "d2:9710"
EVERYWHERE = own_address("0.0.0.0", 0).address


def backend(*real_servers: str, vip: str = "192.168.0.200:80", protocol: str = "tcp") -> Backend:
    return parse_backend(vip, real_servers or (RS1,), protocol)


class SiteInMemory:
    """Directors and real servers by name and address; each is an agent on fakes, and answers as the real one would."""

    def __init__(self, directors: Iterable[str] = (D1,), real_servers: Iterable[str] = (RS1, RS2)) -> None:
        self.directors = {
            name: DirectorHost(address=f"192.168.0.{10 + number}") for number, name in enumerate(directors)
        }
        self.real_servers = {address: RealServerHost(address=address) for address in real_servers}
        self.settings: dict[str, dict[str, int]] = {}

    @property
    def director(self) -> DirectorHost:
        """The authority."""
        return next(iter(self.directors.values()))

    @property
    def hosts(self) -> list[DirectorHost | RealServerHost]:
        """Every host, directors first."""
        return [*self.directors.values(), *self.real_servers.values()]

    def behind(self, address: str) -> None:
        """Put a real server behind a router, as the directors see it."""
        router = Gateway(network=IPv4Network("10.0.0.0/8"), address=own_address("192.168.0.1").address, device="eth0")
        for number, name in enumerate(self.directors):
            addresses = FakeAddresses([own_address(f"192.168.0.{10 + number}")], gateways=[router])
            self.directors[name] = DirectorHost(addresses=addresses)
        self.real_servers[address] = RealServerHost(address=address)

    def add(self, request: AddBackend) -> Plan:
        """Plan as add_backend does, over function calls instead of gRPC."""
        directors = self._directors(request.backend)
        directors = [
            self._validated(facts, plan_add.director_operations(request, directors, facts)) for facts in directors
        ]
        found = {}
        for address in _addresses(request.backend):
            if request.ask_real_servers and not any(facts.route(address).local for facts in directors):
                wanted = plan_add.real_server_operations(request, directors, address)
                found[address] = self._real_server(address, wanted)
        return plan_add.plan(request, directors, found)

    def remove(self, request: RemoveBackend) -> Removal:
        """Plan as remove_backend does."""
        directors = self._directors(request.backend)
        asked = [a for a in _addresses(request.backend) if plan_remove.asks_real_server(request, directors, a)]
        found = {each: self._real_server(each, ()) for each in asked}
        directors = [
            self._validated(each, plan_remove.decided_operations(request, directors, each)) for each in directors
        ]
        return plan_remove.plan(request, directors, found)

    def weight(self, request: SetWeight) -> Plan:
        """Plan as set_weight does."""
        directors = self._directors(request.backend)
        found = {
            each: self._real_server(each, plan_weight.real_server_operations(request, directors, each))
            for each in _addresses(request.backend)
            if plan_weight.raises_from_zero(request, directors, each)
        }
        wanted = plan_weight.director_operations(request, directors)
        directors = [self._validated(each, wanted) for each in directors]
        return plan_weight.plan(request, directors, found)

    def run(self, steps: Iterable[Step]) -> None:
        """Carry the steps out, those that wait as if nothing had to be waited for."""
        for step in steps:
            if step.operations:
                asyncio.run(self.host(step.agent).changes.apply_all(step.operations, ""))

    def host(self, agent: AgentName) -> DirectorHost | RealServerHost:
        """Return the agent behind a name."""
        return self.directors[agent.name] if agent.role is Role.DIRECTOR else self.real_servers[agent.name]

    def _directors(self, backend: Backend) -> list[DirectorFacts]:
        return [self._director(name, backend) for name in self.directors]

    def _director(self, name: str, backend: Backend) -> DirectorFacts:
        host, key = self.directors[name], backend.key
        answer = _host_message(host, name, _addresses(backend), self.settings.get(name, {}))
        for server, address in host.destinations.leftovers():
            answer.leftovers.add(virtual_server=wire.pack_key(server), real_server=str(address))
        return DirectorFacts(
            agent=AgentName(role=Role.DIRECTOR, name=name),
            host=answer,
            vips=(key.address,)
            if isinstance(key, ServiceAddress)
            else tuple(vip.address for vip in host.vips.list_held_for(key)),
            server=host.ipvs.virtual_server(key),
            managed=host.virtual_servers.is_managed(key),
            policy=host.health.policy(key),
            destinations={status.destination.key: status for status in host.destinations.list_all(key)},
        )

    def _validated(self, facts: DirectorFacts, wanted: list[Operation]) -> DirectorFacts:
        error: LvsError | None = None
        try:
            changes = asyncio.run(self.directors[facts.agent.name].changes.apply_all(wanted, "", validate_only=True))
        except BatchError as failure:
            changes, error = list(failure.earlier), failure.error
        return replace(facts, changes=tuple(changes), error=error)

    def _real_server(self, address: IpAddress, wanted: Sequence[Operation]) -> RealServerFacts:
        host, agent = self.real_servers[str(address)], real_server(address)
        answer = _host_message(host, str(address), [EVERYWHERE], self.settings.get(str(address), {}))
        if not wanted:
            return RealServerFacts(agent=agent, host=answer, vips=tuple(host.vips.list_all()))
        try:
            changes = [asyncio.run(host.changes.apply(each, "", validate_only=True)) for each in wanted]
        except LvsError as error:
            return RealServerFacts(agent=agent, host=answer, error=error)
        return RealServerFacts(agent=agent, host=answer, changes=tuple(changes))


def _addresses(backend: Backend) -> list[IpAddress]:
    return list(dict.fromkeys(key.address for key in backend.real_servers))


def _host_message(
    host: DirectorHost | RealServerHost, name: str, routes_to: Iterable[IpAddress], settings: dict[str, int]
) -> host_service_pb2.GetHostResponse:
    answer = host_service_pb2.GetHostResponse(agent_id=f"id-of-{name.partition(':')[0]}", hostname=name)
    for each in host.addresses.addresses():
        answer.addresses.add(address=str(each.address), prefix_length=each.prefix_length, device=each.device)
    for target in routes_to:
        route = host.addresses.route_to(target)
        answer.routes.add(
            destination=str(target),
            reachable=route.reachable,
            local=route.local,
            gateway=str(route.gateway or ""),
            device=route.device,
            source=str(route.source or ""),
        )
    for setting, value in settings.items():
        answer.settings.add(name=setting, value=value)
    return answer


def titles(steps: Iterable[Step]) -> list[str]:
    """Return the steps as a reader sees them: who does what."""
    return [f"{step.agent}: {step.title}" for step in steps]


def found(plan: Plan | Removal) -> list[str]:
    """Return what a plan found as it is."""
    return [f"{each.result}: {each.agent}: {each.title}" for each in plan.found]


def table(host: DirectorHost, key: VirtualServerKey) -> dict[str, Destination]:
    """Return the destinations of a virtual server as the agent reports them."""
    return {str(each.destination.key): each.destination for each in host.destinations.list_all(key)}


def address(text: str) -> IpAddress:
    return ip_address(text)
