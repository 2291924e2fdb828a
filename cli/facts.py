"""What preflight has read from the agents. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lvsagent.v1 import host_service_pb2, operation_pb2

from agent_common.destination import Destination, DestinationKey, DestinationStatus, Forwarding
from agent_common.errors import LvsError, Reason, RefusedError
from agent_common.health import HealthPolicy
from agent_common.operation import Change
from agent_common.tunnel import TunnelEnd, ends_for, joined
from agent_common.vip import Vip
from agent_common.virtual_server import FirewallMark, IpAddress, VirtualServer
from cli.errors import naming
from cli.request import AddBackend, Backend
from cli.site import AgentName


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorFacts:
    """A director: itself, the virtual server as it is there, and what it says to the operations that are planned.

    vips are those that it holds for the virtual server, policy is how it checks its destinations, where that was asked.
    """

    agent: AgentName
    host: host_service_pb2.GetHostResponse
    server: VirtualServer | None = None
    managed: bool = False
    vips: tuple[IpAddress, ...] = ()
    policy: HealthPolicy | None = None
    destinations: Mapping[DestinationKey, DestinationStatus] = field(default_factory=dict)
    changes: tuple[operation_pb2.Change, ...] = ()
    error: LvsError | None = None

    def route(self, address: IpAddress) -> host_service_pb2.Route:
        """Return how the director reaches an address that preflight asked about."""
        return next(route for route in self.host.routes if route.destination == str(address))

    def check_answer(self) -> None:
        """Raise what the director refuses of what is planned, with its name."""
        if self.error is not None:
            with naming(self.agent):
                raise self.error

    def settings(self) -> dict[str, int]:
        """Return its network settings by their path below /proc/sys/net."""
        return {each.name: each.value for each in self.host.settings}

    def addresses(self) -> set[str]:
        """Return the director's own addresses."""
        return {each.address for each in self.host.addresses}


@dataclass(frozen=True, slots=True, kw_only=True)
class RealServerFacts:
    """A real server: itself, and what it says to the operations that are planned; else the VIPs that it holds."""

    agent: AgentName
    host: host_service_pb2.GetHostResponse
    changes: tuple[operation_pb2.Change, ...] = ()
    error: LvsError | None = None
    vips: tuple[Vip, ...] = ()

    @property
    def made(self) -> bool:
        """Whether there is something to prepare."""
        return any(change.made for change in self.changes)

    def addresses(self) -> set[str]:
        """Return the real server's own addresses."""
        return {each.address for each in self.host.addresses}

    def check(self, address: IpAddress) -> None:
        """Raise RefusedError if this is the agent of another host, and what the agent itself refused."""
        if str(address) not in self.addresses():
            raise RefusedError(
                f"the agent of {self.agent} runs on another host ({self.host.hostname}), which does not have {address}",
                Reason.NOT_ON_LINK,
                real_server=str(address),
            )
        if self.error is not None:
            with naming(self.agent):
                raise self.error

    def settings(self) -> dict[str, int]:
        """Return its network settings by their path below /proc/sys/net."""
        return {each.name: each.value for each in self.host.settings}


def change_of(request: AddBackend, facts: DirectorFacts, destination: DestinationKey) -> Change:
    """Return what a director would do for one destination; they come last, in the order of the request."""
    keys = request.backend.real_servers
    return facts.changes[keys.index(destination) - len(keys)]


def vips_of(backend: Backend, directors: Sequence[DirectorFacts]) -> tuple[IpAddress, ...]:
    """Return the VIPs of a virtual server: those that were given, and those that directors hold for it."""
    return tuple(dict.fromkeys((*backend.vips, *(vip for facts in directors for vip in facts.vips))))


def destination_of(request: AddBackend, directors: Sequence[DirectorFacts], key: DestinationKey) -> Destination:
    """Return a destination as a director has it, else as a new one would be."""
    for facts in directors:
        if key in facts.destinations:
            return facts.destinations[key].destination
    return request.destination(key)


def ends_at(destinations: Iterable[Destination], address: IpAddress) -> tuple[TunnelEnd, ...]:
    """Return the ends of tunnels that destinations need on one real server."""
    return joined(*(ends_for(each) for each in destinations if each.key.address == address))


def method_of(request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> Forwarding:
    """Return the forwarding method asked for, else that of the destination that is there, else dr."""
    if request.forwarding is None:
        for facts in directors:
            for key, status in facts.destinations.items():
                if key.address == address and key in request.backend.real_servers:
                    return status.destination.forwarding
    return request.method


def needs_vip(request: AddBackend, directors: Sequence[DirectorFacts], address: IpAddress) -> bool:
    """Whether the VIP goes onto this real server."""
    if any(facts.route(address).local for facts in directors):
        return False
    return method_of(request, directors, address) is not Forwarding.MASQUERADING


def without_vip(
    request: AddBackend, directors: Sequence[DirectorFacts]
) -> Iterator[tuple[DirectorFacts, DestinationKey, IpAddress]]:
    """Return the destinations behind a mark that are not asked for, and the VIPs that they are not known to have.

    With an address there is but one VIP, and whoever is behind it has it.

    One has those that a director holds for the mark which has that destination.
    """
    for facts in directors if isinstance(request.backend.key, FirewallMark) else ():
        for key, status in facts.destinations.items():
            is_local = any(str(key.address) in each.addresses() for each in directors)
            if is_local or key in request.backend.real_servers:
                continue
            if status.destination.forwarding is not Forwarding.MASQUERADING:
                known = {vip for each in directors if key in each.destinations for vip in each.vips}
                yield from ((facts, key, vip) for vip in vips_of(request.backend, directors) if vip not in known)
