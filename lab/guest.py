"""One guest: Debian's user-mode-linux kernel as a process group of ours, and the folder it writes to."""

from __future__ import annotations

import compileall
import contextlib
import os
import resource
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAB = Path(__file__).resolve().parent
CHECKOUT = LAB.parent

PACKAGES = ("agent_common", "agent_director", "agent_realserver", "cli", "lab", "proto", "tests")

BOOT_SECONDS = 60.0
"""A guest that has not started its command after this long never will (it takes 1 to 6 s)."""

TERMINATE_SECONDS = 1.0
POLL_SECONDS = 0.02
CONSOLE_LINES = 15


class LabError(Exception):
    """The guest gave no status; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to boot: the command, and what it gets."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    memory: str
    timeout: float | None
    """Seconds from start to end; None is for ever."""
    tty: bool
    processor: int = 0
    """Which of those we may use, counted round and round; guests that run at once are given different ones."""
    devices: tuple[str, ...] = ()
    """Further arguments of the kernel: its network card, its disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A running kernel, in a process group of its own, and the folder it writes to."""

    process: subprocess.Popen[bytes]
    out: Path

    def has_ended(self) -> bool:
        """Whether the kernel is gone. It is not reaped, so that its group's number stays ours."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def has_booted(self) -> bool:
        return (self.out / "booted").exists()

    def status(self) -> int | None:
        """The command's exit status, None while it runs."""
        try:
            return int((self.out / "status").read_text())
        except FileNotFoundError:
            return None

    def cut(self) -> None:
        """Take its power away: the whole group at once (SIGKILL), in the middle of whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self, grace: float) -> None:
        """Leave nothing running: wait up to `grace` seconds for the power-off, then end the whole group."""
        if not self._ends_within(grace):
            self.process.terminate()  # a kernel that still can clears away its own processes
            self._ends_within(TERMINATE_SECONDS)
        self.cut()

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.has_ended():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def console_tail(self) -> str:
        """The last lines of the console; after a panic those that begin with it."""
        lines = (self.out / "console").read_text(errors="replace").splitlines()
        panics = [number for number, line in enumerate(lines) if "Kernel panic" in line]
        first = panics[0] if panics else -CONSOLE_LINES
        return "\n".join(f"  {line.rstrip()}" for line in lines[first:][:CONSOLE_LINES])

    def failure(self, what: str) -> LabError:
        return LabError(f"{what}; the end of the guest's console:\n{self.console_tail()}")


def command_script(order: Order) -> str:
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in order.environment.items())
    return f"{exports}cd {shlex.quote(str(CHECKOUT))} || exit\nexec {shlex.join(order.command)}\n"


def compile_sources() -> None:
    """Leave bytecode beside our sources: the guest cannot, and would compile them anew in every process."""
    for name in PACKAGES:
        compileall.compile_dir(CHECKOUT / name, quiet=2)


def prepare(order: Order, machinery: Path, cache: Path, out: Path) -> None:
    """Write what the guest's first process reads (see lab/init), and clear what an earlier guest left."""
    if CHECKOUT.is_relative_to("/run") or CHECKOUT.is_relative_to("/dev"):
        raise LabError(f"cannot boot from {CHECKOUT}: the guest has a /run and a /dev of its own; move the checkout")
    shutil.copyfile(LAB / "init", machinery / "init")
    (machinery / "init").chmod(0o755)
    parameters = {"cache": str(cache), "out": str(out), "tty": str(int(order.tty))}
    (machinery / "parameters").write_text("".join(f"{k}={shlex.quote(v)}\n" for k, v in parameters.items()))
    for name in ("booted", "status"):
        (out / name).unlink(missing_ok=True)
    (out / "stdout").write_bytes(b"")
    (out / "command").write_text(command_script(order))
    compile_sources()


def memory_folder(size: str, fallback: Path) -> Path:
    """Where the guest's memory lies, as a file that must be mapped executable: in memory, if there is room."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    wanted = int(size[:-1]) * units[size[-1]]
    with contextlib.suppress(OSError):
        shm = os.statvfs("/dev/shm")
        if shm.f_bavail * shm.f_frsize >= wanted and not shm.f_flag & os.ST_NOEXEC:
            return Path("/dev/shm")
    return fallback


def start(order: Order, machinery: Path, cache: Path, out: Path, console: int | None = None) -> Guest:
    """Start a kernel on this machine's files; `console` is the terminal's descriptor, as for `launch`."""
    arguments = (
        *("rootfstype=hostfs", "ro", f"init={machinery}/init"),
        *("quiet", "loglevel=1" if order.tty else "loglevel=4"),
        *order.devices,
    )
    return launch(arguments, order.memory, order.processor, machinery, cache, out, console)


def launch(
    arguments: Sequence[str],
    memory: str,
    processor: int,
    machinery: Path,
    cache: Path,
    out: Path,
    console: int | None = None,
) -> Guest:
    """Start a kernel; `console` is the terminal's descriptor, without one the console goes to a file in `out`."""
    con0 = "con0=null,fd:1" if console is None else f"con0=fd:{console},fd:{console}"
    argv = (
        # A guest's system call is a talk between two of its processes (ptrace). On one processor each wakes the other
        # without an interrupt to a second one, which took three quarters of the time.
        *("taskset", "--cpu-list", str(one_processor(processor))),
        # Should this program be killed outright, its guest goes too.
        *("setpriv", "--pdeathsig", "TERM", str(cache / "root/usr/bin/linux.uml")),
        *(f"mem={memory}", f"uml_dir={machinery}/uml", "con=null", con0),
        *arguments,
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(machinery),
        "TMPDIR": str(memory_folder(memory, machinery)),
        "LD_PRELOAD": str(cache / "root/usr/lib/uml/whole_xstate.so"),
    }
    open_many_files()
    with (out / "console").open("wb") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=() if console is None else (console,),
            start_new_session=True,
        )
    return Guest(process=process, out=out)


def one_processor(number: int) -> int:
    """One of the processors that we may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[number % len(allowed)]


def open_many_files() -> None:
    """Raise our limit of open files as far as we may: hostfs keeps one open for each that the guest has looked at.

    The usual 1024 of an ordinary user end in the middle of a test suite, as "Too many open files" inside the guest.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def check(guest: Guest, order: Order, started: float) -> None:
    """Raise when there will be no status any more."""
    age = time.monotonic() - started
    if guest.has_ended() and guest.status() is None:
        raise guest.failure("cannot tell how the command ended: the guest died")
    if age > BOOT_SECONDS and not guest.has_booted():
        raise guest.failure(f"cannot boot: the guest has not started its command after {BOOT_SECONDS:.0f} s")
    if order.timeout is not None and age > order.timeout:
        raise guest.failure(f"cannot wait longer: the command has not ended after {order.timeout:g} s (--timeout)")
