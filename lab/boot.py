"""Boot one guest, run one command in it as its root, and end with the command's status.

    python3 lab/boot.py [--timeout S] [--mem 1G] [--tty] [--processor N] [--out DIR] [--env NAME[=VALUE]]... -- \
        COMMAND ARGS...

The guest is Debian's user-mode-linux: a real kernel with IPVS that runs as an ordinary process. Its
files are the machine's own, read-only, under what lab/fetch unpacked and a layer that is thrown away;
the command runs in this checkout. It can write results to /run/out only, which --out DIR keeps.
"""

from __future__ import annotations

import argparse
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file: its folder would come first, and lab/site.py hide the library's own
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from lab.guest import CHECKOUT, LAB, POLL_SECONDS, Guest, LabError, Order, check, prepare, start
from lab.terminal import raw_terminal, relay

NO_STATUS = 70
"""Our status when the guest gave none: it did not boot, panicked, or ran out of time."""

POWER_OFF_SECONDS = 5.0

SOCKET_PATH_ROOM = 60
"""Longest folder, in bytes, whose uml/NAME/mconsole still fits a unix socket's 108."""


def fetch() -> Path:
    """The folder of what the guest needs; fetched now if it is not there yet."""
    done = subprocess.run([LAB / "fetch"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise LabError("cannot boot: lab/fetch failed, see above")
    return Path(done.stdout.strip())


def follow(guest: Guest, order: Order) -> int:
    """Copy the command's output as it comes, until it ends; its status."""
    started = time.monotonic()
    with (guest.out / "stdout").open("rb") as output:
        while True:
            status = guest.status()  # asked before reading: what was written before it is complete
            if text := output.read():
                sys.stdout.buffer.write(text)
                sys.stdout.buffer.flush()
            if status is not None:
                return status
            check(guest, order, started)
            time.sleep(POLL_SECONDS)


def run(order: Order, machinery: Path, cache: Path, out: Path) -> int:
    """Boot, run the command to its end, and leave nothing behind; the command's status."""
    prepare(order, machinery, cache, out)
    if not order.tty:
        guest = start(order, machinery, cache, out)
        grace = 0.0
        try:
            status = follow(guest, order)
            grace = POWER_OFF_SECONDS
            return status
        finally:
            guest.end(grace)
    master, slave = pty.openpty()
    with raw_terminal(master):
        guest = start(order, machinery, cache, out, slave)
        try:
            return relay(guest, order, master)
        finally:
            guest.end(0.0)


def guest_environment(extra: Sequence[str], interactive: bool) -> dict[str, str]:
    """The whole environment of the command: little, and the same for everybody."""
    environment = {
        "PATH": f"{CHECKOUT}/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/run/home",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "PYTHONUNBUFFERED": "1",  # output goes to a file there, and would come in lumps
    }
    if not interactive:
        environment["COLUMNS"] = str(shutil.get_terminal_size((100, 24)).columns)
    for item in extra:
        name, separator, value = item.partition("=")
        environment[name] = value if separator else os.environ.get(name, "")
    return environment


def parse(arguments: Sequence[str]) -> tuple[Order, Path | None]:
    parser = argparse.ArgumentParser(prog="lab/boot.py", description="Run a command in the lab's guest.")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds until we give up (600; --tty: never)")
    parser.add_argument("--mem", default="1G", metavar="SIZE", help="the guest's memory, as 512M or 1G (1G)")
    parser.add_argument("--tty", action="store_true", help="give the command this terminal")
    parser.add_argument(
        "--processor", type=int, default=os.getpid(), metavar="N", help="which of this machine's to run on (any)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep what the guest writes to /run/out in DIR")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="set in the guest")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what to run, and its arguments")
    given = parser.parse_args(arguments)
    if not (given.mem[:-1].isdigit() and given.mem[-1:] in "KMG"):
        parser.error(f"cannot use --mem {given.mem}: give a number and K, M or G, as 512M")
    if given.tty and not (os.isatty(0) and os.isatty(1)):
        parser.error("cannot use --tty: stdin and stdout must be a terminal")
    order = Order(
        command=tuple(given.command),
        environment=guest_environment(given.env, given.tty),
        memory=given.mem,
        timeout=given.timeout if given.timeout or given.tty else 600.0,
        tty=given.tty,
        processor=given.processor,
    )
    return order, given.out


def scratch_parent() -> str | None:
    """Where temporary folders go: None is the usual place, unless its name is too much for the kernel."""
    usual = tempfile.gettempdir()
    fits = len(os.fsencode(usual)) <= SOCKET_PATH_ROOM and not set(usual) & set(" ,")
    return None if fits else "/tmp"


def main(arguments: Sequence[str]) -> int:
    order, keep = parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _frame: sys.exit(128 + caught))
    try:
        with tempfile.TemporaryDirectory(prefix="lvs-lab-", dir=scratch_parent()) as scratch:
            machinery = Path(scratch)
            out = machinery / "out" if keep is None else keep.resolve()
            out.mkdir(parents=True, exist_ok=True)
            return run(order, machinery, fetch(), out)
    except LabError as error:
        print(error, file=sys.stderr)
        return NO_STATUS
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
