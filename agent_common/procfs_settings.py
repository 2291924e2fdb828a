"""Reads the network settings that decide about forwarding, from /proc/sys/net."""

from __future__ import annotations

from pathlib import Path

_NET = Path("/proc/sys/net")
_PATTERNS = ("ipv4/ip_forward", "ipv4/conf/*/rp_filter", "ipv4/conf/*/send_redirects", "ipv6/conf/*/forwarding")


def forwarding_settings() -> dict[str, int]:
    """Return ip_forward, every rp_filter, send_redirects and IPv6 forwarding, by their path below /proc/sys/net."""
    values = {}
    for pattern in _PATTERNS:
        for path in sorted(_NET.glob(pattern)):
            try:
                values[str(path.relative_to(_NET))] = int(path.read_text(encoding="ascii"))
            except FileNotFoundError:  # the interface went away while we looked
                continue
    return values
