"""What clients meet while something is done to the hosts that serve them."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.debian_host import DebianHost

ASKER = Path(__file__).with_name("asker.py")
BEGIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The answers that a client gets, as they come (asker.py)."""

    file: Path

    def lines(self) -> list[str]:
        """One for each question that has come to its end."""
        return self.file.read_text().splitlines() if self.file.exists() else []

    @property
    def answers(self) -> list[str]:
        """Who answered, one after the other."""
        return [line.split()[1] for line in self.lines() if line.startswith("answered")]

    @property
    def servers(self) -> set[str]:
        """All who answered. The one of the kept connection, which weighs as much as 256 that have ended, is asked
        nothing else for a while."""
        return {line.split()[1] for line in self.lines() if "failed" not in line}

    @property
    def failures(self) -> list[str]:
        """What came instead of an answer: nothing, as a rule."""
        return [line for line in self.lines() if "failed" in line]

    def must_be_unharmed(self, at_least: int = 20) -> None:
        """Fail unless every question was answered, and there were some; the kept connection's too, at the end."""
        assert not self.failures, self.lines()
        assert len(self.answers) >= at_least, f"only {len(self.answers)} questions were asked"

    def wait_for(self, more: int, seconds: float = BEGIN_SECONDS) -> None:
        """Wait until so many more questions have come to an end."""
        wanted = len(self.lines()) + more
        deadline = time.monotonic() + seconds
        while len(self.lines()) < wanted:
            assert time.monotonic() < deadline, f"the client asks no more: {self.lines()}"
            time.sleep(0.05)


@contextlib.contextmanager
def traffic(client: DebianHost, address: str, port: int) -> Iterator[Traffic]:
    """A client that asks as long as this lasts; what is done meanwhile begins and ends under way."""
    file = client.machine.outside / "answers"
    file.unlink(missing_ok=True)
    client.push(ASKER, "/usr/local/bin/asker.py")
    argv = shlex.join(("python3", "-I", "-S", "/usr/local/bin/asker.py", address, str(port), "/run/out/answers"))
    client.bash(f"{argv} >/run/out/asker 2>&1 & echo $! >/run/asker")
    asked = Traffic(file=file)
    try:
        asked.wait_for(5)
        yield asked
        asked.wait_for(5)
    finally:
        client.bash("kill $(</run/asker); while kill -0 $(</run/asker); do sleep 0.1; done", check=False)
