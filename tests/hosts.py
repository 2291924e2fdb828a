"""Hosts in memory: agents as __main__ wires them, on the fakes that stand beside the Protocols."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

from agent_common.address import InterfaceAddress
from agent_common.changes import Changes
from agent_common.checker import Checker
from agent_common.drift_watch import DriftWatch
from agent_common.endpoint import Endpoint
from agent_common.fake_address import FakeAddresses
from agent_common.fake_checker import FakeChecker
from agent_common.fake_sockets import FakeSockets
from agent_common.fake_state import FakeState
from agent_common.held_vip import HeldVips
from agent_common.locks import Locks
from agent_common.neighbours import Neighbours, NoNeighbours
from agent_common.program import Ran
from agent_common.repair import Repairs
from agent_common.restore import Problems
from agent_common.state import if_intact
from agent_common.transaction_records import TransactionRecords
from agent_common.transactions import Member, Transactions
from agent_common.vip import VirtualServerHolder
from agent_common.virtual_server import IpAddress, VirtualServerKey, parse_key
from agent_director.check_pace import Pace
from agent_director.destination import Destinations
from agent_director.fake_ipvs import FakeIpvs
from agent_director.health import Healths
from agent_director.health_gate import HealthGate
from agent_director.health_log import HealthLog
from agent_director.health_records import HealthRecords
from agent_director.health_watch import HealthWatch
from agent_director.ipvs_settings import IpvsSettings
from agent_director.resources import DirectorResources
from agent_director.restore import DirectorRestore
from agent_director.shadow import Shadow
from agent_director.standing import Standings
from agent_director.sync_daemon import SyncDaemons
from agent_director.table import Tables
from agent_director.table_health import TablePolicies
from agent_director.timeouts import TimeoutSettings
from agent_director.vip import DirectorVips
from agent_director.virtual_server import VirtualServers
from agent_realserver.fake_arp import FakeArpSysctls
from agent_realserver.fake_tunnel_devices import FakeTunnelDevices
from agent_realserver.resources import RealServerResources
from agent_realserver.restore import RealServerRestore
from agent_realserver.silence import Silence
from agent_realserver.tunnel_ends import TunnelEnds
from agent_realserver.vip import LoopbackVips

T = TypeVar("T")

VIP = IPv4Address("192.168.0.200")
VIP6 = IPv6Address("2001:db8::200")
WEB = parse_key("tcp/192.168.0.200:80")
WEB6 = parse_key("tcp/[2001:db8::200]:80")


async def run(function: Callable[[], T], /) -> T:
    """Stands for the worker thread; gives others their turn, as that does."""
    await asyncio.sleep(0)
    return function()


def own_address(address: str, prefix_length: int = 24, device: str = "eth0") -> InterfaceAddress:
    """Return an address of the host itself."""
    return InterfaceAddress(address=ip_address(address), prefix_length=prefix_length, device=device)


def holder(key: VirtualServerKey | str = WEB, authority: str = "director-1") -> VirtualServerHolder:
    """Return a virtual server as the holder of a VIP."""
    return VirtualServerHolder(key=parse_key(key) if isinstance(key, str) else key, authority=authority)


class BootClock:
    """CLOCK_BOOTTIME of a host, in seconds, and the name of its boot."""

    def __init__(self, boot: str = "boot-1") -> None:
        self.now = 100.0
        self.boot = boot

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Of what an agent is made; tests/promises hands it weaker ones."""

    held_vips: type[HeldVips] = HeldVips
    destinations: type[Destinations] = Destinations
    locks: type[Locks] = Locks
    transactions: type[Transactions] = Transactions


AS_SHIPPED = Parts()


class DirectorHost:
    """A director: its kernel and state, and everything that decides on top of them."""

    def __init__(
        self,
        *,
        ipvs: FakeIpvs | None = None,
        addresses: FakeAddresses | None = None,
        state: FakeState | None = None,
        neighbours: Neighbours | None = None,
        own: Iterable[Endpoint] = (),
        address: str = "192.168.0.10",
        agent_id: str = "id",
        clock: BootClock | None = None,
        parts: Parts = AS_SHIPPED,
    ) -> None:
        self.parts = parts
        self.clock = clock = clock or BootClock()
        self.ipvs = ipvs or FakeIpvs()
        self.addresses = addresses or FakeAddresses([own_address(address), own_address("2001:db8::10", 64)])
        self.state = state or FakeState()
        self.sockets = FakeSockets()
        self.records = TransactionRecords(self.state)
        policy = DirectorVips(
            self.addresses,
            self.ipvs.virtual_servers,
            has_ours=lambda key: self.virtual_servers.has_ours(key),  # noqa: PLW0108  # they are made below
            check_marked=lambda mark, vip, force: self.shadow.check_marked(mark, vip, force=force),
        )
        self.vips = parts.held_vips(self.addresses, self.state, policy)
        self.shadow = Shadow(self.addresses, self.sockets, tuple(own), self.vips.made)
        self.health = HealthRecords(self.state)
        self.destinations = parts.destinations(
            self.ipvs,
            self.state,
            self.health,
            lambda server, key: self.health_watch.report(server, key),  # noqa: PLW0108  # it is made below
        )
        self.virtual_servers = VirtualServers(self.ipvs, self.state, self.shadow, self.destinations, self.health)
        self.settings = IpvsSettings(TimeoutSettings(self.ipvs, self.state), SyncDaemons(self.ipvs, self.state))
        self.healths = Healths(
            self.health, self.virtual_servers, self.destinations, lambda argv, field: None, lambda real_server: None
        )
        self.tables = Tables(
            self.ipvs,
            self.state,
            self.virtual_servers,
            self.destinations,
            self.shadow,
            self.health,
            TablePolicies(self.health, self.healths.check),
        )
        self.resources = DirectorResources(
            self.virtual_servers, self.destinations, self.tables, self.vips, self.settings, self.healths
        )
        self.checker = FakeChecker()
        self.health_log = HealthLog()
        self.health_watch = self.watch_with(self.checker)
        self.health_gate = HealthGate(self.health, self.destinations, self.checker, run)
        self.commands: list[tuple[str, ...]] = []
        self.neighbours = neighbours or NoNeighbours()
        locks = parts.locks()
        self.changes = Changes(self.resources, self.state, run, self.neighbours, locks)
        self.locks = locks
        self.identify(agent_id)
        self.problems = Problems(self.state)
        self.restore = DirectorRestore(
            self.ipvs,
            self.virtual_servers,
            self.destinations,
            self.vips,
            self.settings,
            self.changes,
            self.neighbours,
            run,
            self.problems,
            locks,
        )
        self.repairs = Repairs(self.resources, self.changes, self.neighbours, locks, run)
        self.watch = DriftWatch(if_intact(self.state, self.restore.drift), self.restore.mend, run)

    def watch_with(self, checker: Checker, pace: Pace | None = None) -> HealthWatch:
        """Return what checks the destinations, by other means than the fake ones."""
        standings = Standings(self.ipvs, self.state, self.health, self.destinations)
        return HealthWatch(
            self.ipvs,
            self.health,
            self.destinations,
            standings,
            run,
            checker,
            self.health_log,
            self.run_command,
            pace,
        )

    async def run_command(self, argv: Sequence[str], environment: Mapping[str, str], seconds: float) -> Ran:
        """Note a command that the agent would run."""
        self.commands.append(tuple(argv))
        return Ran(status=0)

    def identify(self, agent_id: str) -> None:
        """Be the agent of this name."""
        self.agent_id = agent_id
        member = Member(agent_id=agent_id, is_director=True, boot=self.clock.boot)
        self.transactions = self.parts.transactions(member, self.changes, self.locks, self.state, run, self.clock)

    async def start(self) -> None:
        """Do what the agent does at its first start in a boot, before it serves."""
        self.health.load()
        await self.transactions.start()
        await self.restore.start(new_boot=True, complete=self.transactions.complete)

    def restarted(self) -> DirectorHost:
        """Return a new agent on the same kernel and state directory."""
        return DirectorHost(
            ipvs=self.ipvs,
            addresses=self.addresses,
            state=self.state,
            neighbours=self.neighbours,
            agent_id=self.agent_id,
            clock=self.clock,
            parts=self.parts,
        )

    def rebooted(self) -> DirectorHost:
        """Return a new agent on the same state directory, after the kernel has lost everything of ours."""
        clock = BootClock("boot-2")
        fields = {"state": self.state, "neighbours": self.neighbours, "agent_id": self.agent_id}
        return DirectorHost(**fields, clock=clock, parts=self.parts)  # type: ignore[arg-type]


class RealServerHost:
    """A real server: its kernel and state, and everything that decides on top of them."""

    def __init__(
        self,
        *,
        sysctls: FakeArpSysctls | None = None,
        tunnel_devices: FakeTunnelDevices | None = None,
        addresses: FakeAddresses | None = None,
        state: FakeState | None = None,
        serves: Callable[[VirtualServerKey], bool] = lambda key: False,
        name_servers: Iterable[IpAddress] = (),
        address: str = "192.168.0.104",
        agent_id: str = "id",
        clock: BootClock | None = None,
        parts: Parts = AS_SHIPPED,
    ) -> None:
        self.parts = parts
        self.clock = clock = clock or BootClock()
        self.sysctls = sysctls or FakeArpSysctls()
        self.addresses = addresses or FakeAddresses([own_address(address)])
        self.state = state or FakeState()
        self.sockets = FakeSockets()
        self.silence = Silence(self.sysctls, self.addresses, self.state)
        self.records = TransactionRecords(self.state)
        self.tunnel_devices = tunnel_devices or FakeTunnelDevices()
        policy = LoopbackVips(
            self.silence,
            TunnelEnds(self.tunnel_devices, self.state),
            self.addresses,
            self.sockets,
            serves,
            lambda: frozenset(name_servers),
            newer_claim=self.records.newer_claim,
        )
        self.vips = parts.held_vips(self.addresses, self.state, policy)
        self.resources = RealServerResources(self.vips, self.silence)
        locks = parts.locks()
        self.changes = Changes(self.resources, self.state, run, NoNeighbours(), locks)
        self.locks = locks
        self.identify(agent_id)
        self.problems = Problems(self.state)
        self.restore = RealServerRestore(self.vips, self.silence, self.changes, run, self.problems, locks)
        self.repairs = Repairs(self.resources, self.changes, NoNeighbours(), locks, run)
        self.watch = DriftWatch(if_intact(self.state, self.restore.drift), self.restore.mend, run)

    def identify(self, agent_id: str) -> None:
        """Be the agent of this name."""
        self.agent_id = agent_id
        member = Member(agent_id=agent_id, is_director=False, boot=self.clock.boot)
        self.transactions = self.parts.transactions(member, self.changes, self.locks, self.state, run, self.clock)

    def restarted(self) -> RealServerHost:
        """Return a new agent on the same kernel and state directory."""
        return RealServerHost(
            sysctls=self.sysctls,
            tunnel_devices=self.tunnel_devices,
            addresses=self.addresses,
            state=self.state,
            agent_id=self.agent_id,
            clock=self.clock,
            parts=self.parts,
        )

    def rebooted(self) -> RealServerHost:
        """Return a new agent on the same state directory, after the kernel has lost everything of ours."""
        return RealServerHost(state=self.state, agent_id=self.agent_id, clock=BootClock("boot-2"))
