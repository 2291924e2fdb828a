"""Plans where destinations are checked: the gate of add-backend, and what counts where checks have something out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lvsagent.v1 import destination_pb2

from agent_common.check import Check, TcpCheck
from agent_common.destination import DestinationKey, Forwarding, Standing, Tunnel, TunnelType
from agent_common.errors import Reason, RefusedError
from agent_common.health import HealthPolicy, Start
from agent_common.virtual_server import parse_address
from agent_director.health_records import Stood
from agent_director.standing import Standings
from cli.request import AddBackend, RemoveBackend, SetWeight
from tests.cli.sites import D1, D2, RS1, RS2, SiteInMemory, backend, titles
from tests.hosts import WEB, DirectorHost

TCP = HealthPolicy(check=Check(kind=TcpCheck()))
WAIT = f"wait until the check of {RS2}:80 passes"


def key(address: str) -> DestinationKey:
    return DestinationKey(address=parse_address(address, "rs"), port=80)


def adding(*real_servers: str, **fields: object) -> AddBackend:
    return AddBackend(backend=backend(*real_servers), **fields)  # type: ignore[arg-type]


def serving(*real_servers: str, directors: tuple[str, ...] = (D1,), **fields: object) -> SiteInMemory:
    """Return a site that serves already, and does not check yet."""
    site = SiteInMemory(directors)
    site.run(site.add(adding(*real_servers, **fields)).whole)
    return site


def checking(*real_servers: str, policy: HealthPolicy = TCP, **fields: object) -> SiteInMemory:
    """Return a site that checks."""
    site = serving(*real_servers, **fields)  # type: ignore[arg-type]
    for host in site.directors.values():
        host.health.set_policy(WEB, policy)
    return site


def take_out(host: DirectorHost, address: str, *, removed: bool = False) -> None:
    """Do what the agent does when a check has failed often enough."""
    standings = Standings(host.ipvs, host.state, host.health, host.destinations)
    standing = Standing(percent=0, removed=removed)
    stood = Stood(standing=standing, since=1.0, why="connection refused", is_down=True)
    assert standings.apply([(WEB, key(address), stood)]) == {}


class TestGate:
    """A new destination passes its check before a director sends clients to it."""

    def test_the_director_asks_after_the_real_server_is_prepared_and_nobody_else_does(self) -> None:
        plan = checking(RS1).add(adding(RS2))
        assert titles(plan.steps) == [
            f"real server {RS2}: prepare VIP 192.168.0.200 on lo",
            f"director {D1}: {WAIT}",
            f"director {D1}: add {RS2}:80 to {WEB}",
        ]
        gate = plan.steps[1]
        assert gate.seconds == 10.0
        assert gate.check is not None
        assert (gate.operations, gate.check.destination.address) == ((), RS2)

    def test_it_says_how_packets_will_get_there(self) -> None:
        site = checking(RS1)
        for method, name in (
            (None, destination_pb2.FORWARDING_METHOD_DIRECT_ROUTING),
            (Forwarding.MASQUERADING, destination_pb2.FORWARDING_METHOD_MASQUERADING),
        ):
            (gate,) = [step.check for step in site.add(adding(RS2, forwarding=method)).steps if step.check]
            assert gate.forwarding_method == name

    def test_it_says_how_packets_will_be_wrapped(self) -> None:
        wanted = adding(RS2, forwarding=Forwarding.TUNNELING, tunnel=Tunnel(type=TunnelType.GUE, port=5555))
        (gate,) = [step.check for step in checking(RS1).add(wanted).steps if step.check]
        assert (gate.tunnel.type, gate.tunnel.port) == (destination_pb2.TUNNEL_TYPE_GUE, 5555)

    def test_every_director_asks_before_the_first_adds(self) -> None:
        plan = checking(RS1, directors=(D1, D2)).add(adding(RS2))
        assert titles(plan.whole)[1:] == [
            f"director {D1}: {WAIT}",
            f"director {D2}: {WAIT}",
            f"director {D1}: add {RS2}:80 to {WEB}",
            f"director {D2}: add {RS2}:80 to {WEB}",
        ]

    def test_one_that_is_there_already_is_not_asked_for(self) -> None:
        assert checking(RS1).add(adding(RS1)).steps == ()

    @pytest.mark.parametrize("policy", [replace(TCP, overrides={key(RS2): None}), replace(TCP, sorry=key(RS2))])
    def test_what_is_not_checked_is_asked_for_a_listener_as_ever(self, policy: HealthPolicy) -> None:
        plan = checking(RS1, policy=policy).add(adding(RS2))
        assert [step.title for step in plan.steps if not step.operations] == [
            "wait until something takes TCP on 192.168.0.200:80"
        ]

    def test_a_sorry_server_gets_no_connections_as_a_newcomer(self) -> None:
        plan = checking(RS1, policy=replace(TCP, sorry=key(RS2))).add(adding(RS2))
        assert not any("newcomer" in each for each in plan.warnings)

    def test_without_the_ready_check_it_begins_as_down_and_that_is_said(self) -> None:
        plan = checking(RS1).add(adding(RS2, ready_timeout=None))
        assert not any(step.check for step in plan.steps)
        expected = f"director {D1}: {RS2}:80 begins as down: it gets no connections until its check has passed 2 times"
        assert expected in plan.warnings
        up = checking(RS1, policy=replace(TCP, start=Start.UP)).add(adding(RS2, ready_timeout=None))
        assert not any("begins as down" in each for each in up.warnings)

    def test_it_needs_no_agent_on_the_real_server(self) -> None:
        plan = checking(RS1).add(adding(RS2, ask_real_servers=False))
        assert titles(plan.steps)[0] == f"director {D1}: {WAIT}"
        assert f"{RS2}: its agent is not asked (--no-rs-agent); VIP and ARP are not checked" in plan.warnings

    def test_what_is_there_and_out_is_told(self) -> None:
        site = checking(RS1, RS2)
        take_out(site.director, RS2)
        expected = (
            f"director {D1}: {RS2}:80 is out, and the kernel keeps it at weight 0 until its check passes: "
            "connection refused"
        )
        assert expected in site.add(adding(RS2)).warnings


def weighing(*real_servers: str, **fields: object) -> SetWeight:
    return SetWeight(backend=backend(*real_servers), **fields)  # type: ignore[arg-type]


class TestWeight:
    """The operator's weight is set whatever the checks say, and they decide when the kernel has it."""

    @pytest.mark.parametrize(("removed", "kernel"), [(False, "keeps it at weight 0"), (True, "does not have it")])
    def test_of_one_that_is_out_is_accepted_and_the_kernel_keeps_what_it_has(self, removed: bool, kernel: str) -> None:
        """And its real server is not asked for the VIP: it may be dead, and gets no connections."""
        site = checking(RS1, RS2)
        take_out(site.director, RS2, removed=removed)
        plan = site.weight(weighing(RS2, weight=5))
        assert titles(plan.steps) == [f"director {D1}: set weight 5 of {RS2}:80 in {WEB}"]
        assert plan.warnings == (
            f"director {D1}: {RS2}:80 is out, and the kernel {kernel} until its check passes: connection refused",
        )
        site.run(plan.whole)
        there = {each.destination.key: each.current_weight for each in site.director.ipvs.destinations(WEB)}
        assert there == ({key(RS1): 1} if removed else {key(RS1): 1, key(RS2): 0})
        assert {each.destination.weight for each in site.director.destinations.list_all(WEB)} == {1, 5}

    def test_one_that_was_at_0_before_it_went_out_is_asked_for_its_vip(self) -> None:
        """It gets connections as soon as its check passes, without anybody asking again."""
        site = checking(RS1, RS2)
        site.run(site.weight(weighing(RS2, draining=True)).whole)
        take_out(site.director, RS2)
        plan = site.weight(weighing(RS2, draining=False))
        assert titles(plan.steps)[0] == f"real server {RS2}: keep VIP 192.168.0.200 on lo"

    def test_the_last_that_takes_connections_is_not_drained_though_another_is_there(self) -> None:
        site = checking(RS1, RS2)
        take_out(site.director, RS2)
        with pytest.raises(RefusedError) as caught:
            site.weight(weighing(RS1, draining=True))
        assert caught.value.reason is Reason.LAST_DESTINATION
        assert caught.value.message == (
            f"director {D1}: {WEB} would have no destination left that takes connections "
            f"({RS2}:80 is out: lvs health show); use --force"
        )

    def test_one_that_is_out_can_be_drained(self) -> None:
        site = checking(RS1, RS2)
        take_out(site.director, RS2)
        assert titles(site.weight(weighing(RS2, draining=True)).steps) == [f"director {D1}: drain {RS2}:80 in {WEB}"]

    def test_where_weight_0_refuses_clients_one_that_is_out_is_not_drained(self) -> None:
        """When it comes back it would get a weight 0, and with it the clients that hash to it."""
        site = checking(RS1, RS2, scheduler="sh")
        take_out(site.director, RS2, removed=True)
        with pytest.raises(RefusedError) as caught:
            site.weight(weighing(RS2, draining=True))
        assert caught.value.reason is Reason.WEIGHT_ZERO_REFUSES


class TestRemove:
    """What is out is removed like the rest."""

    def test_the_last_that_takes_connections_stays(self) -> None:
        site = checking(RS1, RS2)
        take_out(site.director, RS2)
        with pytest.raises(RefusedError) as caught:
            site.remove(RemoveBackend(backend=backend(RS1)))
        assert f"({RS2}:80 is out: lvs health show); use --prune" in caught.value.message

    @pytest.mark.parametrize("removed", [False, True])
    def test_one_that_is_out_is_removed(self, removed: bool) -> None:
        site = checking(RS1, RS2)
        take_out(site.director, RS2, removed=removed)
        removal = site.remove(RemoveBackend(backend=backend(RS2), drain_timeout=None))
        site.run(removal.as_plan().whole)
        assert [each.destination.key for each in site.director.destinations.list_all(WEB)] == [key(RS1)]
