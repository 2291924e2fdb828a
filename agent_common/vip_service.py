"""VipService of both agents. Unpack, call, pack."""

from __future__ import annotations

from functools import partial

from lvsagent.v1 import operation_pb2, vip_service_pb2, vip_service_pb2_grpc
from lvsagent.v1.vip_pb2 import CreateVipRequest, DeleteVipRequest

from agent_common import wire, wire_vip
from agent_common.changes import Changes
from agent_common.handlers import Context
from agent_common.held_vip import HeldVips
from agent_common.host_service import peer_address
from agent_common.paging import page
from agent_common.virtual_server import parse_unicast
from agent_common.worker import Run


class VipServicer(vip_service_pb2_grpc.VipServiceServicer):
    """Serves VipService."""

    def __init__(self, vips: HeldVips, changes: Changes, run: Run) -> None:
        self._vips = vips
        self._changes = changes
        self._run = run

    async def GetVip(self, request: vip_service_pb2.GetVipRequest, context: Context) -> vip_service_pb2.GetVipResponse:
        """Read one VIP."""
        address = parse_unicast(request.address, "address")
        vip = await self._run(lambda: self._vips.get_with_holders(address))
        return vip_service_pb2.GetVipResponse(vip=wire_vip.pack_vip(vip))

    async def ListVips(
        self, request: vip_service_pb2.ListVipsRequest, context: Context
    ) -> vip_service_pb2.ListVipsResponse:
        """Read the VIPs that are held."""
        read = self._vips.list_all
        if request.HasField("held_for"):
            key = wire.unpack_key(request.held_for, "held_for")
            read = partial(self._vips.list_held_for, key)
        vips = await self._run(read)
        part, token = page(vips, request.page_size, request.page_token, lambda vip: str(vip.address))
        return vip_service_pb2.ListVipsResponse(vips=[wire_vip.pack_vip(vip) for vip in part], next_page_token=token)

    async def CreateVip(self, request: CreateVipRequest, context: Context) -> vip_service_pb2.CreateVipResponse:
        """Make sure that a VIP is there, and hold it."""
        peer = peer_address()
        if peer:
            request.director_addresses.append(peer)
        operation = operation_pb2.Operation(create_vip=request)
        change = await self._changes.apply(operation, request.change_id, validate_only=request.validate_only)
        return vip_service_pb2.CreateVipResponse(change=change)

    async def DeleteVip(self, request: DeleteVipRequest, context: Context) -> vip_service_pb2.DeleteVipResponse:
        """Give up a hold."""
        operation = operation_pb2.Operation(delete_vip=request)
        change = await self._changes.apply(operation, request.change_id, validate_only=request.validate_only)
        return vip_service_pb2.DeleteVipResponse(change=change)
