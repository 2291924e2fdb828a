"""lvs destination list, add, edit, remove."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.destination import Destination, DestinationKey, Tunnel
from agent_common.errors import InvalidInputError
from agent_common.virtual_server import ServiceAddress, VirtualServerKey, check_unicast, parse_endpoint, parse_key
from cli import options
from cli.cmd_service import Key
from cli.request import parse_forwarding, parse_tunnel

app = typer.Typer(
    help="Destinations, one at a time; the real server is not asked.", no_args_is_help=True, rich_markup_mode=None
)

RealServer = Annotated[str, typer.Argument(metavar="RS[:PORT]", help="The real server; without a port the VIP's.")]
Weight = Annotated[int | None, typer.Option(help="0 to 2147483647 (1).")]
Forward = Annotated[str | None, typer.Option(metavar="dr|nat|tun", help="Forwarding method (dr).")]
Upper = Annotated[int | None, typer.Option(metavar="N", help="No new connections above so many (0: no limit).")]
Lower = Annotated[int | None, typer.Option(metavar="N", help="New ones again below so many.")]

KEEPS_VIP = "the real server is not asked: if it has the VIP for this, it keeps it; lvs remove-backend takes it back"
NOT_ASKED = "the real server is not asked: VIP, ARP and application are not checked"


@app.command("list")
def list_destinations(
    context: typer.Context,
    key: Key,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """List the destinations of a virtual server."""
    server = parse_key(key)
    site, terminal = options.settings(context, director, timeout, output)
    from cli import tables
    from cli.reading import list_destinations_of
    from cli.show import run_reading

    raise typer.Exit(
        run_reading(
            site,
            terminal,
            site.director_names(),
            lambda client: list_destinations_of(client, server),
            lambda _, found: tables.destination_lines(found, terminal.width),
        )
    )


@app.command()
def add(
    context: typer.Context,
    key: Key,
    rs: RealServer,
    weight: Weight = None,
    forward: Forward = None,
    tunnel_type: options.TunnelType = None,
    tunnel_port: options.TunnelPort = None,
    tunnel_checksum: options.TunnelChecksum = None,
    upper_threshold: Upper = None,
    lower_threshold: Lower = None,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Add a destination as told; lvs add-backend also prepares the real server."""
    server = parse_key(key)
    tunnel = parse_tunnel(tunnel_type, tunnel_port, tunnel_checksum)
    destination = _destination(server, rs, weight, forward, tunnel, upper_threshold, lower_threshold)
    destination.check(server)
    check_unicast(destination.key.address, "rs")
    site, terminal = options.settings(context, director, timeout, output)
    from cli import operations, session

    operation = operations.create_whole_destination(
        server, destination, set_fields=_given(weight, forward, tunnel, upper_threshold, lower_threshold)
    )
    title = f"add {destination.key} to {server}"
    raise typer.Exit(
        session.run_single(
            site, terminal, title, operation, site.director_names(), dry_run=dry_run, warnings=[NOT_ASKED]
        )
    )


@app.command()
def edit(
    context: typer.Context,
    key: Key,
    rs: RealServer,
    weight: Weight = None,
    forward: Forward = None,
    tunnel_type: options.TunnelType = None,
    tunnel_port: options.TunnelPort = None,
    tunnel_checksum: options.TunnelChecksum = None,
    upper_threshold: Upper = None,
    lower_threshold: Lower = None,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Change a destination as told; what is not given stays as it is, and so do its connections."""
    server = parse_key(key)
    tunnel = parse_tunnel(tunnel_type, tunnel_port, tunnel_checksum)
    destination = _destination(server, rs, weight, forward, tunnel, upper_threshold, lower_threshold)
    destination.check_ranges()
    mask = _given(weight, forward, tunnel, upper_threshold, lower_threshold)
    if not mask:
        raise InvalidInputError("options", "destination edit: give at least one option to change")
    site, terminal = options.settings(context, director, timeout, output)
    from cli import operations, session

    operation = operations.update_whole_destination(server, destination, mask)
    title = f"change {', '.join(mask)} of {destination.key} in {server}"
    warnings = [NOT_ASKED] if weight or forward else []
    raise typer.Exit(
        session.run_single(site, terminal, title, operation, site.director_names(), dry_run=dry_run, warnings=warnings)
    )


@app.command()
def remove(
    context: typer.Context,
    key: Key,
    rs: RealServer,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Remove a destination at once; lvs remove-backend drains it first and gives the VIP back."""
    server = parse_key(key)
    destination = _key(server, rs)
    site, terminal = options.settings(context, director, timeout, output)
    from cli import operations, session

    operation = operations.delete_destination(server, destination)
    title = f"remove {destination} from {server}"
    raise typer.Exit(
        session.run_single(
            site, terminal, title, operation, site.director_names(), dry_run=dry_run, warnings=[KEEPS_VIP]
        )
    )


def _key(server: VirtualServerKey, text: str) -> DestinationKey:
    port = server.port if isinstance(server, ServiceAddress) else 0
    address, found = parse_endpoint(text, "rs", default_port=port, unicast=False)
    return DestinationKey(address=address, port=found)


def _destination(
    server: VirtualServerKey,
    rs: str,
    weight: int | None,
    forward: str | None,
    tunnel: Tunnel | None,
    upper_threshold: int | None,
    lower_threshold: int | None,
) -> Destination:
    defaults = Destination(key=_key(server, rs))
    forwarding = parse_forwarding(forward)
    return Destination(
        key=defaults.key,
        forwarding=defaults.forwarding if forwarding is None else forwarding,
        weight=defaults.weight if weight is None else weight,
        tunnel=tunnel or defaults.tunnel,
        upper_threshold=upper_threshold or 0,
        lower_threshold=lower_threshold or 0,
    )


def _given(
    weight: int | None,
    forward: str | None,
    tunnel: Tunnel | None,
    upper_threshold: int | None,
    lower_threshold: int | None,
) -> list[str]:
    given = {
        "weight": weight,
        "forwarding_method": forward,
        "tunnel": tunnel,
        "upper_threshold": upper_threshold,
        "lower_threshold": lower_threshold,
    }
    return [name for name, value in given.items() if value is not None]
