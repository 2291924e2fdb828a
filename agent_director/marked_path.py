"""Checks that the director itself makes through the VIP's path: by a firewall mark that IPVS sends to one real server.

The virtual server of the mark is in the kernel for as long as the check takes, and is no part of the table that
operators see (agent_common.check_mark). The answer comes from the VIP, an address of this host: only an interface with
accept_local lets it in (Documentation/networking/ip-sysctl.rst).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent_common.address import Addresses
from agent_common.check import Kind
from agent_common.check_mark import FIRST_MARK, MARKS
from agent_common.checker import Answer, Checker, Target
from agent_common.destination import Destination, DestinationKey
from agent_common.errors import LvsError, Reason, RefusedError
from agent_common.table import DestinationStep, ServerStep
from agent_common.virtual_server import Family, FirewallMark, IpAddress, ServiceAddress, VirtualServer
from agent_common.worker import Run, to_its_end
from agent_director.ipvs import Ipvs

_CONF = Path("/proc/sys/net/ipv4/conf")

AcceptsLocal = Callable[[str], bool]
"""Whether an interface lets in what comes from an address of this host."""


class MarkedPaths:
    """agent_common.checker.Checker for what goes to a VIP by a mark; the checker makes the check itself."""

    def __init__(
        self, ipvs: Ipvs, addresses: Addresses, run: Run, checker: Checker, accepts_local: AcceptsLocal | None = None
    ) -> None:
        self._ipvs = ipvs
        self._addresses = addresses
        self._run = run
        self._checker = checker
        self._accepts_local = accepts_local or accepts_local_sources
        self._numbers = itertools.count()
        self._used: set[int] = set()

    async def __call__(self, kind: Kind, target: Target, seconds: float) -> Answer:
        """Make one check."""
        assert isinstance(target.virtual_server, ServiceAddress)  # noqa: S101  # HealthPolicy.validate_for
        mark = self._take()
        try:
            source = await self._run(lambda: self._open(mark, target))
            marked = replace(target, address=target.virtual_server.address, mark=mark.mark, source=source)
            return await self._checker(kind, marked, seconds)
        except LvsError as error:
            return Answer(passed=False, detail=error.message)
        finally:
            await to_its_end(self._run(lambda: self._close(mark)))

    def check_route(self, real_server: IpAddress) -> IpAddress | None:
        """Return this host's own address on the way to a real server; raises RefusedError where no answer comes in."""
        route = self._addresses.route_to(real_server)
        if not self._accepts_local(route.device):
            raise RefusedError(
                f"cannot check {real_server} through the VIP by a mark: net.ipv4.conf.{route.device}.accept_local is 0 "
                "and lets no answer from the VIP in; set it to 1, or ask the real server's agent (without --by-mark)",
                Reason.ACCEPT_LOCAL_OFF,
                real_server=str(real_server),
                device=route.device,
            )
        return route.source

    def clear(self) -> None:
        """Remove what an agent that died in a check has left."""
        for key in self._ipvs.check_marks():
            self._ipvs.remove_virtual_server(key)

    def _take(self) -> FirewallMark:
        number = next(each % MARKS for each in self._numbers if each % MARKS not in self._used)
        self._used.add(number)
        return FirewallMark(mark=FIRST_MARK + number, family=Family.IPV4)

    def _open(self, mark: FirewallMark, target: Target) -> IpAddress | None:
        source = self.check_route(target.address)
        destination = Destination(
            key=DestinationKey(address=target.address, port=target.port),
            forwarding=target.forwarding,
            tunnel=target.tunnel,
        )
        results = self._ipvs.take(
            [
                ServerStep(before=None, after=VirtualServer(key=mark, scheduler="rr")),
                DestinationStep(server=mark, before=None, after=destination),
            ]
        )
        for error in results:
            if error is not None:
                raise error
        return source

    def _close(self, mark: FirewallMark) -> None:
        self._used.discard(mark.mark - FIRST_MARK)
        if self._ipvs.virtual_server(mark) is not None:
            self._ipvs.remove_virtual_server(mark)


def accepts_local_sources(device: str, conf: Path = _CONF) -> bool:
    """Whether an interface's accept_local is on, or that of all (IN_DEV_ORCONF, include/linux/inetdevice.h)."""
    return any((conf / name / "accept_local").read_text(encoding="ascii").strip() == "1" for name in ("all", device))
