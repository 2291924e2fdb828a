"""lvs sync show, start, stop: the daemons that carry connections from one director to another."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.sync_daemon import SyncDaemon, parse_role
from agent_common.virtual_server import parse_address
from cli import options

app = typer.Typer(help="Connections carried to another director.", no_args_is_help=True, rich_markup_mode=None)

Role = Annotated[str, typer.Argument(metavar="master|backup", help="Sends them, or takes them.")]


@app.command()
def show(
    context: typer.Context,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show the sync daemons that run on every director."""
    site, terminal = options.settings(context, director, timeout, output)
    from cli import reading, settings_tables
    from cli.show import run_reading

    raise typer.Exit(
        run_reading(site, terminal, site.director_names(), reading.list_sync_daemons, settings_tables.sync_daemon_lines)
    )


@app.command()
def start(
    context: typer.Context,
    role: Role,
    interface: Annotated[str, typer.Option(metavar="DEV", help="Where messages are sent or heard.")],
    sync_id: Annotated[int, typer.Option(metavar="N", help="0 to 255; a backup with 0 takes all.")] = 0,
    max_length: Annotated[
        int | None, typer.Option(metavar="BYTES", help="Of a message, 1 to 65507; else what the MTU has room for.")
    ] = None,
    group: Annotated[str | None, typer.Option(metavar="ADDR", help="Multicast group; else 224.0.0.81.")] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="UDP port, 1 to 65535; else 8848.")] = None,
    ttl: Annotated[int | None, typer.Option(metavar="N", help="1 to 255; else 1.")] = None,
    adopt: Annotated[bool, typer.Option("--adopt", help="Take in one that runs and is equal.")] = False,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Start a sync daemon on the director, and again whenever it boots."""
    daemon = SyncDaemon(
        role=parse_role(role),
        interface=interface,
        sync_id=sync_id,
        max_length=max_length,
        group=None if group is None else parse_address(group, "group"),
        port=port,
        ttl=ttl,
    ).check()
    site, terminal = options.settings(context, director, timeout, output)
    from cli import operations, session

    operation = operations.start_sync_daemon(daemon, adopt=adopt)
    title = f"sync daemon {daemon}"
    raise typer.Exit(session.run_single(site, terminal, title, operation, site.director_names(), dry_run=dry_run))


@app.command()
def stop(
    context: typer.Context,
    role: Role,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Stop a sync daemon; connections that it has carried stay."""
    which = parse_role(role)
    site, terminal = options.settings(context, director, timeout, output)
    from cli import operations, session

    operation = operations.stop_sync_daemon(which)
    title = f"stop sync daemon {which}"
    raise typer.Exit(session.run_single(site, terminal, title, operation, site.director_names(), dry_run=dry_run))
