"""Whether packets for a VIP end on this host, and nobody else hears of it: asked often, by every director."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from agent_common.address import LOOPBACK, Addresses
from agent_common.virtual_server import IpAddress
from agent_common.worker import Run
from agent_realserver.silence import Silence

FRESH_SECONDS = 0.2
"""What was read is told for so long: directors ask for many virtual servers at a time, and the kernel once."""

_SHARE = 10
"""And for so many times as long as the reading took: a host with hundreds of interfaces has other things to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was read of the host, good until then: where addresses are, who may hold VIPs, who would answer ARP."""

    until: float
    devices: Mapping[IpAddress, frozenset[str]]
    quiet: frozenset[str]
    loud: str


class HeldHere:
    """Looks whether VIPs are in place, and the host silent about them."""

    def __init__(self, silence: Silence, addresses: Addresses, run: Run) -> None:
        self._silence = silence
        self._addresses = addresses
        self._run = run
        self._lock = asyncio.Lock()
        self._seen: _Seen | None = None

    async def problem(self, vip: IpAddress) -> str:
        """Return what is wrong with a VIP here, or nothing."""
        seen = await self._look()
        devices = seen.devices.get(vip, frozenset())
        if not devices & seen.quiet:
            where = f", but on {', '.join(sorted(devices))}" if devices else ""
            return f"VIP {vip} is not on lo{where}"
        return seen.loud if vip.version == 4 else ""

    async def _look(self) -> _Seen:
        async with self._lock:
            if self._seen is None or time.monotonic() > self._seen.until:
                self._seen = await self._run(self._read)
            return self._seen

    def _read(self) -> _Seen:
        begun = time.monotonic()
        devices: dict[IpAddress, frozenset[str]] = {}
        for each in self._addresses.addresses():
            devices[each.address] = devices.get(each.address, frozenset()) | {each.device}
        interfaces = self._addresses.devices()
        quiet = frozenset({LOOPBACK, *(each.name for each in interfaces if each.is_tunnel)})
        loud = "; ".join(each.problem for each in self._silence.loud(interfaces))
        fresh = max(FRESH_SECONDS, _SHARE * (time.monotonic() - begun))
        return _Seen(until=begun + fresh, devices=devices, quiet=quiet, loud=loud)


def load_percent() -> int:
    """Return the load of the last minute for each processor, in percent (proc_loadavg(5))."""
    return round(os.getloadavg()[0] * 100 / (os.cpu_count() or 1))
