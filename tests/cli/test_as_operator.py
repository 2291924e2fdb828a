"""An operator's whole day, with the operator's role alone, bound to one VIP: whatever a backend needs is theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_common.access import Caller, Context
from agent_common.identity import Role
from cli.errors import ExitStatus
from tests.cli.served_site import Site, serving_site
from tests.cli.sites import RS1, RS2, table
from tests.hosts import VIP, WEB


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundOperator:
    """Whoever calls is an operator who may change one VIP."""

    vips: frozenset[str]

    def caller(self, context: Context) -> Caller:
        return Caller(name="an operator", role=Role.OPERATOR, vips=self.vips)


@pytest.fixture(params=[1, 2])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """With one director and with two."""
    operator = BoundOperator(vips=frozenset({str(VIP)}))
    async with serving_site(tmp_path, directors=request.param, callers=operator) as made:
        yield made


async def test_backends_come_and_go(site: Site) -> None:
    """Added to nothing and to what is there, weighed, drained, removed; the virtual server and VIP with the last."""
    empty = site.snapshot()
    assert (await site.add(RS1)).status is ExitStatus.DONE
    assert (await site.add(RS1, RS2, dry_run=True)).status is ExitStatus.DONE
    assert (await site.add(RS2)).status is ExitStatus.DONE
    assert (await site.add(RS1, RS2)).status is ExitStatus.DONE
    assert (await site.weight(RS1, weight=7)).status is ExitStatus.DONE
    assert (await site.remove(RS1, drain_timeout=0.0)).status is ExitStatus.DONE
    assert set(table(site.director, WEB)) == {f"{RS2}:80"}
    assert (await site.remove(RS2, drain_timeout=None, prune=True)).status is ExitStatus.DONE
    assert site.snapshot() == empty


async def test_another_vip_is_refused_and_nothing_is_changed(site: Site) -> None:
    before = site.snapshot()
    outcome = await site.add(RS1, vip="192.168.0.201:80")
    assert outcome.status is ExitStatus.REFUSED
    assert "an operator may change 192.168.0.200 only" in outcome.message
    assert site.snapshot() == before


async def test_what_is_undone_is_undone_by_an_operator_too(site: Site) -> None:
    """Something fails in the middle, and everything is as before."""
    before = site.snapshot()
    site.rs(RS2).state.full = True
    outcome = await site.add(RS1, RS2)
    assert outcome.status is ExitStatus.ROLLED_BACK
    site.rs(RS2).state.full = False
    assert site.snapshot() == before
