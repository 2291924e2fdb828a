"""Tells systemd how a service is (sd_notify(3)): a datagram to the socket that the environment names.

No library for it: what there is (sdnotify, systemd-python, cysystemd) is not kept up, or wants a compiler.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

_SEND_SECONDS = 1.0
"""systemd reads at once, or is in trouble itself: then the agent goes on without it."""

_LOOK_SECONDS = 10.0
"""Between two looks for the status line, where no watchdog asks for more."""

_log = logging.getLogger(__name__)

Check = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifier:
    """Where to tell, "" for nowhere; a watchdog, if there is one, must hear something every watchdog_seconds."""

    address: str = ""
    watchdog_seconds: float = 0

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int | None = None) -> Notifier:
        """Return what NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID say; another process's watchdog is not ours."""
        address = environment.get("NOTIFY_SOCKET", "")
        microseconds = environment.get("WATCHDOG_USEC", "")
        for_us = environment.get("WATCHDOG_PID", "") in ("", str(pid or os.getpid()))
        seconds = int(microseconds) / 1e6 if microseconds.isdecimal() and for_us else 0
        return cls(address=address, watchdog_seconds=seconds)

    def tell(self, *lines: str) -> None:
        """Send lines as READY=1 or STATUS=...; that they cannot be sent is no reason to stop."""
        if not self.address:
            return
        # A name that begins with @ is abstract (unix(7)): a zero byte on the wire.
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.settimeout(_SEND_SECONDS)
                to.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            _log.warning("cannot tell systemd %s: %s", lines, error)

    async def follow(self, is_serving: Check) -> None:
        """Until cancelled: say whether it serves, and feed the watchdog each time that this was answered.

        No answer comes from a loop that is stuck, nor from a worker thread that is: then nothing is fed. That it does
        not serve (no IPVS, a corrupt journal), or a failure, is an answer too: a restart would not mend it.
        """
        while self.address:
            self.tell("WATCHDOG=1", await _status(is_serving))
            await asyncio.sleep(min(self.watchdog_seconds / 4 or _LOOK_SECONDS, _LOOK_SECONDS))


async def _status(is_serving: Check) -> str:
    try:
        serving = await is_serving()
    except Exception as error:
        _log.warning("cannot tell whether it serves", exc_info=error)
        return f"STATUS=not serving: {type(error).__name__}, see the log"
    return (
        "STATUS=serving" if serving else "STATUS=not serving: no IPVS in this kernel, or a corrupt journal; see the log"
    )
