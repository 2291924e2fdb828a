"""Fixtures of the tests that run in the lab's guest, against its real kernel."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack

import pytest

from lab.site import Site, diff
from tests.lab.operator import Operator

Hosts = dict[str, dict[str, str]]
"""Snapshots by host name."""


SECONDS = {
    "test_removal.py": 160,
    "test_transactions.py": 170,
    "test_failures_steps.py": 155,
    "test_failures_interrupt.py": 140,
    "test_failures_left.py": 140,
    "test_agents.py": 60,
    "test_schedulers.py": 85,
    "test_refusals.py": 105,
    "test_drift.py": 60,
    "test_list.py": 80,
    "test_tunnels.py": 75,
    "test_traffic.py": 55,
    "test_pairwise.py": 50,
    "test_random_sequence.py": 25,
    "test_restore_rules.py": 60,
    "test_restore_faults.py": 25,
    "test_ipvs_settings.py": 30,
    "tutorial.md": 95,
    "test_network.py": 90,
    "test_two_directors.py": 110,
    "test_faults.py": 65,
    "test_edited_meanwhile.py": 60,
    "test_restart.py": 60,
    "test_restore.py": 50,
    "test_rerun.py": 45,
    "README.md": 60,
    "test_foreign.py": 60,
    "test_full_disk.py": 50,
    "test_single_commands.py": 50,
    "test_vip_put_back.py": 50,
    "changed-by-hand.md": 45,
    "add-and-remove-backends.md": 40,
    "several-directors.md": 40,
    "test_corrupt_journal.py": 40,
    "nat.md": 30,
    "firewall-marks.md": 35,
    "test_firewall_marks.py": 40,
    "test_ipvs_kernel.py": 13,
    "test_ipvs_adapter.py": 25,
    "test_forwarding.py": 40,
    "test_sockets.py": 5,
    "test_health.py": 130,
    "test_health_gate.py": 70,
    "test_checks.py": 60,
    "test_beside_keepalived.py": 70,
    "test_servers.py": 25,
    "health-checks.md": 50,
}
"""How long files take in a guest beside three others, and pages of the documentation; it only decides who runs them."""

USUAL_SECONDS = 25

_FAMILY = re.compile(r"\bipv[46]\b")


def pytest_addoption(parser: pytest.Parser) -> None:
    """--share K/N, for several guests at once (lab/suite.py); --faults and --seed, for what runs as a sample."""
    parser.addoption(
        "--faults", default="6", metavar="N|all", help="a sample of so many faults, or all that runs as a sample else"
    )
    parser.addoption("--seed", type=int, default=int(time.time()), help="which sample")
    parser.addoption("--share", default="1/1", metavar="K/N", help="run the Kth of N shares of the test files")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which sample ran, so that it can be run again."""
    ran = [each for each in terminalreporter.stats.get("passed", []) if "test_faults.py" in each.nodeid]
    option = terminalreporter.config.getoption
    which = f"--faults {option('--faults')} --seed {option('--seed')}"
    terminalreporter.write_line(f"sample: {which}" + (f"; faults: {len(ran)} cases passed" if ran else ""))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of this share: the longest file first, each to the share that has least to do by then."""
    number, shares = (int(part) for part in config.getoption("--share").split("/"))
    if config.getoption("--faults") == "all":
        items[:] = [item for item in items if is_sampled(item)][number - 1 :: shares]
        return
    items[:] = _one_of_each(items, random.Random(config.getoption("--seed")))  # noqa: S311  # a sample, no secret
    loads = [0] * shares
    mine: set[str] = set()
    for part in sorted({_part(item) for item in items}, key=lambda part: (-_seconds(part), part)):
        share = loads.index(min(loads))
        loads[share] += _seconds(part)
        if share == number - 1:
            mine.add(part)
    items[:] = sorted((item for item in items if _part(item) in mine), key=_makes_a_site)


def is_sampled(item: pytest.Item) -> bool:
    """Whether a test is one of many alike, of which only a sample runs each time: a fault, a scheduler, a variant."""
    assert isinstance(item, pytest.Function)
    return not {"case", "served"}.isdisjoint(item.fixturenames) or _is_of_many(item)


def _is_of_many(item: pytest.Item) -> bool:
    """Whether its module has variants, of which one runs each time, and of those with different names a sixth."""
    assert isinstance(item, pytest.Function)
    return any(getattr(item.module, name, False) for name in ("ONE_EACH", "ONE_FAMILY", "ONE_SIXTH"))


def _name(item: pytest.Item) -> str:
    """What a test has in common with those alike: where its module says ONE_EACH, or for its families ONE_FAMILY."""
    assert isinstance(item, pytest.Function)
    if getattr(item.module, "ONE_EACH", False):
        return item.nodeid.partition("[")[0]
    return _FAMILY.sub("", item.nodeid) if getattr(item.module, "ONE_FAMILY", False) else item.nodeid


def _one_of_each(items: Sequence[pytest.Item], choose: random.Random) -> list[pytest.Item]:
    """Of those alike, keep one; of those of modules that have such, a sixth, and at least one of each module.

    Half of the modules of which one is left sit out: a site of its own takes longer than the one test in it.
    """
    alike: dict[str, list[pytest.Item]] = {}
    for item in items:
        alike.setdefault(_name(item), []).append(item)
    kept = [choose.choice(each) for each in alike.values()]
    many: dict[str, list[pytest.Item]] = {}
    for item in kept:
        if _is_of_many(item):
            many.setdefault(item.path.name, []).append(item)
    left_out = {item for each in many.values() for item in choose.sample(each, len(each) * 5 // 6)}
    left = [[item for item in each if item not in left_out] for each in many.values()]
    alone = [each[0] for each in left if len(each) == 1]
    left_out.update(choose.sample(alone, len(alone) // 2))
    return [item for item in kept if item not in left_out]


def _makes_a_site(item: pytest.Item) -> bool:
    """Those that do not share the usual site come last, so that it is made once."""
    assert isinstance(item, pytest.Function)
    return "operator" not in item.fixturenames or hasattr(item.module, "operator")


def _part(item: pytest.Item) -> str:
    """What is dealt as a whole: a file, whose tests share a site; or one page, which has a site of its own."""
    return item.nodeid if item.path.name == "test_readme.py" else item.path.name


def _seconds(part: str) -> int:
    return next((seconds for name, seconds in SECONDS.items() if name in part), USUAL_SECONDS)


class UsualSite:
    """The site of most files, with its agents: it takes 13 s to make, and is handed on while it is as it was made."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._operator: Operator | None = None
        self._made: Hosts = {}

    def get(self) -> Operator:
        """Return the site, made if there is none."""
        if self._operator is None:
            self._operator = Operator.at(self._stack.enter_context(make_site()))
            self._made = self._operator.snapshots()
        return self._operator

    def hand_on(self, *, good: bool) -> None:
        """Keep it for the next file, unless something failed on it, or is left of it."""
        operator = self._operator
        if operator is None:
            return
        alive = all(agent.is_running for agent in operator.agents.values())
        if not (good and alive and operator.differences(self._made) == ""):
            self.end()

    def end(self) -> None:
        """Take it down: there can be only one site in a guest."""
        self._stack.close()
        self._operator = None


@pytest.fixture(scope="session")
def usual_site() -> Iterator[UsualSite]:
    """The site that files share; those that make their own end it first."""
    usual = UsualSite()
    yield usual
    usual.end()


@pytest.fixture(scope="module")
def operator(request: pytest.FixtureRequest, usual_site: UsualSite) -> Iterator[Operator]:
    """A site of a director, two real servers, a client and an intruder, with agents, web servers, and an operator."""
    if getattr(request.module, "FRESH_SITE", False):
        usual_site.end()
    failed_before = request.session.testsfailed
    yield usual_site.get()
    usual_site.hand_on(good=request.session.testsfailed == failed_before)


@pytest.fixture(scope="module")
def site(usual_site: UsualSite) -> Iterator[Site]:
    """A site of a director, two real servers, a client and an intruder, without agents."""
    usual_site.end()
    with make_site() as made:
        yield made


def make_site() -> AbstractContextManager[Site]:
    """What most files need."""
    return Site.make(real_servers=2, intruder=True)


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
