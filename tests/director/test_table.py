"""A whole table as one change: all of it or nothing, the least that leads there, and its records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest
from lvsagent.v1 import table_pb2

from agent_common import wire
from agent_common.changes import KEPT_TABLES, Outcome
from agent_common.destination import Destination, Forwarding, effective
from agent_common.errors import ConflictError, DiffersError, InvalidInputError, LvsError, NotFoundError, Reason
from agent_common.locks import claims_of
from agent_common.operation import Operation
from agent_common.table import Entry, Table, TableStep, verb_of
from agent_common.virtual_server import VirtualServer, VirtualServerKey, parse_key
from agent_common.wire_table import unpack_steps
from agent_director.fake_ipvs import FakeIpvs
from cli import operations
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import WEB, destination
from tests.hosts import DirectorHost

DNS = parse_key("udp/192.168.0.200:53")
ONE, TWO, THREE = (destination(f"192.168.0.{number}", weight=3) for number in (104, 105, 106))


class Recording(FakeIpvs):
    """What the kernel was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def take(self, steps: Iterable[TableStep]) -> list[LvsError | None]:
        steps = list(steps)
        self.told += [f"{verb_of(step)} {step}" for step in steps]
        return super().take(steps)


def entry(key: VirtualServerKey, *destinations: Destination, scheduler: str = "rr") -> Entry:
    """A virtual server with destinations."""
    server = VirtualServer(key=key, scheduler=scheduler)
    return Entry(virtual_server=server, destinations={each.key: each for each in destinations})


def apply(wanted: Table, *, replace: bool = False) -> Operation:
    """Ask for a table."""
    entries = [
        table_pb2.TableEntry(
            key=wire.pack_key(key),
            virtual_server=None if each.virtual_server is None else wire.pack_virtual_server(each.virtual_server),
            destinations=[wire.pack_destination(one) for one in each.destinations.values()],
        )
        for key, each in wanted.items()
    ]
    return Operation(apply_table=table_pb2.WantedTable(entries=entries, replace=replace))


def has(host: DirectorHost, wanted: Table) -> bool:
    """Whether the kernel has a table, and all of it is ours."""
    committed = {server.key: Entry(virtual_server=server) for server in host.virtual_servers.committed()}
    for key, each in host.destinations.committed().items():
        committed[key].destinations.update({one.key: one for one in each})
    in_kernel = {
        each.virtual_server: {effective(one) for one in each.destinations.values()} for each in wanted.values()
    }
    return table(host.ipvs) == in_kernel and committed == wanted


async def test_a_table_is_added_and_is_ours() -> None:
    host, wanted = DirectorHost(), {WEB: entry(WEB, ONE, TWO), DNS: entry(DNS, scheduler="sh")}
    change = await host.changes.apply(apply(wanted), "restore")
    assert change.actions == ["add 4 things"]
    assert has(host, wanted)
    assert not (await host.changes.apply(apply(wanted), "")).made
    assert host.restore.drift() == []


async def test_what_is_there_and_other_is_refused_unless_it_is_replaced() -> None:
    host = DirectorHost(ipvs=Recording())
    await host.changes.apply(apply({WEB: entry(WEB, ONE, TWO)}), "")
    before = table(host.ipvs)
    heavier = dataclasses.replace(ONE, weight=9)
    wanted = {WEB: entry(WEB, heavier, THREE, scheduler="wrr")}
    with pytest.raises(DiffersError, match=r"there already, and other .*: virtual server tcp/.*, 192.168.0.104:80"):
        await host.changes.apply(apply(wanted), "")
    assert table(host.ipvs) == before
    assert isinstance(host.ipvs, Recording)
    host.ipvs.told.clear()
    change = await host.changes.apply(apply(wanted, replace=True), "")
    assert sorted(change.actions) == ["add 1 thing", "edit 2 things", "remove 1 thing"]
    assert host.ipvs.told == [
        f"edit virtual server {WEB}",
        f"add {THREE.key} in {WEB}",
        f"edit {ONE.key} in {WEB}",
        f"remove {TWO.key} in {WEB}",
    ]
    assert has(host, wanted)


async def test_nothing_in_both_is_touched_and_what_is_foreign_there_is_taken_in() -> None:
    host = DirectorHost(ipvs=Recording())
    host.ipvs.add_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
    host.ipvs.add_destination(WEB, ONE)
    host.ipvs.add_virtual_server(VirtualServer(key=DNS))
    wanted = {WEB: entry(WEB, ONE)}
    assert not (await host.changes.apply(apply(wanted), "")).made  # it stays foreign, as with any other command
    change = await host.changes.apply(apply(wanted, replace=True), "replaced")
    assert sorted(change.actions) == ["adopt 2 things", "remove 1 thing"]
    assert isinstance(host.ipvs, Recording)
    assert host.ipvs.told == [f"remove virtual server {DNS}"]
    assert has(host, wanted)
    assert (await host.changes.revert("replaced")).outcome is Outcome.REVERTED
    assert host.virtual_servers.committed() == []
    assert host.destinations.committed() == {}
    assert table(host.ipvs) == {VirtualServer(key=WEB, scheduler="rr"): {ONE}, VirtualServer(key=DNS): set()}


async def test_a_drain_that_goes_on_is_what_weight_0_in_a_rule_means() -> None:
    host = DirectorHost()
    await host.changes.apply(apply({WEB: entry(WEB, ONE, TWO)}), "")
    await host.changes.apply(operations.update_destination(WEB, ONE.key, draining=True), "")
    rules = {WEB: entry(WEB, dataclasses.replace(ONE, weight=0), TWO)}
    assert not (await host.changes.apply(apply(rules, replace=True), "")).made
    assert host.destinations.get(WEB, ONE.key).destination == dataclasses.replace(ONE, draining=True)


async def test_a_drain_and_its_weight_can_be_asked_for() -> None:
    host, wanted = DirectorHost(), {WEB: entry(WEB, dataclasses.replace(ONE, draining=True), TWO)}
    await host.changes.apply(apply(wanted), "")
    assert has(host, wanted)
    assert host.destinations.get(WEB, ONE.key).current_weight == 0


@pytest.mark.parametrize("replace", [False, True])
async def test_it_is_taken_back_whole(replace: bool) -> None:
    host = DirectorHost()
    await host.changes.apply(apply({WEB: entry(WEB, ONE, TWO)}), "")
    await host.changes.apply(operations.update_destination(WEB, TWO.key, draining=True), "")
    host.ipvs.add_virtual_server(VirtualServer(key=DNS))
    host.ipvs.add_destination(DNS, destination("192.168.0.107", 53))
    before, servers, destinations = table(host.ipvs), host.virtual_servers.committed(), host.destinations.committed()
    mark = parse_key("fwmark/7")
    wanted = {WEB: entry(WEB, ONE, THREE), mark: entry(mark, ONE)}
    await host.changes.apply(apply(wanted, replace=replace), "applied")
    assert (await host.changes.revert("applied")).outcome is Outcome.REVERTED
    assert (table(host.ipvs), host.virtual_servers.committed()) == (before, servers)
    assert {key: set(each) for key, each in host.destinations.committed().items()} == {
        key: set(each) for key, each in destinations.items()
    }


async def test_what_somebody_changed_meanwhile_is_not_taken_back() -> None:
    host = DirectorHost()
    await host.changes.apply(apply({WEB: entry(WEB, ONE, TWO), DNS: entry(DNS)}), "applied")
    host.ipvs.edit_destination(WEB, dataclasses.replace(ONE, weight=8))
    theirs = destination("192.168.0.109", 53)
    host.ipvs.add_destination(DNS, theirs)
    reverted = await host.changes.revert("applied")
    assert reverted.outcome is Outcome.KEPT
    assert table(host.ipvs) == {
        VirtualServer(key=WEB, scheduler="rr"): {dataclasses.replace(ONE, weight=8)},
        VirtualServer(key=DNS, scheduler="rr"): {theirs},
    }


async def test_what_the_kernel_refuses_in_the_middle_leaves_nothing() -> None:
    host = DirectorHost(ipvs=FakeIpvs(schedulers=frozenset({"rr"})))
    await host.changes.apply(apply({WEB: entry(WEB, ONE)}), "")
    before = table(host.ipvs)
    wanted = {WEB: entry(WEB, TWO), DNS: entry(DNS, scheduler="sh")}
    with pytest.raises(LvsError) as raised:
        await host.changes.apply(apply(wanted, replace=True), "")
    assert raised.value.reason is Reason.MODULE_MISSING
    assert table(host.ipvs) == before
    assert has(host, {WEB: entry(WEB, ONE)})


async def test_an_agent_that_dies_in_it_takes_it_back_when_it_starts() -> None:
    class Died(BaseException):
        pass

    class Dying(FakeIpvs):
        def take(self, steps: Iterable[TableStep]) -> list[LvsError | None]:
            super().take(list(steps)[:2])
            raise Died

    host = DirectorHost(ipvs=Dying())
    with pytest.raises(Died):
        await host.changes.apply(apply({WEB: entry(WEB, ONE, TWO), DNS: entry(DNS)}), "")
    assert len(host.ipvs.destinations(WEB)) == 1
    after = FakeIpvs()
    after.add_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
    after.add_destination(WEB, ONE)
    again = DirectorHost(ipvs=after, addresses=host.addresses, state=host.state)
    await again.restore.start(new_boot=False)
    assert has(again, {})


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (table_pb2.WantedTable(entries=[table_pb2.TableEntry()]), "entries.key"),
        (apply({WEB: entry(WEB, dataclasses.replace(ONE, weight=2**31))}).apply_table, "weight"),
        (apply({WEB: entry(WEB, scheduler="nosuch")}).apply_table, "scheduler"),
        (apply({WEB: entry(DNS)}).apply_table, "entries.virtual_server.key"),
        (
            table_pb2.WantedTable(entries=[*apply({WEB: entry(WEB)}).apply_table.entries] * 2),
            "entries.key",
        ),
        (
            table_pb2.WantedTable(entries=[*apply({WEB: Entry(destinations={ONE.key: ONE})}).apply_table.entries] * 2),
            "entries.destinations",
        ),
    ],
)
async def test_bad_input_names_the_field_and_changes_nothing(request_: table_pb2.WantedTable, field: str) -> None:
    host = DirectorHost()
    with pytest.raises(InvalidInputError) as raised:
        await host.changes.apply(Operation(apply_table=request_), "")
    assert raised.value.field == field
    assert table(host.ipvs) == {}


async def test_a_destination_needs_its_virtual_server() -> None:
    host, wanted = DirectorHost(), {WEB: Entry(destinations={ONE.key: ONE})}
    with pytest.raises(NotFoundError):
        await host.changes.apply(apply(wanted), "")
    host.ipvs.add_virtual_server(VirtualServer(key=WEB))
    await host.changes.apply(apply(wanted), "")
    assert table(host.ipvs) == {VirtualServer(key=WEB): {ONE}}


async def test_a_virtual_server_that_a_transaction_has_is_not_replaced() -> None:
    host = DirectorHost()
    await host.changes.apply(apply({WEB: entry(WEB, ONE)}), "")
    planned = await host.changes.plan([operations.update_destination(WEB, ONE.key, draining=True)], "other")
    host.locks.take("other", "lb1", claims_of(planned))
    with pytest.raises(ConflictError, match="is locked by transaction other"):
        await host.changes.apply(apply({}, replace=True), "")
    assert (await host.changes.apply(apply({DNS: entry(DNS)}), "")).made


async def test_the_records_of_tables_are_few() -> None:
    """Each is as large as its table; what is older cannot be taken back by name any more."""
    host = DirectorHost()
    for number in range(KEPT_TABLES + 3):
        wanted = {WEB: entry(WEB, dataclasses.replace(ONE, weight=number))}
        await host.changes.apply(apply(wanted, replace=True), f"table-{number}")
        await host.changes.apply(operations.update_destination(WEB, ONE.key, draining=True), f"drain-{number}")
    kept = [name for name in host.state.list("change") if name.startswith("table")]
    assert kept == [f"table-{number}" for number in range(3, KEPT_TABLES + 3)]
    assert len(host.state.list("change")) == 2 * KEPT_TABLES + 3


async def test_steps_tell_what_was_done() -> None:
    host, tunnel = DirectorHost(), dataclasses.replace(ONE, forwarding=Forwarding.TUNNELING)
    change = await host.changes.apply(apply({WEB: entry(WEB, tunnel)}), "", validate_only=True)
    server, own = unpack_steps(change.table.steps)
    assert (str(server), server.before, str(own), own.after) == (
        f"virtual server {WEB}",
        None,
        f"{ONE.key} in {WEB}",
        tunnel,
    )
    assert table(host.ipvs) == {}
