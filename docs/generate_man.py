"""Writes the manual pages from the programs themselves: lvsctl(8), lvs-director(8), lvs-realserver(8).

Run it with `python -m docs.generate_man FOLDER`; packaging/deb/build does. There is no lvs(8): LVM has one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from agent_common.agent_settings import make_parser
from agent_common.version import VERSION
from cli.app import make_app
from cli.errors import ExitStatus
from docs import roff
from docs.generate_cli import SHELLS_OWN, STATUSES, help_of, names_of, usage

AGENTS = {
    "lvs-director": (9710, "the agent of an LVS director: virtual servers, destinations, VIPs"),
    "lvs-realserver": (9711, "the agent of an LVS real server: VIPs on lo, ARP sysctls, tunnels"),
}

ABOUT_LVS = """\
lvsctl sets up Linux Virtual Server on both sides at once: it asks the agents of directors (lvs-director) and real
servers (lvs-realserver) for each step, and takes all of them back if one fails. It is installed as lvs as well where
LVM, which has a command of that name, is not. Addresses are numbers, never names. A KEY names a virtual server:
tcp/192.168.0.200:80, udp/[2001:db8::1]:53, fwmark/7 (IPv4) or fwmark6/7 (IPv6). An option that is not given leaves what
is there."""

ABOUT_AGENTS = """\
It answers calls by gRPC, keeps what was committed in its state directory, and brings it back when it starts. To stop it
changes nothing in the kernel. It runs as a systemd unit of the same name: systemctl enable --now {program}. Under
systemd it says that it is ready when it has restored, and listens; and it feeds the unit's watchdog as long as the
thread that talks to the kernel answers. A flag wins over the environment, that over the file, that over the default. A
key in the file is the flag's name with underscores, a variable is LVS_ and that in capitals."""


def main() -> None:
    """Write the pages into the folder that is named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in pages().items():
        (folder / f"{name}.8").write_text("\n".join(lines) + "\n", encoding="utf-8")


def pages() -> dict[str, list[str]]:
    """Return the lines of every page, by its name."""
    return {"lvsctl": list(_lvs_page()), **{program: list(_agent_page(program)) for program in AGENTS}}


def _lvs_page() -> Iterator[str]:
    command = typer.main.get_command(make_app())
    context = command.context_class(command, info_name="lvsctl")
    yield from roff.title("lvsctl", VERSION, "control plane for Linux Virtual Server")
    yield from roff.section("synopsis", [r"\fBlvsctl\fR [\fIGLOBAL OPTIONS\fR] \fICOMMAND\fR [\fIOPTIONS\fR]"])
    yield from roff.section("description", roff.paragraph(ABOUT_LVS))
    yield from roff.section("global options", _options(command, context))
    yield from roff.section("commands", _commands(command, context))
    yield ".SH EXIT STATUS"
    for status in ExitStatus:
        yield from roff.tagged(str(int(status)), STATUSES[status])
    yield ".SH FILES"
    yield from roff.tagged("~/.config/lvs/cli.toml, /etc/lvs/cli.toml", "Settings; the first that is there.")
    yield from _see_also(*AGENTS, "ipvsadm")


def _commands(group: Any, context: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        inner = command.context_class(command, info_name=name, parent=context)
        if hasattr(command, "commands"):
            yield from _commands(command, inner)
            continue
        yield roff.subsection(f"{inner.command_path} {usage(command, inner)}".strip())
        yield from roff.paragraph(command.help or "")
        yield from _options(command, inner)


def _options(command: Any, context: Any) -> Iterator[str]:
    for each in command.params:
        if each.opts[0] in SHELLS_OWN:
            continue
        yield from roff.tagged(", ".join(names_of(each, context)), help_of(each))


def _agent_page(program: str) -> Iterator[str]:
    port, what = AGENTS[program]
    short = program.removeprefix("lvs-")
    yield from roff.title(program, VERSION, what)
    yield from roff.section("synopsis", [rf"\fB{roff.escape(program)}\fR [\fIOPTIONS\fR]"])
    yield from roff.section("description", roff.paragraph(ABOUT_AGENTS.format(program=program)))
    yield ".SH OPTIONS"
    for action in make_parser(program, port)._actions:  # argparse has no public way to its options
        yield from roff.tagged(_argument(action), action.help or "")
    yield ".SH EXIT STATUS"
    yield from roff.tagged("0", "It was told to stop (SIGTERM, SIGINT), and has finished what it had begun.")
    yield from roff.tagged("1", "It cannot run; the reason is one line on stderr.")
    yield from roff.tagged("2", "Its command line, environment or file is wrong; the unit is not started again.")
    yield ".SH FILES"
    yield from roff.tagged(f"/etc/lvs/{short}.toml", "Settings, each with a comment.")
    yield from roff.tagged("/etc/lvs/tls", "Certificates and keys, readable by the group lvs-tls.")
    yield from roff.tagged(f"/run/{program}/api.sock", "Its unix socket.")
    yield from roff.tagged(f"/var/lib/{program}", "Its state: keep it across upgrades and reboots.")
    yield from _see_also("lvsctl", *(other for other in AGENTS if other != program), "ipvsadm")


def _argument(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings)
    return f"{names} {action.metavar}" if action.metavar else names


def _see_also(*names: str) -> Iterator[str]:
    yield from roff.section("see also", [", ".join(rf"\fB{roff.escape(name)}\fR(8)" for name in names)])


if __name__ == "__main__":
    main()
