"""ArpService. Unpack, call, pack."""

from __future__ import annotations

from lvsagent.v1 import arp_pb2, arp_service_pb2, arp_service_pb2_grpc, operation_pb2

from agent_common.changes import Changes
from agent_common.handlers import Context
from agent_common.held_vip import HeldVips
from agent_common.worker import Run
from agent_realserver.arp import ARP_SETTINGS, silence_of
from agent_realserver.silence import Silence

Operation = operation_pb2.Operation


class ArpServicer(arp_service_pb2_grpc.ArpServiceServicer):
    """Serves ArpService."""

    def __init__(self, silence: Silence, vips: HeldVips, changes: Changes, run: Run) -> None:
        self._silence = silence
        self._vips = vips
        self._changes = changes
        self._run = run

    async def GetArp(self, request: arp_service_pb2.GetArpRequest, context: Context) -> arp_service_pb2.GetArpResponse:
        """Read the sysctls and judge every interface."""
        return await self._run(self._read)

    async def SilenceArp(
        self, request: arp_pb2.SilenceArpRequest, context: Context
    ) -> arp_service_pb2.SilenceArpResponse:
        """Set and hold the sysctls."""
        change = await self._changes.apply(
            Operation(silence_arp=request), request.change_id, validate_only=request.validate_only
        )
        return arp_service_pb2.SilenceArpResponse(change=change)

    async def RestoreArp(
        self, request: arp_pb2.RestoreArpRequest, context: Context
    ) -> arp_service_pb2.RestoreArpResponse:
        """Give up a hold."""
        change = await self._changes.apply(
            Operation(restore_arp=request), request.change_id, validate_only=request.validate_only
        )
        return arp_service_pb2.RestoreArpResponse(change=change)

    def _read(self) -> arp_service_pb2.GetArpResponse:
        values, originals = self._silence.values(), self._silence.originals()
        held = [str(vip.address) for vip in self._vips.list_all() if vip.holders and vip.address.version == 4]
        response = arp_service_pb2.GetArpResponse(operators=self._silence.operators(), vips=held)
        for setting in ARP_SETTINGS:
            response.sysctls.add(
                interface=setting.interface,
                name=setting.name,
                value=values[setting.interface, setting.name],
                original=originals.get(f"{setting.interface}/{setting.name}"),
            )
        for interface in self._silence.arp_interfaces():
            judged = silence_of(values, interface)
            response.interfaces.add(
                interface=interface,
                arp_ignore=judged.arp_ignore,
                arp_announce=judged.arp_announce,
                silent=judged.silent,
            )
        return response
