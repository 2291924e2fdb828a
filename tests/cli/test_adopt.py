"""adopt against agents over real gRPC: what was made by hand is ours as it is, on every host or on none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_common.address import InterfaceAddress
from agent_common.errors import InvalidInputError
from agent_common.vip import VipMode
from agent_common.virtual_server import VirtualServer, parse_key
from agent_realserver.arp import ArpName
from cli.adopt import adopt
from cli.check_options import CheckOptions
from cli.errors import ExitStatus
from cli.health_options import HealthOptions, PolicyOptions
from cli.outcome import Outcome, StepResult
from cli.plan_adopt import Adopt
from cli.set_health import set_health
from tests.cli.served_site import Site, serving_site
from tests.cli.sites import RS1, RS2
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost

FIRST, SECOND = destination(RS1, weight=7), destination(RS2)


def put_vip(host: DirectorHost | RealServerHost, device: str) -> None:
    host.addresses.put(InterfaceAddress(address=VIP, prefix_length=32, device=device))
    host.addresses.add_host_route(VIP, device)


def set_up_by_hand(site: Site, *, real_servers: tuple[str, ...] = (RS1, RS2)) -> None:
    for director in site.directors:
        director.ipvs.add_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
        for each in (FIRST, SECOND):
            director.ipvs.add_destination(WEB, each)
    put_vip(site.director, "eth0")
    for address in real_servers:
        put_vip(site.rs(address), "lo")
        for name, value in ((ArpName.IGNORE, 1), (ArpName.ANNOUNCE, 2)):
            site.rs(address).sysctls.write("all", name, value)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A site that was set up by hand."""
    async with serving_site(tmp_path) as made:
        set_up_by_hand(made)
        yield made


async def run(site: Site, *real_servers: str, dry_run: bool = False, **fields: object) -> Outcome:
    keys = tuple(each.key for each in (FIRST, SECOND) if str(each.key.address) in real_servers)
    request = Adopt(key=WEB, destinations=keys, **fields)  # type: ignore[arg-type]
    return await adopt(request, await site.run(dry_run=dry_run))


def kernel(site: Site) -> object:
    """Return all that the kernels have."""
    return [
        (
            sorted(str(each) for each in host.addresses.addresses()),
            [host.ipvs.virtual_servers(), host.ipvs.destinations(WEB)]
            if isinstance(host, DirectorHost)
            else dict(host.silence.values()),
        )
        for host in site.hosts.values()
    ]


async def test_a_whole_site_is_adopted_as_it_is_and_once(site: Site) -> None:
    before = kernel(site)
    outcome = await run(site)
    assert (outcome.status, outcome.message) == (ExitStatus.DONE, f"adopted {WEB}"), outcome
    assert kernel(site) == before
    assert site.director.destinations.committed() == {WEB: [FIRST, SECOND]}
    assert all(vip.made_address for host in site.hosts.values() for vip in host.vips.list_all())
    assert sum("is not known: they stay as they are" in line for line in outcome.warnings) == 2
    again = await run(site)
    assert (again.status, again.message) == (ExitStatus.DONE, f"nothing to adopt: {WEB}")
    assert {step.result for step in again.steps} == {StepResult.IN_PLACE}


async def test_a_removal_with_prune_takes_away_what_was_adopted(site: Site) -> None:
    """As if lvs had made it; the sysctls' originals are not known, and stay."""
    await run(site)
    silent = dict(site.rs(RS1).silence.values())
    assert (await site.remove(RS1, RS2, prune=True, drain_timeout=None)).status is ExitStatus.DONE
    assert site.director.ipvs.virtual_servers() == []
    for host in site.hosts.values():
        assert all(each.address != VIP for each in host.addresses.addresses())
    assert dict(site.rs(RS1).silence.values()) == silent


async def test_one_destination_alone(site: Site) -> None:
    """The virtual server and the VIP on the director stay foreign."""
    outcome = await run(site, RS1)
    assert outcome.status is ExitStatus.DONE
    assert site.director.destinations.committed() == {WEB: [FIRST]}
    assert (site.director.virtual_servers.committed(), site.director.vips.list_all()) == ([], [])
    assert [len(site.rs(each).vips.list_all()) for each in (RS1, RS2)] == [1, 0]


async def test_a_dry_run_says_what_would_be_adopted(site: Site) -> None:
    outcome = await run(site, dry_run=True)
    assert outcome.status is ExitStatus.DONE
    assert f"   - adopt {VIP}/32 on lo" in outcome.plan
    assert f"   - adopt {FIRST.key} in {WEB}, dr, weight 7" in outcome.plan
    assert site.director.destinations.committed() == {}


async def test_a_real_server_without_the_vip_is_told_and_left(tmp_path: Path) -> None:
    """To hold the VIP there would put it there."""
    async with serving_site(tmp_path) as site:
        set_up_by_hand(site, real_servers=(RS1,))
        outcome = await run(site)
        assert outcome.status is ExitStatus.DONE
        assert any(RS2 in line and "it is not on this host" in line for line in outcome.warnings)
        assert site.rs(RS2).vips.list_all() == []


async def test_an_agent_that_does_not_answer_is_14_unless_it_is_not_asked(site: Site) -> None:
    await site.served.kill(RS1)
    assert (await run(site)).status is ExitStatus.UNREACHABLE
    assert site.director.destinations.committed() == {}
    outcome = await run(site, ask_real_servers=False)
    assert outcome.status is ExitStatus.DONE
    assert any("real servers are not asked" in line for line in outcome.warnings)


async def test_what_fails_in_the_middle_leaves_all_of_it_foreign(site: Site) -> None:
    site.director.state.full = True
    before = kernel(site)
    outcome = await run(site)
    assert outcome.status is ExitStatus.ROLLED_BACK
    assert kernel(site) == before
    assert site.rs(RS1).vips.list_all() == site.rs(RS2).vips.list_all() == []


async def test_what_is_not_there_is_13(site: Site) -> None:
    nothing = Adopt(key=parse_key("tcp/192.168.0.9:53"))
    assert (await adopt(nothing, await site.run())).status is ExitStatus.REFUSED
    odd = Adopt(key=WEB, destinations=(destination("192.168.0.99").key,))
    assert (await adopt(odd, await site.run())).status is ExitStatus.REFUSED
    with pytest.raises(InvalidInputError, match="is given twice"):
        Adopt(key=WEB, destinations=(FIRST.key, FIRST.key))


async def test_with_two_directors_the_vip_is_somebody_elses_to_move(tmp_path: Path) -> None:
    """Recorded as external on both; the addresses stay foreign."""
    async with serving_site(tmp_path, directors=2) as site:
        set_up_by_hand(site)
        assert (await run(site)).status is ExitStatus.DONE
        for director in site.directors:
            assert director.destinations.committed() == {WEB: [FIRST, SECOND]}
            (vip,) = director.vips.list_all()
            assert (vip.mode, vip.made_address) == (VipMode.EXTERNAL, False)


async def test_a_sorry_server_that_is_named_before_it_is_added_to_it_gets_no_clients(site: Site) -> None:
    """In the order that the pages on ldirectord and keepalived have."""
    site.director.ipvs.remove_destination(WEB, SECOND.key)
    assert (await run(site)).status is ExitStatus.DONE
    options = HealthOptions(check=CheckOptions(kind="tcp"), policy=PolicyOptions(fields={"sorry": SECOND.key}))
    named = await set_health(WEB, options, await site.run())
    assert named.status is ExitStatus.DONE
    assert any(f"{RS2}:80 is no destination of {WEB} yet" in line for line in named.warnings)
    added = await site.add(RS2, weight=3)
    assert added.status is ExitStatus.DONE, added
    assert [each.weight for each in (one.destination for one in site.director.ipvs.destinations(WEB))] == [7, 0]
    assert site.director.destinations.get(WEB, SECOND.key).destination.weight == 3
