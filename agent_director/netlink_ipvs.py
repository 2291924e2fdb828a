"""The kernel's IPVS table over generic netlink: pack, ask, unpack."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

from agent_common.check_mark import is_check_mark
from agent_common.destination import Destination, DestinationKey, DestinationStatus
from agent_common.errors import InternalError, LvsError, NotFoundError
from agent_common.generic_netlink import DumpInterruptedError, GenericNetlink, Message, NetlinkError
from agent_common.netlink_socket import TIMEOUT, NetlinkSocket
from agent_common.statistics import Statistics
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.table import ServerStep, TableStep
from agent_common.timeouts import Timeouts
from agent_common.virtual_server import VirtualServer, VirtualServerKey
from agent_director import ipvs_codec as codec
from agent_director import ipvs_numbers as n
from agent_director.ipvs import Info
from agent_director.ipvs_errors import Request, ipvs_missing, refusal, table_changed

T = TypeVar("T")


class NetlinkIpvs:
    """The Ipvs of the network namespace in which it is made; one thread at a time.

    IPVS may come, go and come back while this lives: its family is looked up at the first use, and again when the
    kernel does not know the number any more. `timeout` is how long to wait for an answer, in seconds.
    """

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        self._netlink = GenericNetlink(NetlinkSocket(timeout=timeout))
        self._family: int | None = None

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def info(self) -> Info:
        """Return what the kernel says of IPVS itself."""
        return codec.unpack_info(*self._read(Request(verb="read the version of IPVS"), n.IPVS_CMD_GET_INFO))

    def virtual_servers(self) -> list[VirtualServer]:
        """Return all virtual servers but those of checks."""
        return [each for each in self._virtual_servers() if not is_check_mark(each.key)]

    def check_marks(self) -> list[VirtualServerKey]:
        """Return the keys of those of checks."""
        return [each.key for each in self._virtual_servers() if is_check_mark(each.key)]

    def _virtual_servers(self) -> list[VirtualServer]:
        messages = self._dump(Request(verb="list virtual servers"), n.IPVS_CMD_GET_SERVICE)
        return [codec.unpack_virtual_server(*message) for message in messages]

    def virtual_server(self, key: VirtualServerKey) -> VirtualServer | None:
        """Return one virtual server, or None."""
        try:
            message = self._read(Request(verb="read", key=key), n.IPVS_CMD_GET_SERVICE, codec.pack_key(key))
        except NotFoundError:
            return None
        return codec.unpack_virtual_server(*message)

    def add_virtual_server(self, virtual_server: VirtualServer) -> None:
        """Add a virtual server."""
        request = Request(verb="add", key=virtual_server.key, virtual_server=virtual_server)
        self._call(request, n.IPVS_CMD_NEW_SERVICE, codec.pack_virtual_server(virtual_server))

    def edit_virtual_server(self, virtual_server: VirtualServer) -> None:
        """Replace a virtual server's configuration."""
        request = Request(verb="edit", key=virtual_server.key, virtual_server=virtual_server)
        self._call(request, n.IPVS_CMD_SET_SERVICE, codec.pack_virtual_server(virtual_server))

    def remove_virtual_server(self, key: VirtualServerKey) -> None:
        """Remove a virtual server and its destinations."""
        self._call(Request(verb="remove", key=key), n.IPVS_CMD_DEL_SERVICE, codec.pack_key(key))

    def statistics(self) -> dict[VirtualServerKey, Statistics]:
        """Return the counters of all virtual servers."""
        messages = self._dump(Request(verb="read the counters"), n.IPVS_CMD_GET_SERVICE)
        return {
            codec.unpack_virtual_server(*message).key: codec.unpack_virtual_server_statistics(*message)
            for message in messages
        }

    def destinations(self, key: VirtualServerKey, *, statistics: bool = False) -> list[DestinationStatus]:
        """Return the destinations of a virtual server; none where there is no such virtual server."""
        request = Request(verb="list destinations of", key=key)
        messages = self._dump(request, n.IPVS_CMD_GET_DEST, codec.pack_key(key))
        family = key.family
        found = [codec.unpack_destination(data, start, end, family) for data, start, end in messages]
        if not statistics:
            return found
        counters = (codec.unpack_destination_statistics(*message) for message in messages)
        return [replace(each, statistics=own) for each, own in zip(found, counters, strict=True)]

    def add_destination(self, key: VirtualServerKey, destination: Destination) -> None:
        """Add a destination with its kernel weight."""
        request = Request(verb="add", key=key, destination=destination.key)
        self._call(request, n.IPVS_CMD_NEW_DEST, codec.pack_key(key) + codec.pack_destination(destination))

    def edit_destination(self, key: VirtualServerKey, destination: Destination) -> None:
        """Replace a destination's configuration."""
        request = Request(verb="edit", key=key, destination=destination.key)
        self._call(request, n.IPVS_CMD_SET_DEST, codec.pack_key(key) + codec.pack_destination(destination))

    def remove_destination(self, key: VirtualServerKey, destination: DestinationKey) -> None:
        """Remove a destination."""
        request = Request(verb="remove", key=key, destination=destination)
        self._call(request, n.IPVS_CMD_DEL_DEST, codec.pack_key(key) + codec.pack_destination_key(destination))

    def take(self, steps: Sequence[TableStep]) -> list[LvsError | None]:
        """Carry out many steps in a few sends."""
        whole = Request(verb=f"change {len(steps)} things at once")
        pack_server = cache(codec.pack_key)  # thousands of destinations have the same
        packed = (_pack_step(step, pack_server) for step in steps)
        results = self._ask(whole, lambda family: self._netlink.call_all(family, packed))
        return [
            None if error is None else refusal(_step_request(step), error.number, error.detail)
            for step, error in zip(steps, results, strict=True)
        ]

    def zero(self, key: VirtualServerKey | None = None) -> None:
        """Set counters to 0."""
        attributes = b"" if key is None else codec.pack_key(key)
        verb = "zero all counters" if key is None else "zero the counters of"
        self._call(Request(verb=verb, key=key), n.IPVS_CMD_ZERO, attributes)

    def timeouts(self) -> Timeouts:
        """Return the timeouts."""
        return codec.unpack_timeouts(*self._read(Request(verb="read the timeouts"), n.IPVS_CMD_GET_CONFIG))

    def set_timeouts(self, timeouts: Timeouts) -> None:
        """Set the timeouts."""
        request = Request(verb=f"set the timeouts to {timeouts}")
        self._call(request, n.IPVS_CMD_SET_CONFIG, codec.pack_timeouts(timeouts))

    def sync_daemons(self) -> list[SyncDaemon]:
        """Return the sync daemons that run."""
        messages = self._dump(Request(verb="list the sync daemons"), n.IPVS_CMD_GET_DAEMON)
        return [codec.unpack_sync_daemon(*message) for message in messages]

    def start_sync_daemon(self, daemon: SyncDaemon) -> None:
        """Start a sync daemon."""
        request = Request(verb="start", daemon=daemon)
        self._call(request, n.IPVS_CMD_NEW_DAEMON, codec.pack_sync_daemon(daemon))

    def stop_sync_daemon(self, role: SyncRole) -> None:
        """Stop a sync daemon.

        Of one whose thread has never run the kernel's result is EINTR (kthread_stop), to which netlink gives no answer
        (netlink_rcv_skb): so a lost answer is looked up.
        """
        try:
            self._call(Request(verb="stop", daemon=role), n.IPVS_CMD_DEL_DAEMON, codec.pack_sync_role(role))
        except InternalError:
            if any(daemon.role is role for daemon in self.sync_daemons()):
                raise

    def _call(self, request: Request, command: int, attributes: bytes) -> None:
        self._ask(request, lambda family: self._netlink.call(family, command, attributes))

    def _read(self, request: Request, command: int, attributes: bytes = b"") -> Message:
        messages = self._ask(request, lambda family: self._netlink.call(family, command, attributes))
        if len(messages) != 1:
            raise codec.CodecError(f"cannot {request}: the kernel answered with {len(messages)} messages instead of 1")
        return messages[0]

    def _dump(self, request: Request, command: int, attributes: bytes = b"") -> list[Message]:
        return self._ask(request, lambda family: self._netlink.dump(family, command, attributes))

    def _ask(self, request: Request, exchange: Callable[[int], T]) -> T:
        try:
            return self._with_family(request, exchange)
        except NetlinkError as error:
            raise refusal(request, error.number, error.detail) from error
        except DumpInterruptedError as error:
            raise table_changed(request) from error

    def _with_family(self, request: Request, exchange: Callable[[int], T]) -> T:
        """Run an exchange with the family's number; with the new one if ENOENT came from the module's absence."""
        if self._family is None:
            self._family = self._look_up_family(request)
        try:
            return exchange(self._family)
        except NetlinkError as error:
            if error.number != errno.ENOENT:
                raise
            known, self._family = self._family, None
            self._family = self._look_up_family(request)
            if self._family == known:  # so it was the answer of IPVS itself
                raise
        return exchange(self._family)

    def _look_up_family(self, request: Request) -> int:
        family = self._netlink.family(n.IPVS_GENL_NAME)
        if family is None:
            raise ipvs_missing(request)
        return family


def _pack_step(step: TableStep, pack_server: Callable[[VirtualServerKey], bytes]) -> tuple[int, bytes]:
    """Return the command of a step and its attributes."""
    if isinstance(step, ServerStep):
        if step.after is None:
            return n.IPVS_CMD_DEL_SERVICE, codec.pack_key(step.key)
        command = n.IPVS_CMD_NEW_SERVICE if step.before is None else n.IPVS_CMD_SET_SERVICE
        return command, codec.pack_virtual_server(step.after)
    server = pack_server(step.server)
    if step.after is None:
        return n.IPVS_CMD_DEL_DEST, server + codec.pack_destination_key(step.key)
    command = n.IPVS_CMD_NEW_DEST if step.before is None else n.IPVS_CMD_SET_DEST
    return command, server + codec.pack_destination(step.after)


def _step_request(step: TableStep) -> Request:
    verb = "add" if step.before is None else "remove" if step.after is None else "edit"
    if isinstance(step, ServerStep):
        return Request(verb=verb, key=step.key, virtual_server=step.after)
    return Request(verb=verb, key=step.server, destination=step.key)
