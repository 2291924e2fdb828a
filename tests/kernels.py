"""What the conftests share whose tests boot kernels of their own, on this machine."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest


def end_when_told() -> None:
    """Being told to end is an end like any other: no kernel, and no folder, is left."""
    signal.signal(signal.SIGTERM, lambda number, _frame: pytest.exit("told to end", 128 + number))


def leave_out_unless_named(config: pytest.Config, folder: Path) -> bool | None:
    """They are run by name: with all of tests/, a run of what needs no kernel would boot some."""
    named = [Path(arg.partition("::")[0]).resolve() for arg in config.args]
    return None if any(each.is_relative_to(folder) for each in named) else True
