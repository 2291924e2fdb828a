"""lvs health set. Imports typer, not grpc.

The options are read by their names from what typer has parsed (cli/health_request.py): fifty of them would be passed on
twice else.
"""

from __future__ import annotations

from typing import Annotated

import typer

from agent_common.virtual_server import parse_key
from cli import options
from cli.check_options import INHERIT, KINDS, NONE
from cli.cmd_service import Key
from cli.health_request import read_options

Text = str | None
Number = int | None
Seconds = float | None
Several = list[str] | None
Switch = bool | None


def _kinds(begun: str) -> list[str]:
    return [each for each in (*KINDS, NONE, INHERIT) if each.startswith(begun)]


def set_health(  # one for each option
    context: typer.Context,
    key: Key,
    *,
    rs: Annotated[Text, typer.Option(metavar="ADDR[:PORT]", help="The check is that of this destination only.")] = None,
    check: Annotated[
        Text,
        typer.Option(
            metavar="KIND",
            help="tcp, http, https, grpc, dns, udp, icmp, smtp, script, agent; with --rs none or inherit.",
            autocompletion=_kinds,
        ),
    ] = None,
    port: Annotated[Number, typer.Option(metavar="N", help="Port that is asked; 0: the destination's (0).")] = None,
    interval: Annotated[Seconds, typer.Option(metavar="SECONDS", help="Between two checks, 0.1 to 3600 (5).")] = None,
    check_timeout: Annotated[
        Seconds, typer.Option(metavar="SECONDS", help="For one check, at most the interval (2).")
    ] = None,
    rise: Annotated[Number, typer.Option(metavar="N", help="So many that pass in a row bring it back (2).")] = None,
    fall: Annotated[Number, typer.Option(metavar="N", help="So many that fail in a row take it out (3).")] = None,
    through_vip: Annotated[
        Switch, typer.Option("--through-vip/--no-through-vip", help="Ask the VIP, from the real server's agent.")
    ] = None,
    by_mark: Annotated[
        Switch,
        typer.Option("--by-mark/--no-by-mark", help="With --through-vip: the director asks, by a firewall mark."),
    ] = None,
    agent_port: Annotated[Number, typer.Option(metavar="N", help="Of the real server's agent (9711).")] = None,
    method: Annotated[Text, typer.Option(metavar="WORD", help="http: method (GET).")] = None,
    path: Annotated[Text, typer.Option(metavar="PATH", help="http: path with its query (/).")] = None,
    host: Annotated[Text, typer.Option(metavar="HOST", help="http: Host header (the address).")] = None,
    header: Annotated[
        Several, typer.Option(metavar="NAME:VALUE", help="http: further header; repeatable; '' for none.")
    ] = None,
    status: Annotated[
        Several, typer.Option(metavar="N[-N]", help="http: status that passes; repeatable (200-299).")
    ] = None,
    body: Annotated[Text, typer.Option(metavar="TEXT", help="http: text that the body must have; '' for any.")] = None,
    tls: Annotated[Switch, typer.Option("--tls/--no-tls", help="grpc: with TLS.")] = None,
    server_name: Annotated[
        Text, typer.Option(metavar="NAME", help="TLS: name in the certificate (that in --host).")
    ] = None,
    verify: Annotated[Switch, typer.Option("--verify/--no-verify", help="https: whether to verify it.")] = None,
    ca_file: Annotated[
        Text, typer.Option(metavar="FILE", help="TLS: CA's certificates where the check is made ('': the host's).")
    ] = None,
    grpc_service: Annotated[Text, typer.Option(metavar="NAME", help="grpc: service ('': all of the server).")] = None,
    name: Annotated[Text, typer.Option(metavar="NAME", help="dns: name that is asked for.")] = None,
    type: Annotated[Text, typer.Option(metavar="TYPE", help="dns: type of the record (A).")] = None,
    answer: Annotated[
        Several, typer.Option(metavar="TEXT", help="dns: record of which one must come; repeatable; '' for any.")
    ] = None,
    tcp: Annotated[Switch, typer.Option("--tcp/--no-tcp", help="dns: ask over TCP.")] = None,
    payload: Annotated[Text, typer.Option(metavar="TEXT|0xHEX", help="udp: what is sent.")] = None,
    reply: Annotated[
        Text, typer.Option(metavar="TEXT|0xHEX", help="udp: what a reply must begin with; '' for any.")
    ] = None,
    no_reply: Annotated[bool, typer.Option("--no-reply", help="udp: silence passes, too.")] = False,
    helo: Annotated[Text, typer.Option(metavar="NAME", help="smtp: name in EHLO ('': that of the host).")] = None,
    command: Annotated[
        Text, typer.Option(metavar="'PROGRAM ARG …'", help="script: program and arguments; no shell.")
    ] = None,
    start: Annotated[
        Text, typer.Option(metavar="down|up", help="What a new destination is taken for until its check says (down).")
    ] = None,
    effect: Annotated[
        Text, typer.Option(metavar="weight-zero|remove|default", help="What is done to one that is down.")
    ] = None,
    slow_start: Annotated[
        Seconds,
        typer.Option(metavar="SECONDS", help="So long the weight rises after it has come back; 0: at once (0)."),
    ] = None,
    dynamic_weight: Annotated[
        Text,
        typer.Option(
            metavar="SOURCE",
            help="Weight from the answer: agent-load, http-body, http-header:NAME, script-status, off.",
        ),
    ] = None,
    min_percent: Annotated[Number, typer.Option(metavar="N", help="Least of a dynamic weight (10).")] = None,
    max_percent: Annotated[Number, typer.Option(metavar="N", help="Most of a dynamic weight (100).")] = None,
    quorum: Annotated[
        Number, typer.Option(metavar="N", help="Weight that must be up, else the quorum is lost (1).")
    ] = None,
    hysteresis: Annotated[
        Number, typer.Option(metavar="N", help="So much below it is lost, above regained (0).")
    ] = None,
    up_command: Annotated[
        Text, typer.Option(metavar="'PROGRAM ARG …'", help="Run when the quorum is regained; '' for none.")
    ] = None,
    down_command: Annotated[
        Text, typer.Option(metavar="'PROGRAM ARG …'", help="Run when the quorum is lost; '' for none.")
    ] = None,
    sorry: Annotated[
        Text, typer.Option(metavar="ADDR[:PORT]|none", help="Destination that serves while the quorum is lost.")
    ] = None,
    floor: Annotated[Text, typer.Option(metavar="N|N%", help="So many stay in, whatever their checks say (1).")] = None,
    damping_falls: Annotated[
        Number, typer.Option(metavar="N", help="What goes down so often within the window is held out (3).")
    ] = None,
    damping_window: Annotated[Seconds, typer.Option(metavar="SECONDS", help="That window (600).")] = None,
    damping_hold: Annotated[Seconds, typer.Option(metavar="SECONDS", help="For so long; 0: never (120).")] = None,
    max_changes: Annotated[
        Number, typer.Option(metavar="N", help="So many are taken out or put back in a second (100).")
    ] = None,
    dry_run: options.DryRun = False,
    director: options.Directors = None,
    timeout: options.Timeout = None,
    output: options.Output = None,
) -> None:
    """Set how the destinations of a virtual server are checked; what is not given stays as it is."""
    server = parse_key(key)
    wanted = read_options(server, context.params)
    site, terminal = options.settings(context, director, timeout, output)
    from cli import session
    from cli.set_health import set_health as work

    raise typer.Exit(session.run_workflow(site, terminal, lambda run: work(server, wanted, run), dry_run=dry_run))
