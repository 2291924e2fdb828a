"""lvs vip list, add, remove: on directors, or with --rs on a real server's lo."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.errors import InvalidInputError
from agent_common.vip import OperatorHolder, VipMode, parse_vip_mode
from agent_common.virtual_server import parse_unicast
from cli import options
from cli.site import AgentName, Site, real_server

app = typer.Typer(help="VIPs, one at a time, held for an operator.", no_args_is_help=True, rich_markup_mode=None)

Address = Annotated[str, typer.Argument(metavar="ADDR", help="The VIP, without a port.")]
OnRealServer = Annotated[
    list[str] | None, typer.Option("--rs", metavar="RIP", help="On this real server's lo; repeatable.")
]
Name = Annotated[str, typer.Option("--operator", metavar="NAME", help="Who holds it.")]


@app.command("list")
def list_vips(
    context: typer.Context,
    rs: OnRealServer = None,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """List the VIPs that are held."""
    site, terminal = options.settings(context, director, timeout, output)
    agents = _agents(site, rs)
    from cli import reading, tables
    from cli.show import run_reading

    raise typer.Exit(run_reading(site, terminal, agents, reading.list_vips, tables.vip_lines))


@app.command()
def add(
    context: typer.Context,
    address: Address,
    vip_device: Annotated[str, typer.Option(metavar="DEV", help="Interface on the director.")] = "",
    vip_mode: Annotated[str | None, typer.Option(metavar="agent|external", help="Who puts it on directors.")] = None,
    rs: OnRealServer = None,
    operator: Name = "operator",
    force: options.ForceOption = False,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Add a VIP and hold it; on a real server with ARP sysctls and route."""
    vip = parse_unicast(address, "address")
    holder = OperatorHolder(name=operator)
    site, terminal = options.settings(context, director, timeout, output)
    agents = _agents(site, rs)
    mode = None if rs else parse_vip_mode(vip_mode) or site.vip_mode
    if mode is None and len(agents) > 1 and not rs:
        mode = VipMode.EXTERNAL
    if mode is VipMode.AGENT and len(agents) > 1:
        raise InvalidInputError("vip_mode", "vip_mode: agent with several directors makes two hosts answer for one VIP")
    from cli import operations, session

    operation = operations.create_vip(vip, holder, mode=mode, device=vip_device, force=force)
    title = f"add VIP {vip}"
    raise typer.Exit(session.run_single(site, terminal, title, operation, agents, dry_run=dry_run))


@app.command()
def remove(
    context: typer.Context,
    address: Address,
    rs: OnRealServer = None,
    operator: Name = "operator",
    force: Annotated[
        bool, typer.Option("--force", help="Give up every hold, whoever has it, though something uses the VIP.")
    ] = False,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Give a VIP up; it goes with its last holder, if lvs added it."""
    vip = parse_unicast(address, "address")
    holder = OperatorHolder(name=operator)
    site, terminal = options.settings(context, director, timeout, output)
    agents = _agents(site, rs)
    from cli import operations, session

    operation = operations.delete_vip(vip, holder, force=force)
    title = f"give VIP {vip} up"
    raise typer.Exit(session.run_single(site, terminal, title, operation, agents, dry_run=dry_run))


def _agents(site: Site, rs: list[str] | None) -> list[AgentName]:
    if not rs:
        return site.director_names()
    agents = [real_server(parse_unicast(text, "rs")) for text in rs]
    for agent in agents:
        if agents.count(agent) > 1:
            raise InvalidInputError("rs", f"rs: {agent.name} is given twice")
    return agents
