"""The real server's agent: wires kernel, state and services together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lvsagent.v1 import (
    arp_service_pb2,
    audit_service_pb2,
    backend_service_pb2,
    change_service_pb2,
    drift_service_pb2,
    host_service_pb2,
    transaction_service_pb2,
    vip_service_pb2,
)

from agent_common.access import Remembered
from agent_common.agent import Beside, agent_id, run_agent, serve
from agent_common.agent_settings import AgentSettings, read_settings
from agent_common.audit_file import open_audit
from agent_common.audit_log import AuditLog
from agent_common.audit_service import AuditServicer
from agent_common.boot import boot_id
from agent_common.change_service import ChangeServicer
from agent_common.changes import Changes
from agent_common.checks import NetworkChecks
from agent_common.drift_service import DriftServicer
from agent_common.drift_watch import DriftWatch
from agent_common.enforce import Enforcer
from agent_common.handlers import Service
from agent_common.held_vip import HeldVips
from agent_common.host_files import name_servers
from agent_common.host_service import HostServicer, Identity
from agent_common.identity import Kind
from agent_common.journal import journal_of
from agent_common.listening import Listeners
from agent_common.locks import Locks
from agent_common.neighbours import NoNeighbours
from agent_common.netlink_address import NetlinkAddresses
from agent_common.netlink_notices import NetlinkNotices
from agent_common.procfs_sockets import ProcfsSockets
from agent_common.repair import Repairs
from agent_common.restore import Problems
from agent_common.server_certificates import expires
from agent_common.sqlite_state import SqliteState
from agent_common.start import start_or_distrust
from agent_common.state import State, follow_room, if_intact
from agent_common.transaction_records import TransactionRecords
from agent_common.transaction_service import TransactionServicer
from agent_common.transactions import Member, Transactions
from agent_common.vip_service import VipServicer
from agent_common.vip_watch import VipWatch
from agent_common.worker import Worker
from agent_realserver.arp_service import ArpServicer
from agent_realserver.backend import HeldHere
from agent_realserver.backend_service import BackendServicer
from agent_realserver.netlink_tunnel_devices import NetlinkTunnelDevices
from agent_realserver.procfs_arp import ProcfsArpSysctls
from agent_realserver.procfs_ipvs import serves
from agent_realserver.resources import RealServerResources
from agent_realserver.restore import RealServerRestore
from agent_realserver.silence import Silence
from agent_realserver.tunnel_ends import TunnelEnds
from agent_realserver.vip import LoopbackVips

PORT = 9711


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What the worker thread owns; made and closed there."""

    state: State
    addresses: NetlinkAddresses
    tunnel_devices: NetlinkTunnelDevices

    def close(self) -> None:
        """Let go of files and sockets; addresses and sysctls stay as they are."""
        self.state.close()
        self.addresses.close()
        self.tunnel_devices.close()


def main(open_state: Callable[[Path], State] = SqliteState) -> None:
    """Run lvs-realserver; open_state is given the state directory."""
    settings = read_settings("lvs-realserver", PORT, sys.argv[1:])
    run_agent("lvs-realserver", _run(settings, open_state))


async def _run(settings: AgentSettings, open_state: Callable[[Path], State]) -> None:
    worker = Worker()
    kernel = await worker(lambda: _open(open_state(settings.state_dir)))
    notices = NetlinkNotices()  # from before anything is put back: what goes from now on is heard of
    try:
        identity = Identity(
            kind=host_service_pb2.AGENT_KIND_REALSERVER, agent_id=await worker(lambda: agent_id(kernel.state))
        )

        async def is_serving() -> bool:
            return await worker.ahead(lambda: not kernel.state.damage)

        wired = _wire(settings, kernel, worker, identity)
        beside = await _start(kernel, worker, notices, wired)
        await serve(settings, Kind.REALSERVER, wired.services, is_serving, beside, wired.remembered, wired.audit.record)
    finally:
        notices.close()
        await worker(kernel.close)
        worker.close()


def _open(state: State) -> Kernel:
    return Kernel(state=state, addresses=NetlinkAddresses(), tunnel_devices=NetlinkTunnelDevices())


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """The services, what restores the committed state, and what goes on beside them."""

    services: list[Service]
    restore: RealServerRestore
    watch: DriftWatch
    transactions: Transactions
    remembered: Remembered
    audit: AuditLog


async def _start(kernel: Kernel, worker: Worker, notices: NetlinkNotices, wired: Wired) -> list[Beside]:
    """Undo what is undecided, restore what is committed; return what goes on: of a corrupt journal, nothing."""

    async def start() -> None:
        with kernel.state.reserve():
            await wired.transactions.start()
            await wired.restore.start()

    if not await start_or_distrust(kernel.state, start):
        return []
    return [
        wired.watch.follow,
        wired.transactions.follow,
        VipWatch(notices, wired.restore.put_back).follow,
        lambda: follow_room(kernel.state, worker),
    ]


def _wire(settings: AgentSettings, kernel: Kernel, worker: Worker, identity: Identity) -> Wired:
    state, addresses, sockets = kernel.state, kernel.addresses, ProcfsSockets()
    silence = Silence(ProcfsArpSysctls(), addresses, state)
    records = TransactionRecords(state)
    policy = LoopbackVips(
        silence,
        TunnelEnds(kernel.tunnel_devices, state),
        addresses,
        sockets,
        serves,
        lambda: frozenset(name_servers()),
        newer_claim=records.newer_claim,
    )
    vips = HeldVips(addresses, state, policy)
    locks = Locks()
    failpoints = settings.failpoints_of("realserver")
    resources = RealServerResources(vips, silence)
    changes = Changes(resources, state, worker, NoNeighbours(), locks, failpoints)
    member = Member(agent_id=identity.agent_id, is_director=False, boot=boot_id())
    transactions = Transactions(member, changes, locks, state, worker, failpoints=failpoints)
    problems = Problems(state)
    restore = RealServerRestore(vips, silence, changes, worker, problems, locks)
    repairs = Repairs(resources, changes, NoNeighbours(), locks, worker)
    mend = Enforcer(restore.mend, repairs).mend if settings.enforce else restore.mend
    watch = DriftWatch(if_intact(state, restore.drift), mend, worker)
    host = HostServicer(
        identity,
        addresses,
        sockets,
        worker,
        problems=problems.texts,
        settled_fence=transactions.settled_fence,
        certificate_expires=lambda: expires(settings.tls),
    )
    backend = BackendServicer(
        HeldHere(silence, addresses, worker), Listeners(addresses, sockets, worker), NetworkChecks()
    )
    audit_file = open_audit(settings.state_dir)
    servicers = (
        (vip_service_pb2, "VipService", VipServicer(vips, changes, worker)),
        (arp_service_pb2, "ArpService", ArpServicer(silence, vips, changes, worker)),
        (backend_service_pb2, "BackendService", backend),
        (audit_service_pb2, "AuditService", AuditServicer(audit_file)),
        (change_service_pb2, "ChangeService", ChangeServicer(changes)),
        (transaction_service_pb2, "TransactionService", TransactionServicer(transactions)),
        (drift_service_pb2, "DriftService", DriftServicer(watch, repairs, state.check_intact)),
        (host_service_pb2, "HostService", host),
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
        audit=AuditLog(audit_file, journal_of("lvs-realserver")),
        remembered=Remembered(operations=transactions.operations_of, changes=changes.remembered),
    )


if __name__ == "__main__":
    main()
