"""IpvsSettingsService. Unpack, call, pack."""

from __future__ import annotations

from lvsagent.v1 import (
    ipvs_settings_service_pb2,
    ipvs_settings_service_pb2_grpc,
    sync_daemon_pb2,
    timeouts_pb2,
)

from agent_common import wire_settings as wire
from agent_common.changes import Changes
from agent_common.etag import etag_of
from agent_common.handlers import Context
from agent_common.operation import Operation
from agent_common.worker import Run
from agent_director.ipvs_settings import IpvsSettings


class IpvsSettingsServicer(ipvs_settings_service_pb2_grpc.IpvsSettingsServiceServicer):
    """Serves IpvsSettingsService."""

    def __init__(self, settings: IpvsSettings, changes: Changes, run: Run) -> None:
        self._timeouts = settings.timeouts
        self._sync_daemons = settings.sync_daemons
        self._changes = changes
        self._run = run

    async def GetTimeouts(
        self, request: ipvs_settings_service_pb2.GetTimeoutsRequest, context: Context
    ) -> ipvs_settings_service_pb2.GetTimeoutsResponse:
        """Read the timeouts."""

        def read() -> timeouts_pb2.TimeoutsStatus:
            packed = wire.pack_timeouts(self._timeouts.get())
            committed = wire.pack_timeouts(self._timeouts.committed())
            return timeouts_pb2.TimeoutsStatus(timeouts=packed, committed=committed, etag=etag_of(packed))

        return ipvs_settings_service_pb2.GetTimeoutsResponse(status=await self._run(read))

    async def UpdateTimeouts(
        self, request: timeouts_pb2.UpdateTimeoutsRequest, context: Context
    ) -> ipvs_settings_service_pb2.UpdateTimeoutsResponse:
        """Change the named timeouts."""
        change = await self._changes.apply(
            Operation(update_timeouts=request), request.change_id, validate_only=request.validate_only
        )
        return ipvs_settings_service_pb2.UpdateTimeoutsResponse(change=change)

    async def ListSyncDaemons(
        self, request: ipvs_settings_service_pb2.ListSyncDaemonsRequest, context: Context
    ) -> ipvs_settings_service_pb2.ListSyncDaemonsResponse:
        """Read the sync daemons that run."""

        def read() -> list[sync_daemon_pb2.SyncDaemonStatus]:
            return [
                sync_daemon_pb2.SyncDaemonStatus(
                    daemon=wire.pack_sync_daemon(daemon),
                    managed=self._sync_daemons.committed(daemon.role) is not None,
                )
                for daemon in self._sync_daemons.list_all()
            ]

        return ipvs_settings_service_pb2.ListSyncDaemonsResponse(daemons=await self._run(read))

    async def StartSyncDaemon(
        self, request: sync_daemon_pb2.StartSyncDaemonRequest, context: Context
    ) -> ipvs_settings_service_pb2.StartSyncDaemonResponse:
        """Make sure that a sync daemon runs."""
        change = await self._changes.apply(
            Operation(start_sync_daemon=request), request.change_id, validate_only=request.validate_only
        )
        return ipvs_settings_service_pb2.StartSyncDaemonResponse(change=change)

    async def StopSyncDaemon(
        self, request: sync_daemon_pb2.StopSyncDaemonRequest, context: Context
    ) -> ipvs_settings_service_pb2.StopSyncDaemonResponse:
        """Stop a sync daemon."""
        change = await self._changes.apply(
            Operation(stop_sync_daemon=request), request.change_id, validate_only=request.validate_only
        )
        return ipvs_settings_service_pb2.StopSyncDaemonResponse(change=change)
