"""What the name of an RPC says of it. No I/O."""

from __future__ import annotations

_READS = ("Get", "List", "Check")


def only_reads(method: str) -> bool:
    """Whether an RPC changes nothing, by its name alone: ListVips."""
    return method.startswith(_READS)
