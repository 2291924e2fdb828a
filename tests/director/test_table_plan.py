"""Steps from one table to another: they lead there, touch nothing that is in both, and serve all the time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent_common.destination import Destination
from agent_common.table import DestinationStep, Entry, ServerStep, Table, TableStep
from agent_common.virtual_server import VirtualServer, VirtualServerKey, parse_key
from agent_director.table_plan import steps_between
from tests.director.ipvs_samples import destination

KEYS = [parse_key(text) for text in ("tcp/192.168.0.200:80", "udp/192.168.0.200:53", "fwmark/7")]

weights = st.integers(0, 2)


@st.composite
def tables(draw: st.DrawFn) -> dict[VirtualServerKey, Entry]:
    """A small table, so that two of them have much in common."""
    found = {}
    for key in draw(st.lists(st.sampled_from(KEYS), unique=True)):
        numbers = draw(st.dictionaries(st.integers(1, 4), weights))
        each = [destination(f"192.168.0.{number}", weight=weight) for number, weight in numbers.items()]
        server = VirtualServer(key=key, scheduler=draw(st.sampled_from(["rr", "wlc"])))
        found[key] = Entry(virtual_server=server, destinations={one.key: one for one in each})
    return found


def copy(table: Table) -> dict[VirtualServerKey, Entry]:
    """A table that can be changed."""
    return {
        key: Entry(virtual_server=entry.virtual_server, destinations=dict(entry.destinations))
        for key, entry in table.items()
    }


def take(table: dict[VirtualServerKey, Entry], step: TableStep) -> None:
    """Carry out a step; fails where the kernel would refuse."""
    if isinstance(step, ServerStep):
        there = table[step.key].virtual_server if step.key in table else None
        assert there == step.before
        if step.after is None:
            assert table.pop(step.key).destinations == {}
        else:
            table.setdefault(step.key, Entry()).virtual_server = step.after
        return
    destinations: dict[object, Destination] = table[step.server].destinations  # type: ignore[assignment]
    assert destinations.get(step.key) == step.before
    if step.after is None:
        del destinations[step.key]
    else:
        destinations[step.key] = step.after


@given(tables(), tables())
def test_replacing_leads_to_the_wanted_table_and_touches_nothing_that_is_in_both(
    current: dict[VirtualServerKey, Entry], wanted: dict[VirtualServerKey, Entry]
) -> None:
    now = copy(current)
    steps = list(steps_between(current, wanted, replace=True))
    served = {key for key in current.keys() & wanted.keys() if current[key].destinations and wanted[key].destinations}
    for step in steps:
        assert step.before != step.after
        take(now, step)
        assert all(now[key].destinations for key in served)
    assert now == wanted
    names = [step.key if isinstance(step, ServerStep) else (step.server, step.key) for step in steps]
    assert len(names) == len(set(names))


@given(tables(), tables())
def test_without_replacing_nothing_is_removed(
    current: dict[VirtualServerKey, Entry], wanted: dict[VirtualServerKey, Entry]
) -> None:
    now = copy(current)
    for step in steps_between(current, wanted, replace=False):
        assert step.after is not None
        take(now, step)
    for key, entry in current.items():
        assert entry.destinations.keys() <= now[key].destinations.keys()
    for key, entry in wanted.items():
        assert now[key].virtual_server == entry.virtual_server
        assert entry.destinations.items() <= now[key].destinations.items()


def test_a_destination_can_be_wanted_of_a_virtual_server_that_is_not_told() -> None:
    key, one = KEYS[0], destination()
    current = {key: Entry(virtual_server=VirtualServer(key=key))}
    wanted = {key: Entry(destinations={one.key: one})}
    assert list(steps_between(current, wanted, replace=True)) == [DestinationStep(server=key, before=None, after=one)]
