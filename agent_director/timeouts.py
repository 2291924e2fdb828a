"""Decides about timeouts: what an update would change, how it is written, and how it is taken back.

Those that were set by this agent are in the state; the others are the kernel's own business.
"""

from __future__ import annotations

from collections.abc import Iterator

from lvsagent.v1 import operation_pb2, timeouts_pb2

from agent_common import wire_settings as wire
from agent_common.changes import Outcome, Reverted
from agent_common.drift import Drift, DriftKind, IpvsSetting
from agent_common.errors import ConflictError, InvalidInputError, NotFoundError, Reason
from agent_common.operation import Change
from agent_common.records import from_record, to_record
from agent_common.state import State
from agent_common.timeouts import Timeouts
from agent_director.ipvs import Ipvs
from agent_director.preconditions import check_etag, check_mask

_KIND = "timeouts"
_NAME = "ipvs"


class TimeoutSettings:
    """The timeouts of this director."""

    def __init__(self, ipvs: Ipvs, state: State) -> None:
        self._ipvs = ipvs
        self._state = state

    def get(self) -> Timeouts:
        """Return what the kernel has."""
        return self._ipvs.timeouts()

    def committed(self) -> Timeouts:
        """Return those that were set by this agent."""
        body = self._state.get(_KIND, _NAME)
        return (
            Timeouts() if body is None else wire.unpack_timeouts(from_record(body["config"], timeouts_pb2.Timeouts()))
        )

    def plan_update(self, request: timeouts_pb2.UpdateTimeoutsRequest) -> Change:
        """Plan to set those that the mask names, and to keep them."""
        mask = check_mask(request.update_mask.paths, wire.TIMEOUT_NAMES)
        given = wire.unpack_timeouts(request.timeouts).check().meant()
        for name in mask:
            if name not in given:
                raise InvalidInputError(f"timeouts.{name}", f"timeouts.{name}: must be set")
        current, committed = self.get(), self.committed()
        check_etag(request.etag, wire.pack_timeouts(current), "timeouts")
        wanted = Timeouts(**{name: given[name] for name in mask})
        return _change(current, wanted.over(current), committed, wanted.over(committed))

    def plan_repair(self) -> Change:
        """Plan to set back those that are kept; raises NotFoundError if there are none."""
        committed = self.committed()
        if not committed.meant():
            raise NotFoundError("this agent keeps no timeouts", Reason.NOT_SUPPORTED)
        current = self.get()
        return _change(current, committed.over(current), committed, committed)

    def write(self, change: operation_pb2.TimeoutsChange) -> None:
        """Record them, set them, and read them back."""
        self._record(wire.unpack_timeouts(change.committed_after))
        self._set(wire.unpack_timeouts(change.after))

    def revert(self, change: operation_pb2.TimeoutsChange) -> Reverted:
        """Set back each that still is as the change left it."""
        before, after = wire.unpack_timeouts(change.before), wire.unpack_timeouts(change.after)
        moved = after.differences(self.get())
        changed = after.differences(before)
        back = Timeouts(**{name: getattr(before, name) for name in changed if name not in moved})
        if back.meant():
            self._set(back)
        self._record(wire.unpack_timeouts(change.committed_before))
        if before.differences(self.get()):
            return Reverted(outcome=Outcome.KEPT, details=("timeouts stay: somebody changed them meanwhile",))
        if not back.meant():
            return Reverted(outcome=Outcome.NOTHING)
        return Reverted(outcome=Outcome.REVERTED, details=(f"set the timeouts back: {back}",))

    def restore(self) -> None:
        """Set those that are kept."""
        self._set(self.committed())

    def is_lost(self) -> bool:
        """Whether one that is kept is another now."""
        return bool(self.committed().differences(self.get()))

    def drift(self) -> Iterator[Drift]:
        """Compare those that are kept with the kernel's."""
        committed, current = self.committed(), self.get()
        names = committed.differences(current)
        if names:
            told = (f"{name} {getattr(current, name)} s, not {getattr(committed, name)} s" for name in names)
            yield Drift(kind=DriftKind.MODIFIED, resource=IpvsSetting.TIMEOUTS, fields=names, detail=", ".join(told))

    def _set(self, timeouts: Timeouts) -> None:
        self._ipvs.set_timeouts(timeouts)
        if timeouts.differences(self.get()):
            raise ConflictError(
                "the timeouts are not as they were written: somebody changes them too", Reason.CHANGED_MEANWHILE
            )

    def _record(self, timeouts: Timeouts) -> None:
        if timeouts.meant():
            self._state.put(_KIND, _NAME, {"config": to_record(wire.pack_timeouts(timeouts))})
        else:
            self._state.delete(_KIND, _NAME)


def _change(before: Timeouts, after: Timeouts, committed_before: Timeouts, committed_after: Timeouts) -> Change:
    resource = operation_pb2.TimeoutsChange(
        before=wire.pack_timeouts(before),
        after=wire.pack_timeouts(after),
        committed_before=wire.pack_timeouts(committed_before),
        committed_after=wire.pack_timeouts(committed_after),
    )
    actions = [
        f"set the timeout {name} to {getattr(after, name)} s, from {getattr(before, name)} s"
        for name in after.differences(before)
    ]
    if not actions and committed_after != committed_before:
        actions = [f"keep the timeouts {committed_after}"]
    return Change(made=bool(actions), timeouts=resource, actions=actions)
