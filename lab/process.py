"""A program that was started on a host: a web server, an agent, a server of a package."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
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
    leads_group: bool = False
    """Whether it has workers, which stand still and are killed with it."""

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
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a chance to clean up (SIGKILL); its sockets are closed when this returns."""
        self._send(signal.SIGKILL)
        self.popen.wait()
        deadline = time.monotonic() + STOP_SECONDS
        while self.leads_group and self._has_members():  # a worker may take a moment longer, and hold the sockets
            if time.monotonic() > deadline:
                raise TimeoutError(f"cannot end {self.title}: a worker is still there after {STOP_SECONDS:.0f} s")
            time.sleep(0.005)

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

    def _send(self, number: signal.Signals) -> None:
        if not self.leads_group:
            self.popen.send_signal(number)
            return
        with contextlib.suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self.pid, number)

    def _has_members(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def start(
    host: Host,
    title: str,
    argv: Sequence[str],
    log_file: Path,
    env: Mapping[str, str] | None = None,
    *,
    leads_group: bool = False,
) -> Process:
    """Start a program on the host; what it prints is added to the log."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    group = 0 if leads_group else None
    with log_file.open("a") as log:
        popen = host.popen(*argv, stdout=log, stderr=subprocess.STDOUT, env=env, process_group=group)
    return Process(title=title, popen=popen, log_file=log_file, leads_group=leads_group)


def failed(process: Process, what: str) -> StartError:
    """The error for a program that is not ready; it is killed, so that nothing half started stays."""
    status = process.popen.poll()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    ended = "" if status is None else f" (it ended with {status})"
    return StartError(f"cannot start {process.title}: {what}{ended}; its log:\n{process.log()}")
