"""lvs list: the table as ipvsadm -L prints it, and its other views."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.errors import InvalidInputError
from agent_common.virtual_server import parse_key
from cli import options


def list_table(
    context: typer.Context,
    key: options.OnlyKey = None,
    stats: Annotated[bool, typer.Option("--stats", help="Connections, packets and bytes that were counted.")] = False,
    rate: Annotated[bool, typer.Option("--rate", help="The same, per second.")] = False,
    thresholds: Annotated[bool, typer.Option("--thresholds", help="Upper and lower thresholds.")] = False,
    persistent: Annotated[bool, typer.Option("--persistent", help="Persistent connections.")] = False,
    tunnels: Annotated[bool, typer.Option("--tunnels", help="Kind, port and checksum of tunnels.")] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Whole numbers, not 123456K.")] = False,
    names: Annotated[bool, typer.Option("--names", help="Look up the names of addresses and ports.")] = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Print every director's table as ipvsadm -Ln does; with --output json all of it, whichever view."""
    asked = {
        "stats": stats,
        "rate": rate,
        "thresholds": thresholds,
        "persistent": persistent,
        "tunnels": tunnels,
    }
    given = [name for name, wanted in asked.items() if wanted]
    if len(given) > 1:
        raise InvalidInputError(given[1], f"{given[1]}: not together with --{given[0]}: one view at a time")
    server = None if key is None else parse_key(key)
    site, terminal = options.settings(context, director, timeout, output)
    from cli import list_table, name_lookup, reading, show

    view = list_table.View(given[0] if given else "")
    counted = terminal.json or view in (list_table.View.STATS, list_table.View.RATE)

    def lines(agent: object, table: reading.Listing) -> list[str]:
        naming = name_lookup.named if names else list_table.numeric
        head = [] if table.ipvs is None else [list_table.title(table.ipvs)]
        return [*head, *list_table.table_lines(table.virtual_servers, view, exact=exact, naming=naming)]

    raise typer.Exit(
        show.run_reading(
            site,
            terminal,
            site.director_names(),
            lambda client: reading.read_listing(client, server, statistics=counted),
            lines,
        )
    )
