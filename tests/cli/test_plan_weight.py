"""The plans of drain, undrain and weight, as data."""

from __future__ import annotations

import pytest

from agent_common.destination import Forwarding
from agent_common.errors import NotFoundError, Reason, RefusedError
from agent_common.virtual_server import Persistence, VirtualServer
from agent_realserver.arp import ArpName
from cli.plan_weight import describe
from cli.request import AddBackend, SetWeight
from cli.typed import suggested
from tests.cli.sites import D1, D2, RS1, RS2, SiteInMemory, backend, found, table, titles
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB


def asked(*real_servers: str, **fields: object) -> SetWeight:
    return SetWeight(backend=backend(*real_servers), **fields)  # type: ignore[arg-type]


def drain(*real_servers: str, **fields: object) -> SetWeight:
    return asked(*real_servers, draining=True, **fields)


def undrain(*real_servers: str, **fields: object) -> SetWeight:
    return asked(*real_servers, draining=False, **fields)


def serving(*real_servers: str, site: SiteInMemory | None = None, **fields: object) -> SiteInMemory:
    """Return a site that serves already."""
    site = site or SiteInMemory()
    site.run(site.add(AddBackend(backend=backend(*real_servers), **fields)).whole)  # type: ignore[arg-type]
    return site


def do(site: SiteInMemory, request: SetWeight) -> list[str]:
    """Carry a request out, and return what its steps were."""
    plan = site.weight(request)
    site.run(plan.whole)
    return titles(plan.steps)


def refused(site: SiteInMemory, request: SetWeight, reason: Reason) -> str:
    with pytest.raises(RefusedError) as caught:
        site.weight(request)
    assert caught.value.reason is reason
    return "\n".join([caught.value.message, *(each.command for each in suggested(caught.value))])


def weights(site: SiteInMemory, name: str = D1) -> dict[str, tuple[int, bool]]:
    """Return the operator's weights, and whether they drain."""
    return {key: (each.weight, each.draining) for key, each in table(site.directors[name], WEB).items()}


class TestDrain:
    """No new connections; the weight waits."""

    def test_it_is_one_step_of_each_director_the_authority_first(self) -> None:
        site = serving(RS1, RS2, site=SiteInMemory((D1, D2)), weight=7)
        plan = site.weight(drain(RS1))
        assert titles(plan.steps) == [f"director {each}: drain {RS1}:80 in {WEB}" for each in (D1, D2)]
        assert all(step.undo for step in plan.steps)
        site.run(plan.whole)
        assert weights(site, D2) == {f"{RS1}:80": (7, True), f"{RS2}:80": (7, False)}

    def test_several_are_drained_in_one_message(self) -> None:
        site = serving(RS1, RS2, "192.168.0.106", site=SiteInMemory(real_servers=(RS1, RS2, "192.168.0.106")))
        assert do(site, drain(RS1, RS2)) == [f"director {D1}: drain {RS1}:80, {RS2}:80 in {WEB}"]

    def test_one_that_drains_is_in_place(self) -> None:
        site = serving(RS1, RS2)
        do(site, drain(RS1))
        plan = site.weight(drain(RS1))
        assert (plan.steps, found(plan)) == ((), [f"in place: director {D1}: {RS1}:80 in {WEB}: draining"])

    def test_a_real_server_is_not_asked(self) -> None:
        site = serving(RS1, RS2)
        site.real_servers[RS1].sysctls.write("eth0", ArpName.IGNORE, 3)
        assert do(site, drain(RS1))

    def test_the_last_that_takes_connections_is_refused_unless_forced(self) -> None:
        site = serving(RS1, RS2)
        do(site, drain(RS1))
        for request in (drain(RS2), asked(RS2, weight=0), drain(RS1, RS2)):
            assert refused(site, request, Reason.LAST_DESTINATION).endswith("use --force")
        assert do(site, drain(RS2, force=True))

    @pytest.mark.parametrize("scheduler", ["dh", "sh", "mh"])
    def test_where_weight_0_refuses_clients_it_is_refused_and_force_does_not_help(self, scheduler: str) -> None:
        """--force overrides only what names it."""
        site = serving(RS1, RS2, scheduler=scheduler)
        for request in (drain(RS1), asked(RS1, weight=0), drain(RS1, force=True)):
            said = refused(site, request, Reason.WEIGHT_ZERO_REFUSES)
            assert "lvs remove-backend --vip 192.168.0.200:80 --rs 192.168.0.104:80 --no-drain" in said
            assert "--force" not in said
        assert do(site, asked(RS1, weight=3))

    def test_with_persistence_that_outlives_the_drain_that_is_said(self) -> None:
        site = serving(RS1, RS2, persistence=Persistence(timeout=60))
        assert any("returning clients" in warning for warning in site.weight(drain(RS1)).warnings)
        assert site.weight(asked(RS1, weight=4)).warnings == ()

    def test_what_is_not_there_is_told(self) -> None:
        site = serving(RS1)
        for request in (drain(RS2), undrain(RS2), asked(RS2, weight=1), drain(RS1, RS2)):
            with pytest.raises(NotFoundError, match=f"director {D1}: there is no destination {RS2}:80") as caught:
                site.weight(request)
            assert caught.value.reason is Reason.DESTINATION_NOT_FOUND

    def test_what_one_of_two_directors_does_not_have_is_told(self) -> None:
        site = serving(RS1, RS2, site=SiteInMemory((D1, D2)))
        site.directors[D2].ipvs.remove_destination(WEB, destination(RS1).key)
        with pytest.raises(NotFoundError, match=f"director {D2}"):
            site.weight(drain(RS1))


class TestUndrain:
    """The operator's weight comes back, after the real server was asked again."""

    def test_it_restores_the_weight(self) -> None:
        site = serving(RS1, RS2, weight=7)
        do(site, drain(RS1))
        assert do(site, undrain(RS1)) == [
            f"real server {RS1}: keep VIP 192.168.0.200 on lo",
            f"director {D1}: end the drain of {RS1}:80 in {WEB}",
        ]
        assert weights(site)[f"{RS1}:80"] == (7, False)

    def test_a_vip_that_the_real_server_lost_meanwhile_is_put_back_first(self) -> None:
        """Else clients would be sent to a host that does not take them (P1)."""
        site = serving(RS1, RS2)
        do(site, drain(RS1))
        site.real_servers[RS1].addresses.remove_address(VIP, 32, "lo")
        assert do(site, undrain(RS1)) == [
            f"real server {RS1}: prepare VIP 192.168.0.200 on lo",
            f"director {D1}: end the drain of {RS1}:80 in {WEB}",
        ]

    def test_a_real_server_that_would_answer_arp_refuses_it(self) -> None:
        site = serving(RS1, RS2)
        do(site, drain(RS1))
        site.real_servers[RS1].sysctls.write("eth0", ArpName.IGNORE, 3)
        for request in (undrain(RS1), undrain(RS1, force=True)):
            assert refused(site, request, Reason.ARP_NOT_SILENT).startswith(f"real server {RS1}: ")

    def test_a_drain_that_was_ended_by_hand_is_over_with_the_weight_that_was_set(self) -> None:
        site = serving(RS1, RS2, weight=7)
        do(site, drain(RS1))
        site.director.ipvs.edit_destination(WEB, destination(weight=3))
        assert do(site, undrain(RS1)) == [f"director {D1}: end the drain of {RS1}:80 in {WEB}"]
        assert weights(site)[f"{RS1}:80"] == (3, False)
        assert do(site, undrain(RS1)) == []

    def test_with_wait_the_application_is_asked_before(self) -> None:
        site = serving(RS1, RS2)
        do(site, drain(RS1))
        plan = site.weight(undrain(RS1, wait=10.0))
        assert titles(plan.steps) == [
            f"real server {RS1}: keep VIP 192.168.0.200 on lo",
            f"real server {RS1}: wait until something takes TCP on 192.168.0.200 port 80",
            f"director {D1}: end the drain of {RS1}:80 in {WEB}",
        ]
        assert plan.steps[1].seconds == 10.0

    def test_the_agent_of_another_host_is_refused(self) -> None:
        """What it has prepared says nothing of the real server that would get connections."""
        site = serving(RS1, RS2)
        do(site, drain(RS1))
        site.real_servers[RS1] = site.real_servers[RS2]
        assert f"which does not have {RS1}" in refused(site, undrain(RS1), Reason.NOT_ON_LINK)

    def test_nat_has_no_vip_to_ask_for(self) -> None:
        site = serving(RS1, RS2, forwarding=Forwarding.MASQUERADING)
        do(site, drain(RS1))
        assert do(site, undrain(RS1)) == [f"director {D1}: end the drain of {RS1}:80 in {WEB}"]

    def test_the_director_itself_is_not_asked(self) -> None:
        site = serving("192.168.0.10", RS1)
        do(site, drain("192.168.0.10"))
        assert do(site, undrain("192.168.0.10")) == [f"director {D1}: end the drain of 192.168.0.10:80 in {WEB}"]


class TestWeight:
    """A weight, now or at the end of a drain."""

    def test_it_is_set_on_every_director(self) -> None:
        site = serving(RS1, site=SiteInMemory((D1, D2)))
        assert do(site, asked(RS1, weight=9)) == [
            f"director {each}: set weight 9 of {RS1}:80 in {WEB}" for each in (D1, D2)
        ]
        assert weights(site, D2) == {f"{RS1}:80": (9, False)}

    def test_the_same_weight_is_in_place(self) -> None:
        plan = serving(RS1, weight=9).weight(asked(RS1, weight=9))
        assert (plan.steps, found(plan)) == ((), [f"in place: director {D1}: {RS1}:80 in {WEB}: weight 9"])

    def test_of_two_only_the_other_is_changed(self) -> None:
        site = serving(RS1, weight=9)
        serving(RS2, site=site)
        assert do(site, asked(RS1, RS2, weight=9)) == [f"director {D1}: set weight 9 of {RS2}:80 in {WEB}"]

    def test_during_a_drain_it_waits_for_the_end_and_the_real_server_is_not_asked(self) -> None:
        site = serving(RS1, RS2)
        do(site, drain(RS1))
        site.real_servers[RS1].sysctls.write("eth0", ArpName.IGNORE, 3)
        do(site, asked(RS1, weight=9))
        assert weights(site)[f"{RS1}:80"] == (9, True)
        assert site.director.destinations.get(WEB, destination(RS1).key).current_weight == 0

    def test_from_0_upwards_the_real_server_is_asked_again(self) -> None:
        site = serving(RS1, RS2)
        do(site, asked(RS1, weight=0))
        site.real_servers[RS1].addresses.remove_address(VIP, 32, "lo")
        assert do(site, asked(RS1, weight=5))[0] == f"real server {RS1}: prepare VIP 192.168.0.200 on lo"
        site = serving(RS1, RS2)
        do(site, asked(RS1, weight=0))
        site.real_servers[RS1].sysctls.write("eth0", ArpName.IGNORE, 3)
        refused(site, asked(RS1, weight=5), Reason.ARP_NOT_SILENT)

    def test_from_one_weight_above_0_to_another_it_is_not(self) -> None:
        site = serving(RS1, RS2)
        site.real_servers[RS1].sysctls.write("eth0", ArpName.IGNORE, 3)
        assert do(site, asked(RS1, weight=5)) == [f"director {D1}: set weight 5 of {RS1}:80 in {WEB}"]

    def test_a_foreign_destination_takes_a_weight_and_stays_foreign(self) -> None:
        site = SiteInMemory()
        site.director.ipvs.add_virtual_server(VirtualServer(key=WEB))
        site.director.ipvs.add_destination(WEB, destination())
        do(site, asked(RS1, weight=5))
        found = site.director.destinations.get(WEB, destination().key)
        assert (found.current_weight, found.managed) == (5, False)


def test_a_request_is_described_in_a_word_or_two() -> None:
    words = [describe(each) for each in (drain(RS1), undrain(RS1), asked(RS1, weight=0))]
    assert words == ["draining", "no longer draining", "weight 0"]


def test_a_plan_changes_nothing() -> None:
    site = serving(RS1, RS2, weight=7)
    site.weight(drain(RS1))
    assert weights(site)[f"{RS1}:80"] == (7, False)
