"""How often one add-backend makes each host's disk sync: what SQLite commits, by its own trace. Run by `make bench`."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from pathlib import Path

from agent_common.operation import Operation
from agent_common.proposal import Proposal
from agent_common.sqlite_state import SqliteState
from agent_common.transaction import Participant
from cli import operations
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost, holder

MOST_SYNCS = 10
"""On each host (DESIGN.md's budget for one director and one real server)."""

NAME = "add-backend"


class Syncs:
    """Counts the transactions of a connection: with synchronous=FULL each of them is one fsync of the log."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.count = 0
        self._inside = False
        connection.set_trace_callback(self._trace)

    def _trace(self, statement: str) -> None:
        word = statement.split(maxsplit=1)[0].upper()
        if word == "BEGIN":
            self._inside = True
        elif word in ("COMMIT", "ROLLBACK"):
            self.count += word == "COMMIT"
            self._inside = False
        elif word in ("INSERT", "DELETE", "UPDATE"):
            self.count += not self._inside  # a transaction of its own


def main() -> int:
    """Print the figures."""
    found = asyncio.run(count())
    for name, syncs in found.items():
        print(f"{name:12} {syncs:3} syncs for one add-backend (at most {MOST_SYNCS})")
    return 0 if max(found.values()) <= MOST_SYNCS else 1


async def count() -> dict[str, int]:
    """Add a backend where nothing is yet, on a director and a real server with SQLite on a real disk."""
    with tempfile.TemporaryDirectory() as folder:
        states = [SqliteState(Path(folder) / name) for name in ("director", "real server")]
        director = DirectorHost(state=states[0])  # type: ignore[arg-type]  # the fakes keep to the same Protocol
        rs = RealServerHost(state=states[1])  # type: ignore[arg-type]
        counts = [Syncs(state.connection) for state in states]
        hold = operations.create_vip(VIP, holder(WEB, "id"))
        await rs.transactions.prepare(_proposal(hold))
        await director.transactions.prepare(
            _proposal(
                operations.create_virtual_server(WEB, None, None),
                operations.create_vip(VIP, holder(WEB, "id"), device="eth0"),
                operations.create_destination(WEB, destination("192.168.0.104").key, None, None),
            )
        )
        await rs.transactions.ready(NAME, 0)
        await director.transactions.commit(NAME, 0)
        await rs.transactions.commit(NAME, 0)
        for state in states:
            state.close()
        return {"director": counts[0].count, "real server": counts[1].count}


def _proposal(*asked: Operation) -> Proposal:
    members = (Participant(agent_id="id"),)
    return Proposal(id=NAME, authority="id", participants=members, operations=asked, lease=60.0)


if __name__ == "__main__":
    sys.exit(main())
