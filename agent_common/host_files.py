"""What the host's configuration files say."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from agent_common.errors import Reason, RefusedError
from agent_common.virtual_server import IpAddress

RESOLVER_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
"""resolv.conf(5), and the name servers behind systemd-resolved's own (127.0.0.53)."""


def name_servers(files: tuple[Path, ...] = RESOLVER_FILES) -> list[IpAddress]:
    """Return the host's name servers, in order and once each; a file that is missing has none."""
    return list(dict.fromkeys(server for file in files for server in _servers_in(file)))


def _servers_in(file: Path) -> list[IpAddress]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        message = f"cannot read {file}: {os.strerror(error.errno or 0)}"
        raise RefusedError(message, Reason.KERNEL_REFUSED) from error
    return [server for line in lines if (server := _server(line)) is not None]


def _server(line: str) -> IpAddress | None:
    """Read a line `nameserver ADDRESS`; the C library skips what it cannot read, and so do we."""
    words = line.split()
    if len(words) < 2 or words[0] != "nameserver":
        return None
    try:
        return ipaddress.ip_address(words[1].partition("%")[0])
    except ValueError:
        return None
