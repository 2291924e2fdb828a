"""A client that asks a VIP over HTTP, one request after the other, and counts those that got no answer."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from lab.host import Host

PAUSE_SECONDS = 0.02
PATIENCE_SECONDS = 10.0
"""A SYN that nobody answers is sent again after 1, 3 and 7 s; a busy guest may take longer than the first of these."""


class Load:
    """Requests of a client, until it is stopped: how many were answered, and a line for each that was not."""

    def __init__(self, client: Host, url: str) -> None:
        self.answered = 0
        self.lost: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: client.inside(self._ask), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                with opener.open(self._url, timeout=PATIENCE_SECONDS) as answer:
                    answer.read()
                self.answered += 1
            except OSError as error:
                self.lost.append(f"after {time.monotonic() - begun:.2f} s: {error}")
            time.sleep(PAUSE_SECONDS)


@contextmanager
def under_load(client: Host, vip: str) -> Iterator[Load]:
    """Requests of a client while the block runs."""
    load = Load(client, f"http://{vip}/")
    try:
        yield load
    finally:
        load.stop()
