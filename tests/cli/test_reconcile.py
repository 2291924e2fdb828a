"""reconcile against agents over real gRPC: what was shown is repaired, real servers before they get connections."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_common.destination import DestinationStatus
from agent_common.virtual_server import ServiceAddress, VirtualServer, parse_key
from agent_realserver.arp import ArpName
from cli.errors import ExitStatus
from cli.outcome import Outcome, StepResult
from cli.plan import Plan
from cli.plan_reconcile import Reconcile
from cli.reconcile import reconcile
from tests.cli.served_site import Site, serving_site
from tests.cli.sites import RS1, RS2, table
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB

DNS = parse_key("udp/192.168.0.9:53")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Both real servers behind the VIP."""
    async with serving_site(tmp_path) as made:
        assert (await made.add(RS1, RS2)).status is ExitStatus.DONE
        yield made


def status(site: Site, address: str) -> DestinationStatus:
    return next(s for s in site.director.ipvs.destinations(WEB) if str(s.destination.key.address) == address)


def set_weight(site: Site, address: str, weight: int) -> None:
    there = status(site, address).destination
    site.director.ipvs.edit_destination(WEB, dataclasses.replace(there, weight=weight))


def lose_vip(site: Site, address: str) -> None:
    site.rs(address).addresses.remove_host_route(VIP, "lo")
    site.rs(address).addresses.remove_address(VIP, 32, "lo")


async def run(site: Site, *, agree: bool = True, dry_run: bool = False, **fields: object) -> Outcome:
    async def confirm(plan: Plan) -> bool:
        return agree

    request = Reconcile(**fields)  # type: ignore[arg-type]
    return await reconcile(request, await site.run(dry_run=dry_run), confirm)


def done(outcome: Outcome) -> list[str]:
    return [f"{each.agent}: {each.title}" for each in outcome.steps if each.result is StepResult.DONE]


async def test_where_nothing_differs_nothing_is_done(site: Site) -> None:
    outcome = await run(site)
    assert (outcome.status, outcome.message, outcome.steps) == (ExitStatus.DONE, "nothing to repair", [])


async def test_all_that_differs_comes_back_on_every_host_and_what_is_foreign_stays(site: Site) -> None:
    """Real servers first; the one that gets connections again is asked for the VIP before that."""
    before = site.snapshot()
    extra = destination("192.168.0.99", weight=0)
    set_weight(site, RS1, 0)
    site.director.ipvs.remove_destination(WEB, status(site, RS2).destination.key)
    lose_vip(site, RS2)
    site.rs(RS2).sysctls.write("all", ArpName.IGNORE, 0)
    site.director.ipvs.add_destination(WEB, extra)
    outcome = await run(site)
    assert outcome.status is ExitStatus.DONE, outcome
    assert done(outcome) == [
        f"real server {RS2}: modified ARP on eth0: {silent_again()}",
        f"real server {RS2}: missing {VIP}",
        f"director unix:{site.served.path('d1')}: modified {RS1}:80 in {WEB}: weight 0, not 1",
        f"director unix:{site.served.path('d1')}: missing {RS2}:80 in {WEB}",
    ]
    kept = [each.title for each in outcome.steps if each.result is StepResult.IN_PLACE]
    assert kept == [f"keep VIP {VIP} on lo", f"prepare VIP {VIP} on lo"]
    assert [each.title for each in outcome.steps if each.result is StepResult.FOREIGN] == [
        f"{extra.key} in {WEB} is left alone; lvs adopt takes it in"
    ]
    assert str(extra.key) in table(site.director, WEB)
    site.director.ipvs.remove_destination(WEB, extra.key)
    assert site.snapshot() == before
    assert (await run(site)).message == "nothing to repair"


def silent_again() -> str:
    return (
        "eth0 would answer ARP for the VIP: all/arp_ignore is 0, which does not silence; "
        "type: sysctl -w net/ipv4/conf/all/arp_ignore=1"
    )


async def test_no_connections_go_to_a_real_server_that_cannot_be_made_ready(site: Site) -> None:
    """Its agent is asked before anything is changed (P1)."""
    set_weight(site, RS1, 0)
    lose_vip(site, RS1)
    site.rs(RS1).sysctls.write("eth0", ArpName.IGNORE, 3)
    outcome = await run(site)
    assert outcome.status is ExitStatus.REFUSED
    assert "eth0/arp_ignore is 3" in outcome.message
    assert status(site, RS1).current_weight == 0


async def test_a_real_server_that_does_not_answer_is_needed_only_where_it_gets_connections(site: Site) -> None:
    await site.served.kill(RS1)
    set_weight(site, RS2, 7)
    outcome = await run(site)
    assert outcome.status is ExitStatus.DONE
    assert any(line.startswith("what differs there is not known") and RS1 in line for line in outcome.warnings)
    set_weight(site, RS1, 0)
    assert (await run(site)).status is ExitStatus.UNREACHABLE
    assert status(site, RS1).current_weight == 0
    outcome = await run(site, ask_real_servers=False)
    assert outcome.status is ExitStatus.DONE
    assert any("real servers are not asked" in line for line in outcome.warnings)
    assert status(site, RS1).current_weight == 1


@pytest.mark.parametrize("fields", [{"dry_run": True}, {"agree": False}])
async def test_a_dry_run_and_a_no_change_nothing(site: Site, fields: dict[str, bool]) -> None:
    set_weight(site, RS1, 5)
    outcome = await run(site, **fields)
    assert status(site, RS1).current_weight == 5
    if "dry_run" in fields:
        assert (outcome.status, outcome.message) == (ExitStatus.DONE, "dry run: nothing was changed")
        assert outcome.plan[1] == f"   - set weight of {RS1}:80 in {WEB} back from 5 to 1"
    else:
        assert (outcome.status, outcome.message) == (ExitStatus.ROLLED_BACK, "not confirmed; nothing was changed")


async def test_what_changes_while_the_operator_reads_is_not_repaired(site: Site) -> None:
    """12, and the message says so; whoever runs it again is shown what is there then."""
    set_weight(site, RS1, 5)

    async def confirm(plan: Plan) -> bool:
        set_weight(site, RS1, 6)
        return True

    outcome = await reconcile(Reconcile(), await site.run(), confirm)
    assert outcome.status is ExitStatus.CONFLICT
    assert "has changed since it was read" in outcome.message
    assert status(site, RS1).current_weight == 6


async def test_only_the_virtual_server_that_was_named(site: Site) -> None:
    other = VirtualServer(key=parse_key("tcp/192.168.0.201:80"), scheduler="rr")
    assert isinstance(other.key, ServiceAddress)
    assert (await site.add(RS1, vip="192.168.0.201:80", scheduler="rr")).status is ExitStatus.DONE
    site.director.ipvs.edit_virtual_server(dataclasses.replace(other, scheduler="wrr"))
    site.director.ipvs.add_virtual_server(VirtualServer(key=DNS))
    set_weight(site, RS1, 5)
    outcome = await run(site, key=WEB)
    assert (len(outcome.steps), status(site, RS1).current_weight) == (1, 1)
    assert (there := site.director.ipvs.virtual_server(other.key)) is not None
    assert there.scheduler == "wrr"


async def test_what_the_kernel_refuses_does_not_keep_the_rest_from_being_repaired(site: Site) -> None:
    """11: what is repaired stays repaired, and the step that failed says why."""
    set_weight(site, RS1, 5)
    site.director.ipvs.edit_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
    site.director.ipvs.schedulers = frozenset({"rr"})
    outcome = await run(site)
    assert (outcome.status, outcome.message) == (ExitStatus.UNFINISHED, "1 repaired, 1 could not be")
    assert status(site, RS1).current_weight == 1
    (failed,) = [each for each in outcome.steps if each.result is StepResult.FAILED]
    assert "scheduler wlc" in failed.details[0]


async def test_a_virtual_server_that_was_removed_comes_back_with_its_destinations(site: Site) -> None:
    """It comes first, whatever the order of the names."""
    before = site.snapshot()
    site.director.ipvs.add_virtual_server(VirtualServer(key=DNS))
    site.director.ipvs.remove_virtual_server(WEB)
    outcome = await run(site, key=WEB)
    assert (outcome.status, outcome.message) == (ExitStatus.DONE, "3 repaired")
    site.director.ipvs.remove_virtual_server(DNS)
    assert site.snapshot() == before
