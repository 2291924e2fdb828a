"""lvs connections: the table of connections, or those of it that match."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.errors import InvalidInputError
from agent_common.virtual_server import parse_address, parse_network, parse_port, split_endpoint
from cli import options
from cli.request import parse_protocol


def connections(
    context: typer.Context,
    vip: Annotated[
        str | None, typer.Option(metavar="ADDR[:PORT]", help="To this VIP; IPv6 with a port as [ADDR]:PORT.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(metavar="tcp|udp|sctp", help="Transport protocol.")] = None,
    rs: Annotated[str | None, typer.Option("--rs", metavar="ADDR[:PORT]", help="On this real server.")] = None,
    client: Annotated[str | None, typer.Option(metavar="ADDR[/BITS]", help="From these clients.")] = None,
    state: Annotated[str | None, typer.Option(metavar="STATE", help="ESTABLISHED, FIN_WAIT, UDP, NONE, ...")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="At most so many of each director.")] = None,
    engines: Annotated[bool, typer.Option("--engines", help="Show what a persistence engine goes by, too.")] = False,
    names: Annotated[bool, typer.Option("--names", help="Look up the names of addresses and ports.")] = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Print the connections of every director as ipvsadm -Lcn does, as they are read."""
    if limit is not None and not 1 <= limit <= _MAX_LIMIT:
        raise InvalidInputError("limit", f"limit: {limit} is out of range (1 to {_MAX_LIMIT})")
    virtual, virtual_port = _endpoint(vip, "vip")
    real, real_port = _endpoint(rs, "rs")
    if client is not None:
        parse_network(client, "client")
    number = None if protocol is None else parse_protocol(protocol)
    site, terminal = options.settings(context, director, timeout, output)
    from lvsagent.v1 import connection_service_pb2

    from agent_common import wire
    from cli import list_table, name_lookup
    from cli.show import run_connections

    request = connection_service_pb2.ListConnectionsRequest(
        virtual_address=virtual,
        virtual_port=virtual_port,
        real_server=real,
        real_server_port=real_port,
        client=client or "",
        state=state or "",
        page_size=limit or 0,
    )
    if number is not None:
        request.protocol = wire.pack_enum(wire.PROTOCOLS, number)
    naming = name_lookup.named if names else list_table.numeric
    raise typer.Exit(run_connections(site, terminal, request, engines=engines, naming=naming))


_MAX_LIMIT = 2**32 - 1


def _endpoint(text: str | None, field: str) -> tuple[str, int]:
    """Return address and port; "" and 0 where they are not given."""
    if text is None:
        return "", 0
    host, port = split_endpoint(text)
    return str(parse_address(host, field)), 0 if port is None else parse_port(port, field)
