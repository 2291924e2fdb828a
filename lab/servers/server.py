"""A server of a package on a host: how it is started and started again, ended, and made to stand still."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import agents, process
from lab.host import Host
from lab.process import STOP_SECONDS, Process

START_SECONDS = 60.0
"""They take 0.1 to 2 s in the guest, more on a busy machine."""

POLL_SECONDS = 0.02

ASK_SECONDS = 5.0
"""How long one question waits for its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to start on a host, and how to see that it answers."""

    host: Host
    folder: Path
    """Its configuration, its other files, and `log`."""
    argv: tuple[str, ...]
    """It must stay in the foreground."""
    answers: Callable[[], bool]
    """Asks once; an OSError is a no."""


class Server:
    """A running server with its workers; `start` starts it again with the same configuration."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._process = self._start()

    @property
    def host(self) -> Host:
        return self._recipe.host

    @property
    def folder(self) -> Path:
        """Where its configuration lies; gone when the next site is made."""
        return self._recipe.folder

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; one that is paused is running."""
        return self._process.is_running

    def log(self) -> str:
        """What it has said since its first start."""
        return self._process.log()

    def pause(self) -> None:
        """Make it and its workers stand still (SIGSTOP); the kernel goes on accepting connections for them."""
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

    def kill(self) -> None:
        """End it and its workers without a chance to clean up (SIGKILL)."""
        self._process.kill()

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """SIGTERM and wait, `timeout` in seconds; its status."""
        return self._process.stop(timeout)

    def start(self) -> None:
        """Start it again, after `stop` or `kill`; returns when it answers."""
        self._process = self._start()

    def reload(self, said: str) -> None:
        """Make it read its configuration again (SIGHUP); returns when its log has `said` once more than before."""
        before = self.log().count(said)
        self._process.popen.send_signal(signal.SIGHUP)
        self._wait(self._process, lambda: self.log().count(said) > before, f"it does not say `{said}`")

    def _start(self) -> Process:
        recipe = self._recipe
        name = f"{recipe.folder.name} on {recipe.host.name}"
        started = process.start(recipe.host, name, recipe.argv, recipe.folder / "log", leads_group=True)
        self._wait(started, self._answers, "it does not answer")
        return started

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self._recipe.answers()
        return False

    def _wait(self, awaited: Process, ready: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if not awaited.is_running or time.monotonic() > deadline:
                raise process.failed(awaited, otherwise)
            time.sleep(POLL_SECONDS)


def folder(host: Host, name: str) -> Path:
    """An empty folder for a server; every server has one of its own, also after another on the same port."""
    made = agents.run_folder(host) / f"{name}-{time.monotonic_ns()}"
    made.mkdir()
    return made


def endpoint(address: str, port: int) -> str:
    """Address and port as one word, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
