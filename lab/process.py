"""A program that the site started on a host: a web server, an agent."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.host import Host

STOP_SECONDS = 10.0


class StartError(Exception):
    """A program did not become ready; the text has what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One started program and the file that its output goes to."""

    title: str
    popen: subprocess.Popen[str]
    log_file: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; one that is paused is running."""
        return self.popen.poll() is None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def pause(self) -> None:
        """Make it stand still (SIGSTOP); the kernel goes on accepting connections for it."""
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a chance to clean up (SIGKILL)."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """Ask it to end (SIGTERM), also when it is paused; its status, negative for a signal.

        One that has not ended after `timeout` seconds is killed, and subprocess.TimeoutExpired raised.
        """
        self.popen.terminate()
        self.resume()
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def start(host: Host, title: str, argv: Sequence[str], log_file: Path, env: Mapping[str, str] | None = None) -> Process:
    """Start a program on the host; what it prints is added to the log."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("a") as log:
        popen = host.popen(*argv, stdout=log, stderr=subprocess.STDOUT, env=env)
    return Process(title=title, popen=popen, log_file=log_file)


def failed(process: Process, what: str) -> StartError:
    """The error for a program that is not ready; it is killed, so that nothing half started stays."""
    status = process.popen.poll()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    ended = "" if status is None else f" (it ended with {status})"
    return StartError(f"cannot start {process.title}: {what}{ended}; its log:\n{process.log()}")
