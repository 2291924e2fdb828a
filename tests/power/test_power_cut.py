"""Hosts lose their power at every step of add-backend and remove-backend, and come back from their own disks.

Before anybody gives a command the kernel is what was committed: nothing undecided, and no VIP before what serves it.
Then whoever comes next finishes, and it is all or nothing.

`make faults` runs all cases, `make test` a sample; the seed is printed and can be given (--seed).
"""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest

from lab.snapshot import diff
from tests.power.cases import IN_THE_END, Case, Kept, Part
from tests.power.site import KEPT_VIP, REAL_SERVER, STATE, VIP, PowerSite, until

PATIENCE_SECONDS = 10.0
"""Where one host has lost its power, the other may still have to do what was decided."""

LEASE = 5.0


def test_what_was_committed_comes_back(power_site: PowerSite, case: Case, request: pytest.FixtureRequest) -> None:
    """And nothing else does, whenever the power is cut."""
    choose = random.Random(f"{request.config.getoption('--seed')} {case}")  # noqa: S311  # repeatable
    if case.workflow == "remove":
        power_site.must(power_site.order("add"))
    for each in power_site.agents:  # a lease counts seconds, whatever the time of day
        each.machine.bash(f"date -s '{choose.choice((-1, 0, 1))} hour'; echo '{case.failpoint}' >{STATE}/failpoint")
    outcome = cut_one(power_site, case) if case.victim else cut_all(power_site, case, choose)
    wanted = case.kept
    if outcome.get("status") == "DONE":
        wanted = IN_THE_END[case.workflow]
    check_what_came_back(power_site, wanted, case.victim)
    power_site.must(power_site.order("resolve"))
    assert power_site.order("open")["open"] == []
    found = power_site.snapshots()
    assert found in (power_site.without, power_site.with_it)
    assert_silent(power_site)
    if outcome.get("status") == "ROLLED_BACK":
        assert (found == power_site.without) == (case.workflow == "add")
    if found == power_site.with_it:
        power_site.must(power_site.order("remove"))
        assert power_site.snapshots() == power_site.without


def cut_all(site: PowerSite, case: Case, choose: random.Random) -> dict[str, Any]:
    """Run the workflow; when the coordinator or an agent dies, or at some moment, everything is without power."""
    fault = {"message": case.message, "fault": case.fault.name} if case.fault else {}
    number = site.begin(case.workflow, **fault, dies_of_silence=True)
    if case.moment >= 0:
        time.sleep(choose.uniform(0, 1.2 * site.workflow_seconds))
    elif case.failpoint:
        site.answer(number, or_else=site.has_dead_agent)
        until(site.has_dead_agent, f"no agent has died at {case.failpoint}")
    else:
        outcome = site.answer(number)
        assert outcome.get("died") and len(outcome["sent"]) == case.message + 1, outcome
    site.cut_power()
    site.kill()
    outcome = site.answer(number)
    if case.at_boot:
        site.run_agents(failpoint=case.at_boot)
        site.power_on()
        until(site.has_dead_agent, f"no agent has died at {case.at_boot}")
        site.cut_power()
        site.run_agents()
    site.boot()
    return outcome


def cut_one(site: PowerSite, case: Case) -> dict[str, Any]:
    """Take the power of one host while a message is held; the coordinator goes on, and the host boots."""
    assert case.fault is not None
    number = site.begin(case.workflow, message=case.message, fault=case.fault.name, timeout=3.0, lease=LEASE)
    site.answer(number, or_else=site.is_held)
    assert site.is_held(), f"message {case.message} was not met"
    site.cut_power(case.victim)
    site.go_on()
    site.boot(case.victim)
    return site.answer(number)


def check_what_came_back(site: PowerSite, wanted: Kept | None, victim: str) -> None:
    """Compare the kernels with what should be there; without a wish, with all that is consistent."""
    found = {}
    for each, part in ((site.director, wanted and wanted.director), (site.real_server, wanted and wanted.real_server)):
        name = each.machine.host.name
        parts = [part] if part else list(Part)
        snapshots = {one: site.with_part(name, one) for one in parts}
        now = each.settles_as(*snapshots.values(), patience=PATIENCE_SECONDS if victim else 0.0)
        found[name] = next((one for one, snapshot in snapshots.items() if snapshot == now), None)
        assert found[name], f"{name} is not as {parts}:\n{diff(next(iter(snapshots.values())), now)}"
    if found["lb1"] is Part.ALL:
        assert found["rs1"] is Part.ALL, "the director sends clients to a real server that has no VIP"
        assert site.ask_vip() == "rs1"
    if victim != REAL_SERVER.name:  # else the director did not boot
        assert_in_order(site, wanted, booted_together=not victim)
    assert_silent(site)


def assert_in_order(site: PowerSite, wanted: Kept | None, *, booted_together: bool) -> None:
    """No VIP was seen on the director before what serves it, and nothing undecided on either host at any time."""
    seen = site.director.seen()
    for line in seen:
        if line.startswith(f"{KEPT_VIP} on"):
            assert f"served by {REAL_SERVER.ipv4} 1;" in line, seen
        if booted_together and line.startswith(f"{VIP} on"):
            assert "; served by" in line, seen
    if booted_together and wanted is not None:
        for each, part in ((site.director, wanted.director), (site.real_server, wanted.real_server)):
            of_it = [line for line in each.seen() if line.startswith(VIP)]
            if part is Part.NOTHING:
                assert [line for line in of_it if " on;" in line or "; served" in line] == [], of_it
            if part is Part.NO_DESTINATION:
                assert [line for line in of_it if " on; served by 1" in line] == [], of_it
            if part is Part.ALL and each is site.director:
                assert [line for line in of_it if " on; served by ;" in line] == [], of_it


def assert_silent(site: PowerSite) -> None:
    """The real server was never seen with a VIP for which it would answer ARP."""
    for line in site.real_server.seen():
        if " on;" in line:
            assert re.search(r"ignore [128], announce 2$", line), site.real_server.seen()
