"""IpvsService. Unpack, call, pack."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from lvsagent.v1 import (
    destination_pb2,
    ipvs_service_pb2,
    ipvs_service_pb2_grpc,
    operation_pb2,
    table_pb2,
    virtual_server_pb2,
)

from agent_common import wire
from agent_common.changes import BatchError, Changes
from agent_common.errors import InvalidInputError
from agent_common.etag import etag_of
from agent_common.grpc_errors import to_item
from agent_common.handlers import Context
from agent_common.paging import MAX_TABLE_PAGE, check_page_size, page
from agent_common.statistics import Statistics
from agent_common.virtual_server import VirtualServer, VirtualServerKey
from agent_common.worker import Run
from agent_director.chunks import MAX_BATCH, MAX_TABLE, received
from agent_director.destination import Destinations
from agent_director.ipvs import Ipvs
from agent_director.virtual_server import VirtualServers
from agent_director.wire_destination import pack_destination_status
from agent_director.wire_statistics import pack_statistics

Operation = operation_pb2.Operation


class IpvsServicer(ipvs_service_pb2_grpc.IpvsServiceServicer):
    """Serves IpvsService."""

    def __init__(
        self, ipvs: Ipvs, virtual_servers: VirtualServers, destinations: Destinations, changes: Changes, run: Run
    ) -> None:
        self._ipvs = ipvs
        self._virtual_servers = virtual_servers
        self._destinations = destinations
        self._changes = changes
        self._run = run

    async def GetIpvs(
        self, request: ipvs_service_pb2.GetIpvsRequest, context: Context
    ) -> ipvs_service_pb2.GetIpvsResponse:
        """Read what the kernel says of IPVS itself."""
        info = await self._run(self._ipvs.info)
        return ipvs_service_pb2.GetIpvsResponse(version=info.version, connection_table_size=info.connection_table_size)

    async def GetVirtualServer(
        self, request: ipvs_service_pb2.GetVirtualServerRequest, context: Context
    ) -> ipvs_service_pb2.GetVirtualServerResponse:
        """Read one virtual server with its destinations."""
        key = wire.unpack_key(request.key)

        def read() -> ipvs_service_pb2.GetVirtualServerResponse:
            status, destinations = pack_server(
                self._virtual_servers, self._destinations, key, statistics=request.statistics
            )
            return ipvs_service_pb2.GetVirtualServerResponse(status=status, destinations=destinations)

        return await self._run(read)

    async def ListVirtualServers(
        self, request: ipvs_service_pb2.ListVirtualServersRequest, context: Context
    ) -> ipvs_service_pb2.ListVirtualServersResponse:
        """Read the virtual servers."""

        def read() -> ipvs_service_pb2.ListVirtualServersResponse:
            servers = self._virtual_servers.list_all()
            part, token = page(servers, request.page_size, request.page_token, lambda server: str(server.key))
            counters = self._virtual_servers.statistics(wanted=request.statistics)
            packed = [_pack(self._virtual_servers, server, counters) for server in part]
            return ipvs_service_pb2.ListVirtualServersResponse(virtual_servers=packed, next_page_token=token)

        return await self._run(read)

    async def ListTable(
        self, request: ipvs_service_pb2.ListTableRequest, context: Context
    ) -> ipvs_service_pb2.ListTableResponse:
        """Read the virtual servers with their destinations."""

        def read() -> ipvs_service_pb2.ListTableResponse:
            servers = self._virtual_servers.list_all()
            after, token = page(servers, 0, request.page_token, lambda server: str(server.key))
            response = ipvs_service_pb2.ListTableResponse(next_page_token=token)
            room = request.page_size or MAX_TABLE_PAGE
            counters = self._virtual_servers.statistics(wanted=request.statistics)
            for number, server in enumerate(after, 1):
                found = self._destinations.list_all(server.key, statistics=request.statistics)
                destinations = [pack_destination_status(each) for each in found]
                status = _pack(self._virtual_servers, server, counters)
                response.virtual_servers.add(status=status, destinations=destinations)
                room -= 1 + len(destinations)
                if room <= 0 and number < len(after):
                    response.next_page_token = str(server.key)
                    break
            return response

        check_page_size(request.page_size, MAX_TABLE_PAGE)
        return await self._run(read)

    async def CreateVirtualServer(
        self, request: virtual_server_pb2.CreateVirtualServerRequest, context: Context
    ) -> ipvs_service_pb2.CreateVirtualServerResponse:
        """Make sure that a virtual server is there."""
        change = await self._changes.apply(
            Operation(create_virtual_server=request), request.change_id, validate_only=request.validate_only
        )
        return ipvs_service_pb2.CreateVirtualServerResponse(change=change)

    async def UpdateVirtualServer(
        self, request: virtual_server_pb2.UpdateVirtualServerRequest, context: Context
    ) -> ipvs_service_pb2.UpdateVirtualServerResponse:
        """Change the named fields of a virtual server."""
        change = await self._changes.apply(
            Operation(update_virtual_server=request), request.change_id, validate_only=request.validate_only
        )
        return ipvs_service_pb2.UpdateVirtualServerResponse(change=change)

    async def DeleteVirtualServer(
        self, request: virtual_server_pb2.DeleteVirtualServerRequest, context: Context
    ) -> ipvs_service_pb2.DeleteVirtualServerResponse:
        """Remove a virtual server."""
        change = await self._changes.apply(
            Operation(delete_virtual_server=request), request.change_id, validate_only=request.validate_only
        )
        return ipvs_service_pb2.DeleteVirtualServerResponse(change=change)

    async def AdoptVirtualServer(
        self, request: virtual_server_pb2.AdoptVirtualServerRequest, context: Context
    ) -> ipvs_service_pb2.AdoptVirtualServerResponse:
        """Make a foreign virtual server ours."""
        change = await self._changes.apply(
            Operation(adopt_virtual_server=request), request.change_id, validate_only=request.validate_only
        )
        return ipvs_service_pb2.AdoptVirtualServerResponse(change=change)

    async def AdoptDestination(
        self, request: destination_pb2.AdoptDestinationRequest, context: Context
    ) -> ipvs_service_pb2.AdoptDestinationResponse:
        """Make a foreign destination ours."""
        change = await self._changes.apply(
            Operation(adopt_destination=request), request.change_id, validate_only=request.validate_only
        )
        return ipvs_service_pb2.AdoptDestinationResponse(change=change)

    async def GetDestination(
        self, request: ipvs_service_pb2.GetDestinationRequest, context: Context
    ) -> ipvs_service_pb2.GetDestinationResponse:
        """Read one destination."""
        key = wire.unpack_key(request.virtual_server, "virtual_server")
        destination = wire.unpack_destination_key(request.destination, "destination")
        status = await self._run(lambda: self._destinations.get(key, destination, statistics=request.statistics))
        return ipvs_service_pb2.GetDestinationResponse(status=pack_destination_status(status))

    async def ListDestinations(
        self, request: ipvs_service_pb2.ListDestinationsRequest, context: Context
    ) -> ipvs_service_pb2.ListDestinationsResponse:
        """Read the destinations of a virtual server."""
        key = wire.unpack_key(request.virtual_server, "virtual_server")

        def read() -> ipvs_service_pb2.ListDestinationsResponse:
            self._virtual_servers.get(key)
            statuses = self._destinations.list_all(key, statistics=request.statistics)
            part, token = page(
                statuses, request.page_size, request.page_token, lambda status: str(status.destination.key)
            )
            packed = [pack_destination_status(status) for status in part]
            return ipvs_service_pb2.ListDestinationsResponse(destinations=packed, next_page_token=token)

        return await self._run(read)

    async def CreateDestination(
        self, request: destination_pb2.CreateDestinationRequest, context: Context
    ) -> ipvs_service_pb2.CreateDestinationResponse:
        """Make sure that a destination is there."""
        change = await self._changes.apply(
            Operation(create_destination=request), request.change_id, validate_only=request.validate_only
        )
        return ipvs_service_pb2.CreateDestinationResponse(change=change)

    async def UpdateDestination(
        self, request: destination_pb2.UpdateDestinationRequest, context: Context
    ) -> ipvs_service_pb2.UpdateDestinationResponse:
        """Change the named fields of a destination."""
        change = await self._changes.apply(
            Operation(update_destination=request), request.change_id, validate_only=request.validate_only
        )
        return ipvs_service_pb2.UpdateDestinationResponse(change=change)

    async def DeleteDestination(
        self, request: destination_pb2.DeleteDestinationRequest, context: Context
    ) -> ipvs_service_pb2.DeleteDestinationResponse:
        """Remove a destination."""
        change = await self._changes.apply(
            Operation(delete_destination=request), request.change_id, validate_only=request.validate_only
        )
        return ipvs_service_pb2.DeleteDestinationResponse(change=change)

    async def BatchApply(
        self, request_iterator: AsyncIterator[ipvs_service_pb2.BatchApplyRequest], context: Context
    ) -> ipvs_service_pb2.BatchApplyResponse:
        """Carry out many operations, all or none."""
        chunks = await received("operations", request_iterator, lambda chunk: len(chunk.operations), MAX_BATCH)
        operations = [operation for chunk in chunks for operation in chunk.operations]
        if not operations:
            raise InvalidInputError("operations", "operations: there are none")
        response = ipvs_service_pb2.BatchApplyResponse()
        validate_only = chunks[0].validate_only
        try:
            made = await self._changes.apply_all(operations, chunks[0].change_id, validate_only=validate_only)
        except BatchError as failure:
            response.results.extend(ipvs_service_pb2.BatchResult(change=change) for change in failure.earlier)
            response.results.add(error=to_item(failure.error))
            return response
        response.results.extend(ipvs_service_pb2.BatchResult(change=change) for change in made)
        response.applied = not validate_only
        response.change_id = made[0].id
        return response

    async def ApplyTable(
        self, request_iterator: AsyncIterator[ipvs_service_pb2.ApplyTableRequest], context: Context
    ) -> ipvs_service_pb2.ApplyTableResponse:
        """Make sure of a whole table."""
        chunks = await received("entries", request_iterator, lambda chunk: _size(chunk.part), MAX_TABLE)
        operation = Operation(apply_table=chunks[0].part)
        whole = operation.apply_table
        for chunk in chunks[1:]:
            whole.entries.extend(chunk.part.entries)
        chunks.clear()
        change = await self._changes.apply(operation, whole.change_id, validate_only=whole.validate_only)
        if not whole.validate_only:
            change.table.ClearField("steps")
        return ipvs_service_pb2.ApplyTableResponse(change=change)

    async def ZeroCounters(
        self, request: ipvs_service_pb2.ZeroCountersRequest, context: Context
    ) -> ipvs_service_pb2.ZeroCountersResponse:
        """Set counters to 0."""
        key = wire.unpack_key(request.key) if request.HasField("key") else None
        await self._run(lambda: self._ipvs.zero(key))
        return ipvs_service_pb2.ZeroCountersResponse()


def pack_server(
    virtual_servers: VirtualServers, destinations: Destinations, key: VirtualServerKey, *, statistics: bool = False
) -> tuple[virtual_server_pb2.VirtualServerStatus, list[destination_pb2.DestinationStatus]]:
    """Read a virtual server and its destinations, and write both; raises NotFoundError."""
    status = _pack(virtual_servers, virtual_servers.get(key), virtual_servers.statistics(wanted=statistics))
    return status, [pack_destination_status(each) for each in destinations.list_all(key, statistics=statistics)]


def _pack(
    virtual_servers: VirtualServers, server: VirtualServer, counters: Mapping[VirtualServerKey, Statistics]
) -> virtual_server_pb2.VirtualServerStatus:
    packed = wire.pack_virtual_server(server)
    return virtual_server_pb2.VirtualServerStatus(
        virtual_server=packed,
        managed=virtual_servers.is_managed(server.key),
        etag=etag_of(packed),
        statistics=pack_statistics(counters.get(server.key)),
    )


def _size(part: table_pb2.WantedTable) -> int:
    return len(part.entries) + sum(len(entry.destinations) for entry in part.entries)
