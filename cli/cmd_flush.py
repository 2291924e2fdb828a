"""lvs flush: an empty table."""

from __future__ import annotations

import typer

from cli import options


def flush(
    context: typer.Context,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Remove every virtual server of every director, foreign ones too; VIPs stay where they are."""
    options.check_can_ask(yes=yes, dry_run=dry_run)
    site, terminal = options.settings(context, director, timeout, output)
    from cli import operations, session
    from cli.plan import Plan

    async def confirm(plan: Plan) -> bool:
        return yes or await terminal.confirm(plan.lines(), "remove all of it?")

    operation = operations.apply_table({}, replace=True)
    raise typer.Exit(
        session.run_single(
            site,
            terminal,
            "flush the table",
            operation,
            site.director_names(),
            dry_run=dry_run,
            warnings=(
                "VIPs stay, on directors and real servers: lvs vip list shows them",
                "how destinations are checked goes, too; lvs save --output json keeps it",
            ),
            confirm=confirm,
        )
    )
