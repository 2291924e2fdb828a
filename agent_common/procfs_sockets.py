"""The host's sockets from /proc/net/tcp, udp and sctp (proc(5)); and whether a TCP port accepts."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from agent_common.check_socket import CheckSocket, FailedError
from agent_common.errors import InternalError, Reason, RefusedError
from agent_common.sockets import Acceptance, Connection, Listener
from agent_common.virtual_server import IpAddress, Protocol

NET = Path("/proc/thread-self/net")
"""Of the calling thread's network namespace; /proc/net is that of the process's first thread."""

# States of include/net/tcp_states.h, as /proc prints them.
ESTABLISHED = "01"
UNCONNECTED = "07"
LISTEN = "0A"
OPEN = frozenset({ESTABLISHED, "02", "04", "05", "08"})
"""ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT: data may still come or go."""

SCTP_LISTENING = "10"
"""TCP_LISTEN in decimal: /proc/net/sctp/eps prints it so."""


class ProcfsSockets:
    """agent_common.sockets.Sockets for the kernel."""

    def __init__(self, net: Path = NET) -> None:
        self._net = net

    def listeners(self, protocol: Protocol) -> list[Listener]:
        """Return what listens, both families."""
        with _errors(protocol.name):
            if protocol is Protocol.SCTP:
                return [each for line in self._lines("sctp/eps") for each in sctp_listeners(line)]
            name = protocol.name.lower()
            wanted = LISTEN if protocol is Protocol.TCP else UNCONNECTED
            return [
                Listener(protocol=protocol, address=address, port=port)
                for local, _, state in self._sockets(name)
                if state == wanted
                for address, port in [parse_endpoint(local)]
            ]

    def established_to(self, vip: IpAddress) -> list[Connection]:
        """Return the open TCP connections of programs on this host whose remote address is the VIP."""
        # Compared as text: a host may have a hundred thousand connections.
        written = tuple(f"{text}:" for text in write_address(vip))
        with _errors("TCP"):
            return [
                _connection(local, remote)
                for local, remote, state in self._sockets("tcp")
                if state in OPEN and remote.startswith(written)
            ]

    def _sockets(self, name: str) -> Iterator[tuple[str, str, str]]:
        """Local end, remote end and state of every socket of both families, as they are written."""
        for table in (name, f"{name}6"):
            for line in self._lines(table):
                _, local, remote, state, *_ = line.split(maxsplit=4)
                yield local, remote, state

    def _lines(self, table: str) -> list[str]:
        """Return the lines below the heading; none if this kernel lacks IPv6 or has not loaded SCTP."""
        path = self._net / table
        try:
            return path.read_text(encoding="ascii", errors="backslashreplace").splitlines()[1:]
        except FileNotFoundError:
            return []
        except OSError as error:
            message = f"cannot read {path}: {os.strerror(error.errno or 0)}"
            raise RefusedError(message, Reason.KERNEL_REFUSED) from error


@contextlib.contextmanager
def _errors(name: str) -> Iterator[None]:
    """Name the table of which a line is not as proc(5) has it."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise InternalError(f"cannot read the kernel's table of {name} sockets: {error}", Reason.INTERNAL) from error


def parse_endpoint(text: str) -> tuple[IpAddress, int]:
    """Read ADDRESS:PORT of /proc/net/tcp; an IPv4-mapped address is returned as IPv4.

    The address is 32-bit words in hexadecimal, each in the machine's own byte order; the port is a plain number.
    """
    words, _, port = text.partition(":")
    packed = b"".join(int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8))
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address, int(port, 16)


def write_address(address: IpAddress) -> list[str]:
    """Return the ways in which /proc/net/tcp and tcp6 write an address: IPv4 also as an IPv4-mapped one."""
    packed = [address.packed]
    if address.version == 4:
        packed.append(bytes(10) + b"\xff\xff" + address.packed)
    return [
        "".join(f"{int.from_bytes(each[at : at + 4], sys.byteorder):08X}" for at in range(0, len(each), 4))
        for each in packed
    ]


def sctp_listeners(line: str) -> Iterator[Listener]:
    """Read a line of /proc/net/sctp/eps: ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS (net/sctp/proc.c)."""
    _, _, _, state, _, port, _, _, *addresses = line.split()
    if state == SCTP_LISTENING:
        for text in addresses:
            # An asterisk marks the primary address.
            yield Listener(protocol=Protocol.SCTP, address=ipaddress.ip_address(text.lstrip("*")), port=int(port))


def _connection(local: str, remote: str) -> Connection:
    local_address, local_port = parse_endpoint(local)
    remote_address, remote_port = parse_endpoint(remote)
    return Connection(
        local_address=local_address, local_port=local_port, remote_address=remote_address, remote_port=remote_port
    )


async def accepts_tcp(address: IpAddress, port: int, seconds: float) -> Acceptance:
    """Connect and reset the connection; the detail says why it was not accepted within so many seconds."""
    try:
        with CheckSocket(address, seconds) as connection:
            await connection.connect(port)
    except FailedError as error:
        return Acceptance(accepted=False, detail=str(error))
    except OSError as error:
        return Acceptance(accepted=False, detail=f"cannot open a socket: {os.strerror(error.errno or 0).lower()}")
    return Acceptance(accepted=True)
