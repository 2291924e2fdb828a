"""The table of connections from /proc/net/ip_vs_conn (net/netfilter/ipvs/ip_vs_conn.c); netlink does not have it."""

from __future__ import annotations

import os
from collections.abc import Generator
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path

from agent_common.destination import DestinationKey
from agent_common.errors import InternalError, Reason, RefusedError
from agent_common.procfs_sockets import NET
from agent_common.virtual_server import IpAddress
from agent_director.connection import Connection
from agent_director.ipvs_errors import Request, ipvs_missing

_AT_ONCE = 500


class ProcfsConnections:
    """agent_director.connection.Connections for the kernel."""

    def __init__(self, net: Path = NET) -> None:
        self._path = net / "ip_vs_conn"

    def read(self, skip: int) -> Generator[list[Connection]]:
        """Return all entries but so many first ones; the file is read as it is asked for, and is never in memory."""
        try:
            with self._path.open(encoding="ascii", errors="backslashreplace") as lines:
                entries = islice(lines, 1 + skip, None)  # below the heading
                while part := [parse_connection(line) for line in islice(entries, _AT_ONCE)]:
                    yield part
        except FileNotFoundError as error:
            raise ipvs_missing(Request(verb="read the connections")) from error
        except OSError as error:
            message = f"cannot read {self._path}: {os.strerror(error.errno or 0)}"
            raise RefusedError(message, Reason.KERNEL_REFUSED) from error


def parse_connection(line: str) -> Connection:
    """Read one line: protocol, client, VIP and real server with their ports, state, seconds, and maybe an engine."""
    try:
        words = line.split(maxsplit=9)
        protocol, client, client_port, virtual, virtual_port, real_server, port, state, expires = words[:9]
        engine, _, data = words[9].rstrip("\n").partition(" ") if len(words) > 9 else ("", "", "")
        return Connection(
            protocol=protocol,
            client=_address(client),
            client_port=int(client_port, 16),
            virtual_address=_address(virtual),
            virtual_port=int(virtual_port, 16),
            destination=DestinationKey(address=_address(real_server), port=int(port, 16)),
            state=state,
            expires=int(expires),
            persistence_engine=engine,
            persistence_data=data.strip(),
        )
    except ValueError as error:
        raise InternalError(f"cannot read a connection: {line.strip()!r}", Reason.INTERNAL) from error


def _address(text: str) -> IpAddress:
    """Read an address: IPv4 in eight hexadecimal digits, the first byte first; IPv6 in full, with colons."""
    return IPv6Address(text) if ":" in text else IPv4Address(int(text, 16))
