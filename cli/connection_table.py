"""Connections as ipvsadm -Lcn prints them. Pure functions."""

from __future__ import annotations

from lvsagent.v1 import connection_service_pb2

from cli.list_table import Naming


def heading(*, engines: bool) -> list[str]:
    """Return the lines above the connections."""
    columns = f"{'state':<11} {'source':<18} {'virtual':<18} "
    columns += f"{'destination':<18} {'pe name':<16} pe_data" if engines else "destination"
    return ["IPVS connection entries", f"pro expire {columns}"]


def connection_line(connection: connection_service_pb2.Connection, *, engines: bool, naming: Naming) -> str:
    """Return one connection; engines: with what a persistence engine goes by, where there is one."""
    minutes, seconds = divmod(connection.expires.seconds, 60)
    key = connection.destination
    protocol = connection.protocol.lower()
    ends = [
        naming(connection.client, connection.client_port, protocol),
        naming(connection.virtual_address, connection.virtual_port, protocol),
        naming(key.address, key.port, protocol),
    ]
    expires = f"{minutes:02}:{seconds:02}"
    line = f"{connection.protocol:<3} {expires:<6} {connection.state:<11} {ends[0]:<18} {ends[1]:<18} "
    if engines and connection.persistence_engine:
        return f"{line}{ends[2]:<16} {connection.persistence_engine:<18} {connection.persistence_data}"
    return line + ends[2]
