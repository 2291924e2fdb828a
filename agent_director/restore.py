"""Brings back at start what this director committed: virtual servers, then destinations, the VIPs last.

A VIP that comes before its services would reset live connections (docs/explanation/order-of-steps.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from agent_common.changes import Changes, Neighbours
from agent_common.destination import Destination
from agent_common.errors import LvsError
from agent_common.held_vip import HeldVips
from agent_common.restore import Problems, restore_vips
from agent_common.virtual_server import VirtualServer, VirtualServerKey
from agent_common.worker import Run
from agent_director.destination import Destinations
from agent_director.ipvs import Ipvs
from agent_director.virtual_server import VirtualServers

_log = logging.getLogger(__name__)


class DirectorRestore:
    """The restore of a director.

    In a new boot everything that was committed and is missing comes back. In the same boot the agent was restarted:
    then an empty table is one that was lost as a whole, and comes back; of another one, what is missing was removed by
    somebody, and is reported, never put back.
    """

    def __init__(
        self,
        ipvs: Ipvs,
        virtual_servers: VirtualServers,
        destinations: Destinations,
        vips: HeldVips,
        problems: Problems,
    ) -> None:
        self._ipvs = ipvs
        self._virtual_servers = virtual_servers
        self._destinations = destinations
        self._vips = vips
        self._problems = problems

    async def run(self, changes: Changes, neighbours: Neighbours, run: Run, *, new_boot: bool) -> None:
        """Take back what is undecided, then bring back what is committed."""
        undecided = await changes.settle()
        table = await run(lambda: self._restore_table(undecided, new_boot=new_boot))
        vips = await restore_vips(self._vips, neighbours, run, self._problems)
        if table or vips:
            _log.info("restored %d virtual servers and destinations, and %d VIPs", table, vips)

    def _restore_table(self, undecided: Sequence[str], *, new_boot: bool) -> int:
        for text in undecided:
            self._problems.add(text)
        try:
            there = {server.key for server in self._ipvs.virtual_servers()}
        except LvsError as error:
            if self._virtual_servers.managed_keys():
                self._problems.add(f"virtual servers are not restored: {error.message}", self._cannot_read)
            return 0
        as_a_whole = new_boot or not there
        servers = [each for each in self._virtual_servers.committed() if each.key not in there]
        return sum(self._restore_server(each, as_a_whole=as_a_whole) for each in servers) + sum(
            self._restore_destinations(key, wanted, as_a_whole=as_a_whole)
            for key, wanted in self._destinations.committed().items()
        )

    def _restore_server(self, server: VirtualServer, *, as_a_whole: bool) -> int:
        def is_missing() -> bool:
            return self._ipvs.virtual_server(server.key) is None

        return self._put_back(
            f"virtual server {server.key}", lambda: self._virtual_servers.restore(server), is_missing, as_a_whole
        )

    def _restore_destinations(self, key: VirtualServerKey, wanted: Sequence[Destination], *, as_a_whole: bool) -> int:
        """Those of a virtual server that is there; with one that is not they are missing as a matter of course."""
        if self._ipvs.virtual_server(key) is None:
            return 0
        there = {status.destination.key for status in self._ipvs.destinations(key)}
        missing = [each for each in wanted if each.key not in there]
        return sum(self._restore_destination(key, each, as_a_whole=as_a_whole) for each in missing)

    def _restore_destination(self, key: VirtualServerKey, wanted: Destination, *, as_a_whole: bool) -> int:
        def is_missing() -> bool:
            return all(status.destination.key != wanted.key for status in self._ipvs.destinations(key))

        return self._put_back(
            f"{wanted.key} in {key}", lambda: self._destinations.restore(key, wanted), is_missing, as_a_whole
        )

    def _put_back(
        self, name: str, put_back: Callable[[], None], is_missing: Callable[[], bool], as_a_whole: bool
    ) -> int:
        """Put one thing back, or only report it; return how many things came back, 1 or 0."""
        if not as_a_whole:
            self._problems.add(f"{name} is missing: somebody removed it by hand", is_missing)
            return 0
        try:
            put_back()
        except LvsError as error:
            self._problems.add(f"{name} is not restored: {error.message}", is_missing)
            return 0
        return 1

    def _cannot_read(self) -> bool:
        try:
            self._ipvs.version()
        except LvsError:
            return True
        return False
