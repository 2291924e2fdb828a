"""The director's agent: wires kernel, state and services together."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lvsagent.v1 import (
    audit_service_pb2,
    change_service_pb2,
    connection_service_pb2,
    drift_service_pb2,
    health_service_pb2,
    host_service_pb2,
    ipvs_service_pb2,
    ipvs_settings_service_pb2,
    transaction_service_pb2,
    vip_service_pb2,
)

from agent_common.access import Remembered
from agent_common.agent import Beside, agent_id, run_agent, serve
from agent_common.agent_settings import AgentSettings, read_settings
from agent_common.audit_file import open_audit
from agent_common.audit_log import AuditLog
from agent_common.audit_service import AuditServicer
from agent_common.boot import boot_id, is_new_boot, note_boot
from agent_common.change_service import ChangeServicer
from agent_common.changes import Changes
from agent_common.check_script import Scripts
from agent_common.checks import NetworkChecks
from agent_common.drift_service import DriftServicer
from agent_common.drift_watch import DriftWatch
from agent_common.enforce import Enforcer
from agent_common.errors import ExhaustedError, LvsError, Reason, RefusedError
from agent_common.handlers import Service
from agent_common.held_vip import HeldVips
from agent_common.host_service import HostServicer, Identity
from agent_common.identity import Kind
from agent_common.journal import journal_of
from agent_common.locks import Locks
from agent_common.netlink_address import NetlinkAddresses
from agent_common.netlink_notices import NetlinkNotices
from agent_common.procfs_sockets import ProcfsSockets
from agent_common.repair import Repairs
from agent_common.restore import Problems
from agent_common.server_certificates import expires
from agent_common.sqlite_state import SqliteState
from agent_common.start import start_or_distrust
from agent_common.state import State, follow_room, if_intact
from agent_common.transaction_service import TransactionServicer
from agent_common.transactions import Member, Transactions
from agent_common.vip_service import VipServicer
from agent_common.vip_watch import VipWatch
from agent_common.virtual_server import VirtualServer
from agent_common.worker import Worker
from agent_director.check_agent import AgentChecks
from agent_director.checks import DirectorChecks
from agent_director.connection_service import ConnectionServicer
from agent_director.destination import Destinations
from agent_director.health import Healths
from agent_director.health_gate import HealthGate
from agent_director.health_log import HealthLog, open_events
from agent_director.health_records import HealthRecords
from agent_director.health_service import HealthServicer
from agent_director.health_watch import HealthWatch
from agent_director.ipvs import Ipvs
from agent_director.ipvs_service import IpvsServicer, pack_server
from agent_director.ipvs_settings import IpvsSettings
from agent_director.ipvs_settings_service import IpvsSettingsServicer
from agent_director.marked_path import MarkedPaths
from agent_director.netlink_ipvs import NetlinkIpvs
from agent_director.netlink_neighbour import NetlinkNeighbours
from agent_director.procfs_connections import ProcfsConnections
from agent_director.resources import DirectorResources
from agent_director.restore import DirectorRestore
from agent_director.shadow import Shadow
from agent_director.standing import Standings
from agent_director.sync_daemon import SyncDaemons
from agent_director.table import Tables
from agent_director.table_health import TablePolicies
from agent_director.timeouts import TimeoutSettings
from agent_director.vip import DirectorVips
from agent_director.vip_neighbours import VipNeighbours
from agent_director.virtual_server import VirtualServers

_log = logging.getLogger(__name__)

PORT = 9710


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What the worker thread owns; made and closed there."""

    state: State
    ipvs: NetlinkIpvs
    addresses: NetlinkAddresses
    neighbours: NetlinkNeighbours

    def close(self) -> None:
        """Let go of files and sockets; the kernel's tables stay as they are."""
        for each in (self.state, self.ipvs, self.addresses, self.neighbours):
            each.close()


def main(open_state: Callable[[Path], State] = SqliteState) -> None:
    """Run lvs-director; open_state is given the state directory."""
    settings = read_settings("lvs-director", PORT, sys.argv[1:])
    run_agent("lvs-director", _run(settings, open_state))


async def _run(settings: AgentSettings, open_state: Callable[[Path], State]) -> None:
    worker = Worker()
    kernel = await worker(lambda: _open(open_state(settings.state_dir)))
    notices = NetlinkNotices()  # from before anything is put back: what goes from now on is heard of
    try:
        identity = Identity(
            kind=host_service_pb2.AGENT_KIND_DIRECTOR, agent_id=await worker(lambda: agent_id(kernel.state))
        )

        async def is_serving() -> bool:
            return not kernel.state.damage and bool(await worker.ahead(lambda: _ipvs_version(kernel.ipvs)))

        await worker(lambda: _warn_without_ipvs(kernel.ipvs))
        boot = boot_id()
        wired = _wire(settings, kernel, worker, identity, boot)
        beside = await _start(kernel, worker, notices, wired, boot)
        await serve(settings, Kind.DIRECTOR, wired.services, is_serving, beside, wired.remembered, wired.audit.record)
        await wired.health.checker.close()
    finally:
        notices.close()
        await worker(kernel.close)
        worker.close()


def _open(state: State) -> Kernel:
    return Kernel(
        state=state,
        ipvs=NetlinkIpvs(),
        addresses=NetlinkAddresses(),
        neighbours=NetlinkNeighbours(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What checks destinations, and what is served of it."""

    healths: Healths
    watch: HealthWatch
    gate: HealthGate
    log: HealthLog
    checker: DirectorChecks
    records: HealthRecords
    marked: MarkedPaths


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """The services, what restores the committed state, and what goes on beside them."""

    services: list[Service]
    restore: DirectorRestore
    watch: DriftWatch
    transactions: Transactions
    health: Health
    remembered: Remembered
    audit: AuditLog


async def _start(kernel: Kernel, worker: Worker, notices: NetlinkNotices, wired: Wired, boot: str) -> list[Beside]:
    """Undo what is undecided, restore what is committed; return what goes on: of a corrupt journal, nothing."""

    async def start() -> None:
        with kernel.state.reserve():
            await worker(wired.health.records.load)
            await worker(lambda: _clear_marks(wired.health.marked))
            await wired.transactions.start()
            new_boot = await worker(lambda: is_new_boot(kernel.state, boot))
            await wired.restore.start(new_boot=new_boot, complete=wired.transactions.complete)
            await worker(lambda: _note_boot(kernel.state, boot))

    if not await start_or_distrust(kernel.state, start):
        return []
    return [
        wired.watch.follow,
        wired.transactions.follow,
        wired.health.watch.follow,
        VipWatch(notices, wired.restore.put_back).follow,
        lambda: follow_room(kernel.state, worker),
    ]


def _wire(settings: AgentSettings, kernel: Kernel, worker: Worker, identity: Identity, boot: str) -> Wired:
    state, addresses, sockets = kernel.state, kernel.addresses, ProcfsSockets()
    policy = DirectorVips(
        addresses,
        lambda: _virtual_servers(kernel.ipvs),
        has_ours=lambda key: virtual_servers.has_ours(key),  # noqa: PLW0108  # they are made below
        check_marked=lambda mark, vip, force: shadow.check_marked(mark, vip, force=force),
    )
    vips = HeldVips(addresses, state, policy)
    shadow = Shadow(addresses, sockets, settings.listen, vips.made)
    records = HealthRecords(state)
    destinations = Destinations(
        kernel.ipvs,
        state,
        records,
        lambda server, key: health.watch.report(server, key),  # noqa: PLW0108  # it is made below
    )
    virtual_servers = VirtualServers(kernel.ipvs, state, shadow, destinations, records)
    ipvs_settings = IpvsSettings(TimeoutSettings(kernel.ipvs, state), SyncDaemons(kernel.ipvs, state))
    health = _wire_health(settings, kernel, worker, records, virtual_servers, destinations)
    policies = TablePolicies(records, health.healths.check)
    tables = Tables(kernel.ipvs, state, virtual_servers, destinations, shadow, records, policies)
    resources = DirectorResources(virtual_servers, destinations, tables, vips, ipvs_settings, health.healths)
    neighbours = VipNeighbours(kernel.neighbours, addresses, worker)
    locks = Locks()
    failpoints = settings.failpoints_of("director")
    changes = Changes(resources, state, worker, neighbours, locks, failpoints)
    member = Member(agent_id=identity.agent_id, is_director=True, boot=boot)
    transactions = Transactions(member, changes, locks, state, worker, failpoints=failpoints)
    problems = Problems(state)
    restore = DirectorRestore(
        kernel.ipvs,
        virtual_servers,
        destinations,
        vips,
        ipvs_settings,
        changes,
        neighbours,
        worker,
        problems,
        locks,
        neighbours.briefly(),
    )
    repairs = Repairs(resources, changes, neighbours, locks, worker)
    mend = Enforcer(restore.mend, repairs).mend if settings.enforce else restore.mend
    watch = DriftWatch(if_intact(state, restore.drift), mend, worker)
    audit_file = open_audit(settings.state_dir)
    servicers = (
        (ipvs_service_pb2, "IpvsService", IpvsServicer(kernel.ipvs, virtual_servers, destinations, changes, worker)),
        (
            ipvs_settings_service_pb2,
            "IpvsSettingsService",
            IpvsSettingsServicer(ipvs_settings, changes, worker),
        ),
        (
            health_service_pb2,
            "HealthService",
            HealthServicer(health.healths, destinations, health.watch, health.gate, health.log, changes, worker),
        ),
        (connection_service_pb2, "ConnectionService", ConnectionServicer(ProcfsConnections(), worker)),
        (vip_service_pb2, "VipService", VipServicer(vips, changes, worker)),
        (audit_service_pb2, "AuditService", AuditServicer(audit_file)),
        (change_service_pb2, "ChangeService", ChangeServicer(changes)),
        (transaction_service_pb2, "TransactionService", TransactionServicer(transactions)),
        (drift_service_pb2, "DriftService", DriftServicer(watch, repairs, state.check_intact)),
        (
            host_service_pb2,
            "HostService",
            HostServicer(
                identity,
                addresses,
                sockets,
                worker,
                ipvs_version=lambda: _ipvs_version(kernel.ipvs),
                leftovers=destinations.leftovers,
                read_server=lambda key: pack_server(virtual_servers, destinations, key),
                read_policy=records.policy,
                problems=problems.texts,
                settled_fence=transactions.settled_fence,
                certificate_expires=lambda: expires(settings.tls),
            ),
        ),
    )
    services = [
        Service(descriptor=module.DESCRIPTOR.services_by_name[name], servicer=servicer)
        for module, name, servicer in servicers
    ]
    return Wired(
        services=services,
        restore=restore,
        watch=watch,
        transactions=transactions,
        health=health,
        audit=AuditLog(audit_file, journal_of("lvs-director")),
        remembered=Remembered(operations=transactions.operations_of, changes=changes.remembered),
    )


def _wire_health(
    settings: AgentSettings,
    kernel: Kernel,
    worker: Worker,
    records: HealthRecords,
    virtual_servers: VirtualServers,
    destinations: Destinations,
) -> Health:
    scripts = Scripts(settings.script_dir)
    network = NetworkChecks()
    marked = MarkedPaths(kernel.ipvs, kernel.addresses, worker.ahead, network)
    checker = DirectorChecks(scripts, AgentChecks(settings.tls), marked, network)
    log = HealthLog(open_events(settings.state_dir))
    standings = Standings(kernel.ipvs, kernel.state, records, destinations, settings.failpoints_of("director"))
    return Health(
        healths=Healths(records, virtual_servers, destinations, scripts.allowed, marked.check_route),
        watch=HealthWatch(kernel.ipvs, records, destinations, standings, worker.ahead, checker, log, scripts.run),
        gate=HealthGate(records, destinations, checker, worker),
        log=log,
        checker=checker,
        records=records,
        marked=marked,
    )


def _note_boot(state: State, boot: str) -> None:
    """On a full disk the next start takes this boot for a new one, and brings back what was removed by hand."""
    try:
        note_boot(state, boot)
    except ExhaustedError as error:
        _log.warning("cannot note the boot: %s", error.message)


def _ipvs_version(ipvs: Ipvs) -> str:
    try:
        return ipvs.info().version
    except RefusedError:
        return ""


def _virtual_servers(ipvs: Ipvs) -> list[VirtualServer]:
    """Return the virtual servers; a kernel without IPVS has none, which must not keep a VIP from being removed."""
    try:
        return ipvs.virtual_servers()
    except RefusedError as error:
        if error.reason is not Reason.IPVS_MISSING:
            raise
        return []


def _clear_marks(marked: MarkedPaths) -> None:
    """Remove what checks have left; a kernel that does not let us near it keeps no agent from starting."""
    try:
        marked.clear()
    except LvsError as error:
        if error.reason is not Reason.IPVS_MISSING:  # that has been said
            _log.warning("cannot look for what checks have left: %s", error.message)


def _warn_without_ipvs(ipvs: Ipvs) -> None:
    try:
        ipvs.info()
    except RefusedError as error:
        _log.warning("not serving: %s", error.message)


if __name__ == "__main__":
    main()
