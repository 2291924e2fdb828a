"""Backends behind a firewall mark: which VIPs they need, and what becomes of them."""

from __future__ import annotations

import pytest

from agent_common.destination import Forwarding
from agent_common.errors import InvalidInputError, LvsError, Reason, RefusedError
from agent_common.sockets import Listener
from agent_common.vip import VirtualServerHolder
from agent_common.virtual_server import Family, FirewallMark, Protocol
from cli.request import AddBackend, Backend, RemoveBackend, SetWeight, parse_marked_backend
from cli.typed import options_of
from tests.cli.sites import D1, D2, RS1, RS2, SiteInMemory, address, backend, table, titles

MARK = FirewallMark(mark=7, family=Family.IPV4)
A, B = "192.168.0.200", "192.168.0.201"


@pytest.fixture
def site() -> SiteInMemory:
    return SiteInMemory()


def marked(*real_servers: str, vips: tuple[str, ...] = ()) -> Backend:
    return parse_marked_backend(MARK, real_servers or (RS1,), vips)


def add(site: SiteInMemory, *real_servers: str, vips: tuple[str, ...] = (), **fields: object) -> list[str]:
    plan = site.add(AddBackend(backend=marked(*real_servers, vips=vips), **fields))  # type: ignore[arg-type]
    site.run(plan.whole)
    return titles(plan.whole)


def holds(site: SiteInMemory, host: str) -> dict[str, list[str]]:
    """Who holds which VIP on a host."""
    there = site.directors.get(host) or site.real_servers[host]
    return {str(vip.address): [each.label for each in vip.holders] for vip in there.vips.list_all()}


def test_every_vip_is_prepared_before_the_director_gets_the_destination(site: SiteInMemory) -> None:
    assert add(site, RS1, vips=(A, B)) == [
        f"real server {RS1}: prepare VIPs {A}, {B} on lo",
        f"director {D1}: add virtual server fwmark/7",
        f"director {D1}: add VIP {A}",
        f"director {D1}: add VIP {B}",
        f"director {D1}: add {RS1}:0 to fwmark/7",
    ]
    expected = {A: ["fwmark/7"], B: ["fwmark/7"]}
    assert holds(site, D1) == holds(site, RS1) == expected
    assert add(site, RS1, vips=(A, B)) == []


def test_a_further_backend_gets_the_vips_that_the_director_holds(site: SiteInMemory) -> None:
    add(site, RS1, vips=(A, B))
    assert add(site, RS2)[0] == f"real server {RS2}: prepare VIPs {A}, {B} on lo"
    assert holds(site, RS2) == holds(site, RS1)


def test_another_director_gets_them_from_the_one_that_has_them() -> None:
    site = SiteInMemory((D1, D2))
    add(site, RS1, vips=(A,))
    for name in (D1, D2):
        assert [vip.holders for vip in site.directors[name].vips.list_all()] == [
            (VirtualServerHolder(key=MARK, authority="id-of-d1"),)
        ]


def test_without_any_vip_it_is_refused_where_a_real_server_needs_one(site: SiteInMemory) -> None:
    with pytest.raises(InvalidInputError, match="vip_address: must be given: no director holds a VIP for fwmark/7"):
        site.add(AddBackend(backend=marked()))
    for fields in (
        {"force": True},
        {"ask_real_servers": False},
        {"forwarding": Forwarding.MASQUERADING, "force": True},
    ):
        plan = site.add(AddBackend(backend=marked(), **fields))
        assert titles(plan.steps) == [
            f"director {D1}: add virtual server fwmark/7",
            f"director {D1}: add {RS1}:0 to fwmark/7",
        ]
    plan = site.add(AddBackend(backend=marked(), force=True))
    assert f"{RS1}: no VIP is known for fwmark/7, so none is prepared there" in plan.warnings


def test_a_further_vip_must_reach_the_real_servers_that_are_there(site: SiteInMemory) -> None:
    """Else a client of that VIP is sent to one that does not have it, and gets no answer (P1)."""
    add(site, RS1, vips=(A,))
    with pytest.raises(RefusedError, match=f"{RS1}:0 is behind fwmark/7, too, and is not known to have VIP {B}") as met:
        site.add(AddBackend(backend=marked(RS2, vips=(B,))))
    assert met.value.reason is Reason.VIP_NOT_FOUND
    titles_of = add(site, RS2, RS1, vips=(B,))
    assert titles_of[:2] == [
        f"real server {RS2}: prepare VIPs {B}, {A} on lo",
        f"real server {RS1}: prepare VIPs {B}, {A} on lo",
    ]
    assert holds(site, D1) == holds(site, RS1) == holds(site, RS2) == {A: ["fwmark/7"], B: ["fwmark/7"]}


def test_nothing_is_asked_of_the_application_and_that_is_said(site: SiteInMemory) -> None:
    plan = site.add(AddBackend(backend=marked(vips=(A,))))
    assert not any(step.listener for step in plan.steps)
    assert f"{RS1}: whether something listens is not checked, since a mark has no port" in plan.warnings


@pytest.mark.parametrize("protocol", Protocol)
def test_what_listens_on_the_vip_could_be_cut_off(site: SiteInMemory, protocol: Protocol) -> None:
    """Which ports are marked only the firewall knows: it must be told that they are not among them."""
    site.director.sockets.bound = [Listener(protocol=protocol, address=address(A), port=8443)]
    with pytest.raises(LvsError, match=f"something listens on {A}:8443, which it cuts off where that is marked") as met:
        site.add(AddBackend(backend=marked(vips=(A,))))
    assert met.value.reason is Reason.LISTENER_SHADOWED
    assert add(site, RS1, vips=(A,), force=True)
    assert add(site, RS2), "what holds the VIP by now is not asked again"


def test_a_removal_gives_back_what_was_held_for_the_mark_and_nothing_else(site: SiteInMemory) -> None:
    add(site, RS1, RS2, vips=(A, B))
    site.run(site.add(AddBackend(backend=backend(RS1))).whole)
    removal = site.remove(RemoveBackend(backend=marked(), drain_timeout=None, prune=True))
    site.run([*removal.deletes, *removal.after])
    assert table(site.director, MARK).keys() == {f"{RS2}:0"}
    assert holds(site, RS1) == {A: [f"tcp/{A}:80"]}
    assert holds(site, D1) == {A: ["fwmark/7", f"tcp/{A}:80"], B: ["fwmark/7"]}

    removal = site.remove(RemoveBackend(backend=marked(RS2), drain_timeout=None, prune=True))
    site.run([*removal.deletes, *removal.after])
    assert (holds(site, RS2), holds(site, D1)) == ({}, {A: [f"tcp/{A}:80"]})


def test_a_drained_real_server_is_asked_for_all_vips_before_it_gets_clients_again(site: SiteInMemory) -> None:
    add(site, RS1, RS2, vips=(A, B))
    site.run(site.weight(SetWeight(backend=marked(), draining=True)).steps)
    plan = site.weight(SetWeight(backend=marked(), draining=False))
    assert titles(plan.steps)[0] == f"real server {RS1}: keep VIPs {A}, {B} on lo"


def test_commands_that_are_suggested_name_the_mark() -> None:
    assert options_of(marked()) == f"--fwmark 7 --rs {RS1}:0"
    mark6 = FirewallMark(mark=7, family=Family.IPV6)
    assert options_of(parse_marked_backend(mark6, ["2001:db8::104"])) == "--fwmark6 7 --rs [2001:db8::104]:0"
