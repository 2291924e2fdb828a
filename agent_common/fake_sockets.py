"""agent_common.sockets.Sockets in memory: what programs of a host listen on and are connected to, as a test says."""

from __future__ import annotations

from collections.abc import Iterable

from agent_common.sockets import Connection, Listener
from agent_common.virtual_server import IpAddress, Protocol


class FakeSockets:
    """A host's sockets; both lists can be changed at any time."""

    def __init__(self, listeners: Iterable[Listener] = (), connections: Iterable[Connection] = ()) -> None:
        self.bound = list(listeners)
        self.connections = list(connections)

    def listeners(self, protocol: Protocol) -> list[Listener]:
        """Return what listens, both families."""
        return [each for each in self.bound if each.protocol is protocol]

    def established_to(self, vip: IpAddress) -> list[Connection]:
        """Return the open TCP connections whose remote address is the VIP."""
        return [each for each in self.connections if each.remote_address == vip]
