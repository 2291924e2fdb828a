"""Fixtures of the tests on whole Debian hosts: they run on this machine, and boot kernels of their own."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from lab.guest import LabError
from lab.host import CommandError
from tests import kernels
from tests.deploy.site import DeploySite

FAILED = pytest.StashKey[str]()


def pytest_configure() -> None:
    """No kernel is left when we are told to end."""
    kernels.end_when_told()


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """They are run by name."""
    return kernels.leave_out_unless_named(config, Path(__file__).parent)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs what an earlier one has done says so where that has failed."""
    failed = item.session.stash.get(FAILED, None)
    if failed is not None:
        pytest.skip(f"the hosts are not as it needs them: {failed} has failed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the hosts have to say; their files are gone soon."""
    report = yield
    site = getattr(item, "funcargs", {}).get("site")
    if report.failed:
        item.session.stash[FAILED] = item.name
    if report.failed and site is not None:
        try:
            told = site.told()
        except (LabError, CommandError) as error:
            told = str(error)
        report.sections.append(("what the hosts say", told))
    return report


@pytest.fixture(scope="session")
def site() -> Iterator[DeploySite]:
    """Four hosts that run; each test finds them as the one before has left them."""
    with DeploySite.made() as made:
        yield made
