"""Console blocks of the documentation: reads them, runs them on a site of the lab, compares what they show.

A block runs if an HTML comment stands on the line before its fence:

    <!-- lab: director -->      a console block whose commands are run on that host, one after the other, as root
    <!-- lab: shell -->         the same in the shell of `make lab`, which knows `on HOST COMMAND`
    <!-- lab: file NAME -->     a block of any language that is written to a file, in the folder where commands run

Commands follow a prompt, "# " or "$ "; a line that ends in a backslash goes on in the next. The lines up to the next
prompt are what the command must print, stdout and stderr together; "..." in them stands for anything, and alone on a
line for any lines. A command must end with status 0, unless the next one is `echo $?`, which shows it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.shell import shell_setup
from lab.site import Site
from tests.lab.operator import Operator

CHECKOUT = Path(__file__).resolve().parents[2]

ENVIRONMENT = {"LVS_INSECURE": "true"}
"""What the documentation tells to set in a lab, whose agents have no certificates."""

SECONDS = 240.0
"""For a whole block; python with grpc starts in 1 to 2 s in the guest."""

SHELL = "shell"
ASK_STATUS = "echo $?"

_MARK = re.compile(r"<!-- lab: (?P<host>\S+?)(?: (?P<file>\S+))? -->")
_PROMPT = re.compile(r"[#$] (?P<command>.+)")
_SEPARATOR = "\x1e"


@dataclass(slots=True, kw_only=True)
class Command:
    """A command, the number of its line, and what is shown below it."""

    line: int
    text: str
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A marked block: commands for a host, or the contents of a file; line is the number of its fence."""

    line: int
    host: str
    commands: tuple[Command, ...] = ()
    file: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What a command printed, and its exit status."""

    text: str
    status: int


class FormatError(ValueError):
    """A block cannot be read; the text names its line."""


def documents() -> list[Path]:
    """Return the pages that have marked blocks."""
    pages = [*sorted(CHECKOUT.glob("*.md")), *sorted(CHECKOUT.glob("docs/**/*.md"))]
    return [page for page in pages if parse(page.read_text(encoding="utf-8"))]


def parse(text: str) -> list[Block]:
    """Return the marked blocks of a Markdown text; raises FormatError."""
    lines = text.splitlines()
    marks = [(number, found) for number, line in enumerate(lines) if (found := _MARK.fullmatch(line))]
    return [_block(lines, number, mark) for number, mark in marks]


@contextmanager
def site_for(blocks: Sequence[Block]) -> Iterator[Site]:
    """A site as `make lab` makes it, with agents and web servers; with a second director if a block is lb2's."""
    with Site.make(real_servers=2, directors=2 if any(block.host == "lb2" for block in blocks) else 1) as site:
        Operator.at(site)
        yield site


def run(site: Site, block: Block, folder: Path) -> list[Printed]:
    """Run a block's commands in one shell, in the folder; or write its file there."""
    if block.file:
        (folder / block.file).write_text(block.content)
        return []
    script = "".join(scripted(command) for command in block.commands)
    setup = shell_setup(site) if block.host == SHELL else ""
    argv = ("bash", "--noprofile", "--norc", "-c", f"exec 2>&1\ncd {shlex.quote(str(folder))}\n{setup}{script}")
    printed = list(split(_output(site, block.host, argv)))
    if len(printed) != len(block.commands):
        raise FormatError(f"line {block.line}: the shell ended after {len(printed)} of {len(block.commands)} commands")
    return printed


def failures(block: Block, printed: Sequence[Printed]) -> Iterator[str]:
    """Say what is not as the block shows it."""
    following = [*block.commands[1:], None]
    for command, follower, found in zip(block.commands, following, printed, strict=False):
        where = f"line {command.line}: {command.text}"
        if found.status and (follower is None or follower.text != ASK_STATUS):
            yield f"{where}\nended with status {found.status}:\n{found.text}"
        elif not matches(command.shown, found.text):
            shown = "\n".join(command.shown)
            yield f"{where}\nshown:\n{shown}\nprinted:\n{found.text}"


def matches(shown: Sequence[str], printed: str) -> bool:
    """Whether the lines shown are what was printed; blanks at the ends of lines do not count."""
    wanted = "\n".join(line.rstrip() for line in shown).strip("\n")
    found = "\n".join(line.rstrip() for line in printed.splitlines()).strip("\n")
    pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
    return re.fullmatch(pattern, found, re.DOTALL) is not None


def _block(lines: Sequence[str], number: int, mark: re.Match[str]) -> Block:
    fence, body = number + 1, number + 2
    if not lines[fence].startswith("```"):
        raise FormatError(f"line {number + 1}: no block follows the mark")
    end = next((at for at in range(body, len(lines)) if lines[at].startswith("```")), None)
    if end is None:
        raise FormatError(f"line {fence + 1}: the block does not end")
    if mark["host"] == "file":
        content = "".join(f"{line}\n" for line in lines[body:end])
        return Block(line=body, host="", file=mark["file"], content=content)
    return Block(line=body, host=mark["host"], commands=tuple(_commands(lines[body:end], body)))


def _commands(lines: Sequence[str], first: int) -> Iterator[Command]:
    command: Command | None = None
    for number, line in enumerate(lines, first + 1):
        if command is not None and command.text.endswith("\\") and not command.shown:
            command.text += f"\n{line}"
        elif prompt := _PROMPT.fullmatch(line):
            if command is not None:
                yield command
            command = Command(line=number, text=prompt["command"])
        elif command is None:
            raise FormatError(f"line {number}: a console block begins with a prompt, not with {line!r}")
        else:
            command.shown.append(line)
    if command is not None:
        yield command


def scripted(command: Command) -> str:
    """A command that sees the status of the one before as $?, and leaves its own behind what it prints."""
    return f"(exit ${{status:-0}})\n{command.text}\nstatus=$?; printf '{_SEPARATOR}%s{_SEPARATOR}' $status\n"


def _output(site: Site, host: str, argv: Sequence[str]) -> str:
    if host == SHELL:
        environment = {**os.environ, **ENVIRONMENT}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment)
        return done.stdout
    target = site.director if host == "director" else site.host(host)
    return target.run(*argv, check=False, timeout=SECONDS, env=ENVIRONMENT).stdout


def split(output: str) -> Iterator[Printed]:
    parts = output.split(_SEPARATOR)
    for text, status in zip(parts[::2], parts[1::2], strict=False):
        yield Printed(text=text, status=int(status))
