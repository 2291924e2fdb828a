"""VIPs that are held, against a plain model: any order of holds, reverts, hand edits and restarts of the agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from agent_common.address import Placement
from agent_common.errors import NotFoundError, RefusedError
from agent_common.fake_address import FakeAddresses
from agent_common.operation import Change
from agent_common.vip import Holder, OperatorHolder, VirtualServerHolder
from agent_common.virtual_server import IpAddress
from agent_realserver.arp import ALL, ARP_SETTINGS, ArpName, SysctlKey, answering, read_values, value_silences
from agent_realserver.fake_arp import FakeArpSysctls
from tests.common.test_held_vip import by_hand, create, delete, has_route, places, revert
from tests.hosts import VIP, VIP6, DirectorHost, RealServerHost, holder, own_address

VIPS = (VIP, own_address("192.168.0.201").address, VIP6)
HOLDERS: tuple[Holder, ...] = (
    holder("tcp/192.168.0.200:80"),
    holder("tcp/192.168.0.200:80", "director-2"),
    OperatorHolder(name="me"),
)
vips, holders = st.sampled_from(VIPS), st.sampled_from(HOLDERS)


@dataclass(slots=True)
class ModelVip:
    """What should be true of one VIP: who holds it, and the prefix length of what is there (0: nothing)."""

    held: set[Holder] = field(default_factory=set)
    length: int = 0
    ours: bool = False
    route: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """A change that may be reverted, and what the model must know for that."""

    change: Change
    address: IpAddress
    created: Holder | None
    held_before: frozenset[Holder]
    removed: bool = False


class HeldVipMachine(RuleBasedStateMachine):
    """What directors and real servers have in common."""

    device: ClassVar[str]
    host: DirectorHost | RealServerHost
    made = Bundle("made")

    def __init__(self) -> None:
        super().__init__()
        self.model = {address: ModelVip() for address in VIPS}

    @rule(target=made, address=vips, by=holders)
    def hold(self, address: IpAddress, by: Holder) -> Done:
        vip = self.model[address]
        before = frozenset(vip.held)
        self.model_silence(address)
        change = create(self.host, by, address)
        if not vip.length:
            vip.length, vip.ours = address.max_prefixlen, True
        vip.route = vip.ours and address.version == 4
        vip.held.add(by)
        return Done(change, address, None if by in before else by, before)

    @rule(target=made, address=vips, by=holders)
    def give_up(self, address: IpAddress, by: Holder) -> Done:
        vip = self.model[address]
        before, ours = frozenset(vip.held), vip.ours
        if isinstance(by, OperatorHolder) and any(isinstance(each, VirtualServerHolder) for each in before):
            with pytest.raises(RefusedError, match="uses it"):
                delete(self.host, by, address, allow_missing=True)
            return Done(Change(), address, None, before)
        if by not in before:
            with pytest.raises(NotFoundError):
                delete(self.host, by, address)
            return Done(delete(self.host, by, address, allow_missing=True), address, None, before)
        vip.held.remove(by)
        self.model_end(address)
        change = delete(self.host, by, address)
        return Done(change, address, None, before, removed=ours and not vip.ours)

    @rule(done=consumes(made))
    def take_back(self, done: Done) -> None:
        """As Changes does: once, and only what was made."""
        vip = self.model[done.address]
        if not done.change.made:
            return
        is_hold = not done.removed and len(done.change.vip.after.holders) >= len(done.change.vip.before.holders)
        if is_hold and done.change.vip.after.holders:
            if done.created is not None:
                vip.held.discard(done.created)
            self.model_end(done.address)
        else:
            vip.held |= done.held_before
            self.model_silence(done.address)
            if done.removed and not vip.length:
                vip.length, vip.ours, vip.route = done.address.max_prefixlen, True, done.address.version == 4
        revert(self.host, done.change)

    @rule(address=vips)
    def remove_by_hand(self, address: IpAddress) -> None:
        """The route stays, as in the kernel."""
        vip = self.model[address]
        if vip.length:
            self.host.addresses.remove_address(address, vip.length, self.device)
            vip.length, vip.ours = 0, False

    @rule(address=vips, longest=st.booleans())
    def add_by_hand(self, address: IpAddress, longest: bool) -> None:
        """Only where nobody holds it: nobody could tell an equal address from one of ours."""
        vip = self.model[address]
        if not vip.length and not vip.held:
            vip.length = address.max_prefixlen if longest else address.max_prefixlen - 8
            by_hand(self.host, self.device, vip.length, address)

    @rule()
    def restart(self) -> None:
        self.host = self.host.restarted()

    @invariant()
    def an_address_is_there_if_somebody_holds_it_or_it_is_foreign(self) -> None:
        for address, vip in self.model.items():
            assert places(self.host, address) == ([f"{self.device}/{vip.length}"] if vip.length else [])
            found = self.host.vips.get(address)
            assert set(found.holders) == vip.held
            assert found.made_address == vip.ours
        assert {vip.address for vip in self.host.vips.list_all()} == {a for a, vip in self.model.items() if vip.held}

    @invariant()
    def the_route_is_there_with_our_address(self) -> None:
        assert has_route(self.host, self.device) == self.model[VIP].route

    def model_end(self, address: IpAddress) -> None:
        """With the last holder what is ours goes."""
        vip = self.model[address]
        if not vip.held:
            if vip.ours:
                vip.length, vip.ours = 0, False
            vip.route = False

    def model_silence(self, address: IpAddress) -> None:
        """What a real server does beside."""


class DirectorMachine(HeldVipMachine):
    """A director."""

    device = "eth0"

    def __init__(self) -> None:
        super().__init__()
        self.host = DirectorHost()


class WatchedAddresses(FakeAddresses):
    """Addresses that see to it that nothing is added to lo while this host is loud."""

    def __init__(self, sysctls: FakeArpSysctls) -> None:
        super().__init__([own_address("192.168.0.104")])
        self._sysctls = sysctls

    def add_vip(self, address: IpAddress, device: str, placement: Placement) -> None:
        assert address.version == 6 or is_silent(self._sysctls)
        super().add_vip(address, device, placement)


def is_silent(sysctls: FakeArpSysctls) -> bool:
    return answering(read_values(sysctls, ["eth0"]), ["eth0"]) == []


class RealServerMachine(HeldVipMachine):
    """A real server, whose sysctls are edited by hand, too."""

    device = "lo"
    host: RealServerHost

    @initialize(values=st.tuples(*[st.integers(0, 9)] * 4))
    def boot(self, values: tuple[int, ...]) -> None:
        keys = [(setting.interface, setting.name) for setting in ARP_SETTINGS]
        self.values: dict[SysctlKey, int] = dict(zip(keys, values, strict=True))
        self.saved: dict[SysctlKey, tuple[int, int]] = {}
        self.loud_by_hand = False
        sysctls = FakeArpSysctls(values=self.values)
        self.host = RealServerHost(sysctls=sysctls, addresses=WatchedAddresses(sysctls))

    @precondition(lambda self: any(vip.held for vip in self.model.values()))
    @rule(name=st.sampled_from(ArpName), value=st.integers(0, 9))
    def set_by_hand(self, name: ArpName, value: int) -> None:
        self.host.sysctls.write(ALL, name, value)
        self.values[ALL, name] = value
        self.loud_by_hand = self.loud_by_hand or not value_silences(name, value)

    @invariant()
    def our_vip_on_lo_is_never_answered_for(self) -> None:
        if any(vip.ours and address.version == 4 for address, vip in self.model.items()) and not self.loud_by_hand:
            assert is_silent(self.host.sysctls)

    @invariant()
    def sysctls_are_silent_while_needed_and_what_they_were_afterwards(self) -> None:
        assert {key: self.host.sysctls.read(*key) for key in self.values} == self.values

    def model_silence(self, address: IpAddress) -> None:
        if address.version == 6:
            return
        for setting in ARP_SETTINGS:
            key = (setting.interface, setting.name)
            if not value_silences(setting.name, self.values[key]):
                original, _ = self.saved.get(key, (self.values[key], 0))
                self.saved[key] = (original, setting.value)
                self.values[key] = setting.value
        self.loud_by_hand = False

    def model_end(self, address: IpAddress) -> None:
        super().model_end(address)
        ipv4 = [vip for each, vip in self.model.items() if each.version == 4]
        if address.version == 6 or any(vip.held or vip.length for vip in ipv4):
            return
        for key, (original, written) in self.saved.items():
            if self.values[key] == written:
                self.values[key] = original
        self.saved.clear()
        self.loud_by_hand = False


CALM = settings(max_examples=60, stateful_step_count=25, deadline=None)

TestDirector = DirectorMachine.TestCase
TestDirector.settings = CALM
TestRealServer = RealServerMachine.TestCase
TestRealServer.settings = CALM
