"""What the name of an RPC says of it. No I/O."""

from __future__ import annotations

_READS = ("Get", "List", "Check")
_WAITS = ("Probe",)


def only_reads(method: str) -> bool:
    """Whether an RPC changes nothing, by its name alone: ListVips."""
    return method.startswith(_READS)


def only_waits(method: str) -> bool:
    """Whether an RPC may end at any moment with nothing half done, by its name alone: ProbeDestination."""
    return method.startswith(_WAITS)
