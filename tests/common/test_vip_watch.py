"""A VIP that is gone is put back as soon as the kernel tells, by either agent, and never against somebody's will."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from agent_common.errors import LvsError, Reason, RefusedError
from agent_common.neighbours import NoNeighbours
from agent_common.netlink_notices import RTM_DELADDR, RTM_DELROUTE, NetlinkNotices, gone_in
from agent_common.operation import Change
from agent_common.proposal import Proposal
from agent_common.restore import Restored
from agent_common.transaction import Participant
from agent_common.vip_watch import FakeNotices, Gone, VipWatch
from cli import operations
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost, holder

Host = DirectorHost | RealServerHost


class Taken(NoNeighbours):
    """Another host answers for every VIP."""

    async def ask(self, change: Change) -> None:
        raise RefusedError("the host with MAC address 02:00:00:00:00:09 answers for it", Reason.VIP_TAKEN)


@asynccontextmanager
async def watching(host: Host) -> AsyncIterator[FakeNotices]:
    """Follow the notifications of a host."""
    notices = FakeNotices()
    following = asyncio.ensure_future(VipWatch(notices, host.restore.put_back).follow())
    yield notices
    following.cancel()


@pytest.fixture(params=[DirectorHost, RealServerHost])
async def host(request: pytest.FixtureRequest) -> Host:
    """An agent that holds a VIP."""
    made: Host = request.param()
    await made.changes.apply(operations.create_vip(VIP, holder(WEB)), "")
    return made


def lose(host: Host, *, route_only: bool = False) -> None:
    device = host.vips.get(VIP).device
    host.addresses.remove_host_route(VIP, device)
    if not route_only:
        host.addresses.remove_address(VIP, 32, device)


def is_back(host: Host) -> bool:
    vip = host.vips.get(VIP)
    return vip.present and vip.route_present


async def settled(host: Host, seconds: float = 1.0) -> bool:
    """Whether the VIP is back, within so much time."""
    for _ in range(round(seconds / 0.01)):
        if is_back(host):
            return True
        await asyncio.sleep(0.01)
    return False


@pytest.mark.parametrize("route_only", [False, True])
async def test_what_is_gone_is_back_at_once(host: Host, route_only: bool) -> None:
    async with watching(host) as notices:
        lose(host, route_only=route_only)
        notices.tell(VIP)
        assert await settled(host)


async def test_what_could_not_be_heard_is_looked_for(host: Host) -> None:
    """The kernel drops notifications that nobody takes in time."""
    async with watching(host) as notices:
        lose(host)
        notices.tell(everything=True)
        assert await settled(host)


async def test_what_others_lose_is_none_of_our_business(host: Host) -> None:
    lose(host)
    assert await host.restore.put_back(Gone(addresses=frozenset([ip_address("192.168.0.9")]))) == Restored()
    assert not is_back(host)


async def test_a_vip_that_we_gave_up_ourselves_stays_away(host: Host) -> None:
    await host.changes.apply(operations.delete_vip(VIP, holder(WEB)), "")
    assert await host.restore.put_back(Gone(everything=True)) == Restored()
    assert not is_back(host)


async def test_a_vip_that_a_transaction_has_waits_for_its_end(host: Host) -> None:
    """Its end may be that the VIP is given up; it is looked at again by itself."""
    proposal = Proposal(
        id="t1",
        authority="d1",
        participants=(Participant(agent_id="d1"),),
        operations=(operations.create_vip(VIP, holder("tcp/192.168.0.200:443")),),
        lease=60,
    )
    transaction, _ = await host.transactions.prepare(proposal)
    async with watching(host) as notices:
        lose(host)
        notices.tell(VIP)
        assert not await settled(host, 0.1)
        await host.transactions.abort("t1", transaction.fence)
        assert await settled(host, 5)


async def test_a_vip_that_another_host_answers_for_stays_away_and_is_a_problem() -> None:
    host = DirectorHost()
    await host.changes.apply(operations.create_vip(VIP, holder(WEB)), "")
    lose(host)
    taken = DirectorHost(ipvs=host.ipvs, addresses=host.addresses, state=host.state, neighbours=Taken())
    assert await taken.restore.put_back(Gone(addresses=frozenset([VIP]))) == Restored(tried=1)
    assert not is_back(taken)
    (problem,) = taken.problems.texts()
    assert "answers for it" in problem


async def test_a_fight_is_not_fought_without_pause_and_a_failure_is_not_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody takes away whatever is put back: the pauses grow."""
    looks: list[float] = []
    notices = FakeNotices()

    async def put_back(gone: Gone) -> Restored:
        notices.tell(VIP)
        looks.append(asyncio.get_running_loop().time())
        if len(looks) == 1:
            raise LvsError("the kernel is busy", Reason.KERNEL_REFUSED)
        return Restored(tried=1, back=1)

    monkeypatch.setattr("agent_common.vip_watch.PAUSE_SECONDS", 0.01)
    notices.tell(VIP)
    following = asyncio.ensure_future(VipWatch(notices, put_back).follow())
    await asyncio.sleep(0.5)
    following.cancel()
    assert 4 <= len(looks) <= 7
    assert "cannot look for VIPs that are gone: the kernel is busy" in caplog.text


async def test_an_agent_that_is_stopped_finishes_what_it_puts_back() -> None:
    """A VIP that is added and not announced would be there for nobody."""
    done = []
    begun, go_on = asyncio.Event(), asyncio.Event()
    notices = FakeNotices()

    async def put_back(gone: Gone) -> Restored:
        begun.set()
        await go_on.wait()
        done.append("announced")
        return Restored(tried=1, back=1)

    notices.tell(VIP)
    following = asyncio.ensure_future(VipWatch(notices, put_back).follow())
    await begun.wait()
    following.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait({following})
    assert (done, following.cancelled()) == (["announced"], True)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def message(kind: int, body: bytes, *attributes: bytes) -> bytes:
    whole = body + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(whole), kind, 0, 0, 0) + whole


def address_gone(*attributes: bytes, family: int = 2) -> bytes:
    return message(RTM_DELADDR, struct.pack("=BBBBI", family, 32, 0, 0, 2), *attributes)


def route_gone(prefix_length: int, *attributes: bytes) -> bytes:
    return message(RTM_DELROUTE, struct.pack("=BBBBBBBBI", 2, prefix_length, 0, 0, 254, 3, 254, 1, 0), *attributes)


OTHER = ip_address("192.168.0.1")


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (address_gone(attribute(1, OTHER.packed), attribute(2, VIP.packed), attribute(3, b"eth0:1\0")), [VIP]),
        (address_gone(attribute(1, ip_address("2001:db8::200").packed), family=10), [ip_address("2001:db8::200")]),
        (route_gone(32, attribute(15, b"\xfe\0\0\0"), attribute(1, VIP.packed)), [VIP]),
        (route_gone(24, attribute(1, b"\xc0\xa8\0\0")), []),
        (route_gone(0), []),
        (message(20, b"\0" * 8, attribute(2, VIP.packed)), []),
        (address_gone(attribute(2, VIP.packed)) + route_gone(32, attribute(1, OTHER.packed)), [VIP, OTHER]),
        (address_gone(attribute(2, VIP.packed))[:-3], []),
        (b"\0" * 40, []),
        (address_gone(struct.pack("=HH", 0, 2)), []),
        (b"", []),
    ],
)
def test_the_kernels_messages_are_understood(datagram: bytes, expected: list[object]) -> None:
    """Only addresses, and routes to one address alone; what is cut off or not understood ends the reading."""
    assert list(gone_in(datagram)) == expected


async def test_listening_needs_no_capability_and_ends() -> None:
    notices = NetlinkNotices()
    waiting = asyncio.ensure_future(notices.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    notices.close()
    waiting.cancel()
