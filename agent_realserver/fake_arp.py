"""agent_realserver.arp.ArpSysctls in memory, for tests of what decides."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from agent_common.kernel_errors import kernel_refusal
from agent_realserver.arp import ALL, ArpName, ArpValues, SysctlKey


class FakeArpSysctls:
    """A host's sysctls: every value is 0 unless given, as after a boot; writes are kept in their order."""

    def __init__(self, interfaces: Iterable[str] = ("lo", "eth0"), values: ArpValues | None = None) -> None:
        self._interfaces = sorted(interfaces)
        self._values: dict[SysctlKey, int] = {(each, name): 0 for each in (ALL, *self._interfaces) for name in ArpName}
        self._values.update(values or {})
        self.writes: list[tuple[str, ArpName, int]] = []

    def interfaces(self) -> list[str]:
        """Return the interfaces."""
        return list(self._interfaces)

    def read(self, interface: str, name: ArpName) -> int:
        """Return the interface's own value."""
        self._check(interface, f"read {interface}/{name}")
        return self._values[interface, name]

    def write(self, interface: str, name: ArpName, value: int) -> None:
        """Set a value."""
        self._check(interface, f"set {interface}/{name} to {value}")
        self._values[interface, name] = value
        self.writes.append((interface, name, value))

    def _check(self, interface: str, doing: str) -> None:
        if interface not in (ALL, *self._interfaces):
            raise kernel_refusal(errno.ENODEV, doing)
