"""Timeouts and sync daemons: what an operation changes, what is kept of it, and how it is taken back."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from lvsagent.v1 import sync_daemon_pb2, timeouts_pb2

from agent_common import wire_settings
from agent_common.changes import BatchError, Outcome
from agent_common.drift import Drift, DriftKind, IpvsSetting
from agent_common.errors import ConflictError, DiffersError, InvalidInputError, NotFoundError, Reason
from agent_common.etag import etag_of
from agent_common.operation import Operation
from agent_common.repair import Repair
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.timeouts import KERNEL_TIMEOUTS, Timeouts
from agent_director.fake_ipvs import FakeIpvs
from cli import operations
from tests.hosts import WEB, DirectorHost

MASTER = SyncDaemon(role=SyncRole.MASTER, interface="eth0", sync_id=7)
BACKUP = SyncDaemon(
    role=SyncRole.BACKUP,
    interface="lo",
    sync_id=8,
    max_length=1400,
    group=ip_address("ff02::7"),
    port=9000,
    ttl=3,
)


def update(etag: str = "", **seconds: int) -> Operation:
    """Ask for timeouts."""
    return Operation(
        update_timeouts=timeouts_pb2.UpdateTimeoutsRequest(
            timeouts=wire_settings.pack_timeouts(Timeouts(**seconds)),
            update_mask=FieldMask(paths=sorted(seconds)),
            etag=etag,
        )
    )


def start(daemon: SyncDaemon, *, adopt: bool = False) -> Operation:
    """Ask for a sync daemon."""
    packed = wire_settings.pack_sync_daemon(daemon)
    return Operation(start_sync_daemon=sync_daemon_pb2.StartSyncDaemonRequest(daemon=packed, adopt=adopt))


def stop(role: SyncRole, *, allow_missing: bool = False) -> Operation:
    """Ask for its end."""
    packed = wire_settings.pack_sync_role(role)
    return Operation(stop_sync_daemon=sync_daemon_pb2.StopSyncDaemonRequest(role=packed, allow_missing=allow_missing))


def rebooted(host: DirectorHost) -> DirectorHost:
    """Return the same state directory on a kernel that has nothing of ours."""
    return DirectorHost(ipvs=FakeIpvs(), addresses=host.addresses, state=host.state)


async def test_timeouts_are_set_and_those_that_were_named_are_kept() -> None:
    host = DirectorHost()
    change = await host.changes.apply(update(tcp=7200, udp=400), "one")
    assert change.actions == ["set the timeout tcp to 7200 s, from 900 s", "set the timeout udp to 400 s, from 300 s"]
    assert host.ipvs.timeouts() == Timeouts(tcp=7200, tcp_fin=120, udp=400)
    assert host.settings.timeouts.committed() == Timeouts(tcp=7200, udp=400)
    assert not (await host.changes.apply(update(tcp=7200), "again")).made
    later = await host.changes.apply(update(tcp_fin=120), "kept")
    assert later.actions == ["keep the timeouts tcp 7200 s, tcp_fin 120 s, udp 400 s"]


async def test_timeouts_are_taken_back_where_they_still_are_as_they_were_set() -> None:
    host = DirectorHost()
    await host.changes.apply(update(tcp=7200, udp=400), "one")
    host.ipvs.set_timeouts(Timeouts(udp=500))
    reverted = await host.changes.revert("one")
    assert (reverted.outcome, host.ipvs.timeouts()) == (Outcome.KEPT, Timeouts(tcp=900, tcp_fin=120, udp=500))
    assert host.settings.timeouts.committed() == Timeouts()
    await host.changes.apply(update(tcp=7200), "two")
    assert (await host.changes.revert("two")).outcome is Outcome.REVERTED
    assert host.ipvs.timeouts() == Timeouts(tcp=900, tcp_fin=120, udp=500)


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        (update(), "update_mask"),
        (update(tcp=0), "tcp"),
        (update(tcp=-1), "tcp"),
        (update(udp=2678401), "udp"),
        (Operation(update_timeouts=timeouts_pb2.UpdateTimeoutsRequest(update_mask=FieldMask(paths=["x"]))), "x"),
        (Operation(update_timeouts=timeouts_pb2.UpdateTimeoutsRequest(update_mask=FieldMask(paths=["tcp"]))), "tcp"),
        (
            Operation(
                update_timeouts=timeouts_pb2.UpdateTimeoutsRequest(
                    timeouts=timeouts_pb2.Timeouts(tcp=Duration(nanos=5)), update_mask=FieldMask(paths=["tcp"])
                )
            ),
            "tcp",
        ),
        (start(dataclasses.replace(MASTER, interface="")), "interface"),
        (start(dataclasses.replace(MASTER, interface="x" * 16)), "interface"),
        (start(dataclasses.replace(MASTER, interface="a b")), "interface"),
        (start(dataclasses.replace(MASTER, sync_id=256)), "sync_id"),
        (start(dataclasses.replace(MASTER, max_length=0)), "max_length"),
        (start(dataclasses.replace(MASTER, max_length=65508)), "max_length"),
        (start(dataclasses.replace(MASTER, group=ip_address("192.0.2.1"))), "group"),
        (start(dataclasses.replace(MASTER, port=0)), "port"),
        (start(dataclasses.replace(MASTER, ttl=256)), "ttl"),
        (Operation(start_sync_daemon=sync_daemon_pb2.StartSyncDaemonRequest()), "role"),
        (Operation(stop_sync_daemon=sync_daemon_pb2.StopSyncDaemonRequest()), "role"),
    ],
)
async def test_bad_input_names_the_field_and_changes_nothing(operation: Operation, field: str) -> None:
    host = DirectorHost()
    with pytest.raises(InvalidInputError, match=rf"\b{field}\b"):
        await host.changes.apply(operation, "")
    assert (host.ipvs.timeouts(), host.ipvs.sync_daemons()) == (KERNEL_TIMEOUTS, [])
    assert host.settings.timeouts.committed() == Timeouts()


async def test_timeouts_of_another_reading_are_refused() -> None:
    host = DirectorHost()
    seen = etag_of(wire_settings.pack_timeouts(host.ipvs.timeouts()))
    host.ipvs.set_timeouts(Timeouts(tcp=7200))
    with pytest.raises(ConflictError, match="timeouts has changed"):
        await host.changes.apply(update(seen, udp=400), "")


async def test_a_sync_daemon_is_started_once_and_stopped() -> None:
    host = DirectorHost()
    for daemon in (BACKUP, MASTER):
        change = await host.changes.apply(start(daemon), "")
        assert change.actions == [f"start sync daemon {daemon}"]
        assert not (await host.changes.apply(start(daemon), "")).made
        assert host.settings.sync_daemons.committed(daemon.role) == daemon
    assert [daemon.role for daemon in host.settings.sync_daemons.list_all()] == [SyncRole.MASTER, SyncRole.BACKUP]
    with pytest.raises(DiffersError, match="another sync_id; stop it first"):
        await host.changes.apply(start(dataclasses.replace(MASTER, sync_id=9)), "")
    for role in SyncRole:
        await host.changes.apply(stop(role), "")
        assert not (await host.changes.apply(stop(role, allow_missing=True), "")).made
        with pytest.raises(NotFoundError, match=f"no sync daemon {role} runs"):
            await host.changes.apply(stop(role), "")
    assert (host.ipvs.sync_daemons(), host.settings.sync_daemons.committed(SyncRole.MASTER)) == ([], None)


async def test_start_and_stop_are_taken_back() -> None:
    host = DirectorHost()
    await host.changes.apply(start(BACKUP), "start")
    await host.changes.apply(stop(SyncRole.BACKUP), "stop")
    assert (await host.changes.revert("stop")).outcome is Outcome.REVERTED
    assert (host.ipvs.sync_daemons(), host.settings.sync_daemons.committed(SyncRole.BACKUP)) == ([BACKUP], BACKUP)
    assert (await host.changes.revert("start")).outcome is Outcome.REVERTED
    assert (host.ipvs.sync_daemons(), host.settings.sync_daemons.committed(SyncRole.BACKUP)) == ([], None)


async def test_a_daemon_that_somebody_replaced_is_not_taken_back() -> None:
    host = DirectorHost()
    await host.changes.apply(start(BACKUP), "start")
    host.ipvs.stop_sync_daemon(SyncRole.BACKUP)
    theirs = dataclasses.replace(BACKUP, sync_id=99)
    host.ipvs.start_sync_daemon(theirs)
    assert (await host.changes.revert("start")).outcome is Outcome.KEPT
    assert host.ipvs.sync_daemons() == [theirs]


async def test_a_foreign_daemon_stays_foreign_until_it_is_adopted() -> None:
    host = DirectorHost()
    host.ipvs.start_sync_daemon(BACKUP)
    change = await host.changes.apply(start(BACKUP), "")
    assert (change.made, change.foreign) == (False, True)
    assert host.restore.drift() == [Drift(kind=DriftKind.FOREIGN, resource=IpvsSetting.SYNC_BACKUP)]
    change = await host.changes.apply(start(BACKUP, adopt=True), "adopted")
    assert change.actions == [f"adopt sync daemon {BACKUP}"]
    assert host.restore.drift() == []
    assert (await host.changes.revert("adopted")).outcome is Outcome.NOTHING
    assert host.ipvs.sync_daemons() == [BACKUP]
    assert host.settings.sync_daemons.committed(SyncRole.BACKUP) is None


async def test_after_a_reboot_settings_are_back_as_they_were() -> None:
    before = DirectorHost()
    for operation in (update(tcp=7200), start(MASTER), start(BACKUP)):
        await before.changes.apply(operation, "")
    host = rebooted(before)
    host.ipvs.set_timeouts(Timeouts(udp=77))
    await host.restore.start(new_boot=True)
    assert host.ipvs.timeouts() == Timeouts(tcp=7200, tcp_fin=120, udp=77)
    assert sorted(host.ipvs.sync_daemons(), key=lambda each: each.role) == before.settings.sync_daemons.list_all()
    assert host.problems.texts() == []


async def test_settings_come_before_the_table() -> None:
    before = DirectorHost()
    for operation in (update(tcp=7200), operations.create_virtual_server(WEB, "rr", None)):
        await before.changes.apply(operation, "")
    seen: list[int] = []

    class Watched(FakeIpvs):
        def set_timeouts(self, timeouts: Timeouts) -> None:
            seen.append(len(self.virtual_servers()))
            super().set_timeouts(timeouts)

    host = DirectorHost(ipvs=Watched(), addresses=before.addresses, state=before.state)
    await host.restore.start(new_boot=True)
    assert (seen, len(host.ipvs.virtual_servers())) == ([0], 1)


async def test_a_daemon_whose_interface_is_not_there_is_a_problem_until_it_runs() -> None:
    before = DirectorHost()
    await before.changes.apply(start(MASTER), "")
    host = rebooted(before)
    host.ipvs.interfaces = {"lo"}
    await host.restore.start(new_boot=True)
    (problem,) = host.problems.texts()
    assert "sync daemon master" in problem
    assert "no such interface" in problem
    host.ipvs.interfaces = {"eth0"}
    host.ipvs.start_sync_daemon(MASTER)
    assert host.problems.texts() == []


async def test_in_the_same_boot_what_somebody_changed_is_drift_and_stays() -> None:
    host = DirectorHost()
    for operation in (update(tcp=7200), start(MASTER), start(BACKUP)):
        await host.changes.apply(operation, "")
    host.ipvs.set_timeouts(Timeouts(tcp=60))
    host.ipvs.stop_sync_daemon(SyncRole.MASTER)
    host.ipvs.stop_sync_daemon(SyncRole.BACKUP)
    host.ipvs.start_sync_daemon(dataclasses.replace(BACKUP, port=9999))
    again = host.restarted()
    await again.restore.start(new_boot=False)
    timeouts, master, backup = again.restore.drift()
    assert (timeouts.resource, timeouts.fields, timeouts.detail) == (
        IpvsSetting.TIMEOUTS,
        ("tcp",),
        "tcp 60 s, not 7200 s",
    )
    assert master == Drift(kind=DriftKind.MISSING, resource=IpvsSetting.SYNC_MASTER)
    assert (backup.resource, backup.fields) == (IpvsSetting.SYNC_BACKUP, ("port",))
    for drift in (timeouts, master, backup):
        (repaired,) = await again.repairs.repair([Repair(drift=drift)])
        assert repaired.change.made
    assert again.restore.drift() == []


async def test_what_is_not_ours_is_not_repaired() -> None:
    host = DirectorHost()
    for setting in IpvsSetting:
        (repaired,) = await host.repairs.repair([Repair(drift=Drift(kind=DriftKind.MISSING, resource=setting))])
        assert isinstance(repaired.error, NotFoundError)


async def test_a_module_that_came_back_has_its_settings_again() -> None:
    host = DirectorHost()
    for operation in (operations.create_virtual_server(WEB, "rr", None), update(tcp=7200), start(MASTER)):
        await host.changes.apply(operation, "")
    again = DirectorHost(ipvs=FakeIpvs(), addresses=host.addresses, state=host.state)
    await again.restore.mend(again.restore.drift())
    assert again.restore.drift() == []
    assert again.ipvs.timeouts() == Timeouts(tcp=7200, tcp_fin=120, udp=300)


async def test_what_failed_half_way_is_taken_back() -> None:
    host = DirectorHost()
    host.ipvs.interfaces = {"lo"}
    with pytest.raises(BatchError, match="no such interface") as raised:
        await host.changes.apply_all([update(tcp=7200), start(MASTER)], "both")
    assert raised.value.error.reason is Reason.NO_DEVICE
    assert (host.ipvs.timeouts(), host.settings.timeouts.committed()) == (KERNEL_TIMEOUTS, Timeouts())
