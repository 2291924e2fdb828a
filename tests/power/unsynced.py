"""The control of the power cuts: an agent whose journal does not sync. It must lose what it has acknowledged.

python -m tests.power.unsynced director|realserver [THE AGENT'S OPTIONS]
"""

from __future__ import annotations

import sys
from pathlib import Path

from agent_common.sqlite_state import SqliteState


def open_unsynced(directory: Path) -> SqliteState:
    """Open the agents' own state, and have SQLite leave it to the kernel when it gets to the disk."""
    state = SqliteState(directory)
    state.connection.execute("PRAGMA synchronous = OFF")
    return state


def main() -> None:
    """Run the agent."""
    role = sys.argv.pop(1)
    if role == "director":
        from agent_director.__main__ import main as run
    else:
        from agent_realserver.__main__ import main as run
    run(open_unsynced)


if __name__ == "__main__":
    main()
