"""lvs reconcile."""

from __future__ import annotations

import typer

from agent_common.virtual_server import parse_key
from cli import options


def reconcile(
    context: typer.Context,
    key: options.OnlyKey = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    no_rs_agent: options.NoRsAgent = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show what differs from what was committed on every host, and bring it back; what is foreign is left alone."""
    server = None if key is None else parse_key(key)
    options.check_can_ask(yes=yes, dry_run=dry_run)
    site, terminal = options.settings(context, director, timeout, output)
    from cli import session
    from cli.plan import Plan
    from cli.plan_reconcile import Reconcile
    from cli.reconcile import reconcile as work

    request = Reconcile(key=server, ask_real_servers=not no_rs_agent)

    async def confirm(plan: Plan) -> bool:
        return yes or await terminal.confirm(plan.lines(), "repair this?")

    raise typer.Exit(session.run_workflow(site, terminal, lambda run: work(request, run, confirm), dry_run=dry_run))
