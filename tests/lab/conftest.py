"""Fixtures of the tests that run in the lab's guest, against its real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.site import Site, diff
from tests.lab.operator import Operator

Hosts = dict[str, dict[str, str]]
"""Snapshots by host name."""


SECONDS = {
    "test_forwarding.py": 280,
    "test_removal.py": 165,
    "test_failures_steps.py": 165,
    "test_failures_left.py": 145,
    "test_rerun.py": 110,
    "test_agents.py": 100,
    "test_restore.py": 90,
    "test_foreign.py": 90,
    "tutorial.md": 90,
    "test_drift.py": 80,
    "test_refusals.py": 80,
    "test_failures_interrupt.py": 70,
    "README.md": 60,
    "test_vip_put_back.py": 55,
    "test_two_directors.py": 45,
    "test_main_path.py": 45,
    "test_addresses.py": 40,
    "test_single_commands.py": 40,
}
"""How long files take in a guest beside two others, and pages of the documentation; it only decides who runs them."""

USUAL_SECONDS = 25


def pytest_addoption(parser: pytest.Parser) -> None:
    """--share K/N, for several guests at once (lab/suite.py)."""
    parser.addoption("--share", default="1/1", metavar="K/N", help="run the Kth of N shares of the test files")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of this share: the longest file first, each to the share that has least to do by then."""
    number, shares = (int(part) for part in config.getoption("--share").split("/"))
    loads = [0] * shares
    mine: set[str] = set()
    for part in sorted({_part(item) for item in items}, key=lambda part: (-_seconds(part), part)):
        share = loads.index(min(loads))
        loads[share] += _seconds(part)
        if share == number - 1:
            mine.add(part)
    items[:] = [item for item in items if _part(item) in mine]


def _part(item: pytest.Item) -> str:
    """What is dealt as a whole: a file, whose tests share a site; or one page, which has a site of its own."""
    return item.nodeid if item.path.name == "test_readme.py" else item.path.name


def _seconds(part: str) -> int:
    return next((seconds for name, seconds in SECONDS.items() if name in part), USUAL_SECONDS)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site of a director, two real servers, a client and an intruder, without agents."""
    with Site.make(real_servers=2, intruder=True) as made:
        yield made


@pytest.fixture(scope="module")
def operator(site: Site) -> Operator:
    """The site with agents and web servers on port 10000, and somebody who runs lvs."""
    return Operator.at(site)


@pytest.fixture
def unchanged(operator: Operator) -> Iterator[Operator]:
    """The operator of a test that must leave every host exactly as it found it."""
    before = operator.snapshots()
    yield operator
    assert operator.differences(before) == ""


@pytest.fixture(scope="module")
def baseline(operator: Operator) -> Hosts:
    """Every host with an agent, as it was before the module's first test."""
    return operator.snapshots(agent.host for agent in operator.agents.values())


@pytest.fixture
def pristine(operator: Operator, baseline: Hosts) -> Iterator[Operator]:
    """Like `unchanged`, at a third of its price: the test must leave the hosts as the module's first one found them.

    Agents that a test has killed or stopped run again for the next one.
    """
    yield operator
    now = operator.snapshots(agent.host for agent in operator.agents.values())
    found = {name: diff(baseline[name], now[name]) for name in now}
    baseline.update(now)  # one test that leaves something does not fail those after it
    for agent in operator.agents.values():
        if agent.is_running:
            agent.resume()
        else:
            agent.start()
    assert "\n".join(f"{name}:\n{text}" for name, text in found.items() if text) == ""


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    """Both families: every test of the main path runs for each."""
    version: int = request.param
    return version
