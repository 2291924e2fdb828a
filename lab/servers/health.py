"""The gRPC health service of grpcio-health-checking, with statuses that can be set while it runs."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lab.agents import SCRIPTS
from lab.host import Host
from lab.servers.server import ASK_SECONDS, Recipe, Server, endpoint, folder

Status = Literal["SERVING", "NOT_SERVING", "UNKNOWN", "SERVICE_UNKNOWN"]

PROGRAM = Path(__file__).resolve().parent / "health_program.py"


def start(
    host: Host,
    *,
    address: str = "0.0.0.0",
    port: int,
    statuses: Mapping[str, Status] | None = None,
    tls: tuple[Path, Path] | None = None,
) -> Server:
    """Start the service; `statuses` by service, "" being the server as a whole: it is SERVING unless given.

    With `tls`, the files of a certificate and its key, it speaks TLS.
    """
    own = folder(host, f"health-{port}")
    _write(own, {"": "SERVING"} if statuses is None else statuses)
    files = (own / "statuses", *(tls or ()))
    argv = (str(SCRIPTS / "python"), str(PROGRAM), endpoint(address, port), *map(str, files))
    return Server(
        Recipe(host=host, folder=own, argv=argv, answers=lambda: host.inside(lambda: _accepts(address, port)))
    )


def change(server: Server, statuses: Mapping[str, Status]) -> None:
    """Set statuses, of which it has told those that watch when this returns; it keeps those of other services."""
    _write(server.folder, statuses)
    server.reload("statuses are set")


def _write(own: Path, statuses: Mapping[str, Status]) -> None:
    (own / "statuses").write_text("".join(f"{status} {service}\n" for service, status in statuses.items()))


def _accepts(address: str, port: int) -> bool:
    """Its port is opened after everything else; a gRPC client would make its sockets outside the host."""
    socket.create_connection((address, port), ASK_SECONDS).close()
    return True
