"""Random operations on virtual servers and destinations: after each the kernel, the listing and a model are the same.

The model has what the API promises (proto/lvsagent/v1) and nothing of how it is done. One sequence runs in `make test`
and many in `make faults`; one that fails prints its seed and its steps so far, and --seed repeats it.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import pytest

from agent_common.destination import Destination, Forwarding, Tunnel
from agent_common.errors import LvsError, Reason
from agent_common.operation import Operation
from agent_common.table import Entry
from agent_common.virtual_server import FirewallMark, ServiceAddress, VirtualServer, VirtualServerKey, family_of
from cli import operations
from cli.client import AgentClient
from cli.reading import list_drift, list_virtual_servers, table_of
from lab.host import Host
from tests.lab import ipvsadm
from tests.lab.combinations import Row, destination, key_of, pairwise, virtual_server
from tests.lab.operator import Operator
from tests.lab.test_pairwise import clear, rules, saved, without_flag_3

STEPS = 80

SEQUENCES = 12
"""So many where all run."""

MASKS = (
    ("forwarding_method", "weight", "upper_threshold", "lower_threshold", "tunnel"),
    ("forwarding_method", "tunnel"),
    ("forwarding_method",),
    ("upper_threshold", "lower_threshold"),
    ("weight",),
)
"""What is edited of a destination."""

Table = dict[VirtualServerKey, Entry]


class RefusedError(Exception):
    """The model refuses a step."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An operation, in words, and what it does to the model; which raises RefusedError."""

    text: str
    operation: Operation
    change: Callable[[Table], None]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Many, or one."""
    if "case" in metafunc.fixturenames:
        every = metafunc.config.getoption("--faults") == "all"
        first = metafunc.config.getoption("--seed")
        metafunc.parametrize("case", range(first, first + (SEQUENCES if every else 1)))


def test_kernel_listing_and_model_stay_equal(operator: Operator, case: int) -> None:
    """What is refused changes nothing, and of several operations in a batch all are done or none."""
    choose = Random(case)  # noqa: S311  # repeatable
    print(f"seed {case}")

    async def run(client: AgentClient) -> None:
        rows = list(pairwise(choose, mistakes=0))
        table: Table = {}
        refused = 0
        try:
            for _ in range(STEPS):
                before = table
                table = await take_some(client, table, choose, rows)
                refused += table is before
                await compare(client, operator.site.director, table)
        finally:
            await clear(client)
        assert 5 < refused < STEPS - 20

    operator.ask(run)
    assert rules(operator.site.director) == ""


async def take_some(client: AgentClient, table: Table, choose: Random, rows: Sequence[Row]) -> Table:
    """Take a step, or several in a batch; return the model after them, the same one if they are refused."""
    steps, after, expected = some_steps(choose, table, rows)
    print(*(step.text for step in steps), f"  {expected or 'done'}", sep="\n")
    reason = None
    try:
        if len(steps) == 1 and choose.random() < 0.7:
            await client.apply(steps[0].operation, str(uuid.uuid4()))
        else:
            await client.apply_all([step.operation for step in steps], str(uuid.uuid4()))
    except LvsError as error:
        reason = error.reason
    assert reason == expected
    return after


def some_steps(choose: Random, table: Table, rows: Sequence[Row]) -> tuple[list[Step], Table, Reason | None]:
    """Choose steps; return them, and the model after them or why the last one is refused."""
    steps: list[Step] = []
    after = {
        key: Entry(virtual_server=each.virtual_server, destinations=dict(each.destinations))
        for key, each in table.items()
    }
    for _ in range(choose.choice((1, 1, 1, 2, 3, 4))):
        steps.append(some_step(choose, after, rows))
        try:
            steps[-1].change(after)
        except RefusedError as error:
            return steps, table, error.reason
    return steps, after, None


def some_step(choose: Random, table: Table, rows: Sequence[Row]) -> Step:
    """Choose a step, more often about what is there."""
    known = [row for row in rows if key_of(row) in table]
    row = choose.choice(known if known and choose.random() < 0.85 else rows)
    there = table.get(key_of(row), Entry())
    server = choose.choice([virtual_server(row), there.virtual_server or virtual_server(row)])
    if there.virtual_server is None and choose.random() < 0.75:
        return add_server(server)
    new = destination(row)
    old = choose.choice(list(there.destinations.values()) or [new])
    wanted = dataclasses.replace(new, key=old.key) if choose.random() < 0.9 else new
    kinds = {
        lambda: add_server(server): 3,
        lambda: edit_server(server, choose): 3,
        lambda: remove_server(server.key, force=choose.random() < 0.6): 2,
        lambda: add_destination(server.key, new): 9,
        lambda: add_destination(server.key, old): 1,
    }
    if there.destinations or choose.random() < 0.1:
        kinds |= {
            lambda: edit_destination(server.key, wanted, choose.choice(MASKS)): 4,
            lambda: weigh(server.key, wanted): 3,
            lambda: drain(server.key, wanted, draining=choose.random() < 0.6): 5,
            lambda: remove_destination(server.key, wanted): 2,
        }
    return choose.choices(list(kinds), list(kinds.values()))[0]()


def add_server(server: VirtualServer) -> Step:
    def change(table: Table) -> None:
        there = table.setdefault(server.key, Entry(virtual_server=server)).virtual_server
        assert there is not None
        # Neither no persistence nor no engine can be asked for: both match whatever is there.
        engine = server.persistence_engine or there.persistence_engine
        wanted = dataclasses.replace(
            server, persistence=server.persistence or there.persistence, persistence_engine=engine
        )
        if wanted != there:
            raise RefusedError(Reason.VIRTUAL_SERVER_DIFFERS)

    operation = operations.create_whole_virtual_server(server)
    return Step(text=f"add {ipvsadm.add_virtual_server(server)}", operation=operation, change=change)


def edit_server(server: VirtualServer, choose: Random) -> Step:
    """Set some fields; one time in four end persistence, too, which a port 0 needs."""
    mask = choose.sample(operations.SERVER_FIELDS, choose.randint(1, 5))
    if choose.random() < 0.25:
        server, mask = dataclasses.replace(server, persistence=None), [*{*mask, "persistence"}]

    def change(table: Table) -> None:
        there = table.get(server.key, Entry()).virtual_server
        if there is None:
            raise RefusedError(Reason.VIRTUAL_SERVER_NOT_FOUND)
        edited = dataclasses.replace(there, **{field: getattr(server, field) for field in mask})
        if isinstance(server.key, ServiceAddress) and server.key.port == 0 and edited.persistence is None:
            raise RefusedError(Reason.INVALID_FIELD)
        table[server.key].virtual_server = edited

    operation = operations.update_virtual_server(server, mask)
    text = f"edit {', '.join(mask)}: {ipvsadm.add_virtual_server(server)}"
    return Step(text=text, operation=operation, change=change)


def remove_server(key: VirtualServerKey, *, force: bool) -> Step:
    def change(table: Table) -> None:
        if table.get(key, Entry()).destinations and not force:
            raise RefusedError(Reason.IN_USE)
        table.pop(key, None)

    operation = operations.delete_virtual_server(key, force=force)
    return Step(text=f"{'force' if force else 'remove'} {key}", operation=operation, change=change)


def add_destination(key: VirtualServerKey, wanted: Destination) -> Step:
    wanted = dataclasses.replace(wanted, draining=False)

    def change(table: Table) -> None:
        check_fits(key, wanted)
        if key not in table:
            raise RefusedError(Reason.VIRTUAL_SERVER_NOT_FOUND)
        there = table[key].destinations.setdefault(wanted.key, wanted)
        if there.draining:
            raise RefusedError(Reason.DESTINATION_DRAINING)
        if there != wanted:
            raise RefusedError(Reason.DESTINATION_DIFFERS)

    operation = operations.create_whole_destination(key, wanted, MASKS[0])
    return Step(text=f"add {ipvsadm.add_destination(key, wanted)}", operation=operation, change=change)


def edit_destination(key: VirtualServerKey, wanted: Destination, mask: Sequence[str]) -> Step:
    fields = ["forwarding" if each == "forwarding_method" else each for each in mask]

    def change(table: Table) -> None:
        there = find(table, key, wanted)
        edited = dataclasses.replace(there, **{field: getattr(wanted, field) for field in fields})
        if edited.forwarding is not Forwarding.TUNNELING:
            edited = dataclasses.replace(edited, tunnel=Tunnel())
        check_fits(key, edited)
        table[key].destinations[wanted.key] = edited

    operation = operations.update_whole_destination(key, wanted, mask)
    text = f"edit {', '.join(mask)}: {ipvsadm.add_destination(key, wanted)}"
    return Step(text=text, operation=operation, change=change)


def weigh(key: VirtualServerKey, wanted: Destination) -> Step:
    def change(table: Table) -> None:
        there = find(table, key, wanted)
        table[key].destinations[wanted.key] = dataclasses.replace(there, weight=wanted.weight)

    operation = operations.update_destination(key, wanted.key, weight=wanted.weight)
    return Step(text=f"weight {wanted.weight}: {wanted.key} in {key}", operation=operation, change=change)


def drain(key: VirtualServerKey, wanted: Destination, *, draining: bool) -> Step:
    def change(table: Table) -> None:
        there = find(table, key, wanted)
        table[key].destinations[wanted.key] = dataclasses.replace(there, draining=draining)

    operation = operations.update_destination(key, wanted.key, draining=draining)
    return Step(text=f"{'drain' if draining else 'undrain'} {wanted.key} in {key}", operation=operation, change=change)


def remove_destination(key: VirtualServerKey, wanted: Destination) -> Step:
    def change(table: Table) -> None:
        table.get(key, Entry()).destinations.pop(wanted.key, None)

    operation = operations.delete_destination(key, wanted.key)
    return Step(text=f"remove {wanted.key} in {key}", operation=operation, change=change)


def find(table: Table, key: VirtualServerKey, wanted: Destination) -> Destination:
    """Return what the model has of a destination."""
    there = table.get(key, Entry()).destinations.get(wanted.key)
    if there is None:
        raise RefusedError(Reason.DESTINATION_NOT_FOUND)
    return there


def check_fits(key: VirtualServerKey, wanted: Destination) -> None:
    """Refuse another family without a tunnel, and another port without nat."""
    joins = wanted.forwarding is Forwarding.TUNNELING or family_of(wanted.key.address) is key.family
    translates = wanted.forwarding is Forwarding.MASQUERADING
    if not joins or not (translates or isinstance(key, FirewallMark) or wanted.key.port == key.port):
        raise RefusedError(Reason.INVALID_FIELD)


async def compare(client: AgentClient, director: Host, table: Table) -> None:
    """Kernel, listing and model are equal, and what is on record of each."""
    lines, thresholds = [], []
    for key, entry in table.items():
        assert entry.virtual_server is not None
        lines.append(ipvsadm.saved_virtual_server(entry.virtual_server))
        for each in entry.destinations.values():
            shown = dataclasses.replace(each, weight=0 if each.draining else each.weight)
            lines.append(ipvsadm.saved_destination(key, shown))
            thresholds.append((str(each.key), each.upper_threshold, each.lower_threshold))
    text = rules(director)
    assert sorted(line.rstrip() for line in text.splitlines()) == sorted(lines)
    found = [row.split() for row in director.out("ipvsadm", "-Ln", "--thresholds").splitlines()[3:]]
    assert sorted((row[1], int(row[2]), int(row[3])) for row in found if row[0] == "->") == sorted(thresholds)
    servers = await list_virtual_servers(client)
    assert table_of(servers) == table
    assert all(each.status.managed and all(one.managed for one in each.destinations) for each in servers)
    assert without_flag_3(await saved(client)) == text
    assert await list_drift(client, look_now=True) == []
