"""Clients' questions to a virtual server, asked from a host without starting a program for each."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterable

from lab.host import Host

_PORTS = itertools.cycle(range(10000, 60000))
"""For the client's end. A connection stays in IPVS for two minutes after its end; with persistence, packets of another
that has its ports go where that one's went, though the real server has been removed (is_new_conn_expected)."""


def connect(host: Host, address: str, port: int, source: str | None = None, timeout: float = 2.0) -> socket.socket:
    """An open TCP connection from the host, optionally from one `source` of its addresses.

    Raises OSError (TimeoutError, ConnectionRefusedError…); `timeout` in seconds, for each wait.
    """
    return host.inside(
        lambda: socket.create_connection((address, port), timeout, None if source is None else (source, 0))
    )


def ask(connection: socket.socket) -> str:
    """Who answers one HTTP request on this connection, which the answer ends."""
    with connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        reply = b""
        while more := connection.recv(4096):
            reply += more
    _head, separator, body = reply.partition(b"\r\n\r\n")
    if not separator:
        raise ConnectionError(f"cannot read the answer: it ended after {len(reply)} bytes")
    return body.decode().strip()


def ask_http(host: Host, address: str, port: int, source: str | None = None, timeout: float = 2.0) -> str:
    """Who answers an HTTP request; raises OSError when nobody does within `timeout` seconds."""
    return ask(connect(host, address, port, source, timeout))


def ask_all(host: Host, address: str, port: int, sources: Iterable[str], timeout: float = 2.0) -> list[str]:
    """Who answers an HTTP request from each of many sources; the host is entered once, and no port comes twice."""
    return host.inside(
        lambda: [ask(socket.create_connection((address, port), timeout, (source, next(_PORTS)))) for source in sources]
    )


def ask_sctp(host: Host, address: str, port: int, timeout: float = 5.0) -> str:
    """Who answers an association; raises OSError when nobody does."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.inside(lambda: socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP)) as sock:
        sock.settimeout(timeout)
        sock.connect((address, port))
        return sock.recv(65536).decode()


def ask_udp(host: Host, address: str, port: int, source: str | None = None, timeout: float = 2.0) -> str:
    """Who answers a datagram; raises OSError when nobody does from the very address that was asked."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.inside(lambda: socket.socket(family, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(timeout)
        if source is not None:
            sock.bind((source, 0))
        sock.connect((address, port))  # an answer from elsewhere is not ours
        sock.send(b"who?")
        return sock.recv(65536).decode()
