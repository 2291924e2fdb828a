"""lvs drain, lvs undrain and lvs weight."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import options
from cli.request import SetWeight, choose_backend

DRAIN_SECONDS = 60.0
READY_SECONDS = 10.0

Wait = Annotated[
    bool,
    typer.Option("--wait", help="drain: wait for the connections to end (60 s); undrain: for the application (10 s)."),
]


def drain(
    context: typer.Context,
    *,
    vip: options.VipOption = None,
    fwmark: options.FwmarkOption = None,
    fwmark6: options.Fwmark6Option = None,
    rs: options.RsOption,
    protocol: options.ProtocolOption = None,
    wait: Wait = False,
    force: options.ForceOption = False,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Give a real server no new connections; those that it has go on."""
    request = SetWeight(
        backend=choose_backend(rs, vip, protocol, fwmark, fwmark6),
        draining=True,
        wait=DRAIN_SECONDS if wait else None,
        force=force,
    )
    _run(context, request, director, timeout, output, dry_run=dry_run)


def undrain(
    context: typer.Context,
    *,
    vip: options.VipOption = None,
    fwmark: options.FwmarkOption = None,
    fwmark6: options.Fwmark6Option = None,
    rs: options.RsOption,
    protocol: options.ProtocolOption = None,
    wait: Wait = False,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Give a drained real server its weight back; its agent is asked again whether the VIP is there."""
    request = SetWeight(
        backend=choose_backend(rs, vip, protocol, fwmark, fwmark6), draining=False, wait=READY_SECONDS if wait else None
    )
    _run(context, request, director, timeout, output, dry_run=dry_run)


def weight(
    context: typer.Context,
    *,
    vip: options.VipOption = None,
    fwmark: options.FwmarkOption = None,
    fwmark6: options.Fwmark6Option = None,
    rs: options.RsOption,
    value: Annotated[int, typer.Argument(metavar="N", help="0 to 2147483647.")],
    protocol: options.ProtocolOption = None,
    force: options.ForceOption = False,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Set the weight of a real server; during a drain it waits for the end of the drain."""
    request = SetWeight(backend=choose_backend(rs, vip, protocol, fwmark, fwmark6), weight=value, force=force)
    _run(context, request, director, timeout, output, dry_run=dry_run)


def _run(
    context: typer.Context,
    request: SetWeight,
    director: list[str] | None,
    timeout: float | None,
    output: str | None,
    *,
    dry_run: bool,
) -> None:
    site, terminal = options.settings(context, director, timeout, output)
    from cli import session
    from cli.set_weight import set_weight as work

    raise typer.Exit(session.run_workflow(site, terminal, lambda run: work(request, run), dry_run=dry_run))
