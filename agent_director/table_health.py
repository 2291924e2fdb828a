"""The policies of health checks in a whole table: they come, are changed and go with their virtual servers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from lvsagent.v1 import health_pb2

from agent_common import wire
from agent_common.destination import Destination
from agent_common.errors import DiffersError, InvalidInputError, LvsError, Reason
from agent_common.health import HealthPolicy
from agent_common.table import Entry, Table
from agent_common.virtual_server import VirtualServer, VirtualServerKey
from agent_common.wire_health import unpack_policy
from agent_director.health import foreign_server, health_change
from agent_director.health_records import HealthRecords
from agent_director.table_plan import Name

CheckPolicy = Callable[[HealthPolicy, VirtualServer, Sequence[Destination]], None]
"""Raises LvsError for a policy that does not go with a virtual server and its destinations, or with this director."""

HealthChanges = Iterable[health_pb2.HealthChange]


class TablePolicies:
    """The policies of this director, as a table has them."""

    def __init__(self, records: HealthRecords, check: CheckPolicy) -> None:
        self._records = records
        self._check = check

    def plan(
        self,
        servers: Mapping[VirtualServerKey, VirtualServer | None],
        asked: Table,
        foreign: Collection[Name],
        *,
        replace: bool,
    ) -> Iterator[health_pb2.HealthChange]:
        """Plan what goes with virtual servers, and what is asked for and differs; raises LvsError.

        servers are those that change (None: it goes), asked those of which the table says how they are checked, as they
        are to be, and foreign what will not be this agent's own.
        """
        for key, server in servers.items():
            policy = self._records.policy(key)
            if server is None and policy is not None:
                yield health_change(key, policy, None)
            elif server is not None and key not in asked:
                self._records.check_server(server)
        for key, entry in asked.items():
            before, after = self._records.policy(key), entry.health
            if key in foreign:
                raise foreign_server(key)
            self._check_one(key, entry)
            if before is not None and before != after and not replace:
                raise DiffersError(
                    f"{key} is checked already, and otherwise than asked for; change that first (lvs health set, "
                    "lvs health remove), or replace the table (lvs restore --replace)",
                    Reason.VIRTUAL_SERVER_DIFFERS,
                    virtual_server=str(key),
                )
            if before != after:
                yield health_change(key, before, after)

    def unreachable(self, asked: Table) -> Iterator[str]:
        """Tell of quorums that the weights never come to: what was saved so must come back so."""
        for key, entry in asked.items():
            try:
                if entry.health is not None:
                    entry.health.check_quorum(list(entry.destinations.values()))
            except InvalidInputError as error:
                yield f"{key}: {error.message}"

    def write(self, changes: HealthChanges) -> None:
        """Keep the policies as they are after a change; those that go have gone with their virtual servers."""
        for each in changes:
            if each.HasField("after"):
                self._records.set_policy(wire.unpack_key(each.virtual_server), unpack_policy(each.after))

    def revert(self, changes: HealthChanges) -> tuple[int, list[VirtualServerKey]]:
        """Bring back the policies before a change; return how many, and those that somebody changed meanwhile."""
        done = 0
        kept = []
        for each in changes:
            key = wire.unpack_key(each.virtual_server)
            before = unpack_policy(each.before) if each.HasField("before") else None
            after = unpack_policy(each.after) if each.HasField("after") else None
            current = self._records.policy(key)
            if current == before:
                continue
            if current != after:
                kept.append(key)
                continue
            self._records.set_policy(key, before)
            done += 1
        return done, kept

    def _check_one(self, key: VirtualServerKey, entry: Entry) -> None:
        assert entry.health is not None  # noqa: S101  # it is asked for
        assert entry.virtual_server is not None  # noqa: S101  # it is as it is to be
        try:
            self._check(entry.health, entry.virtual_server, list(entry.destinations.values()))
        except LvsError as error:
            error.message = f"entries.health of {key}: {error.message}"
            error.field = "entries.health"
            raise
