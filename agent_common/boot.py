"""Tells one boot of the host from another."""

from __future__ import annotations

from pathlib import Path

from agent_common.state import State

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Made by the kernel at each boot (random(4))."""


def boot_id() -> str:
    """Return the name of this boot."""
    return BOOT_ID.read_text(encoding="ascii").strip()


def is_new_boot(state: State, boot: str) -> bool:
    """Whether the agent that kept this state last ran in another boot, or never."""
    body = state.get("agent", "boot")
    return body is None or body["id"] != boot


def note_boot(state: State, boot: str) -> None:
    """Remember that what was committed is restored for this boot."""
    state.put("agent", "boot", {"id": boot})
