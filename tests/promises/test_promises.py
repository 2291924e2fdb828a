"""Each promise of DESIGN.md, seen to hold with the agents as they are shipped, and seen to fail with a weaker part.

A check that no weaker part makes fail checks nothing. P8 (bad input) is checked with every message and option.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_common.errors import ConflictError
from agent_common.fake_address import FakeAddresses
from agent_common.fake_state import FakeState
from agent_common.transaction import TransactionState
from agent_director.fake_ipvs import FakeIpvs
from cli import operations
from cli.errors import ExitStatus
from cli.transactions import resolve_transactions
from tests.cli.served_site import Site
from tests.cli.sites import RS1, RS2
from tests.cli.test_coordinator import assert_safe, backends, pass_leases
from tests.common.test_transactions import addition
from tests.faults import Died, Fault, Wire
from tests.hosts import AS_SHIPPED, VIP, DirectorHost, Parts, RealServerHost, holder, own_address
from tests.promises import weaker
from tests.serving import Served


class SyncedState(FakeState):
    """What is written is on disk."""

    def after_power_cut(self) -> FakeState:
        """All of it."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How the hosts of a site are made; the kernels are part of the check, the parts are what it can fail with."""

    parts: Parts = AS_SHIPPED
    state: type[FakeState] = SyncedState
    directors: int = 1
    addresses: type[FakeAddresses] = FakeAddresses
    ipvs: type[FakeIpvs] = FakeIpvs


@asynccontextmanager
async def site_of(made: Made, folder: Path) -> AsyncIterator[Site]:
    """Serve it: directors, and two real servers."""
    hosts: dict[str, DirectorHost | RealServerHost] = {
        f"d{number}": DirectorHost(
            address=f"192.168.0.{9 + number}", ipvs=made.ipvs(), state=made.state(), parts=made.parts
        )
        for number in range(1, made.directors + 1)
    }
    for address in (RS1, RS2):
        addresses = made.addresses([own_address(address)])
        hosts[address] = RealServerHost(addresses=addresses, state=made.state(), parts=made.parts)
    async with AsyncExitStack() as stack:
        served = Served(folder, stack)
        for name, host in hosts.items():
            await served.start(name, host)
        site = Site(served, hosts)
        site.lock_timeout = 0.3
        yield site


async def traffic_safety(site: Site, wire: Wire) -> None:
    """P1: a real server that has not got the VIP gets no clients."""
    await site.add(RS1)
    assert_safe(site)


async def decided_once(site: Site, wire: Wire) -> None:
    """P2: lvs dies after the first of two directors has decided, and everybody comes to the same."""
    wire.fault = (4, Fault.KILLED_AFTER)
    with pytest.raises(Died):
        await site.add(RS1)
    wire.fault = None
    await pass_leases(site)
    await resolve_transactions("", await site.run())
    assert backends(site) == [{f"{RS1}:80"}] * 2


async def nobody_has_to_be_there(site: Site, wire: Wire) -> None:
    """P3: lvs dies before the decision; when its lease has ended the next command just works."""
    wire.fault = (2, Fault.KILLED_AFTER)
    with pytest.raises(Died):
        await site.add(RS1)
    wire.fault = None
    await pass_leases(site)
    assert (await site.add(RS1)).status is ExitStatus.DONE


async def no_lock_outlives_its_transaction(site: Site, wire: Wire) -> None:
    """P3: what was told to abort before it came locks nothing when it comes."""
    director = site.director
    late, following = (addition(name, authority=director.agent_id) for name in ("late", "next"))
    await director.transactions.abort(late.id)
    with contextlib.suppress(ConflictError):
        await director.transactions.prepare(late)
    assert (await director.transactions.prepare(following))[0].state is TransactionState.PREPARED


async def no_collateral(site: Site, wire: Wire) -> None:
    """P4: what is undone leaves the VIP to those who need it by now."""
    wire.fault = (1, Fault.KILLED_BEFORE)
    with pytest.raises(Died):
        await site.add(RS1)
    wire.fault = None
    other = holder("tcp/192.168.0.200:81")
    await site.rs(RS1).changes.apply(operations.create_vip(VIP, other), "")
    await pass_leases(site)
    vip = site.rs(RS1).vips.get(VIP)
    assert (vip.present, vip.holders) == (True, (other,))


async def reserved_is_reserved(site: Site, wire: Wire) -> None:
    """P4: what an undecided change has made is not built upon by another one, and then undone beneath it."""
    wire.fault = (1, Fault.KILLED_AFTER)
    with pytest.raises(Died):
        await site.add(RS1)
    wire.fault = None
    await site.add(RS1)
    await pass_leases(site)
    assert_safe(site)


async def safe_retry(site: Site, wire: Wire) -> None:
    """P5: what is in place is left in place, and said to be."""
    await site.add(RS1, weight=5)
    again = await site.add(RS1)
    assert again.status is ExitStatus.DONE
    assert again.message.startswith("nothing to do")


async def durable(site: Site, wire: Wire) -> None:
    """P6: what was acknowledged is there after a power cut of all hosts."""
    assert (await site.add(RS1)).status is ExitStatus.DONE
    for name, host in site.hosts.items():
        host.state = host.state.after_power_cut()  # type: ignore[attr-defined]
        site.hosts[name] = booted = host.rebooted()
        await booted.transactions.start()
        await (booted.restore.start(new_boot=True) if isinstance(booted, DirectorHost) else booted.restore.start())
    assert site.rs(RS1).vips.get(VIP).present
    assert backends(site) == [{f"{RS1}:80"}]


async def honest(site: Site, wire: Wire) -> None:
    """P7: nobody says that it is done when the kernel has it not."""
    outcome = await site.add(RS1)
    assert outcome.status is not ExitStatus.DONE or backends(site) == [{f"{RS1}:80"}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What is checked, on which site, and what makes it fail."""

    check: Callable[[Site, Wire], Awaitable[None]]
    made: Made = field(default_factory=Made)
    weaker: Parts = AS_SHIPPED
    weaker_state: type[FakeState] = SyncedState

    def __str__(self) -> str:
        return f"{(self.check.__doc__ or '')[:2]}-{self.check.__name__}"


PROMISES = [
    Promise(
        check=traffic_safety,
        made=Made(addresses=weaker.LosingAddresses),
        weaker=Parts(held_vips=weaker.UnreadVips),
    ),
    Promise(check=decided_once, made=Made(directors=2), weaker=Parts(transactions=weaker.HastyTransactions)),
    Promise(check=nobody_has_to_be_there, weaker=Parts(transactions=weaker.WaitingTransactions)),
    Promise(check=no_lock_outlives_its_transaction, weaker=Parts(transactions=weaker.ForgetfulTransactions)),
    Promise(check=no_collateral, weaker=Parts(held_vips=weaker.SnapshotVips)),
    Promise(check=reserved_is_reserved, weaker=Parts(locks=weaker.NoLocks)),
    Promise(check=safe_retry, weaker=Parts(destinations=weaker.BlindDestinations)),
    Promise(check=durable, weaker_state=weaker.UnsyncedState),
    Promise(
        check=honest,
        made=Made(ipvs=weaker.LosingIpvs),
        weaker=Parts(destinations=weaker.BoastfulDestinations),
    ),
]


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@pytest.mark.parametrize("promise", PROMISES, ids=str)
async def test_it_holds(promise: Promise, wire: Wire, tmp_path: Path) -> None:
    """With the agents as they are shipped."""
    async with site_of(promise.made, tmp_path) as site:
        await promise.check(site, wire)


@pytest.mark.parametrize("promise", PROMISES, ids=str)
async def test_it_is_seen_to_fail(promise: Promise, wire: Wire, tmp_path: Path) -> None:
    """With one weaker part, and nothing else changed."""
    made = Made(
        parts=promise.weaker,
        state=promise.weaker_state,
        directors=promise.made.directors,
        addresses=promise.made.addresses,
        ipvs=promise.made.ipvs,
    )
    async with site_of(made, tmp_path) as site:
        with pytest.raises((AssertionError, ConflictError)):
            await promise.check(site, wire)
