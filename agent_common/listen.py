"""Binds an agent's endpoints."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc

from agent_common.endpoint import Endpoint, TlsFiles
from agent_common.errors import Reason, RefusedError


def add_ports(server: grpc.aio.Server, endpoints: list[Endpoint], tls: TlsFiles | None) -> None:
    """Bind every endpoint; unix sockets are plaintext, guarded by their folder's mode. Raises RefusedError."""
    credentials = None
    if tls is not None:
        ca, cert, key = tls.read()
        credentials = grpc.ssl_server_credentials([(key, cert)], root_certificates=ca, require_client_auth=True)
    for endpoint in endpoints:
        try:
            if endpoint.path:
                _free_socket(Path(endpoint.path))
                server.add_insecure_port(str(endpoint))
            elif credentials is not None:
                server.add_secure_port(str(endpoint), credentials)
            else:
                server.add_insecure_port(str(endpoint))
        except (RuntimeError, OSError) as error:
            raise RefusedError(
                f"cannot listen on {endpoint}: {error}", Reason.IN_USE, endpoint=str(endpoint)
            ) from error


def _free_socket(path: Path) -> None:
    """Remove the socket of an agent that is gone; one that still answers is left, and refused."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError("another program listens there")
