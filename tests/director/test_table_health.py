"""Policies of health checks in a whole table: they come with it, are changed with it, and are taken back with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent_common.changes import Outcome
from agent_common.check import Check, DnsCheck, ScriptCheck, TcpCheck
from agent_common.destination import Destination, Forwarding
from agent_common.errors import DiffersError, InvalidInputError, LvsError, Reason, RefusedError
from agent_common.health import HealthPolicy
from agent_common.operation import Change, Operation
from agent_common.table import Entry
from agent_common.virtual_server import VirtualServer, parse_key
from cli import operations
from tests.director.ipvs_samples import WEB, destination
from tests.hosts import DirectorHost

DNS = parse_key("udp/192.168.0.200:53")
ONE, TWO = (destination(f"192.168.0.{number}", weight=3) for number in (104, 105))
POLICY = HealthPolicy(check=Check(kind=TcpCheck()), quorum=2)
OTHER = replace(POLICY, quorum=3)


def entry(health: HealthPolicy | None, *destinations: Destination, scheduler: str = "rr") -> Entry:
    server = VirtualServer(key=WEB, scheduler=scheduler)
    return Entry(virtual_server=server, destinations={each.key: each for each in destinations}, health=health)


async def put(host: DirectorHost, wanted: Entry, *, replace: bool = False, change_id: str = "") -> Change:
    assert wanted.virtual_server is not None
    table = {wanted.virtual_server.key: wanted}
    return await host.changes.apply(operations.apply_table(table, replace=replace), change_id)


async def site(health: HealthPolicy | None = POLICY) -> DirectorHost:
    host = DirectorHost()
    await put(host, entry(health, ONE, TWO))
    return host


def weights(host: DirectorHost) -> list[int]:
    return sorted(each.weight for each in (one.destination for one in host.ipvs.destinations(WEB)))


async def test_they_come_with_their_virtual_servers_whose_destinations_serve_until_they_fail() -> None:
    host = DirectorHost()
    change = await put(host, entry(POLICY, ONE, TWO), change_id="restore")
    assert change.actions == ["add 3 things", "set the health checks of 1 virtual server"]
    assert host.healths.get(WEB) == POLICY
    assert weights(host) == [3, 3]
    assert not (await put(host, entry(POLICY, ONE, TWO))).made
    assert (await host.changes.revert("restore")).outcome is Outcome.REVERTED
    assert host.health.policies() == {}


async def test_a_table_without_one_leaves_it_as_it_is() -> None:
    host = await site()
    assert (await put(host, entry(None, replace(ONE, weight=9), TWO), replace=True)).made
    assert host.healths.get(WEB) == POLICY


async def test_the_first_may_come_to_what_is_there() -> None:
    host = await site(None)
    change = await put(host, entry(POLICY, ONE), change_id="first")
    assert (change.made, host.healths.get(WEB)) == (True, POLICY)
    assert len(change.table.virtual_servers) == 1
    reverted = await host.changes.revert("first")
    assert (reverted.outcome, reverted.details) == (
        Outcome.REVERTED,
        ("put back the health checks of 1 virtual server",),
    )
    assert host.health.policies() == {}


async def test_another_is_refused_unless_the_table_is_replaced() -> None:
    host = await site()
    with pytest.raises(DiffersError, match=f"{WEB} is checked already"):
        await put(host, entry(OTHER, ONE, TWO))
    assert host.healths.get(WEB) == POLICY
    await put(host, entry(OTHER, ONE, TWO), replace=True, change_id="other")
    assert host.healths.get(WEB) == OTHER
    assert (await host.changes.revert("other")).outcome is Outcome.REVERTED
    assert host.healths.get(WEB) == POLICY


async def test_what_somebody_has_set_meanwhile_stays() -> None:
    host = await site(None)
    await put(host, entry(POLICY), change_id="first")
    await host.changes.apply(operations.set_health(WEB, OTHER, ""), "")
    reverted = await host.changes.revert("first")
    assert (reverted.outcome, reverted.details) == (
        Outcome.KEPT,
        (f"the checks of {WEB} stay: somebody changed them meanwhile",),
    )
    assert host.healths.get(WEB) == OTHER


SLOW = replace(POLICY, slow_start=5.0)
THROUGH = replace(POLICY, check=Check(kind=TcpCheck(), through_vip=True))
NAT = replace(TWO, forwarding=Forwarding.MASQUERADING)
IMPOSSIBLE = {
    "on its own": (entry(replace(POLICY, check=Check(kind=TcpCheck(), interval=1.0, timeout=2.0)), ONE), "timeout"),
    "with the scheduler": (entry(SLOW, ONE, scheduler="sh"), "slow_start: not with scheduler sh"),
    "with a destination": (entry(THROUGH, ONE, NAT), "through_vip: not for 192.168.0.105:80"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
async def test_one_that_cannot_be_is_refused_with_its_virtual_server(what: str) -> None:
    wanted, rule = IMPOSSIBLE[what]
    host = DirectorHost()
    with pytest.raises(InvalidInputError, match=rf"entries\.health of {WEB}: .*{rule}"):
        await put(host, wanted)
    assert host.ipvs.virtual_servers() == []


async def test_so_is_one_that_goes_no_more_with_what_is_there() -> None:
    """A destination of those that were there, or the scheduler that comes."""
    host = DirectorHost()
    await put(host, entry(None, NAT))
    with pytest.raises(InvalidInputError, match=r"through_vip: not for 192\.168\.0\.105:80"):
        await put(host, entry(THROUGH, ONE))
    host = await site(SLOW)
    for health in (SLOW, None):
        with pytest.raises(InvalidInputError, match="moves clients"):
            await put(host, entry(health, ONE, TWO, scheduler="sh"), replace=True)
    assert (host.healths.get(WEB), host.virtual_servers.get(WEB).scheduler) == (SLOW, "rr")


async def test_a_script_that_this_director_does_not_allow_is_refused() -> None:
    def refuse(argv: object, field: str) -> None:
        raise RefusedError(f"{field}: no", Reason.SCRIPT_NOT_ALLOWED, field=field)

    host = DirectorHost()
    host.healths._allowed = refuse
    script = replace(POLICY, check=Check(kind=ScriptCheck(argv=("/usr/lib/lvs/checks/web",))))
    with pytest.raises(RefusedError, match=rf"entries\.health of {WEB}: policy\.check\.script"):
        await put(host, entry(script, ONE))


def only_checks(health: HealthPolicy) -> Operation:
    """Ask for a whole table whose virtual server is to be there already."""
    return operations.apply_table({WEB: Entry(destinations={ONE.key: ONE}, health=health)}, replace=True)


async def test_a_replaced_table_need_not_say_the_virtual_server_that_is_there() -> None:
    host = await site(None)
    await host.changes.apply(only_checks(POLICY), "")
    assert (host.healths.get(WEB), weights(host)) == (POLICY, [3])
    with pytest.raises(InvalidInputError, match="through_vip") as caught:
        wanted = {WEB: Entry(destinations={NAT.key: NAT}, health=THROUGH)}
        await host.changes.apply(operations.apply_table(wanted, replace=True), "")
    assert caught.value.field == "entries.health"


async def test_one_that_stays_somebody_elses_is_not_checked_even_then() -> None:
    host = DirectorHost()
    host.ipvs.add_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
    with pytest.raises(RefusedError, match="foreign"):
        await host.changes.apply(only_checks(POLICY), "")


async def test_nobody_elses_virtual_server_is_checked_unless_it_is_taken_in() -> None:
    host = DirectorHost()
    host.ipvs.add_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
    with pytest.raises(RefusedError, match="foreign"):
        await put(host, entry(POLICY))
    await put(host, entry(POLICY), replace=True)
    assert host.healths.get(WEB) == POLICY


async def test_a_quorum_that_the_weights_do_not_come_to_any_more_comes_back_with_a_warning() -> None:
    """It was no error to lower a weight."""
    host = DirectorHost()
    change = await put(host, entry(replace(POLICY, quorum=9), ONE))
    assert list(change.warnings) == [
        f"{WEB}: policy.quorum: 9 can never be reached: the weights of the destinations come to 3"
    ]
    assert host.healths.get(WEB).quorum == 9


async def test_one_is_there_once() -> None:
    operation = operations.apply_table({WEB: entry(POLICY, ONE)}, replace=False)
    again = operation.apply_table.entries.add(key=operation.apply_table.entries[0].key)
    again.health.CopyFrom(operation.apply_table.entries[0].health)
    with pytest.raises(InvalidInputError, match="twice"):
        await DirectorHost().changes.apply(operation, "")


async def test_a_name_that_no_query_can_have_is_refused_here_too() -> None:
    dns = replace(POLICY, check=Check(kind=DnsCheck(name="a..b", type="A")))
    with pytest.raises(LvsError, match=rf"entries\.health of {WEB}: .*name"):
        await put(DirectorHost(), entry(dns, ONE))
