"""lvs add-backend and lvs remove-backend."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.vip import parse_vip_mode
from agent_common.virtual_server import Persistence
from cli import options
from cli.request import AddBackend, RemoveBackend, check_lease, choose_backend, parse_forwarding, parse_tunnel


def add_backend(
    context: typer.Context,
    *,
    vip: options.VipOption = None,
    fwmark: options.FwmarkOption = None,
    fwmark6: options.Fwmark6Option = None,
    vip_address: options.VipAddress = None,
    rs: options.RsOption,
    protocol: options.ProtocolOption = None,
    weight: Annotated[
        int | None, typer.Option(help="Weight of a new destination (1); checked for one in place.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="Scheduler of a new virtual server (wlc).")] = None,
    forward: Annotated[str | None, typer.Option(metavar="dr|nat|tun", help="Forwarding method (dr).")] = None,
    tunnel_type: options.TunnelType = None,
    tunnel_port: options.TunnelPort = None,
    tunnel_checksum: options.TunnelChecksum = None,
    persistent: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="Persistence of a new virtual server.")
    ] = None,
    vip_mode: Annotated[
        str | None, typer.Option(metavar="agent|external", help="Who puts the VIP on directors.")
    ] = None,
    vip_device: Annotated[str, typer.Option(metavar="DEV", help="Interface of the VIP on the director.")] = "",
    no_create: Annotated[bool, typer.Option("--no-create", help="Refuse if there is no virtual server.")] = False,
    no_rs_agent: options.NoRsAgent = False,
    ready_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Wait so long for the application, or its check.")
    ] = 10.0,
    no_ready_check: Annotated[bool, typer.Option("--no-ready-check", help="Do not wait for it.")] = False,
    lease: options.Lease = 60,
    force: options.ForceOption = False,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Put real servers behind a VIP: on the director and on the real servers, or nowhere."""
    check_lease(lease)
    request = AddBackend(
        backend=choose_backend(rs, vip, protocol, fwmark, fwmark6, vip_address),
        weight=weight,
        scheduler=scheduler,
        forwarding=parse_forwarding(forward),
        tunnel=parse_tunnel(tunnel_type, tunnel_port, tunnel_checksum),
        persistence=Persistence(timeout=persistent) if persistent is not None else None,
        vip_mode=parse_vip_mode(vip_mode),
        vip_device=vip_device,
        create=not no_create,
        ask_real_servers=not no_rs_agent,
        ready_timeout=None if no_ready_check else ready_timeout,
        force=force,
    )
    site, terminal = options.settings(context, director, timeout, output)
    from cli import session
    from cli.add_backend import add_backend as work

    raise typer.Exit(session.run_workflow(site, terminal, lambda run: work(request, run), dry_run=dry_run, lease=lease))


def remove_backend(
    context: typer.Context,
    *,
    vip: options.VipOption = None,
    fwmark: options.FwmarkOption = None,
    fwmark6: options.Fwmark6Option = None,
    rs: options.RsOption,
    protocol: options.ProtocolOption = None,
    drain_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Wait so long for connections to end; then they are cut.")
    ] = 60.0,
    no_drain: Annotated[bool, typer.Option("--no-drain", help="Remove at once.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove virtual server and VIP too, if lvs made them and nothing uses them.")
    ] = False,
    no_rs_agent: options.NoRsAgent = False,
    lease: options.Lease = 60,
    force: options.ForceOption = False,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Take real servers out from behind a VIP: drain, wait, remove, and give the VIP back."""
    check_lease(lease)
    request = RemoveBackend(
        backend=choose_backend(rs, vip, protocol, fwmark, fwmark6),
        drain_timeout=None if no_drain else drain_timeout,
        prune=prune,
        ask_real_servers=not no_rs_agent,
        force=force,
    )
    site, terminal = options.settings(context, director, timeout, output)
    from cli import session
    from cli.remove_backend import remove_backend as work

    raise typer.Exit(session.run_workflow(site, terminal, lambda run: work(request, run), dry_run=dry_run, lease=lease))
