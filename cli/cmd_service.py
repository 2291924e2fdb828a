"""lvs service list, show, add, edit, remove."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.errors import InvalidInputError
from agent_common.scheduler import check_scheduler, parse_flags
from agent_common.virtual_server import (
    Persistence,
    ServiceAddress,
    VirtualServer,
    check_engine,
    check_unicast,
    parse_clients,
    parse_key,
)
from cli import options

app = typer.Typer(help="Virtual servers, one at a time.", no_args_is_help=True, rich_markup_mode=None)

Key = Annotated[
    str, typer.Argument(metavar="KEY", help="tcp/192.168.0.200:80, udp/[2001:db8::1]:53, fwmark/7 or fwmark6/7.")
]
Scheduler = Annotated[str | None, typer.Option(help="Scheduler (wlc).")]
Flags = Annotated[
    str | None,
    typer.Option(metavar="FLAG,…", help="flag-1 to flag-3, sh-fallback, sh-port, mh-fallback, mh-port; or none."),
]
Persistent = Annotated[int | None, typer.Option(metavar="SECONDS", help="Persistence; 0 ends it (edit).")]
Clients = Annotated[
    str | None, typer.Option(metavar="BITS|MASK", help="Persistence: clients that share these bits are one.")
]
Engine = Annotated[str | None, typer.Option(metavar="sip|none", help="Persistence: tell calls apart, not clients.")]
OnePacket = Annotated[
    bool | None, typer.Option("--one-packet/--no-one-packet", help="Schedule each datagram by itself.")
]


@app.command("list")
def list_services(
    context: typer.Context,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """List the virtual servers of every director."""
    site, terminal = options.settings(context, director, timeout, output)
    from cli import tables
    from cli.reading import list_virtual_servers
    from cli.show import run_reading

    raise typer.Exit(run_reading(site, terminal, site.director_names(), list_virtual_servers, tables.services_lines))


@app.command()
def show(
    context: typer.Context,
    key: Key,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Show a virtual server and its destinations."""
    server = parse_key(key)
    site, terminal = options.settings(context, director, timeout, output)
    from cli import tables
    from cli.reading import get_virtual_server
    from cli.show import run_reading

    raise typer.Exit(
        run_reading(
            site,
            terminal,
            site.director_names(),
            lambda client: get_virtual_server(client, server),
            lambda _, found: tables.service_lines(found, terminal.width),
        )
    )


@app.command()
def add(
    context: typer.Context,
    key: Key,
    scheduler: Scheduler = None,
    scheduler_flags: Flags = None,
    persistent: Persistent = None,
    persistence_prefix: Clients = None,
    persistence_engine: Engine = None,
    one_packet: OnePacket = None,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Add a virtual server, without VIP and destinations."""
    if persistence_prefix is not None and persistent is None:
        raise InvalidInputError("persistence_prefix", "persistence_prefix: needs --persistent")
    persistence = None
    if persistent is not None:
        persistence = _persistence(persistent, persistence_prefix)
    server = _server(key, scheduler, scheduler_flags, persistence, persistence_engine, one_packet).check()
    if isinstance(server.key, ServiceAddress):
        check_unicast(server.key.address, "key")
    site, terminal = options.settings(context, director, timeout, output)
    from cli import operations, session

    operation = operations.create_whole_virtual_server(
        server,
        set_fields=_given(
            scheduler=scheduler,
            scheduler_flags=scheduler_flags,
            persistence=persistence,
            persistence_engine=persistence_engine,
            one_packet=one_packet,
        ),
    )
    title = f"add virtual server {server.key}"
    raise typer.Exit(session.run_single(site, terminal, title, operation, site.director_names(), dry_run=dry_run))


@app.command()
def edit(
    context: typer.Context,
    key: Key,
    scheduler: Scheduler = None,
    scheduler_flags: Flags = None,
    persistent: Persistent = None,
    persistence_prefix: Clients = None,
    persistence_engine: Engine = None,
    one_packet: OnePacket = None,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Change a virtual server; what is not given stays as it is, and so do its connections."""
    if persistent == 0 and persistence_prefix is not None:
        raise InvalidInputError("persistence_prefix", "persistence_prefix: --persistent 0 ends persistence")
    persistence = None
    if persistent or persistence_prefix is not None:  # the agent takes of it only what the mask names
        persistence = _persistence(1 if persistent is None else persistent, persistence_prefix)
    server = _server(key, scheduler, scheduler_flags, persistence, persistence_engine, one_packet)
    if persistence is not None:
        persistence.of(server.key.family)
    has_netmask = persistence is not None and persistence.netmask is not None
    mask = _given(
        scheduler=scheduler,
        scheduler_flags=scheduler_flags,
        persistence_engine=persistence_engine,
        one_packet=one_packet,
        **{
            "persistence": persistent if persistent == 0 else None,
            "persistence.timeout": persistent or None,
            f"persistence.{'netmask' if has_netmask else 'prefix_length'}": persistence_prefix,
        },
    )
    if not mask:
        raise InvalidInputError("options", "service edit: give at least one option to change")
    site, terminal = options.settings(context, director, timeout, output)
    from cli import operations, session

    operation = operations.update_virtual_server(server, mask)
    title = f"change {', '.join(mask)} of virtual server {server.key}"
    raise typer.Exit(session.run_single(site, terminal, title, operation, site.director_names(), dry_run=dry_run))


@app.command()
def remove(
    context: typer.Context,
    key: Key,
    force: options.ForceOption = False,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Remove a virtual server; one with destinations only with --force."""
    server = parse_key(key)
    site, terminal = options.settings(context, director, timeout, output)
    from cli import operations, session

    operation = operations.delete_virtual_server(server, force=force)
    title = f"remove virtual server {server}"
    raise typer.Exit(session.run_single(site, terminal, title, operation, site.director_names(), dry_run=dry_run))


def _server(
    key: str,
    scheduler: str | None,
    flags: str | None,
    persistence: Persistence | None,
    engine: str | None,
    one_packet: bool | None,
) -> VirtualServer:
    defaults = VirtualServer(key=parse_key(key))
    return VirtualServer(
        key=defaults.key,
        scheduler=defaults.scheduler if scheduler is None else check_scheduler(scheduler),
        scheduler_flags=parse_flags(flags, scheduler) if flags is not None else defaults.scheduler_flags,
        persistence=persistence,
        persistence_engine="" if engine is None or engine == "none" else check_engine(engine),
        one_packet=bool(one_packet),
    )


def _persistence(timeout: int, clients: str | None) -> Persistence:
    length, netmask = (None, None) if clients is None else parse_clients(clients, "persistence_prefix")
    return Persistence(timeout=timeout, prefix_length=length, netmask=netmask)


def _given(**options: object) -> list[str]:
    """Return the names of the options that were given."""
    return [name for name, value in options.items() if value is not None]
