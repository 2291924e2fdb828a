"""Pairwise combinations of all options: what ipvsadm refuses we refuse, and the kernel is as it was; else it is equal.

They are generated (tests/lab/combinations.py), a sample in `make test` and all in `make faults`; the seed is printed
and can be given (--seed). Left out, since ipvsadm takes it for a mask that nobody means: -M with a number for IPv4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations, islice
from pathlib import Path
from random import Random

import pytest

from agent_common.errors import LvsError
from agent_common.operation import Operation
from cli import operations
from cli.client import AgentClient
from cli.errors import ExitStatus
from cli.reading import list_virtual_servers, table_of
from cli.rule_writer import write_rules
from cli.rules import read_rules
from lab.host import Host
from tests.lab.combinations import (
    RULES,
    VALUES,
    Row,
    broken,
    destination,
    destination_words,
    key_of,
    pairwise,
    real_server,
    server_words,
    virtual_server,
)
from tests.lab.operator import Operator

Tables = tuple[str, str]

SAMPLES = {0: 16, 1: len(RULES) + 3}
"""How many without and with a mistake run where not all do: each mistake once, and some more."""

TYPED = {0: 1, 1: 2}
"""How many are typed."""

DESTINATION_FIELDS = ("forwarding_method", "weight", "upper_threshold", "lower_threshold", "tunnel")

CHECKSUMS = {"": "", "nocsum": "none", "csum": "full", "remcsum": "remote"}
FORWARDING = {"-g": "dr", "-m": "nat", "-i": "tun"}
CLIENTS = {"prefix": {"4": "24", "6": "64"}, "netmask": {"4": "255.0.255.0", "6": "255.0.255.0"}}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All of them, or so many that most values have met; some of them are typed, too."""
    every = metafunc.config.getoption("--faults") == "all"
    rows = {mistakes: pairwise(_random(metafunc.config), mistakes=mistakes) for mistakes in SAMPLES}
    if "case" in metafunc.fixturenames:
        cases = [
            row for mistakes, number in SAMPLES.items() for row in islice(rows[mistakes], None if every else number)
        ]
        metafunc.parametrize("case", cases, ids=_name)
    if "typed" in metafunc.fixturenames:
        cases = [
            row for mistakes, number in TYPED.items() for row in islice(filter(can_be_said, rows[mistakes]), number)
        ]
        metafunc.parametrize("typed", cases, ids=_name)


def _random(config: pytest.Config) -> Random:
    return Random(config.getoption("--seed"))  # noqa: S311  # a sample, no secret


def can_be_said(row: Row) -> bool:
    """Whether it can be said elsewhere than in rules: not two checksums."""
    return row["checksum"] in CHECKSUMS


def _name(row: Row) -> str:
    return " / ".join(lines_of(row))


@pytest.fixture(scope="module")
def nothing(operator: Operator) -> Tables:
    """What ipvsadm shows of an empty table."""
    empty = tables(operator.site.director)
    assert empty[0] == ""
    return empty


@pytest.fixture
def emptied(operator: Operator, nothing: Tables) -> Iterator[Operator]:
    """An empty table, before and after."""
    yield operator
    operator.ask(clear)
    assert tables(operator.site.director) == nothing


def rules(director: Host) -> str:
    return director.run("ipvsadm", "-S", "-n").stdout


def tables(director: Host) -> Tables:
    """What ipvsadm shows of all that there is."""
    return rules(director), director.run("ipvsadm", "-Ln", "--thresholds").stdout


async def clear(client: AgentClient) -> None:
    await client.apply(operations.apply_table({}, replace=True), "")


def lines_of(row: Row, number: int = 0) -> list[str]:
    return [" ".join(["-A", *server_words(row, number)]), " ".join(["-a", *destination_words(row, number)])]


def by_ipvsadm(director: Host, row: Row) -> str:
    """Give a combination to ipvsadm, and return why it refuses it, or nothing."""
    for line in lines_of(row):
        done = director.run("ipvsadm", *line.split(), check=False)
        if done.returncode != 0:
            return done.stderr
    return ""


async def by_restoring(client: AgentClient, row: Row) -> str:
    """Give the same words to lvs, as lvs restore does, and return why it refuses them, or nothing."""
    read = read_rules(lines_of(row))
    if read.bad:
        return str(read.bad)
    return await refusal(client, operations.apply_table(read.table, replace=False))


async def by_adding(client: AgentClient, row: Row) -> str:
    """Have the agent add the two, one after the other, and return why it refuses one, or nothing."""
    try:
        server = operations.create_whole_virtual_server(virtual_server(row))
    except LvsError as error:
        return error.message
    wanted = operations.create_whole_destination(key_of(row), destination(row), DESTINATION_FIELDS)
    return await refusal(client, server) or await refusal(client, wanted)


async def refusal(client: AgentClient, operation: Operation) -> str:
    try:
        await client.apply(operation, "")
    except LvsError as error:
        return error.message
    return ""


async def saved(client: AgentClient) -> str:
    """What lvs save prints."""
    return "".join(f"{line}\n" for line in write_rules(table_of(await list_virtual_servers(client))))


def without_flag_3(text: str) -> str:
    """What ipvsadm prints: with sh and mh it knows no flag-3, and leaves its place empty."""
    return re.sub(r"(-s [sm]h .*-b .*?),?flag-3$", r"\1", text, flags=re.MULTILINE)


def servers_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("-A")]


def test_both_take_it_or_both_refuse_it(emptied: Operator, nothing: Tables, case: Row) -> None:
    """As rules, and one by one; and what ipvsadm has made is saved as ipvsadm saves it."""
    director = emptied.site.director
    mistake = next(iter(broken(case)), None)

    async def compare(client: AgentClient) -> None:
        assert_says(by_ipvsadm(director, case), mistake.ipvsadm if mistake else "")
        theirs = tables(director)
        assert without_flag_3(await saved(client)) == theirs[0]
        director.run("ipvsadm", "-C")
        refused = mistake.lvs if mistake and not mistake.restored else ""
        assert_says(await by_restoring(client, case), refused)
        assert tables(director) == (nothing if refused else theirs)
        await clear(client)
        if not can_be_said(case):
            return
        assert_says(await by_adding(client, case), mistake.lvs if mistake else "")
        if mistake is None:
            assert tables(director) == theirs
        else:
            assert rules(director).splitlines() == ([] if mistake.is_servers else servers_in(theirs[0]))

    emptied.ask(compare)


def assert_says(said: str, expected: str) -> None:
    """What was said has what was expected in it; nothing if nothing was expected."""
    assert expected in said
    assert bool(said) == bool(expected)


def test_both_do_the_same_as_typed(emptied: Operator, typed: Row) -> None:
    """With lvs service add and lvs destination add."""
    director = emptied.site.director
    mistake = next(iter(broken(typed)), None)
    by_ipvsadm(director, typed)
    theirs = tables(director)
    director.run("ipvsadm", "-C")
    done = emptied.lvs("service", "add", *server_arguments(typed), status=None)
    if done.returncode == 0:
        done = emptied.lvs("destination", "add", *destination_arguments(typed), status=None)
    if mistake is None:
        assert (done.returncode, tables(director)) == (0, theirs)
    else:
        assert mistake.lvs in done.stderr
        assert done.returncode in (ExitStatus.USAGE, ExitStatus.ROLLED_BACK)
        assert rules(director).splitlines() == ([] if mistake.is_servers else servers_in(theirs[0]))


def server_arguments(row: Row) -> list[str]:
    """What lvs service add is given."""
    seconds, _, clients = row["persistence"].partition(" ")
    options = {
        "--scheduler": row["scheduler"],
        "--scheduler-flags": row["flags"],
        "--persistent": seconds,
        "--persistence-prefix": CLIENTS[clients][row["family"]] if clients else "",
        "--persistence-engine": row["engine"],
    }
    words = [word for option, value in options.items() if value for word in (option, value)]
    return [str(key_of(row)), *words, *(["--one-packet"] if row["one_packet"] else [])]


def destination_arguments(row: Row) -> list[str]:
    """What lvs destination add is given."""
    options = {
        "--forward": FORWARDING[row["method"]],
        "--weight": row["weight"],
        "--upper-threshold": row["upper"],
        "--lower-threshold": row["lower"],
        "--tunnel-type": row["tunnel_type"],
        "--tunnel-port": row["tunnel_port"],
        "--tunnel-checksum": CHECKSUMS[row["checksum"]],
    }
    words = [word for option, value in options.items() if value for word in (option, value)]
    return [str(key_of(row)), real_server(row), *words]


def test_all_good_ones_are_one_table(emptied: Operator, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """lvs restore makes of them what ipvsadm -R makes of them, and lvs save prints what ipvsadm -S prints."""
    director = emptied.site.director
    rows = pairwise(_random(request.config), mistakes=0)
    text = "".join(f"{line}\n" for number, row in enumerate(rows) for line in lines_of(row, number))
    director.run("ipvsadm", "-R", input=text)
    theirs = tables(director)
    assert len(theirs[0].splitlines()) == len(text.splitlines()) > 200
    assert without_flag_3(emptied.lvs("save").stdout) == theirs[0]
    director.run("ipvsadm", "-C")
    (tmp_path / "rules").write_text(text)
    emptied.lvs("restore", str(tmp_path / "rules"))
    assert tables(director) == theirs


def test_every_two_values_meet(request: pytest.FixtureRequest) -> None:
    """In one that is good or has one mistake; but for a value that is a mistake by itself, beside another mistake."""
    rows = [row for mistakes in SAMPLES for row in pairwise(_random(request.config), mistakes=mistakes)]
    met = {(one, other) for row in rows for one in row.items() for other in row.items()}
    values = [(name, value) for name, each in VALUES.items() for value in each if not broken({name: value})]
    apart = {pair for pair in combinations(values, 2) if pair[0][0] != pair[1][0]} - met
    assert apart == set()
