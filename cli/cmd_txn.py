"""lvs txn: changes that span hosts, while they are under way or were left by a coordinator that died."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.errors import InvalidInputError
from cli import options

app = typer.Typer(help="Changes that span hosts.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_transactions(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show the transactions that are not decided or not finished, as every agent has them."""
    site, terminal = options.settings(context, director, timeout, output)
    from cli.show import run_transactions

    raise typer.Exit(run_transactions(site, terminal, "", decided=everything))


@app.command()
def show(
    context: typer.Context,
    transaction: Annotated[str, typer.Argument(metavar="ID", help="The transaction's name.")],
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show one transaction: what every agent that takes part has of it."""
    site, terminal = options.settings(context, director, timeout, output)
    from cli.show import run_transactions

    raise typer.Exit(run_transactions(site, terminal, transaction, decided=True))


@app.command()
def resolve(
    context: typer.Context,
    transaction: Annotated[str, typer.Argument(metavar="[ID]", help="Only this one; without it all.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the ends of leases that still run.")] = False,
    assume: Annotated[
        str | None,
        typer.Option(metavar="commit|abort", help="The decision of an authority that is gone for good; needs ID."),
    ] = None,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Finish what a coordinator has left: read the decision at the authority, and carry it to every agent."""
    if assume is not None and (assume not in ("commit", "abort") or not transaction):
        raise InvalidInputError("assume", f"assume: {assume!r} is not commit or abort, or no transaction was named")
    site, terminal = options.settings(context, director, timeout, output)
    from agent_common.transaction import TransactionState
    from cli import session
    from cli.transactions import resolve_transactions

    states = {"commit": TransactionState.COMMITTED, "abort": TransactionState.ABORTED}
    decision = None if assume is None else states[assume]
    raise typer.Exit(
        session.run_workflow(
            site,
            terminal,
            lambda run: resolve_transactions(transaction, run, wait=wait, assume=decision),
            dry_run=False,
        )
    )
