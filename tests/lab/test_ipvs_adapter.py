"""The adapter on a real kernel: what it writes is what ipvsadm shows, and what ipvsadm writes is what it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from agent_common.destination import Destination
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.timeouts import KERNEL_TIMEOUTS, Timeouts
from agent_common.virtual_server import Family, FirewallMark, Persistence, VirtualServer, VirtualServerKey, parse_key
from agent_director.ipvs import Ipvs
from agent_director.netlink_ipvs import NetlinkIpvs
from lab.site import VIP, Host, Site
from tests.director.ipvs_contract import every_check
from tests.director.ipvs_samples import WEB, destination, destinations, virtual_servers
from tests.lab import ipvsadm


@pytest.fixture
def director(site: Site) -> Iterator[Host]:
    site.director.run("ipvsadm", "-C")
    yield site.director
    site.director.run("ipvsadm", "-C")
    for role in ("master", "backup"):
        site.director.run("ipvsadm", "--stop-daemon", role, check=False)


@pytest.fixture
def ipvs(director: Host) -> Iterator[NetlinkIpvs]:
    adapter = director.inside(NetlinkIpvs)  # a socket stays in the network that it was made in
    yield adapter
    adapter.close()


def saved(director: Host) -> list[str]:
    """Return what ipvsadm -S prints, in an order of its own."""
    return sorted(line.rstrip() for line in director.out("ipvsadm", "-S", "-n").splitlines())


def apart(servers: list[VirtualServer]) -> list[VirtualServer]:
    """Return the virtual servers with keys of their own, so that they can all be there at once."""

    def own(number: int, key: VirtualServerKey) -> VirtualServerKey:
        if isinstance(key, FirewallMark):
            return FirewallMark(mark=max(key.mark - number, number), family=key.family)
        first = IPv4Address("10.1.0.1") if key.family is Family.IPV4 else IPv6Address("2001:db8:1::1")
        return dataclasses.replace(key, address=first + number)

    return [dataclasses.replace(server, key=own(number, server.key)) for number, server in enumerate(servers, 1)]


def groups() -> dict[VirtualServerKey, list[Destination]]:
    """Return the destinations by virtual server, with addresses of their own."""
    found: dict[VirtualServerKey, list[Destination]] = {}
    for number, (key, wanted) in enumerate(destinations()):
        own = dataclasses.replace(wanted.key, address=wanted.key.address + number)
        found.setdefault(key, []).append(dataclasses.replace(wanted, key=own))
    return found


@every_check
def test_contract(check: Callable[[Ipvs], None], ipvs: NetlinkIpvs) -> None:
    """The kernel keeps the contract of Ipvs."""
    check(ipvs)


def test_our_virtual_servers_are_what_ipvsadm_shows(director: Host, ipvs: NetlinkIpvs) -> None:
    """Every field of a virtual server that we write is in what ipvsadm -S prints."""
    servers = apart(virtual_servers())
    for server in servers:
        ipvs.add_virtual_server(server)
    assert saved(director) == sorted(map(ipvsadm.saved_virtual_server, servers))


def test_virtual_servers_of_ipvsadm_are_read(director: Host, ipvs: NetlinkIpvs) -> None:
    """Every field of a virtual server that ipvsadm writes is read."""
    servers = apart(virtual_servers())
    director.run("ipvsadm", "-R", input="".join(f"{ipvsadm.add_virtual_server(server)}\n" for server in servers))
    assert set(ipvs.virtual_servers()) == set(servers)


def test_our_destinations_are_what_ipvsadm_shows(director: Host, ipvs: NetlinkIpvs) -> None:
    """Every field of a destination that we write is in what ipvsadm -S and -L print."""
    lines, thresholds = [], set()
    for key, wanted in groups().items():
        ipvs.add_virtual_server(VirtualServer(key=key))
        for each in wanted:
            ipvs.add_destination(key, each)
            lines.append(ipvsadm.saved_destination(key, each))
            thresholds.add((str(each.key), each.upper_threshold, each.lower_threshold))
    assert [line for line in saved(director) if line.startswith("-a")] == sorted(lines)
    rows = [row.split() for row in director.out("ipvsadm", "-Ln", "--thresholds").splitlines()]
    shown = {(row[1], int(row[2]), int(row[3])) for row in rows if row[0] == "->" and len(row) > 2}
    assert shown == thresholds


def test_destinations_of_ipvsadm_are_read(director: Host, ipvs: NetlinkIpvs) -> None:
    """Every field of a destination that ipvsadm writes is read."""
    lines = []
    for key, wanted in groups().items():
        lines.append(ipvsadm.add_virtual_server(VirtualServer(key=key)))
        lines += [ipvsadm.add_destination(key, each) for each in wanted]
    director.run("ipvsadm", "-R", input="".join(f"{line}\n" for line in lines))
    for key, wanted in groups().items():
        assert {status.destination for status in ipvs.destinations(key)} == set(wanted)


def test_our_edits_are_what_ipvsadm_shows(director: Host, ipvs: NetlinkIpvs) -> None:
    """An edit leaves nothing of what ipvsadm had set before, and ipvsadm's edits are read."""
    rules = f"""-A -t {VIP}:80 -s sh -b sh-fallback -p 60 -M 255.255.0.0
                -a -t {VIP}:80 -r 192.168.0.104 -i --tun-type gre --tun-csum -w 9 -x 20 -y 10
             """
    director.run("ipvsadm", "-R", input=rules)
    ipvs.edit_virtual_server(VirtualServer(key=WEB, scheduler="rr"))
    ipvs.edit_destination(WEB, destination(weight=3))
    assert saved(director) == [f"-A -t {VIP}:80 -s rr", f"-a -t {VIP}:80 -r 192.168.0.104:80 -g -w 3"]
    director.run("ipvsadm", "-E", "-t", f"{VIP}:80", "-s", "lc", "-p", "61")
    director.run("ipvsadm", "-e", "-t", f"{VIP}:80", "-r", "192.168.0.104", "-g", "-w", "4")
    assert ipvs.virtual_server(WEB) == VirtualServer(key=WEB, scheduler="lc", persistence=Persistence(timeout=61))
    assert [status.destination for status in ipvs.destinations(WEB)] == [destination(weight=4)]


def test_our_removals_are_what_ipvsadm_shows(director: Host, ipvs: NetlinkIpvs) -> None:
    """What we remove is gone for ipvsadm, and the rest stays."""
    rules = (
        f"-A -t {VIP}:80 -s rr\n-a -t {VIP}:80 -r 192.168.0.104 -g\n-a -t {VIP}:80 -r 192.168.0.105 -g\n-A -f 7 -s rr\n"
    )
    director.run("ipvsadm", "-R", input=rules)
    ipvs.remove_destination(WEB, destination().key)
    ipvs.remove_virtual_server(parse_key("fwmark/7"))
    assert saved(director) == [f"-A -t {VIP}:80 -s rr", f"-a -t {VIP}:80 -r 192.168.0.105:80 -g -w 1"]


def test_what_ipvsadm_saves_but_cannot_restore_is_read(director: Host, ipvs: NetlinkIpvs) -> None:
    """The adapter reads what ipvsadm -S writes down wrong: high marks, and flag-3 of sh; its own -R refuses both."""
    for rule in ("-A -f 4294967295 -s rr", f"-A -t {VIP}:80 -s sh -b flag-3"):
        director.run("ipvsadm", *rule.split())
        (server,) = ipvs.virtual_servers()
        assert ipvsadm.add_virtual_server(server) == rule
        (line,) = saved(director)
        assert line != rule
        director.run("ipvsadm", "-C")
        assert director.run("ipvsadm", "-R", input=f"{line}\n", check=False).returncode != 0


def test_sync_daemons_and_timeouts_are_those_of_ipvsadm(director: Host, ipvs: NetlinkIpvs) -> None:
    """What we set ipvsadm shows, and what it sets we read."""
    ipvs.set_timeouts(Timeouts(tcp=7200, tcp_fin=60, udp=400))
    assert director.out("ipvsadm", "-L", "--timeout") == "Timeout (tcp tcpfin udp): 7200 60 400"
    director.run("ipvsadm", "--set", "900", "120", "300")
    assert ipvs.timeouts() == KERNEL_TIMEOUTS
    ipvs.start_sync_daemon(SyncDaemon(role=SyncRole.MASTER, interface="eth0", sync_id=7, port=9000, ttl=3))
    director.run("ipvsadm", "--start-daemon", "backup", "--mcast-interface", "lo", "--sync-maxlen", "1400")
    lines = director.out("ipvsadm", "-L", "--daemon").splitlines()
    assert lines[0] == "master sync daemon (mcast=eth0, syncid=7, maxlen=1472, group=224.0.0.81, port=9000, ttl=3)"
    backup = next(daemon for daemon in ipvs.sync_daemons() if daemon.role is SyncRole.BACKUP)
    assert backup == SyncDaemon(
        role=SyncRole.BACKUP, interface="lo", max_length=1400, group=IPv4Address("224.0.0.81"), port=8848, ttl=1
    )


def test_a_daemon_that_never_ran_is_stopped_all_the_same(director: Host) -> None:
    """The kernel does so and does not answer: a guest with one processor has not come to the thread by then."""
    impatient = director.inside(lambda: NetlinkIpvs(timeout=0.5))
    for role in SyncRole:
        impatient.start_sync_daemon(SyncDaemon(role=role, interface="eth0"))
        impatient.stop_sync_daemon(role)
        assert director.out("ipvsadm", "-L", "--daemon") == ""
    impatient.close()
