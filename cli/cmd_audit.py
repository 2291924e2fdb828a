"""lvs audit."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.errors import InvalidInputError
from agent_common.virtual_server import parse_unicast
from cli import options
from cli.site import real_server

MAX_LIMIT = 100_000


def audit(
    context: typer.Context,
    rs: Annotated[
        list[str] | None, typer.Option("--rs", metavar="ADDR", help="Ask this real server, not directors; repeatable.")
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Not older: 90s, 10m, 2h, 7d, or 2026-11-28[T16:00] (UTC).")
    ] = "",
    match: Annotated[
        str, typer.Option(metavar="TEXT", help="Only where this occurs: in caller, RPC, transaction or resource.")
    ] = "",
    limit: Annotated[int, typer.Option(metavar="N", help="At most so many of each agent (50).")] = 50,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show who has changed what, the newest first: one line for each call that was to change something."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInputError("limit", f"limit: {limit} is out of range (1 to {MAX_LIMIT})")
    real_servers = [real_server(parse_unicast(each, "rs")) for each in rs or ()]
    site, terminal = options.settings(context, director, timeout, output, needs_director=not real_servers)
    from cli.audit import parse_since, run_audit

    agents = real_servers or site.director_names()
    raise typer.Exit(run_audit(site, terminal, agents, since=parse_since(since), containing=match, limit=limit))
