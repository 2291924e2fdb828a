"""The command line: global options, and the commands, each in a file cmd_NOUN.py. Imports typer, not grpc."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from agent_common.version import VERSION
from cli.options import Global, Output, Timeout

COMMANDS = {
    "add-backend": "cmd_backend.add_backend",
    "remove-backend": "cmd_backend.remove_backend",
    "drain": "cmd_weight.drain",
    "undrain": "cmd_weight.undrain",
    "weight": "cmd_weight.weight",
    "service": "cmd_service.app",
    "destination": "cmd_destination.app",
    "vip": "cmd_vip.app",
    "rs": "cmd_rs.app",
    "list": "cmd_list.list_table",
    "connections": "cmd_connections.connections",
    "zero": "cmd_zero.zero",
    "flush": "cmd_flush.flush",
    "save": "cmd_save.save",
    "restore": "cmd_restore.restore",
    "timeouts": "cmd_timeouts.timeouts",
    "sync": "cmd_sync.app",
    "health": "cmd_health.app",
    "status": "cmd_status.status",
    "drift": "cmd_drift.drift",
    "reconcile": "cmd_reconcile.reconcile",
    "adopt": "cmd_adopt.adopt",
    "txn": "cmd_txn.app",
    "audit": "cmd_audit.audit",
    "pki": "cmd_pki.app",
}
"""Where each is, in the order of --help."""

HELP = ["-h", "--help"]
FLAGS = {*HELP, "--insecure", "--debug", "--version", "--install-completion", "--show-completion"}
"""Global options without a value."""


def make_app(words: Sequence[str] = ()) -> typer.Typer:
    """Return the command line with the command that these words name, or with all if they name none.

    To load all commands and take them apart is a third of what one takes to start (bench/start_up.py).
    """
    app = typer.Typer(
        name="lvs",
        help="Linux Virtual Server, both sides at once.",
        callback=_global,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain text: one line for an error, and no second import for --help
        context_settings={"help_option_names": HELP},
    )
    first = _first_word(words)
    for name in (first,) if first in COMMANDS else COMMANDS:
        module, _, attribute = COMMANDS[name].partition(".")
        found = getattr(importlib.import_module(f"cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def _first_word(words: Sequence[str]) -> str:
    """Return the first word that is neither an option nor the value of one, if no help is asked for before it."""
    before = ""
    for word in words:
        if word in HELP:
            break
        if not word.startswith("-") and (not before or before in FLAGS or "=" in before):
            return word
        before = word if word.startswith("-") else ""
    return ""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lvs {VERSION}")
        raise typer.Exit


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
