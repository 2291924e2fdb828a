"""The plan of remove-backend, as data: drain, wait, remove everywhere, and only then give the VIP back."""

from __future__ import annotations

import asyncio

import pytest

from agent_common.destination import Forwarding
from agent_common.errors import Reason, RefusedError
from agent_common.virtual_server import Persistence, VirtualServer
from cli import operations
from cli.plan_remove import Removal
from cli.request import AddBackend, RemoveBackend
from cli.typed import suggested
from tests.cli.sites import D1, D2, RS1, RS2, SiteInMemory, backend, found, table, titles
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, holder


def asked(*real_servers: str, **fields: object) -> RemoveBackend:
    return RemoveBackend(backend=backend(*real_servers), **fields)  # type: ignore[arg-type]


def serving(*real_servers: str, site: SiteInMemory | None = None, **fields: object) -> SiteInMemory:
    """Return a site that serves already."""
    site = site or SiteInMemory()
    site.run(site.add(AddBackend(backend=backend(*real_servers), **fields)).whole)  # type: ignore[arg-type]
    return site


def everything(removal: Removal) -> list[str]:
    return titles(removal.as_plan().steps)


def carry_out(site: SiteInMemory, removal: Removal) -> None:
    site.run(removal.as_plan().whole)


def refused(site: SiteInMemory, request: RemoveBackend, reason: Reason) -> str:
    with pytest.raises(RefusedError) as caught:
        site.remove(request)
    assert caught.value.reason is reason
    return "\n".join([caught.value.message, *(each.command for each in suggested(caught.value))])


class TestOrder:
    """The drain is the decision; the VIP goes last."""

    def test_of_one_of_two(self) -> None:
        removal = serving(RS1, RS2).remove(asked(RS1))
        assert everything(removal) == [
            f"director {D1}: drain {RS1}:80 in {WEB}",
            f"director {D1}: wait at most 60 s for the connections of {RS1}:80",
            f"director {D1}: remove {RS1}:80",
            f"real server {RS1}: give VIP 192.168.0.200 back",
            f"director {D1}: note that {RS1} has given the VIP back",
        ]

    def test_of_several_directors_the_destination_goes_everywhere_before_the_vip(self) -> None:
        removal = serving(RS1, RS2, site=SiteInMemory((D1, D2))).remove(asked(RS1))
        assert everything(removal) == [
            f"director {D1}: drain {RS1}:80 in {WEB}",
            f"director {D2}: drain {RS1}:80 in {WEB}",
            f"director {D1}: wait at most 60 s for the connections of {RS1}:80",
            f"director {D2}: wait at most 60 s for the connections of {RS1}:80",
            f"director {D1}: remove {RS1}:80",
            f"director {D2}: remove {RS1}:80",
            f"real server {RS1}: give VIP 192.168.0.200 back",
            f"director {D1}: note that {RS1} has given the VIP back",
            f"director {D2}: note that {RS1} has given the VIP back",
        ]

    def test_of_several_real_servers_each_director_is_asked_once(self) -> None:
        removal = serving(RS1, RS2).remove(asked(RS1, RS2, prune=True))
        assert titles((*removal.drains, *removal.deletes)) == [
            f"director {D1}: drain {RS1}:80, {RS2}:80 in {WEB}",
            f"director {D1}: remove {RS1}:80, {RS2}:80",
        ]
        assert len(removal.waits) == 2

    def test_the_drain_can_be_taken_back_and_nothing_after_it(self) -> None:
        removal = serving(RS1, RS2).remove(asked(RS1))
        assert [bool(step.undo) for step in removal.as_plan().steps] == [True, False, False, False, False]

    def test_carried_out_with_prune_it_leaves_no_trace(self) -> None:
        site = SiteInMemory()
        before = site.director.addresses.addresses()
        serving(RS1, RS2, site=site)
        carry_out(site, site.remove(asked(RS1)))
        carry_out(site, site.remove(asked(RS2, prune=True)))
        assert site.director.addresses.addresses() == before
        for host in site.hosts:
            assert host.vips.list_all() == []
            kinds = ("vip", "virtual_server", "destination", "leftover", "arp_sysctl", "arp_hold")
            assert {kind: host.state.list(kind) for kind in kinds} == {kind: {} for kind in kinds}
        assert site.director.ipvs.virtual_servers() == []

    def test_what_was_removed_cannot_be_removed_again_and_that_is_no_error(self) -> None:
        site = serving(RS1, RS2)
        carry_out(site, site.remove(asked(RS1)))
        removal = site.remove(asked(RS1))
        assert everything(removal) == []
        assert found(removal) == [f"not there: director {D1}: {RS1}:80 in {WEB}"]


class TestDrain:
    """How connections end."""

    def test_without_a_drain_it_is_removed_at_once(self) -> None:
        removal = serving(RS1, RS2).remove(asked(RS1, drain_timeout=None))
        assert (removal.drains, removal.waits) == ((), ())
        assert titles(removal.deletes) == [f"director {D1}: remove {RS1}:80"]

    def test_a_drain_that_has_begun_is_not_begun_again_but_waited_for(self) -> None:
        site = serving(RS1, RS2)
        site.run(site.remove(asked(RS1)).drains)
        removal = site.remove(asked(RS1))
        assert removal.drains == ()
        assert len(removal.waits) == 1

    def test_the_wait_is_as_long_as_was_asked_for(self) -> None:
        (wait,) = serving(RS1, RS2).remove(asked(RS1, drain_timeout=1.5)).waits
        assert (wait.seconds, wait.drained) == (1.5, (WEB, destination().key))

    @pytest.mark.parametrize(("scheduler", "fallback"), [("dh", False), ("sh", True), ("mh", True)])
    def test_where_weight_0_refuses_clients_a_wait_is_refused(self, scheduler: str, fallback: bool) -> None:
        site = serving(RS1, RS2, scheduler=scheduler)
        said = refused(site, asked(RS1), Reason.WEIGHT_ZERO_REFUSES)
        assert "--no-drain" in said
        assert (f"set {scheduler}-fallback first" in said) is fallback
        assert site.remove(asked(RS1, drain_timeout=None)).deletes

    def test_with_persistence_that_outlives_the_drain_that_is_said(self) -> None:
        site = serving(RS1, RS2, persistence=Persistence(timeout=60))
        said = "returning clients still reach the drained real server"
        assert any(said in warning for warning in site.remove(asked(RS1)).warnings)
        assert site.remove(asked(RS1, drain_timeout=None)).warnings == ()
        site.settings[D1] = {"ipv4/vs/expire_quiescent_template": 1}
        assert site.remove(asked(RS1)).warnings == ()


class TestLast:
    """A virtual server is not left without a destination that takes connections by accident."""

    def test_the_last_is_refused_unless_pruned_or_forced(self) -> None:
        site = serving(RS1)
        said = refused(site, asked(RS1), Reason.LAST_DESTINATION)
        assert "use --prune to remove it too, or --force" in said
        assert site.remove(asked(RS1, prune=True)).prunes
        assert site.remove(asked(RS1, force=True)).deletes

    def test_all_at_once_are_the_last_too(self) -> None:
        refused(serving(RS1, RS2), asked(RS1, RS2), Reason.LAST_DESTINATION)

    def test_others_at_weight_0_do_not_count(self) -> None:
        site = serving(RS1)
        serving(RS2, site=site, weight=0)
        refused(site, asked(RS1), Reason.LAST_DESTINATION)

    def test_one_at_weight_0_is_not_the_last(self) -> None:
        site = serving(RS1, weight=0)
        assert site.remove(asked(RS1)).deletes

    def test_a_foreign_one_that_is_left_counts(self) -> None:
        site = serving(RS1)
        site.director.ipvs.add_destination(WEB, destination("192.168.0.199"))
        assert site.remove(asked(RS1)).deletes


class TestForeign:
    """What lvs did not make stays."""

    def test_a_foreign_destination_stays_with_its_vip_and_is_named(self) -> None:
        site = SiteInMemory()
        site.director.ipvs.add_virtual_server(VirtualServer(key=WEB))
        site.director.ipvs.add_destination(WEB, destination())
        removal = site.remove(asked(RS1, prune=True))
        assert (removal.drains, removal.deletes, removal.releases) == ((), (), ())
        assert found(removal) == [
            f"foreign: director {D1}: {RS1}:80 in {WEB} was not made by lvs, and stays; remove it with ipvsadm"
        ]

    def test_of_two_the_foreign_one_stays(self) -> None:
        site = SiteInMemory()
        site.director.ipvs.add_virtual_server(VirtualServer(key=WEB))
        site.director.ipvs.add_destination(WEB, destination())
        serving(RS2, site=site)
        removal = site.remove(asked(RS1, RS2))
        assert titles(removal.deletes) == [f"director {D1}: remove {RS2}:80"]
        carry_out(site, removal)
        assert table(site.director, WEB).keys() == {f"{RS1}:80"}

    def test_a_vip_stays_on_a_real_server_that_a_director_still_sends_clients_to(self) -> None:
        """On one director the destination is ours, on the other foreign."""
        site = SiteInMemory((D1, D2))
        site.directors[D2].ipvs.add_virtual_server(VirtualServer(key=WEB))
        site.directors[D2].ipvs.add_destination(WEB, destination())
        serving(RS1, RS2, site=site)
        removal = site.remove(asked(RS1))
        assert titles(removal.deletes) == [f"director {D1}: remove {RS1}:80"]
        assert removal.releases == ()

    def test_prune_leaves_a_foreign_virtual_server(self) -> None:
        site = SiteInMemory()
        site.director.ipvs.add_virtual_server(VirtualServer(key=WEB))
        serving(RS1, site=site)
        carry_out(site, site.remove(asked(RS1, prune=True)))
        assert site.director.ipvs.virtual_servers() == [VirtualServer(key=WEB)]
        assert site.director.vips.get(VIP).holders == ()  # nothing of ours is left that needs it


class TestVip:
    """Given back by a real server only when nobody sends it clients any more."""

    def test_nat_has_no_vip_to_give_back(self) -> None:
        site = serving(RS1, RS2, forwarding=Forwarding.MASQUERADING)
        removal = site.remove(asked(RS1))
        assert all(step.agent.name != RS1 for step in removal.as_plan().steps)
        carry_out(site, removal)
        assert site.director.destinations.leftovers() == []

    def test_another_holder_keeps_it(self) -> None:
        site = serving(RS1, RS2)
        other = AddBackend(backend=backend(RS1, vip="192.168.0.200:443"))
        site.run(site.add(other).whole)
        carry_out(site, site.remove(asked(RS1)))
        assert [str(each) for each in site.real_servers[RS1].vips.get(VIP).holders] == [
            "tcp/192.168.0.200:443@id-of-d1"
        ]
        assert site.real_servers[RS1].vips.get(VIP).present

    def test_a_hold_of_another_authority_is_not_ours_to_give_up(self) -> None:
        site = serving(RS1, RS2)
        host = site.real_servers[RS1]
        asyncio.run(host.changes.apply(operations.create_vip(VIP, holder(WEB, "id-of-d9")), ""))
        removal = site.remove(asked(RS1))
        assert any(
            "keeps VIP 192.168.0.200: a director that was not asked (agent id-of-d9)" in w for w in removal.warnings
        )
        assert [each.command for each in removal.commands] == [f"lvs vip remove {VIP} --rs {RS1} --force"]
        carry_out(site, removal)
        assert host.vips.get(VIP).holders == (holder(WEB, "id-of-d9"),)
        assert site.director.destinations.leftovers() == [(WEB, destination().key.address)]  # it is still there

    def test_whichever_director_is_named_first_the_hold_goes(self) -> None:
        """The authority of the addition may be the second of the removal."""
        site = SiteInMemory((D1, D2))
        serving(RS1, RS2, site=site)
        site.directors = dict(reversed(site.directors.items()))
        carry_out(site, site.remove(asked(RS1)))
        assert site.real_servers[RS1].vips.list_all() == []
        carry_out(site, site.remove(asked(RS2, prune=True)))
        for director in site.directors.values():
            assert (director.vips.list_all(), director.destinations.leftovers()) == ([], [])

    def test_the_agent_of_another_host_is_refused(self) -> None:
        """It would give back a VIP that serves."""
        site = serving(RS1, RS2)
        site.real_servers[RS1] = site.real_servers[RS2]
        assert f"which does not have {RS1}" in refused(site, asked(RS1), Reason.NOT_ON_LINK)

    def test_with_nat_nothing_is_left_on_a_real_server_that_is_not_asked(self) -> None:
        site = serving(RS1, RS2, forwarding=Forwarding.MASQUERADING)
        assert site.remove(asked(RS1, ask_real_servers=False)).warnings == ()

    def test_where_its_agent_is_not_asked_the_director_notes_that_the_vip_is_left(self) -> None:
        site = serving(RS1, RS2)
        removal = site.remove(asked(RS1, ask_real_servers=False))
        assert removal.releases == ()
        assert any("it keeps the VIP; the director notes that" in warning for warning in removal.warnings)
        carry_out(site, removal)
        assert site.director.destinations.leftovers() == [(WEB, destination().key.address)]
        assert site.real_servers[RS1].vips.get(VIP).present

    def test_the_next_removal_that_reaches_the_agent_finishes(self) -> None:
        site = serving(RS1, RS2)
        carry_out(site, site.remove(asked(RS1, ask_real_servers=False)))
        removal = site.remove(asked(RS1))
        assert titles(removal.releases) == [
            f"real server {RS1}: give VIP 192.168.0.200 back",
            f"director {D1}: note that {RS1} has given the VIP back",
        ]
        carry_out(site, removal)
        assert site.director.destinations.leftovers() == []
        assert not site.real_servers[RS1].vips.get(VIP).present

    def test_until_a_real_server_has_answered_the_director_remembers_it(self) -> None:
        """Whoever dies between the two leaves a note, not a riddle."""
        site = serving(RS1, RS2)
        removal = site.remove(asked(RS1))
        site.run((*removal.drains, *removal.deletes))
        assert site.director.destinations.leftovers() == [(WEB, destination().key.address)]

    def test_the_director_itself_as_real_server_is_not_asked_and_keeps_nothing(self) -> None:
        site = serving("192.168.0.10")
        removal = site.remove(asked("192.168.0.10", prune=True))
        assert all(step.agent.role.value == "director" for step in removal.as_plan().steps)
        carry_out(site, removal)
        assert site.director.destinations.leftovers() == []

    def test_a_vip_stays_while_another_port_of_the_real_server_is_served_under_the_same_key(self) -> None:
        """fwmark aside, only nat has other ports; the hold is the virtual server's, not the destination's."""
        site = serving(f"{RS1}:8080", f"{RS1}:8081", RS2, forwarding=Forwarding.MASQUERADING)
        removal = site.remove(asked(f"{RS1}:8080"))
        assert titles(removal.deletes) == [f"director {D1}: remove {RS1}:8080"]


class TestPrune:
    """Virtual server and VIP too, if lvs made them and nothing uses them."""

    def test_both_go_in_one_step_of_each_director(self) -> None:
        removal = serving(RS1, site=SiteInMemory((D1, D2))).remove(asked(RS1, prune=True))
        assert titles(removal.prunes) == [
            f"director {each}: remove virtual server {WEB} and its hold on the VIP, if nothing uses them"
            for each in (D1, D2)
        ]
        for step in removal.prunes:
            assert [each.WhichOneof("operation") for each in step.operations] == [
                "delete_virtual_server",
                "delete_vip",  # the holds of both directors, whichever was the authority
                "delete_vip",
            ]

    def test_without_prune_both_stay(self) -> None:
        site = serving(RS1)
        carry_out(site, site.remove(asked(RS1, force=True)))
        assert site.director.ipvs.virtual_servers() == [VirtualServer(key=WEB)]
        assert site.director.vips.get(VIP).present

    def test_what_is_still_used_stays(self) -> None:
        site = serving(RS1, RS2)
        carry_out(site, site.remove(asked(RS1, prune=True)))
        assert table(site.director, WEB).keys() == {f"{RS2}:80"}
        assert site.director.vips.get(VIP).holders == (holder(WEB, "id-of-d1"),)

    def test_the_vip_stays_for_another_port_on_it(self) -> None:
        site = serving(RS1)
        site.run(site.add(AddBackend(backend=backend(RS1, vip="192.168.0.200:443"))).whole)
        carry_out(site, site.remove(asked(RS1, prune=True)))
        assert [str(server.key) for server in site.director.ipvs.virtual_servers()] == ["tcp/192.168.0.200:443"]
        assert site.director.vips.get(VIP).present

    def test_a_prune_of_what_nobody_serves_is_no_error(self) -> None:
        site = SiteInMemory()
        carry_out(site, site.remove(asked(RS1, prune=True)))


def test_a_dry_run_prints_every_step() -> None:
    assert serving(RS1, RS2).remove(asked(RS1)).as_plan().lines() == [
        f"1. director {D1}: drain {RS1}:80 in {WEB}",
        "   undo: end the drain",
        f"2. director {D1}: wait at most 60 s for the connections of {RS1}:80",
        f"3. director {D1}: remove {RS1}:80",
        f"4. real server {RS1}: give VIP 192.168.0.200 back",
        f"5. director {D1}: note that {RS1} has given the VIP back",
    ]
