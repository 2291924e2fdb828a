"""lvs restore: a whole table from rules of ipvsadm."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

from agent_common.errors import InvalidInputError
from cli import options
from cli.rules import Rules, read_rules


def restore(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Rules or JSON; without it standard input.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Make the table equal to the rules; what is in both is not touched.")
    ] = False,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Add what ipvsadm-save or lvs save printed: all of it or nothing; real servers are not asked."""
    gc.disable()  # a large table is 100,000 objects that all stay: looking for garbage among them takes long
    rules = _read(file)
    for line in rules.bad:
        typer.echo(f"lvs: {line}", err=True)
    if rules.bad:
        number = len(rules.bad)
        raise InvalidInputError("rules", f"rules: {number} bad line{'s' if number > 1 else ''}; nothing was changed")
    site, terminal = options.settings(context, director, timeout, output)
    from cli import operations, session

    operation = operations.apply_table(rules.table, replace=replace)
    title = "replace the table" if replace else "restore"
    raise typer.Exit(
        session.run_single(
            site,
            terminal,
            title,
            operation,
            site.director_names(),
            dry_run=dry_run,
            warnings=(*rules.warnings, "the real servers are not asked: whether each has its VIP was not checked"),
        )
    )


def _read(file: Path | None) -> Rules:
    try:
        text = sys.stdin.read() if file is None or str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError("file", f"file: cannot read {file or 'standard input'}: {error}") from error
    if not text.lstrip().startswith("{"):
        return read_rules(text.splitlines())
    from cli.table_json import read_table

    return Rules(table=read_table(text))
