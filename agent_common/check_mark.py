"""The firewall marks that a director uses for checks of its own, and nobody else may. No I/O."""

from __future__ import annotations

from agent_common.virtual_server import FirewallMark, VirtualServerKey

FIRST_MARK = 0x4C560000
"""1280704512: "LV"; marks that people choose are small, or a bit or two."""

MARKS = 0x1000
"""So many of them: each check through a VIP that is made at the moment has one."""


def is_check_mark(key: VirtualServerKey) -> bool:
    """Whether a virtual server is that of a check: it stands in the kernel for as long as the check takes."""
    return isinstance(key, FirewallMark) and FIRST_MARK <= key.mark < FIRST_MARK + MARKS
