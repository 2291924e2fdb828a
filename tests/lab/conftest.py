"""Fixtures of the tests that run in the lab's guest, against its real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.site import Site
from tests.lab.operator import Operator


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


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    """Both families: every test of the main path runs for each."""
    version: int = request.param
    return version
