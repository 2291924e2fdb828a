"""Backends behind a firewall mark: which VIPs they need, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_common.address import InterfaceAddress
from agent_common.destination import Destination, DestinationKey, Forwarding
from agent_common.endpoint import Endpoint
from agent_common.errors import InvalidInputError, LvsError, Reason, RefusedError
from agent_common.locks import claims_of
from agent_common.sockets import Listener
from agent_common.transaction import tag
from agent_common.vip import VirtualServerHolder
from agent_common.virtual_server import Family, FirewallMark, Protocol, VirtualServer
from agent_realserver.arp import ArpName
from cli import operations
from cli.add_backend import add_backend
from cli.adopt import adopt
from cli.plan import Plan
from cli.plan_adopt import Adopt
from cli.plan_reconcile import Reconcile
from cli.reconcile import reconcile
from cli.request import AddBackend, Backend, RemoveBackend, SetWeight, parse_marked_backend
from cli.typed import options_of
from tests.cli.served_site import serving_site
from tests.cli.sites import D1, D2, RS1, RS2, SiteInMemory, address, backend, table, titles
from tests.hosts import DirectorHost

MARK = FirewallMark(mark=7, family=Family.IPV4)
A, B = "192.168.0.200", "192.168.0.201"


@pytest.fixture
def site() -> SiteInMemory:
    return SiteInMemory()


def destination(rs: str, port: int = 0) -> Destination:
    return Destination(key=DestinationKey(address=address(rs), port=port))


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
        f"real server {RS1}: prepare VIP {A} on lo",
        f"real server {RS1}: prepare VIP {B} on lo",
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
    assert add(site, RS2)[:2] == [f"real server {RS2}: prepare VIP {vip} on lo" for vip in (A, B)]
    assert holds(site, RS2) == holds(site, RS1)


def test_another_director_gets_them_from_the_one_that_has_them() -> None:
    site = SiteInMemory((D1, D2))
    add(site, RS1, vips=(A,))
    for name in (D1, D2):
        assert [vip.holders for vip in site.directors[name].vips.list_all()] == [
            (VirtualServerHolder(key=MARK, authority="id-of-d1"),)
        ]


def test_without_any_vip_it_is_refused_where_a_real_server_needs_one(site: SiteInMemory) -> None:
    for force in (False, True):
        with pytest.raises(RefusedError, match=r"no director holds a VIP for fwmark/7, .* dr need it") as met:
            site.add(AddBackend(backend=marked(), force=force))
        assert met.value.reason is Reason.VIP_NOT_FOUND
    for fields in ({"ask_real_servers": False}, {"forwarding": Forwarding.MASQUERADING, "force": True}):
        plan = site.add(AddBackend(backend=marked(), **fields))
        assert titles(plan.steps) == [
            f"director {D1}: add virtual server fwmark/7",
            f"director {D1}: add {RS1}:0 to fwmark/7",
        ]


def test_a_further_vip_must_reach_the_real_servers_that_are_there(site: SiteInMemory) -> None:
    """Else a client of that VIP is sent to one that does not have it, and gets no answer (P1)."""
    add(site, RS1, vips=(A,))
    with pytest.raises(RefusedError, match=f"{RS1}:0 is behind fwmark/7, too, and is not known to have VIP {B}") as met:
        site.add(AddBackend(backend=marked(RS2, vips=(B,))))
    assert met.value.reason is Reason.VIP_NOT_FOUND
    titles_of = add(site, RS2, RS1, vips=(B,))
    assert titles_of[:4] == [
        f"real server {RS2}: prepare VIP {B} on lo",
        f"real server {RS2}: prepare VIP {A} on lo",
        f"real server {RS1}: prepare VIP {B} on lo",
        f"real server {RS1}: keep VIP {A} on lo",
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
    assert titles(plan.steps)[:2] == [f"real server {RS1}: keep VIP {vip} on lo" for vip in (A, B)]


def test_a_destination_that_somebody_added_with_a_port_can_be_named(site: SiteInMemory) -> None:
    """ipvsadm takes a port behind a mark that only nat can use; a new one with it is refused."""
    with pytest.raises(InvalidInputError, match=f"rs: {RS1}:80: dr keeps the client's port: leave it out, or use nat"):
        site.add(AddBackend(backend=marked(f"{RS1}:80", vips=(A,))))
    site.director.ipvs.add_virtual_server(VirtualServer(key=MARK))
    site.director.ipvs.add_destination(MARK, destination(RS1, 80))
    assert add(site, f"{RS1}:80", vips=(A,))[0] == f"real server {RS1}: prepare VIP {A} on lo"


def test_a_foreign_destination_gets_a_further_vip_too(site: SiteInMemory) -> None:
    """Its clients come for that one as well; where nothing new comes it is left alone."""
    site.director.ipvs.add_virtual_server(VirtualServer(key=MARK))
    site.director.ipvs.add_destination(MARK, destination(RS1))
    assert f"real server {RS1}: prepare VIP {A} on lo" in add(site, RS1, RS2, vips=(A,))
    assert add(site, RS1) == []


def test_what_a_destination_has_is_asked_director_by_director() -> None:
    site = SiteInMemory((D1, D2))
    first, second = (SiteInMemory((name,)) for name in (D1, D2))
    for alone, rs, vips in ((first, RS1, (A,)), (second, RS2, (A, B))):
        alone.real_servers = site.real_servers
        site.directors |= alone.directors
        alone.run(alone.add(AddBackend(backend=marked(rs, vips=vips))).whole)
    with pytest.raises(RefusedError, match=f"director {D1}: {RS1}:0 .* not known to have VIP {B}"):
        site.add(AddBackend(backend=marked(RS2)))


def test_by_force_it_is_only_told(site: SiteInMemory) -> None:
    add(site, RS1, vips=(A,))
    plan = site.add(AddBackend(backend=marked(RS2, vips=(B,)), force=True))
    told = f"director {D1}: {RS1}:0 is not known to have VIP {B}: clients that come for it may get no answer there"
    assert told in plan.warnings


def test_what_is_said_of_several_vips_is_said_once(site: SiteInMemory) -> None:
    details = [line for step in site.add(AddBackend(backend=marked(vips=(A, B)))).steps for line in step.details]
    assert details.count("set all/arp_ignore from 0 to 1") == 1


def test_a_further_vip_and_a_further_real_server_exclude_each_other(site: SiteInMemory) -> None:
    """Whoever comes second has planned with other VIPs: what it would do is another change by then (P1)."""
    add(site, RS1, vips=(A,))
    before = site.add(AddBackend(backend=marked(RS2))).steps[-1].planned
    vip = site.add(AddBackend(backend=marked(RS1, vips=(B,))))
    (new,) = [step for step in vip.steps if step.title == f"add VIP {B}"]
    assert {each.resource for each in claims_of(new.planned)} & {each.resource for each in claims_of(before)}
    site.run(vip.whole)
    assert tag(before) != tag(site.add(AddBackend(backend=marked(RS2))).steps[-1].planned)


@pytest.mark.parametrize("force", [False, True])
def test_the_agents_own_socket_is_never_cut_off(force: bool) -> None:
    host = DirectorHost(own=[Endpoint(host=A, port=9710)])
    request = operations.create_vip(address(A), VirtualServerHolder(key=MARK, authority="id"), force=force)
    with pytest.raises(RefusedError, match=f"this agent itself listens on {A}:9710"):
        host.resources.plan(request, ())


def test_what_listens_everywhere_does_not_keep_a_vip_of_the_directors_own_from_being_marked(site: SiteInMemory) -> None:
    """As VRRP puts it there: sshd is not among what anybody marks."""
    site.director.addresses.put(InterfaceAddress(address=address(A), prefix_length=32, device="eth0"))
    site.director.sockets.bound = [Listener(protocol=Protocol.TCP, address=address("0.0.0.0"), port=22)]
    assert add(site, RS1, vips=(A,))


async def test_every_vip_is_put_back_before_clients_come_again(tmp_path: Path) -> None:
    """Reconcile finds the VIPs by the director's holds."""

    async def agree(plan: Plan) -> bool:
        return True

    async with serving_site(tmp_path) as there:
        request = AddBackend(backend=marked(vips=(A, B)), ready_timeout=None)
        assert (await add_backend(request, await there.run())).status == 0
        there.director.ipvs.remove_destination(MARK, destination(RS1).key)
        rs = there.rs(RS1)
        for vip in rs.vips.list_all():
            await rs.changes.apply(operations.delete_vip(vip.address, vip.holders[0], force=True), "")
        assert (await reconcile(Reconcile(), await there.run(), agree)).status == 0
        assert [str(vip.address) for vip in rs.vips.list_all() if vip.present] == [A, B]
        assert table(there.director, MARK).keys() == {f"{RS1}:0"}

        there.director.addresses.remove_address(address(A), 32, "eth0")
        assert (await reconcile(Reconcile(key=MARK), await there.run(), agree)).message == "1 repaired"
        assert there.director.vips.get(address(A)).present


async def test_several_vips_are_adopted_and_a_further_destination_with_those_that_are_held(tmp_path: Path) -> None:
    async with serving_site(tmp_path) as there:
        there.director.ipvs.add_virtual_server(VirtualServer(key=MARK))
        there.director.ipvs.add_destination(MARK, destination(RS1))
        for host, device in ((there.director, "eth0"), (there.rs(RS1), "lo"), (there.rs(RS2), "lo")):
            for vip in (A, B):
                host.addresses.put(InterfaceAddress(address=address(vip), prefix_length=32, device=device))
        for rs in (RS1, RS2):
            there.rs(rs).sysctls.write("all", ArpName.IGNORE, 1)
            there.rs(rs).sysctls.write("all", ArpName.ANNOUNCE, 2)
        request = Adopt(key=MARK, marked_vips=(address(A), address(B)))
        done = await adopt(request, await there.run())
        assert done.status == 0, done.message
        assert [str(vip.address) for vip in there.rs(RS1).vips.list_all()] == [A, B]

        there.director.ipvs.add_destination(MARK, destination(RS2))
        done = await adopt(Adopt(key=MARK, destinations=(destination(RS2).key,)), await there.run())
        assert done.status == 0, done.message
        assert [str(vip.address) for vip in there.rs(RS2).vips.list_all()] == [A, B]


def test_commands_that_are_suggested_name_the_mark() -> None:
    assert options_of(marked()) == f"--fwmark 7 --rs {RS1}:0"
    mark6 = FirewallMark(mark=7, family=Family.IPV6)
    assert options_of(parse_marked_backend(mark6, ["2001:db8::104"])) == "--fwmark6 7 --rs [2001:db8::104]:0"
