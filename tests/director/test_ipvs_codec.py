"""The IPVS codec writes what the kernel reads, reads what the kernel writes, and says so when it cannot."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_common.destination import Destination, DestinationKey, DestinationStatus, Tunnel
from agent_common.statistics import Statistics
from agent_common.sync_daemon import SyncDaemon
from agent_common.timeouts import Timeouts
from agent_common.virtual_server import Family, VirtualServer, VirtualServerKey
from agent_director import ipvs_codec as codec
from agent_director.ipvs import Info
from tests.director import golden_ipvs as golden
from tests.director import kernel_messages as kernel
from tests.director import strategies

families = st.sampled_from(Family)


def unpack_virtual_server(data: bytes) -> VirtualServer:
    """Read a virtual server from all of the bytes."""
    return codec.unpack_virtual_server(data, 0, len(data))


def unpack_destination(data: bytes, family: Family = Family.IPV4) -> DestinationStatus:
    """Read a destination from all of the bytes."""
    return codec.unpack_destination(data, 0, len(data), family)


@pytest.mark.parametrize(("server", "data"), golden.DUMPED_VIRTUAL_SERVERS)
def test_recorded_virtual_server_is_read(server: VirtualServer, data: bytes) -> None:
    """A virtual server that the kernel sent is read as what ipvsadm had made."""
    assert unpack_virtual_server(data) == server


@pytest.mark.parametrize(("destination", "data"), golden.DUMPED_DESTINATIONS)
def test_recorded_destination_is_read(destination: Destination, data: bytes) -> None:
    """A destination that the kernel sent is read as what ipvsadm had made, idle, with the kernel's weight."""
    status = unpack_destination(data)
    assert status.destination == destination
    assert (status.current_weight, status.managed) == (destination.weight, False)
    assert (status.active, status.inactive, status.persistent) == (0, 0, 0)


def test_recorded_info_is_read() -> None:
    """The number of the kernel's version is read a byte a part."""
    assert codec.unpack_info(golden.INFO, 0, len(golden.INFO)) == Info(version="1.2.1", connection_table_size=4096)


@pytest.mark.parametrize(("daemon", "data"), golden.DUMPED_SYNC_DAEMONS)
def test_recorded_sync_daemon_is_read(daemon: SyncDaemon, data: bytes) -> None:
    """A daemon that the kernel sent is read as what ipvsadm had started."""
    assert codec.unpack_sync_daemon(data, 0, len(data)) == daemon


def test_recorded_timeouts_are_read() -> None:
    """What the kernel sent after ipvsadm --set 7200 60 400."""
    assert codec.unpack_timeouts(golden.TIMEOUTS, 0, len(golden.TIMEOUTS)) == Timeouts(tcp=7200, tcp_fin=60, udp=400)


def test_written_bytes_are_those_that_the_kernel_took() -> None:
    """Every kind of request attribute is, byte for byte, what was tried on the kernel."""
    for server, data in golden.SENT_VIRTUAL_SERVERS:
        assert codec.pack_virtual_server(server) == data
    for destination, data in golden.SENT_DESTINATIONS:
        assert codec.pack_destination(destination) == data
    for key, data in golden.SENT_KEYS:
        assert codec.pack_key(key) == data
    assert codec.pack_destination_key(golden.GUE.key) == golden.SENT_DESTINATION_KEY
    for daemon, data in golden.SENT_SYNC_DAEMONS:
        assert codec.pack_sync_daemon(daemon) == data
    assert codec.pack_timeouts(Timeouts(tcp=7200, tcp_fin=60, udp=400)) == golden.TIMEOUTS


@given(strategies.virtual_servers)
def test_virtual_server_there_and_back(server: VirtualServer) -> None:
    """A virtual server that is written and read again is the same."""
    assert unpack_virtual_server(codec.pack_virtual_server(server)) == server


@given(strategies.virtual_servers)
def test_virtual_server_of_the_kernel_is_written_back(server: VirtualServer) -> None:
    """A virtual server that the kernel sent is read, and written back with the same attributes for an edit."""
    attributes = kernel.virtual_server(server)
    read = unpack_virtual_server(kernel.message(1, attributes))
    assert read == server
    written = kernel.split(kernel.split(codec.pack_virtual_server(read))[1])
    flags = int.from_bytes(written.pop(7)[:4], "little")
    kept = dict(attributes)
    assert flags | 0x2 == int.from_bytes(kept.pop(7)[:4], "little")  # "hashed" is the kernel's own
    assert written == kept


@given(strategies.virtual_servers)
def test_edit_leaves_flags_alone_that_we_do_not_know(server: VirtualServer) -> None:
    """The mask of flags covers persistence, one-packet and the scheduler's three, and nothing else."""
    flags = kernel.split(kernel.split(codec.pack_virtual_server(server))[1])[7]
    assert flags[4:] == kernel.u32(0x01 | 0x04 | 0x08 | 0x10 | 0x20)


@given(strategies.keys)
def test_key_is_that_of_the_virtual_server(key: VirtualServerKey) -> None:
    """What names a virtual server is written as in its whole configuration."""
    named = kernel.split(kernel.split(codec.pack_key(key))[1])
    whole = kernel.split(kernel.split(codec.pack_virtual_server(VirtualServer(key=key)))[1])
    assert named == {kind: whole[kind] for kind in named}
    assert set(whole) - set(named) == {6, 7, 8, 9}


@given(strategies.statuses, families, st.randoms())
def test_destination_of_the_kernel_is_read(status: DestinationStatus, family: Family, random: Any) -> None:
    """A destination is read whole, in the kernel's order and in any other, whatever the virtual server's family."""
    attributes = kernel.destination(status)
    assert unpack_destination(kernel.message(2, attributes), family) == status
    random.shuffle(attributes)
    assert unpack_destination(kernel.message(2, attributes), family) == status


@given(strategies.statuses)
def test_destination_of_the_kernel_is_written_back(status: DestinationStatus) -> None:
    """What was read of a destination is written back with the same attributes, without its connection counts."""
    written = kernel.split(kernel.split(codec.pack_destination(status.destination))[2])
    assert written == {kind: value for kind, value in kernel.destination(status) if kind not in (7, 8, 9)}


@given(strategies.destination_keys)
def test_destination_key_is_that_of_the_destination(key: DestinationKey) -> None:
    """What names a destination is written as in its whole configuration."""
    named = kernel.split(kernel.split(codec.pack_destination_key(key))[2])
    whole = kernel.split(kernel.split(codec.pack_destination(Destination(key=key)))[2])
    assert named == {kind: whole[kind] for kind in (1, 2, 11)}


@given(strategies.statuses)
def test_old_kernels_leave_out_family_and_tunnel(status: DestinationStatus) -> None:
    """Without the destination's own family the virtual server's counts; without tunnel attributes it is IPIP."""
    family = Family.IPV4 if status.destination.key.address.version == 4 else Family.IPV6
    attributes = [each for each in kernel.destination(status) if each[0] not in (11, 13, 14, 15)]
    plain = dataclasses.replace(status.destination, tunnel=Tunnel())
    assert unpack_destination(kernel.message(2, attributes), family) == dataclasses.replace(status, destination=plain)


@given(strategies.timeouts)
def test_timeouts_there_and_back(timeouts: Timeouts) -> None:
    """Timeouts that are written and read again are the same."""
    data = codec.pack_timeouts(timeouts)
    assert codec.unpack_timeouts(data, 0, len(data)) == timeouts


@given(strategies.sync_daemons, st.randoms())
def test_sync_daemon_of_the_kernel_is_read_and_written_back(daemon: SyncDaemon, random: Any) -> None:
    """A daemon that runs is read whole, in whatever order; to start the same one the same attributes are sent."""
    attributes = kernel.sync_daemon(daemon)
    random.shuffle(attributes)
    data = kernel.message(3, attributes)
    assert codec.unpack_sync_daemon(data, 0, len(data)) == daemon
    assert kernel.split(kernel.split(codec.pack_sync_daemon(daemon))[3]) == dict(attributes)
    assert kernel.split(kernel.split(codec.pack_sync_role(daemon.role))[3]) == {1: kernel.u32(daemon.role)}


@given(strategies.sync_daemons)
def test_old_kernels_say_less_of_a_sync_daemon(daemon: SyncDaemon) -> None:
    """Role, interface and sync id; what is not chosen is not sent either."""
    data = kernel.message(3, kernel.sync_daemon(daemon)[:3])
    plain = dataclasses.replace(daemon, max_length=None, group=None, port=None, ttl=None)
    assert codec.unpack_sync_daemon(data, 0, len(data)) == plain
    assert set(kernel.split(kernel.split(codec.pack_sync_daemon(plain))[3])) == {1, 2, 3}


@given(strategies.statistics)
def test_statistics_are_read(statistics: Statistics) -> None:
    """The 64-bit counters are read where they are there, the 32-bit ones (cut off) where they are alone."""
    wide = (12, kernel.counters(statistics, wide=True))
    narrow = (10, kernel.counters(statistics, wide=False))
    cut = {name: getattr(statistics, name) & 0xFFFFFFFF for name in Statistics.__slots__}
    cut |= {"bytes_in": statistics.bytes_in, "bytes_out": statistics.bytes_out}
    readers = {1: codec.unpack_virtual_server_statistics, 2: codec.unpack_destination_statistics}
    for kind, read in readers.items():
        both, old = kernel.message(kind, [narrow, wide]), kernel.message(kind, [narrow])
        assert read(both, 0, len(both)) == statistics
        assert read(old, 0, len(old)) == Statistics(**cut)


@given(strategies.virtual_servers, strategies.statuses, strategies.statistics, st.integers(16, 0x3FFF), st.binary())
def test_what_newer_kernels_add_is_passed_over(
    server: VirtualServer, status: DestinationStatus, statistics: Statistics, kind: int, payload: bytes
) -> None:
    """Statistics, and attributes of types that we do not know, change nothing in what is read."""
    more = [(10, kernel.counters(statistics, wide=False)), (12, kernel.counters(statistics, wide=True))]
    more += [(kind, payload)]
    assert unpack_virtual_server(kernel.message(1, kernel.virtual_server(server) + more)) == server
    assert unpack_destination(kernel.message(2, kernel.destination(status) + more)) == status
