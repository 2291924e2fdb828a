"""Names of addresses and ports, for whoever asks for them: each is looked up once."""

from __future__ import annotations

import socket
from functools import cache


@cache
def host_name(address: str) -> str:
    """Return the name of an address, or the address where it has none."""
    try:
        return socket.gethostbyaddr(address)[0]
    except OSError:
        return address


@cache
def service_name(port: int, protocol: str) -> str:
    """Return the name of a port in /etc/services, or its number; an empty protocol has none."""
    try:
        return socket.getservbyport(port, protocol) if protocol else str(port)
    except OSError:
        return str(port)


def named(address: str, port: int, protocol: str) -> str:
    """Return host and service, an IPv6 host in brackets."""
    host, service = host_name(address), service_name(port, protocol)
    return f"[{host}]:{service}" if ":" in address else f"{host}:{service}"
