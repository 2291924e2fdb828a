"""A host of the site: a network of its own with one interface, a name, a resolv.conf; and what runs there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, TypeVar

from lab import namespace

T = TypeVar("T")

Stream = int | IO[bytes] | IO[str] | None


class CommandError(subprocess.CalledProcessError):
    """A command on a host ended with another status than 0; the text says what it printed."""

    def __init__(self, host: str, done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(done.returncode, done.args, done.stdout, done.stderr)
        self.host = host

    def __str__(self) -> str:
        said = (self.stderr or self.stdout or "it printed nothing").strip()
        return f"cannot run `{' '.join(self.cmd)}` on {self.host}: status {self.returncode}: {said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host's name and its own addresses, without prefix lengths (/24 and /64)."""

    name: str
    ipv4: str
    ipv6: str
    mac: str
    device: str = "eth0"

    def inside(self, function: Callable[[], T]) -> T:
        """What `function` gives when run in a thread inside this host; see namespace.inside."""
        return namespace.inside(self.name, function)

    def run(
        self,
        *argv: str,
        check: bool = True,
        timeout: float = 30,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end; `env` is added to our environment, `timeout` is in seconds.

        Raises CommandError for a status other than 0, unless `check` is off, and subprocess.TimeoutExpired.
        """
        done = self.inside(
            lambda: subprocess.run(
                argv,
                input=input,
                stdin=subprocess.DEVNULL if input is None else None,
                capture_output=True,
                text=True,
                timeout=timeout,
                env=_environment(env),
                check=False,
            )
        )
        if check and done.returncode != 0:
            raise CommandError(self.name, done)
        return done

    def out(self, *argv: str, timeout: float = 30) -> str:
        """What a command prints here, without blanks around it."""
        return self.run(*argv, timeout=timeout).stdout.strip()

    def popen(
        self,
        *argv: str,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.PIPE,
        stderr: Stream = subprocess.STDOUT,
        env: Mapping[str, str] | None = None,
        process_group: int | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command here; its pid is the command's own. The site kills it at its end.

        `process_group` 0 makes it the leader of a group of its own.
        """
        return self.inside(
            lambda: subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=_environment(env),
                text=True,
                process_group=process_group,
            )
        )

    def enter_command(self) -> tuple[str, ...]:
        """What to put before a command so that a shell runs it here."""
        net, uts, mounts = namespace.anchors(self.name)
        return ("nsenter", f"--net={net}", f"--uts={uts}", f"--mount={mounts}")


def _environment(added: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if added is None else {**os.environ, **added}
