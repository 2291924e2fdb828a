"""What a director brings back at start: what was committed, in safe order, and never what somebody removed by hand."""

from __future__ import annotations

import pytest

from agent_common.destination import Destination, DestinationKey
from agent_common.errors import Reason, RefusedError
from agent_common.fake_address import FakeAddresses
from agent_common.neighbours import NoNeighbours
from agent_common.operation import Change
from agent_common.virtual_server import VirtualServer, VirtualServerKey, parse_key
from agent_director.fake_ipvs import FakeIpvs
from cli import operations
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, VIP6, WEB, WEB6, DirectorHost, holder, own_address

RS1, RS2 = destination("192.168.0.104", weight=7), destination("192.168.0.105", weight=3)
FOREIGN = parse_key("udp/192.168.0.9:53")


class Taken(NoNeighbours):
    """Another host answers for every VIP: when it is asked for (ARP), or once it is there (DAD)."""

    def __init__(self, when: str) -> None:
        self._when = when

    async def ask(self, change: Change) -> None:
        self._answer("ask")

    async def confirm(self, change: Change) -> None:
        self._answer("confirm")

    def _answer(self, when: str) -> None:
        if when == self._when:
            raise RefusedError("the host with MAC address 02:00:00:00:00:09 answers for it", Reason.VIP_TAKEN)


async def site() -> DirectorHost:
    """A director that serves: one destination drains, and one virtual server was made by hand."""
    host = DirectorHost()
    for operation in (
        operations.create_virtual_server(WEB, "rr", None),
        operations.create_vip(VIP, holder(WEB)),
        operations.create_destination(WEB, RS1.key, None, 7),
        operations.create_destination(WEB, RS2.key, None, 3),
        operations.update_destination(WEB, RS2.key, draining=True),
    ):
        await host.changes.apply(operation, "")
    host.ipvs.add_virtual_server(VirtualServer(key=FOREIGN))
    return host


def rebooted(host: DirectorHost, **fields: object) -> DirectorHost:
    """The same state directory, and a kernel that has nothing of ours."""
    addresses = FakeAddresses([own_address("192.168.0.10"), own_address("2001:db8::10", 64)])
    return DirectorHost(ipvs=FakeIpvs(), addresses=addresses, state=host.state, **fields)  # type: ignore[arg-type]


async def test_after_a_reboot_all_that_was_committed_is_back_and_nothing_foreign() -> None:
    before = await site()
    host = rebooted(before)
    await host.restore.start(new_boot=True)
    before.ipvs.remove_virtual_server(FOREIGN)
    assert table(host.ipvs) == table(before.ipvs)
    assert host.destinations.list_all(WEB) == before.destinations.list_all(WEB)
    assert host.vips.list_all() == before.vips.list_all()
    assert host.problems.texts() == []


async def test_one_that_drains_comes_back_with_weight_0_and_its_weight_is_remembered() -> None:
    host = rebooted(await site())
    await host.restore.start(new_boot=True)
    status = host.destinations.get(WEB, RS2.key)
    assert (status.current_weight, status.destination.weight, status.destination.draining) == (0, 3, True)


async def test_the_vip_comes_last() -> None:
    """One that comes before its services resets live connections; it is announced once it is there."""
    seen = []

    class Watching(NoNeighbours):
        async def ask(self, change: Change) -> None:
            seen.append((table(host.ipvs), host.vips.get(VIP).present))

        async def announce(self, change: Change) -> None:
            seen.append((table(host.ipvs), host.vips.get(VIP).present))

    host = rebooted(await site(), neighbours=Watching())
    await host.restore.start(new_boot=True)
    assert seen == [(table(host.ipvs), False), (table(host.ipvs), True)]


@pytest.mark.parametrize("when", ["ask", "confirm"])
async def test_a_vip_that_another_host_has_by_now_stays_away_until_somebody_mends_it(when: str) -> None:
    host = rebooted(await site(), neighbours=Taken(when))
    await host.restore.start(new_boot=True)
    assert not host.vips.get(VIP).present
    (problem,) = host.problems.texts()
    assert problem.startswith(f"VIP {VIP} is not restored: the host with MAC address")
    free = rebooted(host)
    await free.restore.start(new_boot=True)
    assert free.vips.get(VIP).present  # it stayed committed
    host.addresses.put(own_address(str(VIP), 32))
    host.addresses.add_host_route(VIP, "eth0")
    assert host.problems.texts() == []


async def test_a_vip_that_another_host_has_is_a_problem_also_while_it_is_tried_again() -> None:
    """Each try has the address on the interface, tentative, for a second or two."""
    told: list[list[str]] = []

    class Detecting(NoNeighbours):
        async def confirm(self, change: Change) -> None:
            told.append(host.problems.texts())
            raise RefusedError("another host (duplicate address detection) answers for it", Reason.VIP_TAKEN)

    before = DirectorHost()
    await before.changes.apply(operations.create_vip(VIP6, holder(WEB6)), "")
    addresses = FakeAddresses([own_address("2001:db8::10", 64)], duplicates=[VIP6])
    host = DirectorHost(addresses=addresses, state=before.state, neighbours=Detecting())
    await host.restore.start(new_boot=True)
    await host.restore.mend(host.restore.drift())
    assert told == [[], host.problems.texts()]
    assert len(host.problems.texts()) == 1


async def test_an_agent_that_is_restarted_restores_a_table_that_was_lost_as_a_whole() -> None:
    """The module was unloaded, or somebody typed ipvsadm -C: nobody removes everything one by one."""
    before = await site()
    before.ipvs.remove_virtual_server(FOREIGN)
    expected = table(before.ipvs)
    before.ipvs.remove_virtual_server(WEB)
    host = before.restarted()
    await host.restore.start(new_boot=False)
    assert (table(host.ipvs), host.problems.texts()) == (expected, [])


async def test_an_agent_that_is_restarted_never_brings_back_what_was_removed_by_hand() -> None:
    before = await site()
    before.ipvs.remove_destination(WEB, RS1.key)
    host = before.restarted()
    await host.restore.start(new_boot=False)
    assert [each.destination.key for each in host.ipvs.destinations(WEB)] == [RS2.key]


async def test_a_weight_that_was_changed_by_hand_is_never_raised() -> None:
    before = await site()
    before.ipvs.edit_destination(WEB, destination("192.168.0.104", weight=0))
    for host, new_boot in ((before.restarted(), False), (before.restarted(), True)):
        await host.restore.start(new_boot=new_boot)
        assert host.destinations.get(WEB, RS1.key).current_weight == 0


async def test_a_vip_that_is_gone_comes_back_in_the_same_boot_too() -> None:
    before = await site()
    before.addresses.remove_address(VIP, 32, "eth0")
    host = before.restarted()
    await host.restore.start(new_boot=False)
    assert host.vips.get(VIP).present
    assert host.vips.get(VIP).made_address


async def test_a_change_that_the_agent_died_in_is_taken_back_and_not_restored() -> None:
    """Nobody was told that it is done."""

    class Died(BaseException):
        pass

    class Deadly(FakeIpvs):
        def add_virtual_server(self, virtual_server: VirtualServer) -> None:
            super().add_virtual_server(virtual_server)
            raise Died

    host = DirectorHost(ipvs=Deadly())
    with pytest.raises(Died):
        await host.changes.apply(operations.create_virtual_server(WEB, None, None), "c1")
    assert host.ipvs.virtual_servers() != []
    again = host.restarted()
    await again.restore.start(new_boot=False)
    assert (again.ipvs.virtual_servers(), again.virtual_servers.managed_keys()) == ([], [])


async def test_a_kernel_without_ipvs_is_a_problem_and_the_vip_is_there_all_the_same() -> None:
    """Other hosts would otherwise take it; what is missing comes with the next start."""
    host = rebooted(await site())
    host.ipvs.loaded = False
    await host.restore.start(new_boot=True)
    (problem,) = host.problems.texts()
    assert problem.startswith("virtual servers are not restored: ")
    host.ipvs.loaded = True
    assert host.problems.texts() == []


async def test_ipv6_is_restored_alike() -> None:
    before = DirectorHost()
    await before.changes.apply(operations.create_virtual_server(WEB6, None, None), "")
    await before.changes.apply(operations.create_vip(VIP6, holder(WEB6)), "")
    host = rebooted(before)
    await host.restore.start(new_boot=True)
    assert (table(host.ipvs), host.vips.list_all()) == (table(before.ipvs), before.vips.list_all())


async def test_what_an_edit_has_changed_is_what_comes_back() -> None:
    before = await site()
    server = VirtualServer(key=WEB, scheduler="sh")
    await before.changes.apply(operations.update_virtual_server(server, ["scheduler"]), "")
    await before.changes.apply(operations.update_destination(WEB, RS1.key, weight=9), "")
    host = rebooted(before)
    await host.restore.start(new_boot=True)
    assert host.virtual_servers.get(WEB).scheduler == "sh"
    assert host.destinations.get(WEB, RS1.key).current_weight == 9


class Refusing(FakeIpvs):
    """A kernel that has lost a module: it does not take what `refused` names."""

    def __init__(self, refused: str) -> None:
        super().__init__()
        self.refused = refused

    def add_virtual_server(self, virtual_server: VirtualServer) -> None:
        self._refuse(str(virtual_server.key))
        super().add_virtual_server(virtual_server)

    def add_destination(self, key: VirtualServerKey, destination: Destination) -> None:
        self._refuse(str(destination.key))
        super().add_destination(key, destination)

    def _refuse(self, name: str) -> None:
        if name == self.refused:
            raise RefusedError("a module is missing", Reason.MODULE_MISSING)


@pytest.mark.parametrize(
    ("refused", "name", "back"),
    [(str(WEB), f"virtual server {WEB}", []), (str(RS1.key), f"{RS1.key} in {WEB}", [RS2.key])],
)
async def test_what_the_kernel_does_not_take_back_is_a_problem_until_it_is_there(
    refused: str, name: str, back: list[DestinationKey]
) -> None:
    """One problem, though a virtual server's destinations cannot come back without it; the rest comes back."""
    host = rebooted(await site())
    host = DirectorHost(ipvs=Refusing(refused), addresses=host.addresses, state=host.state)
    await host.restore.start(new_boot=True)
    assert host.problems.texts() == [f"{name} is not restored: a module is missing"]
    assert [each.destination.key for each in host.ipvs.destinations(WEB)] == back
    assert isinstance(host.ipvs, Refusing)
    host.ipvs.refused = ""
    await host.restore.start(new_boot=True)
    assert host.problems.texts() == []
    assert {each.destination.key for each in host.ipvs.destinations(WEB)} == {RS1.key, RS2.key}
