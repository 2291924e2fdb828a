"""lvs health set, remove, show, log."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.errors import InvalidInputError
from agent_common.virtual_server import parse_key
from cli import options
from cli.cmd_audit import MAX_LIMIT
from cli.cmd_health_set import set_health
from cli.cmd_service import Key

app = typer.Typer(
    help="Checks of real servers, and what follows from them.", no_args_is_help=True, rich_markup_mode=None
)
app.command("set")(set_health)


@app.command()
def remove(
    context: typer.Context,
    key: Key,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """End the checks of a virtual server; its destinations get the weights that you have given them."""
    server = parse_key(key)
    site, terminal = options.settings(context, director, timeout, output)
    from cli import operations, session

    title = f"end the health checks of {server}"
    operation = operations.delete_health(server)
    raise typer.Exit(session.run_single(site, terminal, title, operation, site.director_names(), dry_run=dry_run))


@app.command()
def show(
    context: typer.Context,
    key: options.OnlyKey = None,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show how destinations are checked, what the checks say, and what the kernel has."""
    server = None if key is None else parse_key(key)
    site, terminal = options.settings(context, director, timeout, output)
    from cli.health_show import run_health_show

    raise typer.Exit(run_health_show(site, terminal, server))


@app.command()
def log(
    context: typer.Context,
    key: options.OnlyKey = None,
    limit: Annotated[int, typer.Option(metavar="N", help="At most so many of each director (50).")] = 50,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show what the checks have found and what was done, the newest first."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInputError("limit", f"limit: {limit} is out of range (1 to {MAX_LIMIT})")
    server = None if key is None else parse_key(key)
    site, terminal = options.settings(context, director, timeout, output)
    from cli.health_show import run_health_log

    raise typer.Exit(run_health_log(site, terminal, server, limit=limit))
