"""Options that commands share, and the settings that they give. Imports typer, not grpc."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agent_common.errors import InvalidInputError
from agent_common.settings import Value
from agent_common.virtual_server import MAX_MARK
from cli.settings import load_settings, make_site
from cli.site import Site
from cli.terminal import Terminal


@dataclass(slots=True, kw_only=True)
class Global:
    """What was given before the command."""

    flags: dict[str, Value | None]
    config: Path | None
    debug: bool


Directors = Annotated[
    list[str] | None,
    typer.Option("--director", metavar="HOST[:PORT]|unix:PATH", help="Repeatable; the first is the authority."),
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", help="For one answer of one agent (10).")
]
Output = Annotated[str | None, typer.Option("--output", metavar="table|json", help="How data is printed (table).")]
VipOption = Annotated[
    str | None,
    typer.Option("--vip", metavar="ADDR:PORT", help="VIP and port, IPv6 as [ADDR]:PORT; this or a mark is required."),
]
FwmarkOption = Annotated[
    int | None,
    typer.Option("--fwmark", metavar="N", min=1, max=MAX_MARK, help="In place of --vip: IPv4 that a firewall marks N."),
]
Fwmark6Option = Annotated[
    int | None, typer.Option("--fwmark6", metavar="N", min=1, max=MAX_MARK, help="The same for IPv6.")
]
VipAddress = Annotated[
    list[str] | None,
    typer.Option("--vip-address", metavar="ADDR", help="With a mark: the VIP whose packets carry it; repeatable."),
]
RsOption = Annotated[list[str], typer.Option("--rs", metavar="ADDR[:PORT]", help="Real server; repeatable.")]
ProtocolOption = Annotated[str | None, typer.Option("--protocol", metavar="tcp|udp|sctp", help="Of --vip (tcp).")]
TunnelType = Annotated[
    str | None, typer.Option("--tunnel-type", metavar="ipip|gue|gre", help="With --forward tun (ipip).")
]
TunnelPort = Annotated[int | None, typer.Option("--tunnel-port", metavar="PORT", help="UDP port of a gue tunnel.")]
TunnelChecksum = Annotated[
    str | None, typer.Option("--tunnel-checksum", metavar="none|full|remote", help="Of the tunnel's header (none).")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Go on where the refusal names this option.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")]
OnlyKey = Annotated[
    str | None, typer.Argument(metavar="[KEY]", help="Only this virtual server, tcp/ADDR:PORT or fwmark/N.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before anything is changed.")]
NoRsAgent = Annotated[bool, typer.Option("--no-rs-agent", help="Do not ask the real servers.")]
Lease = Annotated[int, typer.Option("--lease", metavar="SECONDS", help="5 to 900.")]


def check_can_ask(*, yes: bool, dry_run: bool) -> None:
    """Raise InvalidInputError where a command must ask somebody, and nobody is there."""
    if not (yes or dry_run or sys.stdin.isatty()):
        raise InvalidInputError("yes", "yes: nobody can be asked here, off a terminal; give --yes, or --dry-run")


def settings(
    context: typer.Context,
    director: list[str] | None,
    timeout: float | None,
    output: str | None,
    *,
    needs_director: bool = True,
) -> tuple[Site, Terminal]:
    """Return the site and the terminal of a command; options after the command win over those before it."""
    given: Global = context.obj
    flags = dict(given.flags)
    if director:
        flags["director"] = tuple(director)
    if timeout is not None:
        flags["timeout"] = timeout
    if output is not None:
        flags["output"] = output
    values = load_settings(flags, given.config)
    terminal = Terminal(
        str(values["output"]),
        debug=given.debug,
        typed=shlex.join(("lvs", *sys.argv[1:])),
        given=_options_given(flags, given.config),
    )
    return make_site(values, needs_director=needs_director), terminal


def _options_given(flags: Mapping[str, Value | None], config: Path | None) -> str:
    """Return the options of the command line that say where the agents are and how they are reached."""
    words = ["--config", str(config)] if config else []
    for key in ("director", "rs_agent", "insecure", "tls_ca", "tls_cert", "tls_key"):
        value, option = flags.get(key), f"--{key.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, tuple):
            words.extend(word for each in value for word in (option, each))
        elif isinstance(value, str):
            words.extend((option, value))
    return shlex.join(words)
