"""Fixtures of the tests that cut the power of whole hosts: they run on this machine, and boot kernels of their own."""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import kernels
from tests.power.cases import all_cases
from tests.power.site import PowerSite


def pytest_addoption(parser: pytest.Parser) -> None:
    """--faults and --seed, as in tests/lab."""
    parser.addoption("--faults", default="1", metavar="N|all", help="a sample of so many power cuts, or all")
    parser.addoption("--seed", type=int, default=int(time.time()), help="which sample")


def pytest_configure() -> None:
    """No kernel is left when we are told to end."""
    kernels.end_when_told()


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """They are run by name."""
    return kernels.leave_out_unless_named(config, Path(__file__).parent)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All cases, or a sample."""
    if "case" in metafunc.fixturenames:
        cases, wanted = all_cases(), metafunc.config.getoption("--faults")
        if wanted != "all":
            cases = random.Random(metafunc.config.getoption("--seed")).sample(cases, int(wanted))  # noqa: S311  # repeatable
        metafunc.parametrize("case", cases, ids=str)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which sample ran, so that it can be run again."""
    ran = [each for each in terminalreporter.stats.get("passed", []) if "test_power_cut.py" in each.nodeid]
    option = terminalreporter.config.getoption
    terminalreporter.write_line(
        f"sample: --faults {option('--faults')} --seed {option('--seed')}; {len(ran)} power cuts"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the hosts have to say; their files are gone soon."""
    report = yield
    site = getattr(item, "funcargs", {}).get("power_site")
    if report.failed and site is not None:
        report.sections.append(("what the hosts say", site.told()))
    return report


class Sites:
    """A site at a time: it takes 20 s to make, and is handed on until something has failed on it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._site: PowerSite | None = None

    def get(self) -> PowerSite:
        """Return the site, made if there is none."""
        if self._site is None:
            self._site = self._stack.enter_context(PowerSite.made())
        return self._site

    def end(self) -> None:
        """Take it down."""
        self._stack.close()
        self._site = None


@pytest.fixture(scope="session")
def power_sites() -> Iterator[Sites]:
    """What tests share."""
    sites = Sites()
    yield sites
    sites.end()


@pytest.fixture
def power_site(request: pytest.FixtureRequest, power_sites: Sites) -> Iterator[PowerSite]:
    """A director, a real server and a coordinator that run, each a kernel."""
    failed_before = request.session.testsfailed
    yield power_sites.get()
    if request.session.testsfailed != failed_before:
        power_sites.end()
