"""lvs save: a whole table as rules of ipvsadm, or as JSON with all that those cannot say."""

from __future__ import annotations

import typer

from cli import options


def save(
    context: typer.Context,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Print the first director's table as ipvsadm-save does; as JSON with thresholds, drains and health checks, too."""
    site, terminal = options.settings(context, director, timeout, output)
    from cli.show import run_save

    raise typer.Exit(run_save(site, terminal))
