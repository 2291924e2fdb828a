"""Clients that open connections to a VIP all the time, and those that came to a real server without the VIP.

A host that gets a packet for an address that it does not have, and does not forward, counts it: InAddrErrors in
/proc/net/snmp and snmp6. So every SYN that a director sends too early, or too late, is seen, however short the moment.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.host import Host

PAUSE_SECONDS = 0.05
PATIENCE = 4
"""So many connections are under way at once; the oldest is given up for the next."""

_RESET = struct.pack("ii", 1, 0)


class Clients:
    """Opens a connection every 50 ms until it is stopped; answered counts those that were accepted."""

    def __init__(self, host: Host, vip: str, port: int) -> None:
        self.answered = 0
        self._host, self._vip, self._port = host, vip, port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: host.inside(self._knock), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _knock(self) -> None:
        family = socket.AF_INET6 if ":" in self._vip else socket.AF_INET
        under_way: deque[socket.socket] = deque()
        while not self._stop.is_set():
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # nothing of it is left, here or there
            sock.connect_ex((self._vip, self._port))
            under_way.append(sock)
            time.sleep(PAUSE_SECONDS)
            if len(under_way) == PATIENCE:
                self._end(under_way.popleft())
        for sock in under_way:
            self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.getpeername()
            self.answered += 1


@contextmanager
def asking(host: Host, vip: str, port: int) -> Iterator[Clients]:
    """Clients that ask from a host while the block runs."""
    clients = Clients(host, vip, port)
    try:
        yield clients
    finally:
        clients.stop()


def strayed(real_servers: Sequence[Host]) -> int:
    """How many packets these hosts got, since they were made, for an address that they do not have."""
    return sum(host.inside(_address_errors) for host in real_servers)


def _address_errors() -> int:
    net = Path("/proc/thread-self/net")
    names, values = (line.split() for line in (net / "snmp").read_text().splitlines() if line.startswith("Ip:"))
    ipv4 = dict(zip(names, values, strict=True))["InAddrErrors"]
    ipv6 = dict(line.split() for line in (net / "snmp6").read_text().splitlines())["Ip6InAddrErrors"]
    return int(ipv4) + int(ipv6)
