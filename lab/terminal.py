"""The interactive guest: its console joined to our terminal through a pseudo-terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import termios
import time
import tty
from collections.abc import Iterator
from types import FrameType

from lab.guest import POLL_SECONDS, Guest, Order, check


def relay(guest: Guest, order: Order, master: int) -> int:
    """Join our terminal and the guest's, until the command ends; its status."""
    started = time.monotonic()
    sources = [0, master]
    while True:
        status = guest.status()
        ready, _, _ = select.select(sources, [], [], POLL_SECONDS)
        if 0 in ready:
            typed = os.read(0, 4096)
            os.write(master, typed)
            if not typed:  # our input is at its end, and would be ready for ever
                sources.remove(0)
        if master in ready:
            os.write(1, os.read(master, 65536))
        elif status is not None:
            return status
        check(guest, order, started)


@contextlib.contextmanager
def raw_terminal(master: int) -> Iterator[None]:
    """Our terminal in raw mode, its size kept on `master` too; restored at the end, whatever happens."""

    def resize(_signal: int = 0, _frame: FrameType | None = None) -> None:
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(master, termios.TIOCSWINSZ, size)

    saved = termios.tcgetattr(0)
    resize()
    previous = signal.signal(signal.SIGWINCH, resize)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSAFLUSH, saved)
        signal.signal(signal.SIGWINCH, previous)
