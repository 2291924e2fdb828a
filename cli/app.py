"""The command line: global options, and the commands, each in a file cmd_NOUN.py. Imports typer, not grpc."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent_common.version import VERSION
from cli import (
    cmd_adopt,
    cmd_backend,
    cmd_connections,
    cmd_destination,
    cmd_drift,
    cmd_flush,
    cmd_list,
    cmd_reconcile,
    cmd_restore,
    cmd_rs,
    cmd_save,
    cmd_service,
    cmd_status,
    cmd_sync,
    cmd_timeouts,
    cmd_txn,
    cmd_vip,
    cmd_weight,
    cmd_zero,
)
from cli.options import Global, Output, Timeout

app = typer.Typer(
    name="lvs",
    help="Linux Virtual Server, both sides at once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text: one line for an error, and no second import for --help
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lvs {VERSION}")
        raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    director: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST[:PORT]|unix:PATH", help="Repeatable; the first is the authority."),
    ] = None,
    rs_agent: Annotated[
        list[str] | None, typer.Option(metavar="RIP=HOST:PORT", help="Where a real server's agent is (RIP:9711).")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Talk to other hosts without TLS.")] = False,
    tls_ca: Annotated[str | None, typer.Option(metavar="FILE", help="CA of the agents (PEM).")] = None,
    tls_cert: Annotated[str | None, typer.Option(metavar="FILE", help="Your certificate (PEM).")] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="Its key (PEM).")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings (TOML).")] = None,
    timeout: Timeout = None,
    lock_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Wait so long for a locked resource (10).")
    ] = None,
    output: Output = None,
    debug: Annotated[bool, typer.Option("--debug", help="Print every call to an agent, with its time.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Linux Virtual Server, both sides at once."""
    context.obj = Global(
        flags={
            "director": tuple(director) if director else None,
            "rs_agent": tuple(rs_agent) if rs_agent else None,
            "insecure": insecure or None,
            "tls_ca": tls_ca,
            "tls_cert": tls_cert,
            "tls_key": tls_key,
            "timeout": timeout,
            "lock_timeout": lock_timeout,
            "output": output,
        },
        config=config,
        debug=debug,
    )


app.command("add-backend")(cmd_backend.add_backend)
app.command("remove-backend")(cmd_backend.remove_backend)
app.command("drain")(cmd_weight.drain)
app.command("undrain")(cmd_weight.undrain)
app.command("weight")(cmd_weight.weight)
app.add_typer(cmd_service.app, name="service")
app.add_typer(cmd_destination.app, name="destination")
app.add_typer(cmd_vip.app, name="vip")
app.add_typer(cmd_rs.app, name="rs")
app.command("list")(cmd_list.list_table)
app.command("connections")(cmd_connections.connections)
app.command("zero")(cmd_zero.zero)
app.command("flush")(cmd_flush.flush)
app.command("save")(cmd_save.save)
app.command("restore")(cmd_restore.restore)
app.command("timeouts")(cmd_timeouts.timeouts)
app.add_typer(cmd_sync.app, name="sync")
app.command("status")(cmd_status.status)
app.command("drift")(cmd_drift.drift)
app.command("reconcile")(cmd_reconcile.reconcile)
app.command("adopt")(cmd_adopt.adopt)
app.add_typer(cmd_txn.app, name="txn")
