"""lvs drift."""

from __future__ import annotations

import typer

from cli import options


def drift(
    context: typer.Context,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show what differs from what was committed, on directors and real servers; found twice in a row, so 20 s old."""
    site, terminal = options.settings(context, director, timeout, output)
    from cli.show import run_drift

    raise typer.Exit(run_drift(site, terminal))
