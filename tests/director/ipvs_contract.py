"""What every Ipvs does alike: checks that run on the fake here, and on the kernel in the lab.

A check gets an Ipvs whose table is empty, and may leave things in it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from agent_common.destination import MAX_WEIGHT, Destination, Forwarding, Tunnel, TunnelType
from agent_common.errors import DiffersError, LvsError, NotFoundError, Reason, RefusedError
from agent_common.statistics import Statistics
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.table import DestinationStep, ServerStep
from agent_common.timeouts import Timeouts
from agent_common.virtual_server import Family, Persistence, VirtualServer, parse_key
from agent_director.ipvs import Info, Ipvs
from agent_director.ipvs_codec import CodecError
from tests.director.ipvs_samples import KERNEL_SCHEDULERS, KEYS, WEB, destination, destinations, virtual_servers


def raises(reason: Reason, kind: type[LvsError], *names: object) -> pytest.RaisesExc[LvsError]:
    """Expect an error of that kind whose message says "cannot", and names the things at fault."""

    def is_told(error: LvsError) -> bool:
        return error.reason is reason and str(error).startswith("cannot ") and all(str(n) in str(error) for n in names)

    return pytest.RaisesExc(kind, check=is_told)


def table(ipvs: Ipvs) -> dict[VirtualServer, set[Destination]]:
    """Return all that is in the table."""
    return {server: {d.destination for d in ipvs.destinations(server.key)} for server in ipvs.virtual_servers()}


def check_empty(ipvs: Ipvs) -> None:
    """An empty table has no virtual servers, and IPVS says its version."""
    assert ipvs.virtual_servers() == []
    assert ipvs.virtual_server(WEB) is None
    assert ipvs.info() == Info(version="1.2.1", connection_table_size=4096)


def check_virtual_server_fields(ipvs: Ipvs) -> None:
    """Every field of a virtual server is read as it was added, one by one and in the list."""
    for server in virtual_servers():
        ipvs.add_virtual_server(server)
        assert ipvs.virtual_server(server.key) == server
        assert ipvs.virtual_servers() == [server]
        ipvs.remove_virtual_server(server.key)
    assert ipvs.virtual_servers() == []


def check_statistics(ipvs: Ipvs) -> None:
    """Whoever asks for counters gets those of each virtual server and destination; else there are none."""
    assert ipvs.statistics() == {}
    for key in KEYS:
        ipvs.add_virtual_server(VirtualServer(key=key))
    ipvs.add_destination(WEB, destination())
    assert ipvs.statistics() == dict.fromkeys(KEYS, Statistics())
    assert [each.statistics for each in ipvs.destinations(WEB)] == [None]
    assert [each.statistics for each in ipvs.destinations(WEB, statistics=True)] == [Statistics()]


def check_virtual_server_edit(ipvs: Ipvs) -> None:
    """An edit replaces every field, whatever stood there before, and what is left out is off."""
    servers = virtual_servers()
    for key in {server.key for server in servers}:
        ipvs.add_virtual_server(VirtualServer(key=key, scheduler="nq"))
        for server in servers:
            if server.key == key:
                ipvs.edit_virtual_server(server)
                assert ipvs.virtual_server(key) == server
        ipvs.edit_virtual_server(VirtualServer(key=key))
        assert ipvs.virtual_server(key) == VirtualServer(key=key)


def check_edit_keeps_destinations(ipvs: Ipvs) -> None:
    """An edit of a virtual server leaves its destinations alone."""
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    ipvs.add_destination(WEB, destination(weight=7))
    ipvs.edit_virtual_server(VirtualServer(key=WEB, scheduler="rr", persistence=Persistence(timeout=60)))
    assert [status.destination for status in ipvs.destinations(WEB)] == [destination(weight=7)]


def check_longest_prefix(ipvs: Ipvs) -> None:
    """The longest prefix, which is what no prefix means, is read as none."""
    for text, length in (("tcp/192.168.0.200:80", 32), ("tcp/[2001:db8::200]:80", 128)):
        key = parse_key(text)
        ipvs.add_virtual_server(VirtualServer(key=key, persistence=Persistence(timeout=60, prefix_length=length)))
        assert ipvs.virtual_server(key) == VirtualServer(key=key, persistence=Persistence(timeout=60))


def check_keys_are_apart(ipvs: Ipvs) -> None:
    """Virtual servers that differ in any part of the key live side by side, and each is found by its own."""
    for number, key in enumerate(KEYS):
        ipvs.add_virtual_server(VirtualServer(key=key, scheduler=KERNEL_SCHEDULERS[number]))
    for number, key in enumerate(KEYS):
        assert ipvs.virtual_server(key) == VirtualServer(key=key, scheduler=KERNEL_SCHEDULERS[number])
    assert {server.key for server in ipvs.virtual_servers()} == set(KEYS)
    ipvs.remove_virtual_server(KEYS[0])
    assert {server.key for server in ipvs.virtual_servers()} == set(KEYS[1:])


def check_virtual_server_twice(ipvs: Ipvs) -> None:
    """Adding what is there is refused, an equal one too, and changes nothing."""
    server = VirtualServer(key=WEB, scheduler="rr")
    ipvs.add_virtual_server(server)
    for again in (server, VirtualServer(key=WEB, scheduler="wrr"), VirtualServer(key=WEB, scheduler="nosuch")):
        with raises(Reason.VIRTUAL_SERVER_DIFFERS, DiffersError, WEB, "add"):
            ipvs.add_virtual_server(again)
    assert ipvs.virtual_servers() == [server]


def check_virtual_server_missing(ipvs: Ipvs) -> None:
    """What is done to a virtual server that is not there says so, and makes none."""
    for key in KEYS:
        not_found = raises(Reason.VIRTUAL_SERVER_NOT_FOUND, NotFoundError, key)
        own = destination("192.168.0.104" if key.family is Family.IPV4 else "2001:db8::104")
        with not_found:
            ipvs.edit_virtual_server(VirtualServer(key=key))
        with not_found:
            ipvs.remove_virtual_server(key)
        with not_found:
            ipvs.add_destination(key, own)
        with not_found:
            ipvs.edit_destination(key, own)
        with not_found:
            ipvs.remove_destination(key, own.key)
        assert ipvs.virtual_server(key) is None
        assert ipvs.destinations(key) == []
    assert ipvs.virtual_servers() == []


def check_unknown_scheduler(ipvs: Ipvs) -> None:
    """A scheduler that cannot be loaded is named with what to run, nothing is added, and an edit leaves the old one."""
    wanted = VirtualServer(key=WEB, scheduler="nosuch")
    missing = raises(Reason.MODULE_MISSING, RefusedError, WEB, "nosuch", "modprobe ip_vs_nosuch")
    with missing:
        ipvs.add_virtual_server(wanted)
    assert ipvs.virtual_servers() == []
    ipvs.add_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
    with missing:
        ipvs.edit_virtual_server(wanted)
    assert ipvs.virtual_servers() == [VirtualServer(key=WEB, scheduler="rr")]


def check_destination_fields(ipvs: Ipvs) -> None:
    """Every field of a destination is read as it was added; without traffic it has no connections."""
    for key, wanted in destinations():
        ipvs.add_virtual_server(VirtualServer(key=key))
        ipvs.add_destination(key, wanted)
        (status,) = ipvs.destinations(key)
        assert status.destination == wanted
        assert (status.current_weight, status.managed) == (wanted.weight, False)
        assert (status.active, status.inactive, status.persistent) == (0, 0, 0)
        ipvs.remove_destination(key, wanted.key)
        assert ipvs.destinations(key) == []
        ipvs.remove_virtual_server(key)


def check_destination_edit(ipvs: Ipvs) -> None:
    """An edit replaces every field, whatever stood there before."""
    wanted = destinations()
    for name in {(key, each.key) for key, each in wanted}:
        key, own = name
        if ipvs.virtual_server(key) is None:
            ipvs.add_virtual_server(VirtualServer(key=key))
        plain = Destination(key=own, forwarding=Forwarding.TUNNELING)
        ipvs.add_destination(key, plain)
        for each in [d for k, d in wanted if (k, d.key) == name] + [plain]:
            ipvs.edit_destination(key, each)
            assert each in table(ipvs)[VirtualServer(key=key)]


def check_destination_twice(ipvs: Ipvs) -> None:
    """Adding a destination that is there is refused, an equal one too, and changes nothing."""
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    ipvs.add_destination(WEB, destination())
    for again in (destination(), destination(weight=2)):
        with raises(Reason.DESTINATION_DIFFERS, DiffersError, WEB, again.key, "add"):
            ipvs.add_destination(WEB, again)
    assert table(ipvs) == {VirtualServer(key=WEB): {destination()}}


def check_destination_missing(ipvs: Ipvs) -> None:
    """Editing or removing a destination that is not there says so; another port is another destination."""
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    ipvs.add_destination(WEB, destination())
    for absent in (destination(port=81), destination("192.168.0.105")):
        with raises(Reason.DESTINATION_NOT_FOUND, NotFoundError, WEB, absent.key, "edit"):
            ipvs.edit_destination(WEB, absent)
        with raises(Reason.DESTINATION_NOT_FOUND, NotFoundError, WEB, absent.key, "remove"):
            ipvs.remove_destination(WEB, absent.key)
    assert table(ipvs) == {VirtualServer(key=WEB): {destination()}}


def check_destinations_go_with_virtual_server(ipvs: Ipvs) -> None:
    """A virtual server takes its destinations with it, and one that is made again has none."""
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    ipvs.add_destination(WEB, destination())
    ipvs.remove_virtual_server(WEB)
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    assert ipvs.destinations(WEB) == []


def check_refused_values(ipvs: Ipvs) -> None:
    """What the kernel refuses in a destination comes with the errno's name, and nothing is added."""
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    cases = [
        ("ERANGE", destination(weight=MAX_WEIGHT + 1)),
        ("ERANGE", destination(lower_threshold=2, upper_threshold=1)),
        ("EINVAL", destination(forwarding=Forwarding.TUNNELING, tunnel=Tunnel(type=TunnelType.GUE))),
        ("EINVAL", destination("2001:db8::104")),
        *(("EINVAL", destination(text)) for text in ("0.0.0.0", "255.255.255.255", "224.0.0.1")),
    ]
    for name, wanted in cases:
        with raises(Reason.KERNEL_REFUSED, RefusedError, WEB, wanted.key, name):
            ipvs.add_destination(WEB, wanted)
    assert table(ipvs) == {VirtualServer(key=WEB): set()}


def check_values_without_a_place(ipvs: Ipvs) -> None:
    """What fits into no message is told without asking the kernel, and nothing is added."""
    with raises(Reason.INTERNAL, CodecError):
        ipvs.add_virtual_server(VirtualServer(key=WEB, scheduler="x" * 16))
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    for wanted in (destination(weight=-1), destination(port=65536), destination(upper_threshold=2**32)):
        with raises(Reason.INTERNAL, CodecError, wanted.key):
            ipvs.add_destination(WEB, wanted)
    assert table(ipvs) == {VirtualServer(key=WEB): set()}


def check_refused_addresses(ipvs: Ipvs) -> None:
    """IPv6 addresses that no other host can have are refused; loopback ones are taken, and so are IPv4's last ones."""
    web6 = parse_key("tcp/[2001:db8::200]:80")
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    ipvs.add_virtual_server(VirtualServer(key=web6))
    for text in ("::", "fe80::1", "ff02::1", "::ffff:192.0.2.1"):
        refused = destination(text)
        with raises(Reason.KERNEL_REFUSED, RefusedError, web6, refused.key, "EINVAL"):
            ipvs.add_destination(web6, refused)
    for key, text in ((web6, "::1"), (WEB, "127.0.0.1"), (WEB, "169.254.1.1"), (WEB, "240.0.0.1")):
        ipvs.add_destination(key, destination(text))
        ipvs.remove_destination(key, destination(text).key)


def check_steps(ipvs: Ipvs) -> None:
    """Many steps are carried out in order; what fails is told beside the others, which are carried out all the same."""
    assert ipvs.take([]) == []
    server, other = VirtualServer(key=WEB, scheduler="rr"), parse_key("tcp/192.168.0.202:80")
    many = [destination(f"10.0.{n // 250}.{n % 250 + 1}", weight=n) for n in range(2000)]
    added = [DestinationStep(server=WEB, before=None, after=each) for each in many]
    assert set(ipvs.take([ServerStep(before=None, after=server), *added])) == {None}
    assert table(ipvs) == {server: set(many)}
    edited = destination("10.0.0.1", weight=9)
    results = ipvs.take(
        [
            ServerStep(before=server, after=VirtualServer(key=WEB, scheduler="wrr")),
            DestinationStep(server=WEB, before=None, after=many[1]),  # it is there
            DestinationStep(server=WEB, before=many[0], after=edited),
            DestinationStep(server=WEB, before=destination("10.1.0.1"), after=destination("10.1.0.1", weight=2)),
            *(DestinationStep(server=WEB, before=each, after=None) for each in many[2:]),
            DestinationStep(server=other, before=None, after=many[2]),
            ServerStep(before=None, after=VirtualServer(key=other, scheduler="nosuch")),
        ]
    )
    told = {place: error.reason for place, error in enumerate(results) if error is not None}
    assert told == {
        1: Reason.DESTINATION_DIFFERS,
        3: Reason.DESTINATION_NOT_FOUND,
        2002: Reason.VIRTUAL_SERVER_NOT_FOUND,
        2003: Reason.MODULE_MISSING,
    }
    assert table(ipvs) == {VirtualServer(key=WEB, scheduler="wrr"): {edited, many[1]}}
    assert ipvs.take([ServerStep(before=server, after=None)]) == [None]
    assert ipvs.virtual_servers() == []


def check_zero(ipvs: Ipvs) -> None:
    """Counters of all, or of one that is there, can be zeroed; configuration stays."""
    ipvs.zero()
    with raises(Reason.VIRTUAL_SERVER_NOT_FOUND, NotFoundError, WEB):
        ipvs.zero(WEB)
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    ipvs.add_destination(WEB, destination(weight=7))
    ipvs.zero(WEB)
    ipvs.zero()
    assert table(ipvs) == {VirtualServer(key=WEB): {destination(weight=7)}}


def check_timeouts(ipvs: Ipvs) -> None:
    """They are read as they were set; what has no place in a message is told."""
    before = ipvs.timeouts()
    wanted = Timeouts(tcp=7200, tcp_fin=60, udp=400)
    ipvs.set_timeouts(wanted)
    assert ipvs.timeouts() == wanted
    ipvs.set_timeouts(Timeouts(tcp_fin=61))
    ipvs.set_timeouts(Timeouts())
    wanted = dataclasses.replace(wanted, tcp_fin=61)
    assert ipvs.timeouts() == wanted
    with raises(Reason.INTERNAL, CodecError, 2**32):
        ipvs.set_timeouts(dataclasses.replace(wanted, tcp=2**32))
    assert ipvs.timeouts() == wanted
    ipvs.set_timeouts(before)


def check_sync_daemons(ipvs: Ipvs) -> None:
    """One of each role runs with all that was chosen, and what was not is filled in; a second is refused."""
    assert ipvs.sync_daemons() == []
    master = SyncDaemon(role=SyncRole.MASTER, interface="eth0", sync_id=7)
    backup = SyncDaemon(
        role=SyncRole.BACKUP,
        interface="lo",
        sync_id=255,
        max_length=1400,
        group=ip_address("ff02::7"),
        port=9000,
        ttl=3,
    )
    ipvs.start_sync_daemon(master)
    ipvs.start_sync_daemon(backup)
    time.sleep(0.1)  # one that has not run yet is stopped without an answer
    filled = dataclasses.replace(master, max_length=1472, group=ip_address("224.0.0.81"), port=8848, ttl=1)
    assert ipvs.sync_daemons() == [filled, backup]
    for daemon in (master, backup):
        with raises(Reason.SYNC_DAEMON_DIFFERS, DiffersError, daemon.role):
            ipvs.start_sync_daemon(daemon)
        ipvs.stop_sync_daemon(daemon.role)
        with raises(Reason.SYNC_DAEMON_NOT_FOUND, NotFoundError, daemon.role):
            ipvs.stop_sync_daemon(daemon.role)
    for length, given in ((65507, 65487), (1, 1024)):
        ipvs.start_sync_daemon(dataclasses.replace(backup, max_length=length))
        assert ipvs.sync_daemons() == [dataclasses.replace(backup, max_length=given)]
        time.sleep(0.1)
        ipvs.stop_sync_daemon(SyncRole.BACKUP)
    ipvs.start_sync_daemon(dataclasses.replace(master, group=ip_address("ff02::7")))
    assert ipvs.sync_daemons() == [dataclasses.replace(filled, max_length=1452, group=ip_address("ff02::7"))]
    time.sleep(0.1)
    ipvs.stop_sync_daemon(SyncRole.MASTER)
    with raises(Reason.NO_DEVICE, RefusedError, "eth9"):
        ipvs.start_sync_daemon(dataclasses.replace(master, interface="eth9"))
    with raises(Reason.INTERNAL, CodecError, "x" * 16):
        ipvs.start_sync_daemon(dataclasses.replace(master, interface="x" * 16))
    assert ipvs.sync_daemons() == []


def check_many(ipvs: Ipvs) -> None:
    """A list that fills many datagrams is complete, and holds nothing twice."""
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    wanted = {destination(f"10.0.{n // 250}.{n % 250 + 1}", weight=n) for n in range(500)}
    for each in wanted:
        ipvs.add_destination(WEB, each)
    listed = [status.destination for status in ipvs.destinations(WEB)]
    assert len(listed) == 500
    assert set(listed) == wanted


CHECKS: list[Callable[[Ipvs], None]] = [
    check_empty,
    check_virtual_server_fields,
    check_virtual_server_edit,
    check_edit_keeps_destinations,
    check_longest_prefix,
    check_keys_are_apart,
    check_virtual_server_twice,
    check_virtual_server_missing,
    check_unknown_scheduler,
    check_destination_fields,
    check_destination_edit,
    check_destination_twice,
    check_destination_missing,
    check_destinations_go_with_virtual_server,
    check_refused_values,
    check_values_without_a_place,
    check_refused_addresses,
    check_steps,
    check_zero,
    check_statistics,
    check_timeouts,
    check_sync_daemons,
    check_many,
]

every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
"""Runs a test once for each check."""
