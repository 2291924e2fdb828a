"""Decides about sync daemons: what an operation would change, how it is written, and how it is taken back.

Which of them this agent started, and how, is in the state: it starts them again after a reboot.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from lvsagent.v1 import operation_pb2, sync_daemon_pb2

from agent_common import wire_settings as wire
from agent_common.changes import Outcome, Reverted
from agent_common.drift import Drift, DriftKind, IpvsSetting
from agent_common.errors import ConflictError, DiffersError, NotFoundError, Reason
from agent_common.operation import Change
from agent_common.records import from_record, to_record
from agent_common.state import State
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_director.ipvs import Ipvs

_KIND = "sync_daemon"

SETTINGS = {SyncRole.MASTER: IpvsSetting.SYNC_MASTER, SyncRole.BACKUP: IpvsSetting.SYNC_BACKUP}


class SyncDaemons:
    """The sync daemons of this director."""

    def __init__(self, ipvs: Ipvs, state: State) -> None:
        self._ipvs = ipvs
        self._state = state

    def list_all(self) -> list[SyncDaemon]:
        """Return those that run, the master first."""
        return sorted(self._ipvs.sync_daemons(), key=lambda daemon: daemon.role)

    def committed(self, role: SyncRole) -> SyncDaemon | None:
        """Return the one that this agent started, as it was asked for."""
        body = self._state.get(_KIND, str(role))
        if body is None:
            return None
        return wire.unpack_sync_daemon(from_record(body["config"], sync_daemon_pb2.SyncDaemon()))

    def plan_start(self, request: sync_daemon_pb2.StartSyncDaemonRequest) -> Change:
        """Plan to start it, or nothing if one runs that is equal in what is set."""
        wanted = wire.unpack_sync_daemon(request.daemon).check()
        current, committed = self._find(wanted.role), self.committed(wanted.role)
        if current is None:
            return _change(wanted.role, None, wanted, committed, wanted, f"start sync daemon {wanted}")
        differences = wanted.differences(current)
        if differences:
            raise DiffersError(
                f"sync daemon {current} runs with another {', '.join(differences)}; stop it first",
                Reason.SYNC_DAEMON_DIFFERS,
            )
        if committed is None and not request.adopt:
            change = _change(wanted.role, current, current, None, None)
            change.foreign = True
            return change
        action = f"{'keep' if committed else 'adopt'} sync daemon {wanted}"
        return _change(wanted.role, current, current, committed, wanted, action)

    def plan_stop(self, request: sync_daemon_pb2.StopSyncDaemonRequest) -> Change:
        """Plan to stop it, and to keep none of its role."""
        role = wire.unpack_sync_role(request.role, "role")
        current, committed = self._find(role), self.committed(role)
        if current is None and committed is None:
            if not request.allow_missing:
                raise _missing(role)
            return _change(role, None, None, None, None)
        action = f"stop sync daemon {current}" if current else f"forget sync daemon {committed}, which does not run"
        change = _change(role, current, None, committed, None, action)
        change.foreign = committed is None
        return change

    def plan_repair(self, role: SyncRole) -> Change:
        """Plan to run the one that is kept, as it was asked for; raises NotFoundError if none is kept."""
        committed, current = self.committed(role), self._find(role)
        if committed is None:
            raise _missing(role)
        if current is not None and not committed.differences(current):
            return _change(role, current, current, committed, committed)
        return _change(role, current, committed, committed, committed, f"start sync daemon {committed}")

    def write(self, change: operation_pb2.SyncDaemonChange) -> None:
        """Record it, then stop and start what is to be, and read it back."""
        role = wire.unpack_sync_role(change.role, "role")
        self._record(role, _side(change, "committed_after"))
        self._replace(role, _side(change, "before"), _side(change, "after"))

    def revert(self, change: operation_pb2.SyncDaemonChange) -> Reverted:
        """Run what ran before, if the daemon still is as the change left it."""
        role = wire.unpack_sync_role(change.role, "role")
        before, after, current = _side(change, "before"), _side(change, "after"), self._find(role)
        self._record(role, _side(change, "committed_before"))
        if _is(before, current):
            return Reverted(outcome=Outcome.NOTHING)
        if not _is(after, current):
            why = f"sync daemon {role} stays as it is: somebody changed it meanwhile"
            return Reverted(outcome=Outcome.KEPT, details=(why,))
        self._replace(role, current, before)
        done = f"started sync daemon {before} again" if before else f"stopped sync daemon {after}"
        return Reverted(outcome=Outcome.REVERTED, details=(done,))

    def restore(self, role: SyncRole) -> None:
        """Start the one that is kept, where none of its role runs."""
        self._replace(role, None, self.committed(role))

    def is_missing(self, role: SyncRole) -> bool:
        """Whether one is kept, and none of its role runs."""
        return self.committed(role) is not None and self._find(role) is None

    def drift(self) -> Iterator[Drift]:
        """Compare those that are kept with those that run."""
        running = {daemon.role: daemon for daemon in self.list_all()}
        for role, setting in SETTINGS.items():
            committed, current = self.committed(role), running.get(role)
            if committed is None:
                if current is not None:
                    yield Drift(kind=DriftKind.FOREIGN, resource=setting)
            elif current is None:
                yield Drift(kind=DriftKind.MISSING, resource=setting)
            elif fields := committed.differences(current):
                detail = f"{current}; another {', '.join(fields)} was committed"
                yield Drift(kind=DriftKind.MODIFIED, resource=setting, fields=tuple(fields), detail=detail)

    def _find(self, role: SyncRole) -> SyncDaemon | None:
        return next((daemon for daemon in self._ipvs.sync_daemons() if daemon.role is role), None)

    def _replace(self, role: SyncRole, before: SyncDaemon | None, after: SyncDaemon | None) -> None:
        """Run one instead of the other; the kernel has no edit."""
        if before == after:
            return
        if before is not None:
            self._ipvs.stop_sync_daemon(role)
        if after is not None:
            self._ipvs.start_sync_daemon(after)
        if not _is(after, self._find(role)):
            raise ConflictError(
                f"sync daemon {role} is not as it was asked for: somebody changes it too", Reason.CHANGED_MEANWHILE
            )

    def _record(self, role: SyncRole, daemon: SyncDaemon | None) -> None:
        if daemon is None:
            self._state.delete(_KIND, str(role))
        else:
            self._state.put(_KIND, str(role), {"config": to_record(wire.pack_sync_daemon(daemon))})


def _change(
    role: SyncRole,
    before: SyncDaemon | None,
    after: SyncDaemon | None,
    committed_before: SyncDaemon | None,
    committed_after: SyncDaemon | None,
    action: str = "",
) -> Change:
    made = before != after or committed_before != committed_after
    resource = operation_pb2.SyncDaemonChange(
        role=wire.pack_sync_role(role),
        before=_pack(before),
        after=_pack(after),
        committed_before=_pack(committed_before),
        committed_after=_pack(committed_after),
    )
    return Change(made=made, sync_daemon=resource, actions=[action] if made else [])


def _pack(daemon: SyncDaemon | None) -> sync_daemon_pb2.SyncDaemon | None:
    return None if daemon is None else wire.pack_sync_daemon(daemon)


_Side = Literal["before", "after", "committed_before", "committed_after"]


def _side(change: operation_pb2.SyncDaemonChange, side: _Side) -> SyncDaemon | None:
    return wire.unpack_sync_daemon(getattr(change, side)) if change.HasField(side) else None


def _is(wanted: SyncDaemon | None, found: SyncDaemon | None) -> bool:
    """Whether what was found is what was asked for; what the kernel chose is whatever it is."""
    if wanted is None or found is None:
        return wanted is found
    return not wanted.differences(found)


def _missing(role: SyncRole) -> NotFoundError:
    return NotFoundError(f"no sync daemon {role} runs", Reason.SYNC_DAEMON_NOT_FOUND)
