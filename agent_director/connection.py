"""Entries of the director's table of connections, and which of them somebody asks for. No I/O."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol as Seam

from agent_common.destination import DestinationKey
from agent_common.virtual_server import IpAddress, IpNetwork, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection, or the template of persistence that keeps a client on its real server: that has client port 0.

    protocol and state are the kernel's words (ip_vs_proto_name and ip_vs_state_name); IP is the template of a firewall
    mark, whose virtual address is the mark. expires is in seconds.
    """

    protocol: str
    client: IpAddress
    client_port: int
    virtual_address: IpAddress
    virtual_port: int
    destination: DestinationKey
    state: str
    expires: int
    persistence_engine: str = ""
    persistence_data: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFilter:
    """What a connection must be; whatever is None, 0 or empty does not count."""

    protocol: Protocol | None = None
    virtual_address: IpAddress | None = None
    virtual_port: int = 0
    real_server: IpAddress | None = None
    real_server_port: int = 0
    client: IpNetwork | None = None
    state: str = ""

    def matches(self, connection: Connection) -> bool:
        """Whether a connection is one of those."""
        return (
            (self.protocol is None or connection.protocol == self.protocol.name)
            and (self.virtual_address is None or connection.virtual_address == self.virtual_address)
            and self.virtual_port in (0, connection.virtual_port)
            and (self.real_server is None or connection.destination.address == self.real_server)
            and self.real_server_port in (0, connection.destination.port)
            and (self.client is None or connection.client in self.client)
            and self.state.upper() in ("", connection.state)
        )


class Connections(Seam):
    """The table of connections of one network namespace."""

    def read(self, skip: int) -> Generator[list[Connection]]:
        """Return all entries but so many first ones, a few hundred at a time, each time those that are there by then.

        Raises RefusedError (IPVS_MISSING); InternalError for what cannot be understood.
        """
