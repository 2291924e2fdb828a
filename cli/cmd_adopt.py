"""lvs adopt."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.destination import DestinationKey
from agent_common.errors import InvalidInputError
from agent_common.vip import VipMode, parse_vip_mode
from agent_common.virtual_server import FirewallMark, ServiceAddress, VirtualServerKey, parse_endpoint, parse_key
from cli import options
from cli.cmd_service import Key
from cli.request import parse_vip_addresses


def adopt(
    context: typer.Context,
    key: Key,
    rs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RS[:PORT]]...", help="Only these destinations; else the virtual server and all of them."
        ),
    ] = None,
    vip_address: options.VipAddress = None,
    vip_mode: Annotated[
        str | None, typer.Option(metavar="agent|external", help="Who puts the VIP on directors from now on.")
    ] = None,
    dry_run: options.DryRun = False,
    no_rs_agent: options.NoRsAgent = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Take in what was made by hand, as it is: from then on lvs restores it, and may remove it."""
    server = parse_key(key)
    destinations = tuple(_destination(server, text) for text in rs or ())
    if vip_address and not isinstance(server, FirewallMark):
        raise InvalidInputError("vip_address", f"vip_address: goes with a mark; {server} names its own address")
    vips = parse_vip_addresses(vip_address or (), server.family)
    site, terminal = options.settings(context, director, timeout, output)
    mode = parse_vip_mode(vip_mode) or site.vip_mode
    if mode is VipMode.AGENT and len(site.directors) > 1:
        raise InvalidInputError("vip_mode", "vip_mode: agent with several directors makes two hosts answer for one VIP")
    from cli import session
    from cli.adopt import adopt as work
    from cli.plan_adopt import Adopt

    request = Adopt(
        key=server, destinations=destinations, marked_vips=vips, vip_mode=mode, ask_real_servers=not no_rs_agent
    )
    raise typer.Exit(session.run_workflow(site, terminal, lambda run: work(request, run), dry_run=dry_run))


def _destination(server: VirtualServerKey, text: str) -> DestinationKey:
    address, port = parse_endpoint(text, "rs", default_port=server.port if isinstance(server, ServiceAddress) else 0)
    return DestinationKey(address=address, port=port)
