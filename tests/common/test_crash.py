"""An agent that is killed at any point of a change: its successor takes back what stands of it, or makes it anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agent_common.address import Placement
from agent_common.changes import Outcome
from agent_common.destination import Destination, DestinationKey
from agent_common.fake_address import FakeAddresses
from agent_common.fake_state import FakeState
from agent_common.operation import Change, Operation
from agent_common.state import Body
from agent_common.virtual_server import IpAddress, VirtualServer, VirtualServerKey
from agent_director.fake_ipvs import FakeIpvs
from agent_realserver.arp import ALL, ArpName
from agent_realserver.fake_arp import FakeArpSysctls
from cli import operations
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost, holder, own_address

RS = destination().key
FOREIGN = destination("192.168.0.199", weight=7)


class Died(BaseException):
    """The agent was killed at this point."""


class Fuse:
    """Kills the agent before a write, after so many writes; None never."""

    def __init__(self) -> None:
        self.left: int | None = None

    def burn(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Died


class MortalState(FakeState):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self._fuse = fuse

    def put(self, kind: str, name: str, body: Body) -> None:
        self._fuse.burn()
        super().put(kind, name, body)

    def delete(self, kind: str, name: str) -> None:
        self._fuse.burn()
        super().delete(kind, name)


class MortalIpvs(FakeIpvs):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self._fuse = fuse

    def add_virtual_server(self, virtual_server: VirtualServer) -> None:
        self._fuse.burn()
        super().add_virtual_server(virtual_server)

    def edit_virtual_server(self, virtual_server: VirtualServer) -> None:
        self._fuse.burn()
        super().edit_virtual_server(virtual_server)

    def remove_virtual_server(self, key: VirtualServerKey) -> None:
        self._fuse.burn()
        super().remove_virtual_server(key)

    def add_destination(self, key: VirtualServerKey, destination: Destination) -> None:
        self._fuse.burn()
        super().add_destination(key, destination)

    def edit_destination(self, key: VirtualServerKey, destination: Destination) -> None:
        self._fuse.burn()
        super().edit_destination(key, destination)

    def remove_destination(self, key: VirtualServerKey, destination: DestinationKey) -> None:
        self._fuse.burn()
        super().remove_destination(key, destination)


class MortalAddresses(FakeAddresses):
    def __init__(self, fuse: Fuse, address: str) -> None:
        super().__init__([own_address(address)])
        self._fuse = fuse

    def add_vip(self, address: IpAddress, device: str, placement: Placement) -> None:
        self._fuse.burn()
        super().add_vip(address, device, placement)

    def remove_address(self, address: IpAddress, prefix_length: int, device: str) -> None:
        self._fuse.burn()
        super().remove_address(address, prefix_length, device)

    def add_host_route(self, address: Any, device: str) -> None:
        self._fuse.burn()
        super().add_host_route(address, device)

    def remove_host_route(self, address: Any, device: str) -> None:
        self._fuse.burn()
        super().remove_host_route(address, device)


class MortalSysctls(FakeArpSysctls):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__(values={(ALL, ArpName.IGNORE): 3, ("lo", ArpName.ANNOUNCE): 1})
        self._fuse = fuse

    def write(self, interface: str, name: ArpName, value: int) -> None:
        self._fuse.burn()
        super().write(interface, name, value)


Host = DirectorHost | RealServerHost


class Case:
    """What stands on a host already, and the operations that the agent is killed in."""

    def __init__(self, fuse: Fuse, host: Host, before: Sequence[Operation], asked: Sequence[Operation]) -> None:
        self.fuse = fuse
        self.host = host
        self.asked = asked
        for number, operation in enumerate(before):
            asyncio.run(host.changes.apply(operation, f"before-{number}"))
        self.before = self.snapshot()

    def snapshot(self) -> object:
        """Return all that a change can change: the kernel, and the state without the changes themselves."""
        host = self.host
        kinds = ("vip", "virtual_server", "destination", "leftover", "arp_sysctl", "arp_hold")
        state = {kind: dict(sorted(host.state.list(kind).items())) for kind in kinds}
        places = sorted(str(each) for each in host.addresses.addresses())
        routes = [host.addresses.has_host_route(VIP, device) for device in ("lo", "eth0")]
        if isinstance(host, DirectorHost):
            return (state, places, routes, table(host.ipvs))
        return (state, places, routes, dict(host.silence.values()))

    def apply(self) -> list[Change]:
        return asyncio.run(self.host.changes.apply_all(self.asked, "c"))

    def revert(self) -> Outcome:
        return asyncio.run(self.host.changes.revert("c")).outcome

    def dies(self, doing: Callable[[], object], writes: int) -> bool:
        """Do something, killed after so many writes; return whether it was, and go on with a new agent."""
        self.fuse.left = writes
        try:
            doing()
        except Died:
            self.host = self.host.restarted()
            return True
        finally:
            self.fuse.left = None
        return False


def on_director(before: Sequence[Operation], asked: Sequence[Operation]) -> Case:
    fuse = Fuse()
    host = DirectorHost(ipvs=MortalIpvs(fuse), addresses=MortalAddresses(fuse, "192.168.0.10"), state=MortalState(fuse))
    return Case(fuse, host, before, asked)


def on_real_server(before: Sequence[Operation], asked: Sequence[Operation]) -> Case:
    fuse = Fuse()
    host = RealServerHost(
        sysctls=MortalSysctls(fuse), addresses=MortalAddresses(fuse, "192.168.0.104"), state=MortalState(fuse)
    )
    return Case(fuse, host, before, asked)


def silence(operator: str) -> Operation:
    operation = Operation()
    operation.silence_arp.operator = operator
    return operation


def restore(operator: str) -> Operation:
    operation = Operation()
    operation.restore_arp.operator = operator
    return operation


def edit(scheduler: str) -> Operation:
    operation = Operation()
    operation.update_virtual_server.virtual_server.CopyFrom(
        operations.create_virtual_server(WEB, scheduler, None).create_virtual_server.virtual_server
    )
    operation.update_virtual_server.update_mask.paths.append("scheduler")
    return operation


SERVER = operations.create_virtual_server(WEB, None, None)
ADDRESS = operations.create_vip(VIP, holder())
BACKEND = operations.create_destination(WEB, RS, None, 5)
DRAIN = operations.update_destination(WEB, RS, draining=True)
SITE = [SERVER, ADDRESS, BACKEND]

CASES: dict[str, Callable[[], Case]] = {
    "real server: VIP": lambda: on_real_server([], [ADDRESS]),
    "real server: VIP given back": lambda: on_real_server([ADDRESS], [operations.delete_vip(VIP, holder())]),
    "real server: second holder": lambda: on_real_server([ADDRESS], [operations.create_vip(VIP, holder("fwmark/7"))]),
    "real server: silence": lambda: on_real_server([], [silence("me")]),
    "real server: silence given up": lambda: on_real_server([silence("me")], [restore("me")]),
    "director: virtual server, VIP and destination": lambda: on_director([], SITE),
    "director: destination": lambda: on_director([SERVER, ADDRESS], [BACKEND]),
    "director: edit": lambda: on_director(SITE, [edit("rr")]),
    "director: drain": lambda: on_director(SITE, [DRAIN]),
    "director: end of a drain": lambda: on_director(
        [*SITE, DRAIN], [operations.update_destination(WEB, RS, draining=False)]
    ),
    "director: destination removed": lambda: on_director(
        [*SITE, DRAIN], [operations.delete_destination(WEB, RS, real_server_keeps_vip=True)]
    ),
    "director: destination added again where a VIP was left": lambda: on_director(
        [*SITE, operations.delete_destination(WEB, RS, real_server_keeps_vip=True)], [BACKEND]
    ),
    "director: all pruned": lambda: on_director(
        SITE,
        [
            operations.delete_destination(WEB, RS),
            operations.delete_virtual_server(WEB),
            operations.delete_vip(VIP, holder(), keep_if_used=True),
        ],
    ),
}

every_case = pytest.mark.parametrize("make", CASES.values(), ids=CASES)
MANY = 60


@every_case
def test_uninterrupted_a_change_is_made_and_its_revert_leaves_no_trace(make: Callable[[], Case]) -> None:
    case = make()
    assert all(change.made for change in case.apply())
    assert case.snapshot() != case.before
    assert case.revert() is Outcome.REVERTED
    assert case.snapshot() == case.before


@every_case
def test_wherever_the_agent_dies_a_revert_by_name_leaves_everything_as_it_was(make: Callable[[], Case]) -> None:
    for writes in range(MANY):
        case = make()
        died = case.dies(case.apply, writes)
        case.revert()
        assert case.snapshot() == case.before, f"killed after {writes} writes"
        if not died:
            return
    raise AssertionError("a change of so many writes?")


@every_case
def test_wherever_the_agent_dies_the_change_can_be_asked_for_again(make: Callable[[], Case]) -> None:
    """And is then made as if nothing had been: its answer and its revert are those of a change in one piece."""
    whole = make()
    answer = whole.apply()
    for writes in range(MANY):
        case = make()
        died = case.dies(case.apply, writes)
        again = case.apply()
        assert [change.actions for change in again] == [change.actions for change in answer]
        assert case.snapshot() == whole.snapshot(), f"killed after {writes} writes"
        case.revert()
        assert case.snapshot() == case.before, f"killed after {writes} writes"
        if not died:
            return


@every_case
def test_wherever_the_agent_dies_in_a_revert_the_next_one_ends_it(make: Callable[[], Case]) -> None:
    for writes in range(MANY):
        case = make()
        case.apply()
        died = case.dies(case.revert, writes)
        case.revert()
        assert case.snapshot() == case.before, f"killed after {writes} writes"
        if not died:
            return
