"""The daemons that carry connections from one director to another (ipvsadm --start-daemon), and their rules. No I/O."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from agent_common.errors import InvalidInputError
from agent_common.virtual_server import IpAddress, check_port

MAX_SYNC_ID = 255
LARGEST_PACKET = 65535
"""Bytes with the headers, whatever the MTU: the kernel fits longer messages to it, as with an IPv6 group."""

MAX_SYNC_LENGTH = 65507
"""Bytes of the largest UDP datagram of IPv4."""

SMALLEST_BACKUP_LENGTH = 1024
"""The kernel gives a backup at least so many bytes (start_sync_thread in net/netfilter/ipvs/ip_vs_sync.c)."""


class SyncRole(enum.IntEnum):
    """What a daemon does, by the kernel's numbers (IP_VS_STATE_*): one of each can run on a director."""

    MASTER = 1
    BACKUP = 2

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncDaemon:
    """A sync daemon. None is what the kernel chooses: 224.0.0.81, port 8848, ttl 1, and what fits into the MTU.

    A master sends a connection from its third packet on (net.ipv4.vs.sync_threshold), with its sync_id (0 to 255); a
    backup takes those with its own sync_id, and with 0 all.
    """

    role: SyncRole
    interface: str
    sync_id: int = 0
    max_length: int | None = None
    group: IpAddress | None = None
    port: int | None = None
    ttl: int | None = None

    def check(self) -> SyncDaemon:
        """Raise InvalidInputError unless ipvsadm, too, would take it; return the daemon."""
        # IFNAMSIZ of include/uapi/linux/if.h, and dev_valid_name in net/core/dev.c.
        if not re.fullmatch(r"[!-.0-9;-~]{1,15}", self.interface) or self.interface in (".", ".."):
            raise InvalidInputError("interface", f"interface: {self.interface!r} is not the name of an interface")
        _check_range("sync_id", self.sync_id, 0, MAX_SYNC_ID)
        if self.max_length is not None:
            _check_range("max_length", self.max_length, 1, MAX_SYNC_LENGTH)
        if self.group is not None and not self.group.is_multicast:
            raise InvalidInputError("group", f"group: {self.group} is not a multicast address")
        if self.port is not None:
            check_port(self.port, "port", zero=False)
        if self.ttl is not None:
            _check_range("ttl", self.ttl, 1, 255)
        return self

    @property
    def headers(self) -> int:
        """Bytes of the headers of IP and UDP before each message."""
        return 28 if self.group is None or self.group.version == 4 else 48

    @property
    def fitted_length(self) -> int | None:
        """What the kernel makes of max_length."""
        if self.max_length is None:
            return None
        smallest = SMALLEST_BACKUP_LENGTH if self.role is SyncRole.BACKUP else 1
        return max(smallest, min(self.max_length, LARGEST_PACKET - self.headers))

    def differences(self, found: SyncDaemon) -> list[str]:
        """Return the names of the fields that were chosen and are others in a daemon of the same role that runs."""
        names = ("interface", "sync_id", "max_length", "group", "port", "ttl")
        wanted = {name: getattr(self, name) for name in names} | {"max_length": self.fitted_length}
        return [name for name, value in wanted.items() if value is not None and value != getattr(found, name)]

    def __str__(self) -> str:
        return f"{self.role} on {self.interface}, sync id {self.sync_id}"


def parse_role(text: str) -> SyncRole:
    """Read master or backup; raises InvalidInputError."""
    for role in SyncRole:
        if text == str(role):
            return role
    raise InvalidInputError("role", f"role: {text!r} is not master or backup")


def _check_range(field: str, value: int, smallest: int, largest: int) -> None:
    if not smallest <= value <= largest:
        raise InvalidInputError(field, f"{field}: {value} is out of range ({smallest} to {largest})")
