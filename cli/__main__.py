"""The program lvs (also installed as lvsctl)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
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
    # Before grpc is imported: its own lines about TLS come in the middle of ours, and say nothing to an operator.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from cli.app import make_app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.exit("lvs: the command line is not installed; install it with: pip install 'lvs-agents[cli]'")
    try:
        sys.exit(make_app(sys.argv[1:])(prog_name="lvs", standalone_mode=False))
    except InvalidInputError as error:
        sys.stderr.write(f"lvs: {error.message}\n")
        message = error.message
    except Exception as error:
        # typer has no public name for the exceptions of its parser; this is what they have and others have not.
        if not (hasattr(error, "show") and hasattr(error, "format_message")):
            raise
        error.show()
        message = error.format_message()
    _end_invalid(message)


def _end_invalid(message: str) -> None:
    """End with status 2; a script that asked for JSON gets its document all the same."""
    from cli.errors import ExitStatus
    from cli.outcome import Outcome
    from cli.settings import output_of
    from cli.terminal import Terminal

    outcome = Outcome(status=ExitStatus.USAGE, message=message)
    if output_of(sys.argv[1:]) == "json":
        Terminal("json").document(outcome.as_json())
    sys.exit(int(outcome.status))


def program() -> None:
    """Run main, and end at once: to take every object apart first is a tenth of the time of a command."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who called; no connection of ours may get its number
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # until the end
    try:
        main()
    except SystemExit as ended:
        with contextlib.suppress(OSError):  # who does not read what we print meets the usual end
            sys.stdout.flush()
            sys.stderr.flush()
            if ended.code is None or isinstance(ended.code, int):
                os._exit(ended.code or 0)
        raise


if __name__ == "__main__":
    program()
