"""What the lab's kernel is started with, so that its processes get their registers back where there are more (AMX)."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

from lab.boot import fetch
from tests.write_registers import LETTERS


def written(**environment: str) -> str:
    """What tests/write_registers.py prints."""
    argv = (sys.executable, "-m", "tests.write_registers")
    return subprocess.run(argv, env={**os.environ, **environment}, check=True, capture_output=True, text=True).stdout


def test_the_first_registers_alone_can_be_written_back() -> None:
    assert written().startswith(f"{errno.EFAULT} ")
    assert written(LD_PRELOAD=str(fetch() / "root/usr/lib/uml/whole_xstate.so")) == f"0 {LETTERS!r}\n"
