"""Agents on the hosts of a site: the installed console scripts, as an operator would start them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from lab import process
from lab.host import Host
from lab.process import STOP_SECONDS, Process

Role = Literal["director", "realserver"]

PORTS: Mapping[Role, int] = {"director": 9710, "realserver": 9711}
SCRIPTS = Path(__file__).resolve().parent.parent / ".venv/bin"
START_SECONDS = 90.0
"""An agent imports grpc in 1 to 4 s in the guest, on a busy machine in thirty, and restores before its port opens."""


def run_folder(host: Host) -> Path:
    """Where the host's sockets and logs lie; on the host itself it is /run/lvs-director and /run/lvs-realserver."""
    return Path("/run") / host.name


class Agent:
    """An agent that was started on a host; `restart` starts it again with the same arguments."""

    def __init__(self, host: Host, role: Role, argv: Sequence[str], env: Mapping[str, str] | None) -> None:
        self.host = host
        self.role = role
        self.port = PORTS[role]
        self.argv = tuple(argv)
        self._env = env
        self._process = self._start()

    @property
    def address(self) -> str:
        """Where it serves, as --director and --rs-agent take it."""
        return f"{self.host.ipv4}:{self.port}"

    @property
    def socket(self) -> Path:
        return run_folder(self.host) / "api.sock"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.is_running

    def log(self) -> str:
        """What it has printed since its first start."""
        return self._process.log()

    def pause(self) -> None:
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

    def kill(self) -> None:
        self._process.kill()

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """SIGTERM and wait; its status."""
        return self._process.stop(timeout)

    def start(self) -> None:
        """Start it again, after `stop` or `kill`; returns when its port accepts."""
        self._process = self._start()

    def restart(self) -> None:
        self.stop()
        self.start()

    def _start(self) -> Process:
        log_file = run_folder(self.host) / f"lvs-{self.role}.log"
        started = process.start(self.host, f"lvs-{self.role} on {self.host.name}", self.argv, log_file, self._env)
        deadline = time.monotonic() + START_SECONDS
        while not self._accepts():
            if not started.is_running:
                raise process.failed(started, "it ended at once")
            if time.monotonic() > deadline:
                raise process.failed(started, f"port {self.port} does not accept after {START_SECONDS:.0f} s")
            time.sleep(0.05)
        return started

    def _accepts(self) -> bool:
        """Whether both TCP addresses take connections, and the unix socket, which is bound after them."""

        def connect() -> bool:
            for address in (self.host.ipv4, self.host.ipv6):
                socket.create_connection((address, self.port), 1.0).close()
            with socket.socket(socket.AF_UNIX) as local:
                local.connect(str(self.socket))
            return True

        with contextlib.suppress(OSError):
            return self.host.inside(connect)
        return False


def command(host: Host, role: Role, extra: Sequence[str], state_dir: Path, without: Sequence[str]) -> tuple[str, ...]:
    """The command line of an agent; `without` names capabilities to take away, as `net_admin`."""
    dropped = ",".join(f"-{name}" for name in without)
    limits = ("setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}") if without else ()
    port = PORTS[role]
    listen = (f"{host.ipv4}:{port}", f"[{host.ipv6}]:{port}", f"unix:{run_folder(host)}/api.sock")
    return (
        *limits,
        str(SCRIPTS / f"lvs-{role}"),
        *(part for address in listen for part in ("--listen", address)),
        *("--insecure", "--state-dir", str(state_dir)),
        *extra,
    )
