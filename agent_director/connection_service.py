"""ConnectionService. Unpack, call, pack."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import closing

from google.protobuf.duration_pb2 import Duration
from lvsagent.v1 import connection_service_pb2, connection_service_pb2_grpc

from agent_common import wire
from agent_common.errors import InvalidInputError
from agent_common.handlers import Context
from agent_common.virtual_server import check_port, parse_address, parse_network
from agent_common.worker import Run, to_its_end
from agent_director.connection import Connection, ConnectionFilter, Connections

Request = connection_service_pb2.ListConnectionsRequest
Response = connection_service_pb2.ListConnectionsResponse


class ConnectionServicer(connection_service_pb2_grpc.ConnectionServiceServicer):
    """Serves ConnectionService."""

    def __init__(self, connections: Connections, run: Run) -> None:
        self._connections = connections
        self._run = run

    async def ListConnections(self, request: Request, context: Context) -> AsyncGenerator[Response]:
        """Read connections; the worker is free for others between the parts."""
        wanted = _unpack(request)
        read = _unpack_token(request.page_token)
        left = request.page_size or float("inf")
        with closing(self._connections.read(read)) as parts:
            while part := await to_its_end(self._run(lambda: next(parts, []))):  # else it cannot be closed
                found = Response()
                for connection in part:
                    if not left:
                        found.next_page_token = str(read)
                        break
                    read += 1
                    if wanted.matches(connection):
                        found.connections.append(_pack(connection))
                        left -= 1
                if found.connections or found.next_page_token:
                    yield found
                if found.next_page_token:
                    return


def _unpack(request: Request) -> ConnectionFilter:
    return ConnectionFilter(
        protocol=wire.unpack_enum(wire.PROTOCOLS, request.protocol, "protocol") if request.protocol else None,
        virtual_address=parse_address(request.virtual_address, "virtual_address") if request.virtual_address else None,
        virtual_port=check_port(request.virtual_port, "virtual_port"),
        real_server=parse_address(request.real_server, "real_server") if request.real_server else None,
        real_server_port=check_port(request.real_server_port, "real_server_port"),
        client=parse_network(request.client, "client") if request.client else None,
        state=request.state,
    )


def _unpack_token(token: str) -> int:
    """Return how many entries were read for the pages before."""
    if token and not (token.isascii() and token.isdigit() and len(token) <= 12):
        raise InvalidInputError("page_token", f"page_token: {token!r} is not one of an answer")
    return int(token or "0")


def _pack(connection: Connection) -> connection_service_pb2.Connection:
    return connection_service_pb2.Connection(
        protocol=connection.protocol,
        client=str(connection.client),
        client_port=connection.client_port,
        virtual_address=str(connection.virtual_address),
        virtual_port=connection.virtual_port,
        destination=wire.pack_destination_key(connection.destination),
        state=connection.state,
        expires=Duration(seconds=connection.expires),
        persistence_engine=connection.persistence_engine,
        persistence_data=connection.persistence_data,
    )
