"""Clients that fetch through a VIP at the same time, each with a connection of its own, and note who failed when."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator

from lab.host import Host
from tests.lab.stalls import stalled

NUMBER = 6
PAUSE_SECONDS = 0.05
PATIENCE_SECONDS = 1.5
STALL_SECONDS = 0.3


class Clients:
    """So many clients, until they are stopped; failures have the moments at which they began and ended, and why."""

    def __init__(self, host: Host, address: str, port: int) -> None:
        self.failures: list[tuple[float, float, str]] = []
        self.answers: Counter[str] = Counter()
        self._address, self._port = address, port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=lambda: host.inside(self._fetch), daemon=True) for _ in range(NUMBER)]
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        """Let them finish."""
        self._stop.set()
        for each in self._threads:
            each.join()

    def outside(self, first: float, last: float) -> list[str]:
        """Failures of requests that ended before the first moment, or began after the last one.

        One during which the guest itself stood still says nothing.
        """
        return [
            f"{begun - first:+.2f} s to {ended - first:+.2f} s: {why}"
            for begun, ended, why in self.failures
            if (ended < first or begun > last) and stalled(begun, ended) < STALL_SECONDS
        ]

    def _failed(self, begun: float, why: str) -> None:
        self.failures.append((begun, time.monotonic(), why))

    def _fetch(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            connection = http.client.HTTPConnection(self._address, self._port, timeout=PATIENCE_SECONDS)
            try:
                connection.request("GET", "/who")
                answer = connection.getresponse()
                body = answer.read().decode()
                if answer.status == 200:
                    self.answers[body] += 1
                else:
                    self._failed(begun, f"status {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                self._failed(begun, str(error) or type(error).__name__)
            finally:
                connection.close()
            self._stop.wait(PAUSE_SECONDS)


@contextlib.contextmanager
def fetching(host: Host, address: str, port: int) -> Iterator[Clients]:
    """Fetch while the block runs."""
    clients = Clients(host, address, port)
    try:
        yield clients
    finally:
        clients.stop()
