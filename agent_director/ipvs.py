"""The kernel's IPVS table as the director's agent sees it: the seam and its types. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent_common.destination import Destination, DestinationKey, DestinationStatus
from agent_common.errors import LvsError
from agent_common.statistics import Statistics
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.table import TableStep
from agent_common.timeouts import Timeouts
from agent_common.virtual_server import VirtualServer, VirtualServerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What the kernel says of IPVS itself: its version ("1.2.1"), and the buckets of its table of connections."""

    version: str
    connection_table_size: int


class Ipvs(Protocol):
    """The IPVS table of one network namespace; one thread at a time.

    Every method may raise RefusedError: IPVS_MISSING (the kernel has no IPVS), NO_CAPABILITY (CAP_NET_ADMIN, for reads
    too), KERNEL_REFUSED (the errno is in the message); and InternalError where the kernel does not answer or its answer
    cannot be understood. An object equals what was written, except that a persistence prefix length of 32 (IPv4) or 128
    (IPv6) is read as None. Combinations are not checked here: the kernel takes more than ipvsadm does. The kernel knows
    of no drain: a destination is written as agent_common.destination.effective says.
    """

    def info(self) -> Info:
        """Return what the kernel says of IPVS itself."""

    def virtual_servers(self) -> list[VirtualServer]:
        """Return all virtual servers, in no order, but for those of checks (agent_common.check_mark)."""

    def check_marks(self) -> list[VirtualServerKey]:
        """Return the keys of those."""

    def virtual_server(self, key: VirtualServerKey) -> VirtualServer | None:
        """Return one virtual server, or None where there is none."""

    def add_virtual_server(self, virtual_server: VirtualServer) -> None:
        """Add a virtual server.

        Raises DiffersError (VIRTUAL_SERVER_DIFFERS) where the key is taken, by an equal one too; RefusedError
        (MODULE_MISSING) where scheduler or persistence engine cannot be loaded.
        """

    def edit_virtual_server(self, virtual_server: VirtualServer) -> None:
        """Replace the whole configuration of a virtual server; its destinations and connections stay.

        Raises NotFoundError (VIRTUAL_SERVER_NOT_FOUND); RefusedError (MODULE_MISSING).
        """

    def remove_virtual_server(self, key: VirtualServerKey) -> None:
        """Remove a virtual server and all its destinations; raises NotFoundError (VIRTUAL_SERVER_NOT_FOUND)."""

    def destinations(self, key: VirtualServerKey, *, statistics: bool = False) -> list[DestinationStatus]:
        """Return the destinations of a virtual server, in no order; none where there is no such virtual server.

        With statistics each has its counters, which cost as much again to read. The weight is the kernel's; `draining`
        and `managed` are the journal's business, and False here.
        """

    def statistics(self) -> dict[VirtualServerKey, Statistics]:
        """Return the counters of all virtual servers: each has those of its destinations, and of former ones."""

    def add_destination(self, key: VirtualServerKey, destination: Destination) -> None:
        """Add a destination.

        Raises DiffersError (DESTINATION_DIFFERS) where it is there, an equal one too; NotFoundError
        (VIRTUAL_SERVER_NOT_FOUND).
        """

    def edit_destination(self, key: VirtualServerKey, destination: Destination) -> None:
        """Replace the whole configuration of a destination; its connections stay.

        Raises NotFoundError (VIRTUAL_SERVER_NOT_FOUND, DESTINATION_NOT_FOUND).
        """

    def remove_destination(self, key: VirtualServerKey, destination: DestinationKey) -> None:
        """Remove a destination; raises NotFoundError (VIRTUAL_SERVER_NOT_FOUND, DESTINATION_NOT_FOUND)."""

    def take(self, steps: Sequence[TableStep]) -> list[LvsError | None]:
        """Carry out many steps in order, in as few calls as possible; return the error of each that failed.

        A step adds, edits or removes, whatever is there: each may have the errors of that method, and those behind one
        that failed are carried out all the same. A destination is written as it is given: `effective` is the caller's
        business. Raises InternalError where it is not known what was done.
        """

    def zero(self, key: VirtualServerKey | None = None) -> None:
        """Set the counters of a virtual server and its destinations to 0; without a key all, the totals too.

        Raises NotFoundError (VIRTUAL_SERVER_NOT_FOUND).
        """

    def timeouts(self) -> Timeouts:
        """Return how long connections of which nothing is heard are kept."""

    def set_timeouts(self, timeouts: Timeouts) -> None:
        """Set those that are meant; connections that are there have the new ones from their next packet on."""

    def sync_daemons(self) -> list[SyncDaemon]:
        """Return the daemons that run, with what the kernel chose filled in."""

    def start_sync_daemon(self, daemon: SyncDaemon) -> None:
        """Start a daemon.

        Raises DiffersError (SYNC_DAEMON_DIFFERS) where one of its role runs, an equal one too; RefusedError (NO_DEVICE;
        KERNEL_REFUSED, with EINVAL also where an IPv6 virtual server has an IPv4 destination or the other way round).
        """

    def stop_sync_daemon(self, role: SyncRole) -> None:
        """Stop a daemon; raises NotFoundError (SYNC_DAEMON_NOT_FOUND)."""

    def close(self) -> None:
        """Give back what is held open; nothing in the kernel's table changes."""
