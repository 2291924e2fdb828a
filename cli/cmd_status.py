"""lvs status."""

from __future__ import annotations

import typer

from cli import options


def status(
    context: typer.Context,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show every director, its VIPs and virtual servers, and whether each real server is ready."""
    site, terminal = options.settings(context, director, timeout, output)
    from cli.show import run_status

    raise typer.Exit(run_status(site, terminal))
