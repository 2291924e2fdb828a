"""The program lvs (also installed as lvsctl)."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from agent_common.errors import InvalidInputError


def _interrupted(number: int, frame: FrameType | None) -> None:
    """End the program while it still loads; no agent has been asked for anything yet."""
    sys.stderr.write("lvs: interrupted; nothing was changed\n")
    sys.exit(10)


def main() -> None:
    """Run the command line; the only place that ends the program."""
    for number in (signal.SIGINT, signal.SIGTERM):  # until the event loop takes them over
        signal.signal(number, _interrupted)
    try:
        from cli.app import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.exit("lvs: the command line is not installed; install it with: pip install 'lvs-agents[cli]'")
    try:
        app(prog_name="lvs")
    except InvalidInputError as error:
        sys.stderr.write(f"lvs: {error.message}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
