"""The ARP sysctls in /proc/sys/net/ipv4/conf (Documentation/networking/ip-sysctl.rst)."""

from __future__ import annotations

import errno
from pathlib import Path

from agent_common.errors import InternalError, LvsError, Reason, RefusedError
from agent_common.kernel_errors import kernel_refusal
from agent_realserver.arp import ALL, ArpName

CONF = Path("/proc/sys/net/ipv4/conf")

DENIALS = frozenset({errno.EPERM, errno.EACCES, errno.EROFS})
"""How /proc/sys says that CAP_NET_ADMIN is missing, or that the unit's sandbox makes it read-only."""

NOT_INTERFACES = frozenset({ALL, "default"})


class ProcfsArpSysctls:
    """agent_realserver.arp.ArpSysctls for the kernel: those of the network namespace that the calling thread is in."""

    def __init__(self, conf: Path = CONF) -> None:
        self._conf = conf

    def interfaces(self) -> list[str]:
        """Return the interfaces that have sysctls, without "all" and "default"."""
        try:
            return sorted(path.name for path in self._conf.iterdir() if path.name not in NOT_INTERFACES)
        except OSError as error:
            raise _refusal(error, f"list {self._conf}") from error

    def read(self, interface: str, name: ArpName) -> int:
        """Return the interface's own value."""
        try:
            return int(self._path(interface, name).read_text(encoding="ascii"))
        except OSError as error:
            raise _refusal(error, f"read {interface}/{name}") from error
        except ValueError as error:
            raise InternalError(f"cannot read {interface}/{name}: {error}", Reason.INTERNAL) from error

    def write(self, interface: str, name: ArpName, value: int) -> None:
        """Set a value and read it back."""
        try:
            self._path(interface, name).write_text(f"{value}\n", encoding="ascii")
        except OSError as error:
            raise _refusal(error, f"set {interface}/{name} to {value}") from error
        found = self.read(interface, name)
        if found != value:
            message = f"cannot set {interface}/{name} to {value}: it reads {found} afterwards; something else sets it"
            raise RefusedError(message, Reason.KERNEL_REFUSED, interface=interface, sysctl=name)

    def _path(self, interface: str, name: ArpName) -> Path:
        # Dots in an interface's name are literal here; a slash no interface's name can hold (dev_valid_name).
        if interface in ("", ".", "..") or "/" in interface:
            raise RefusedError(f"cannot use {interface!r}: it is not an interface's name", Reason.NO_DEVICE)
        return self._conf / interface / name


def _refusal(error: OSError, doing: str) -> LvsError:
    number = errno.ENODEV if error.errno == errno.ENOENT else error.errno or errno.EIO
    return kernel_refusal(number, doing, denials=DENIALS)
