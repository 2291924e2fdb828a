"""lvs timeouts: how long IPVS keeps connections of which nothing is heard."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.timeouts import Timeouts
from cli import options

Seconds = Annotated[int | None, typer.Option(metavar="SECONDS", help="1 to 2678400.")]


def timeouts(
    context: typer.Context,
    tcp: Seconds = None,
    tcp_fin: Seconds = None,
    udp: Seconds = None,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show the timeouts of connections of every director; those that are given are set, and kept."""
    wanted = Timeouts(tcp=tcp, tcp_fin=tcp_fin, udp=udp).check()
    site, terminal = options.settings(context, director, timeout, output)
    if not wanted.meant():
        from cli import reading, settings_tables
        from cli.show import run_reading

        raise typer.Exit(
            run_reading(site, terminal, site.director_names(), reading.get_timeouts, settings_tables.timeouts_lines)
        )
    from cli import operations, session

    title = f"set timeouts: {wanted}"
    operation = operations.update_timeouts(wanted)
    raise typer.Exit(session.run_single(site, terminal, title, operation, site.director_names(), dry_run=dry_run))
