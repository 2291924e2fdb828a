"""Decides about a whole table: what makes it of the one that is there, how that is written, and how it is taken back.

It is one change, and a few sends of many messages, whatever its size; each thing in it is recorded as by its own noun.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from lvsagent.v1 import table_pb2

from agent_common import wire
from agent_common.changes import Outcome, Reverted
from agent_common.destination import WHOLE, Standing
from agent_common.drift import DestinationName
from agent_common.errors import ConflictError, DiffersError, NotFoundError, Reason
from agent_common.garbage import uncollected
from agent_common.operation import Change
from agent_common.state import State
from agent_common.table import Entry, ServerStep, Table, TableStep, find, in_kernel, opposite, verb_of
from agent_common.virtual_server import VirtualServer, VirtualServerKey
from agent_common.wire_table import pack_steps, unpack_steps, unpack_table
from agent_director.destination import Destinations
from agent_director.health_records import HealthRecords
from agent_director.ipvs import Ipvs
from agent_director.shadow import Shadow
from agent_director.table_health import TablePolicies
from agent_director.table_plan import Name, as_intended, steps_back, steps_between, taken_in
from agent_director.virtual_server import VirtualServers

TOLD = 10
"""So many things are told one by one; of thousands that differ nobody reads more."""


class Tables:
    """The table of this director as a whole."""

    def __init__(
        self,
        ipvs: Ipvs,
        state: State,
        virtual_servers: VirtualServers,
        destinations: Destinations,
        shadow: Shadow,
        health: HealthRecords,
        policies: TablePolicies,
    ) -> None:
        self._health = health
        self._policies = policies
        self._ipvs = ipvs
        self._state = state
        self._virtual_servers = virtual_servers
        self._destinations = destinations
        self._shadow = shadow
        self._planned: tuple[bytes, Sequence[TableStep]] = (b"", ())

    @uncollected()
    def plan(self, request: table_pb2.WantedTable) -> Change:
        """Plan what makes the table that is asked for of the one that is there."""
        wanted: Table = unpack_table(request.entries)
        current, foreign = self._read(None if request.replace else wanted)
        for key, entry in wanted.items():
            if entry.virtual_server is None and key not in current:
                raise NotFoundError(
                    f"there is no virtual server {key}", Reason.VIRTUAL_SERVER_NOT_FOUND, virtual_server=str(key)
                )
        wanted = as_intended(current, wanted, self._health.standing)
        steps = list(steps_between(current, wanted, replace=request.replace))
        if request.replace:
            steps += taken_in(current, wanted, foreign)
        else:
            _refuse_edits(steps)
        self._shadow.check_all(step.key for step in steps if isinstance(step, ServerStep) and step.before is None)
        was_foreign = set(foreign)
        steps = [
            step if step.before is None or _name(step) in was_foreign else replace(step, was_managed=True)
            for step in steps
        ]
        change = _change(steps)
        stays_foreign = was_foreign.difference(map(_name, steps))
        asked = {
            key: _to_be(entry, current.get(key, Entry()), stays_foreign, replace=request.replace)
            for key, entry in wanted.items()
            if entry.health is not None
        }
        self._plan_policies(change, steps, asked, stays_foreign, replace=request.replace)
        self._planned = (change.table.steps, steps)
        return change

    def _plan_policies(
        self, change: Change, steps: Sequence[TableStep], asked: Table, foreign: Collection[Name], *, replace: bool
    ) -> None:
        """Plan how destinations are checked; asked are the virtual servers to be of which the table says that."""
        servers = {step.key: step.after for step in steps if isinstance(step, ServerStep)}
        planned = list(self._policies.plan(servers, asked, foreign, replace=replace))
        change.table.health.extend(planned)
        change.warnings.extend(self._policies.unreachable(asked))
        come = [wire.unpack_key(each.virtual_server) for each in planned if each.HasField("after")]
        if come:
            change.made = True
            change.actions.append(f"set the health checks of {_count(len(come), 'virtual server')}")
            named = {step.server for step in steps}
            change.table.virtual_servers.extend(wire.pack_key(key) for key in come if key not in named)

    @uncollected()
    def write(self, change: table_pb2.TableChange) -> None:
        """Record every step, have the kernel carry them out, and read the table back."""
        steps = self._steps(change)
        with self._state.transaction():
            self._begin(steps)
            wanted = [seen for step in steps if (seen := in_kernel(step, self._standing(step))) is not None]
            self._record([(step, True) for step in steps])
            self._policies.write(change.health)
        self._take([step for step in wanted if verb_of(step) != "adopt"])
        current = self._in_kernel({step.server for step in steps})
        for step in wanted:
            if find(current, step) != step.after:
                raise ConflictError(
                    f"{step} is not as it was written: somebody changes it too", Reason.CHANGED_MEANWHILE
                )

    @uncollected()
    def revert(self, change: table_pb2.TableChange) -> Reverted:
        """Take back each step that still is as it was left, the last first, and bring the records back."""
        steps = unpack_steps(change.steps)
        undo = [opposite(step) for step in reversed(steps)]
        with self._state.transaction():
            policies, others = self._policies.revert(change.health)
            there = self._in_kernel({step.server for step in steps})
            self._begin_again([step for step in undo if step.was_managed and not self._stands(step, there)], there)
            back, kept = steps_back(steps, there, self._health.standing)
            self._record([(step, step.was_managed) for step in undo])
        self._take(back)
        details = [f"{step} stays: somebody changed it meanwhile" for step in kept[:TOLD]]
        details += [f"the checks of {key} stay: somebody changed them meanwhile" for key in others[:TOLD]]
        if back:
            details.append(f"put back {_count(len(back), 'thing')} of the table")
        if policies:
            details.append(f"put back the health checks of {_count(policies, 'virtual server')}")
        outcome = Outcome.KEPT if kept or others else Outcome.REVERTED if back or policies else Outcome.NOTHING
        return Reverted(outcome=outcome, details=tuple(details))

    def _begin(self, steps: Sequence[TableStep]) -> None:
        """Say how the destinations that come stand until they are checked."""
        self._destinations.begin(
            [(each.server, each.key) for each in steps if not isinstance(each, ServerStep) and each.before is None]
        )

    def _begin_again(self, steps: Sequence[TableStep], there: Table) -> None:
        """Say so of those that come back; who was in and has really gone is believed to be up."""
        come = [each for each in steps if not isinstance(each, ServerStep) and each.before is None]
        self._health.prove_again((each.server, each.key) for each in come if find(there, each) is None)
        self._begin(come)

    def _stands(self, step: TableStep, there: Table) -> bool:
        """Whether the kernel has what a step leads to, as the checks have that stand."""
        shall = in_kernel(step, self._standing(step))
        return find(there, step) == (shall.after if shall is not None else None)

    def _standing(self, step: TableStep) -> Standing:
        return WHOLE if isinstance(step, ServerStep) else self._health.standing(step.server, step.key)

    def _steps(self, change: table_pb2.TableChange) -> Sequence[TableStep]:
        """Return the steps of a change; of the one that was planned last they need not be read again."""
        planned, steps = self._planned
        self._planned = (b"", ())
        return steps if change.steps == planned else unpack_steps(change.steps)

    def _read(self, only: Collection[VirtualServerKey] | None) -> tuple[dict[VirtualServerKey, Entry], list[Name]]:
        """Return the table, or some of its virtual servers, as it is meant, and what in it this agent did not make."""
        ours = set(self._virtual_servers.managed_keys())
        table: dict[VirtualServerKey, Entry] = {}
        foreign: list[Name] = []
        for server in self._servers(only):
            statuses = self._destinations.list_all(server.key)
            if server.key not in ours:
                foreign.append(server.key)
            foreign += [
                DestinationName(server=server.key, key=each.destination.key) for each in statuses if not each.managed
            ]
            table[server.key] = Entry(
                virtual_server=server, destinations={each.destination.key: each.destination for each in statuses}
            )
        return table, foreign

    def _in_kernel(self, only: Collection[VirtualServerKey]) -> dict[VirtualServerKey, Entry]:
        """Return some virtual servers as the kernel has them, whatever is on record."""
        return {
            server.key: Entry(
                virtual_server=server,
                destinations={each.destination.key: each.destination for each in self._ipvs.destinations(server.key)},
            )
            for server in self._servers(only)
        }

    def _servers(self, only: Collection[VirtualServerKey] | None) -> Iterable[VirtualServer]:
        servers = self._virtual_servers.list_all()
        return servers if only is None else (server for server in servers if server.key in only)

    def _take(self, steps: Sequence[TableStep]) -> None:
        """Have the kernel carry out steps; raises the error of the first that failed."""
        errors = [error for error in self._ipvs.take(steps) if error is not None]
        if errors:
            errors[0].message += _and_more(len(errors) - 1)
            raise errors[0]

    def _record(self, steps: Sequence[tuple[TableStep, bool]]) -> None:
        """Put on disk how each thing is to be, and whether it is this agent's own."""
        for step, managed in steps:
            if not isinstance(step, ServerStep):
                continue
            if step.after is None or not managed:
                self._virtual_servers.forget(step.key)
            else:
                self._virtual_servers.record(step.after)
        self._destinations.set_records(
            (step.server, step.key, step.after, managed) for step, managed in steps if not isinstance(step, ServerStep)
        )


def _name(step: TableStep) -> Name:
    return step.key if isinstance(step, ServerStep) else DestinationName(server=step.server, key=step.key)


def _to_be(wanted: Entry, there: Entry, foreign: Collection[Name], *, replace: bool) -> Entry:
    """Return a virtual server as a table makes it, without destinations that somebody else has added."""
    server = wanted.virtual_server or there.virtual_server
    assert server is not None  # noqa: S101  # what is neither there nor asked for was refused
    ours = {
        key: each
        for key, each in there.destinations.items()
        if not replace and DestinationName(server=server.key, key=key) not in foreign
    }
    return Entry(virtual_server=server, destinations={**ours, **wanted.destinations}, health=wanted.health)


def _refuse_edits(steps: Sequence[TableStep]) -> None:
    """Raise DiffersError for what is there and differs."""
    others = [step for step in steps if step.before is not None]
    if others:
        reason = Reason.VIRTUAL_SERVER_DIFFERS if isinstance(others[0], ServerStep) else Reason.DESTINATION_DIFFERS
        names = ", ".join(map(str, others[:TOLD]))
        raise DiffersError(
            f"there already, and other than asked for: {names}{_and_more(len(others) - TOLD)}; "
            "edit or remove them first, or replace the table (lvs restore --replace)",
            reason,
            virtual_server=str(others[0].server),
        )


def _change(steps: Sequence[TableStep]) -> Change:
    counts = Counter(map(verb_of, steps))
    table = table_pb2.TableChange(
        steps=pack_steps(steps),
        added=counts["add"],
        edited=counts["edit"],
        removed=counts["remove"],
        adopted=counts["adopt"],
        virtual_servers=[wire.pack_key(key) for key in dict.fromkeys(step.server for step in steps)],
    )
    actions = [f"{verb} {_count(number, 'thing')}" for verb, number in counts.items()]
    return Change(made=bool(steps), table=table, actions=actions)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _and_more(number: int) -> str:
    return f", and {number} more" if number > 0 else ""
