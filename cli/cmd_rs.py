"""lvs rs show."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.virtual_server import parse_unicast
from cli import options
from cli.site import real_server

app = typer.Typer(help="Real servers.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Real servers."""


@app.command()
def show(
    context: typer.Context,
    rip: Annotated[str, typer.Argument(metavar="RIP", help="The real server's own address.")],
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show a real server: its VIPs, who holds them, the ARP sysctls and whether it is silent."""
    address = parse_unicast(rip, "rip")
    site, terminal = options.settings(context, director, timeout, output, needs_director=False)
    from cli import reading, tables
    from cli.show import run_reading

    raise typer.Exit(
        run_reading(site, terminal, [real_server(address)], reading.read_real_server, tables.real_server_lines)
    )
