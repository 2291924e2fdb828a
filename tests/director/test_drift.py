"""Drift of a director: found twice before it is said; only what was lost as a whole is put back without being asked."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from agent_common.address import Placement
from agent_common.destination import Destination
from agent_common.drift import DestinationName, Drift, DriftKind
from agent_common.drift_watch import DriftWatch
from agent_common.errors import Reason, RefusedError
from agent_common.virtual_server import VirtualServer, parse_key
from agent_common.wire_drift import pack_drift, unpack_drift
from cli import operations
from tests.director.ipvs_contract import table
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, WEB, DirectorHost, holder, run

RS1, RS2 = destination("192.168.0.104", weight=7), destination("192.168.0.105", weight=3)
DNS = parse_key("udp/192.168.0.9:53")


def name(each: Destination) -> DestinationName:
    return DestinationName(server=WEB, key=each.key)


@pytest.fixture
async def host() -> DirectorHost:
    """A director that serves, and has looked once."""
    host = DirectorHost()
    for operation in (
        operations.create_virtual_server(WEB, "rr", None),
        operations.create_vip(VIP, holder(WEB)),
        operations.create_destination(WEB, RS1.key, None, 7),
        operations.create_destination(WEB, RS2.key, None, 3),
    ):
        await host.changes.apply(operation, "")
    await host.watch.look()
    return host


async def seen(host: DirectorHost) -> list[Drift]:
    """What two more readings find."""
    await host.watch.look()
    await host.watch.look()
    return list(host.watch.confirmed())


async def test_what_is_as_committed_is_no_drift(host: DirectorHost) -> None:
    assert await seen(host) == []


async def test_a_drain_is_no_drift(host: DirectorHost) -> None:
    """The kernel's weight is 0, and that is what was committed."""
    await host.changes.apply(operations.update_destination(WEB, RS1.key, draining=True), "")
    assert await seen(host) == []


async def test_one_reading_is_not_enough(host: DirectorHost) -> None:
    """A table that changes under the reading skips entries."""
    host.ipvs.remove_destination(WEB, RS1.key)
    await host.watch.look()
    assert host.watch.confirmed() == []
    await host.watch.look()
    assert host.watch.confirmed() == [Drift(kind=DriftKind.MISSING, resource=name(RS1))]
    host.ipvs.add_destination(WEB, RS1)
    await host.watch.look()
    assert host.watch.confirmed() == []


async def test_what_was_changed_by_hand_is_named_with_its_fields_and_left(host: DirectorHost) -> None:
    host.ipvs.edit_destination(WEB, dataclasses.replace(RS1, weight=0, upper_threshold=9))
    host.ipvs.edit_virtual_server(VirtualServer(key=WEB, scheduler="wrr"))
    before = table(host.ipvs)
    server, first = await seen(host)
    assert (server.resource, server.fields, server.detail) == (WEB, ("scheduler",), "scheduler wrr, not rr")
    assert (first.resource, first.fields, first.detail) == (
        name(RS1),
        ("upper_threshold", "weight"),
        "weight 0, not 7",
    )
    assert table(host.ipvs) == before


async def test_what_others_made_is_foreign(host: DirectorHost) -> None:
    host.ipvs.add_virtual_server(VirtualServer(key=DNS))
    extra = destination("192.168.0.106")
    host.ipvs.add_destination(WEB, extra)
    assert await seen(host) == [
        Drift(kind=DriftKind.FOREIGN, resource=DNS),
        Drift(kind=DriftKind.FOREIGN, resource=name(extra)),
    ]


async def test_a_table_that_was_lost_as_a_whole_is_put_back(host: DirectorHost) -> None:
    before = table(host.ipvs)
    host.ipvs.remove_virtual_server(WEB)
    await seen(host)
    assert table(host.ipvs) == before
    assert await seen(host) == []


async def test_a_virtual_server_that_was_removed_beside_others_is_not(host: DirectorHost) -> None:
    """Somebody wanted that."""
    host.ipvs.add_virtual_server(VirtualServer(key=DNS))
    host.ipvs.remove_virtual_server(WEB)
    assert Drift(kind=DriftKind.MISSING, resource=WEB) in await seen(host)
    assert [each.key for each in host.ipvs.virtual_servers()] == [DNS]


async def test_a_vip_that_is_gone_and_one_without_route_are_put_back(host: DirectorHost) -> None:
    host.addresses.remove_host_route(VIP, "eth0")
    await seen(host)
    assert host.vips.get(VIP).route_present
    host.addresses.remove_host_route(VIP, "eth0")
    host.addresses.remove_address(VIP, 32, "eth0")
    await seen(host)
    assert (host.vips.get(VIP).present, host.vips.get(VIP).route_present) == (True, True)
    assert await seen(host) == []


async def test_a_vip_with_another_prefix_length_is_there(host: DirectorHost) -> None:
    host.addresses.remove_host_route(VIP, "eth0")
    host.addresses.remove_address(VIP, 32, "eth0")
    host.addresses.add_vip(VIP, "eth0", Placement.DIRECTOR)
    await seen(host)
    assert host.vips.get(VIP).present


async def test_a_reading_that_fails_is_not_the_last(host: DirectorHost, caplog: pytest.LogCaptureFixture) -> None:
    """A kernel that cannot be read for a while, and a defect: the log has them, and the watch goes on."""
    failures = [RefusedError("the kernel is busy", Reason.KERNEL_REFUSED), ZeroDivisionError("a defect")]
    went_on = asyncio.Event()

    def find() -> list[Drift]:
        if failures:
            raise failures.pop(0)
        went_on.set()
        return host.restore.drift()

    watching = asyncio.ensure_future(DriftWatch(find, host.restore.mend, run, seconds=0.01).follow())
    await asyncio.wait_for(went_on.wait(), 5)
    watching.cancel()
    assert "cannot look for drift: the kernel is busy" in caplog.text
    assert "unexpected failure while looking for drift" in caplog.text


@pytest.mark.parametrize(
    "drift",
    [
        Drift(kind=DriftKind.MISSING, resource=WEB),
        Drift(kind=DriftKind.MODIFIED, resource=name(RS1), fields=("weight",), detail="weight 0, not 7"),
        Drift(kind=DriftKind.FOREIGN, resource=VIP),
    ],
)
def test_it_is_the_same_after_the_wire(drift: Drift) -> None:
    assert unpack_drift(pack_drift(drift)) == drift
