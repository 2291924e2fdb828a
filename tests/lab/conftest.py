"""Fixtures of the tests that run in the lab's guest, against its real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.site import Site, diff
from tests.lab.operator import Operator

Hosts = dict[str, dict[str, str]]
"""Snapshots by host name."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """--share K/N, for several guests at once (lab/suite.py)."""
    parser.addoption("--share", default="1/1", metavar="K/N", help="run every Nth test file, beginning with the Kth")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the test files of this share: dealt in turn, in the order of their names."""
    number, shares = (int(part) for part in config.getoption("--share").split("/"))
    files = sorted({item.path for item in items})
    kept = [item for item in items if files.index(item.path) % shares == number - 1]
    items[:] = kept


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
