"""Reads the network settings that decide about forwarding and expiry, from /proc/sys/net."""

from __future__ import annotations

from pathlib import Path

from agent_common.errors import Reason, RefusedError

_NET = Path("/proc/sys/net")
_PATTERNS = (
    "ipv4/ip_forward",
    "ipv4/conf/*/rp_filter",
    "ipv4/conf/*/send_redirects",
    "ipv4/vs/expire_*",
    "ipv6/conf/*/accept_redirects",
    "ipv6/conf/*/forwarding",
)


def forwarding_settings(net: Path = _NET) -> dict[str, int]:
    """Return what routing and IPVS are set to, by the path below /proc/sys/net; what is not there is left out.

    Raises RefusedError for what cannot be read.
    """
    values = {}
    for pattern in _PATTERNS:
        for path in sorted(net.glob(pattern)):
            try:
                values[str(path.relative_to(net))] = int(path.read_text(encoding="ascii"))
            except FileNotFoundError:  # the interface went away while we looked
                continue
            except (OSError, ValueError) as error:
                raise RefusedError(f"cannot read {path}: {error}", Reason.KERNEL_REFUSED) from error
    return values
