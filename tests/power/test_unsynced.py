"""The control of the power cuts: they lose what a journal that does not sync has acknowledged, so they can fail."""

from __future__ import annotations

import pytest

from tests.power.site import PowerSite


@pytest.mark.parametrize("synced", [True, False], ids=["shipped", "synchronous-off"])
def test_only_a_journal_that_syncs_keeps_what_was_acknowledged(power_site: PowerSite, *, synced: bool) -> None:
    """The same run twice; with SQLite's synchronous=OFF the backend is gone, on both hosts, though lvs said 0."""
    if not synced:
        power_site.run_agents(synced=False)
        power_site.cut_power()
        power_site.boot()
    power_site.must(power_site.order("add"))
    power_site.run_agents(synced=True)
    power_site.cut_power()
    power_site.boot()
    assert power_site.snapshots() == (power_site.with_it if synced else power_site.without)
    power_site.must(power_site.order("remove"))
    assert power_site.snapshots() == power_site.without
