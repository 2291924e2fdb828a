"""Asking for addresses and announcing them on a real kernel, with real neighbours."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from agent_common.address import Placement
from agent_common.errors import RefusedError
from agent_common.netlink_address import NetlinkAddresses
from agent_common.virtual_server import IpAddress
from agent_director.neighbour import DadOutcome, wait_for_dad, who_has
from agent_director.netlink_neighbour import NetlinkNeighbours
from agent_director.packet_announce import announce, announce_thrice
from lab.site import VIP, VIP6, Host, Site
from tests.lab.inside import Runner, in_host

V4, V6 = IPv4Address(VIP), IPv6Address(VIP6)
OTHER_MAC = "02:00:00:00:00:99"


@pytest.fixture
def neighbours(site: Site) -> Iterator[NetlinkNeighbours]:
    neighbours = in_host(site.director, NetlinkNeighbours)
    yield neighbours
    in_host(site.director, neighbours.close)


def ask(site: Site, neighbours: NetlinkNeighbours, address: IpAddress, device: str = "eth0") -> str | None:
    return asyncio.run(who_has(neighbours, address, device, Runner(site.director)))


def mac_in(host: Host, address: IpAddress) -> str | None:
    """The MAC address that the host's neighbour table gives for an address."""
    entries = json.loads(host.out("ip", "-j", "neighbour", "show", str(address), "dev", "eth0") or "[]")
    return entries[0].get("lladdr") if entries else None


def entry_in(host: Host, address: IpAddress) -> str:
    return host.out("ip", "neighbour", "show", str(address), "dev", "eth0")


@pytest.mark.parametrize("version", [4, 6])
def test_a_host_that_has_the_address_is_found_and_leaves_no_entry(
    site: Site, neighbours: NetlinkNeighbours, version: int
) -> None:
    client = site.client
    address = ip_address(client.ipv4 if version == 4 else client.ipv6)
    started = time.monotonic()
    assert ask(site, neighbours, address) == client.mac
    assert time.monotonic() - started < 2
    assert entry_in(site.director, address) == ""


@pytest.mark.parametrize("address", [V4, V6])
def test_an_address_that_nobody_has_is_free_and_leaves_no_entry(
    site: Site, neighbours: NetlinkNeighbours, address: IpAddress
) -> None:
    assert ask(site, neighbours, address) is None
    assert entry_in(site.director, address) == ""


def test_what_the_host_remembers_is_no_answer(site: Site, neighbours: NetlinkNeighbours) -> None:
    director = site.director
    director.run("ip", "neighbour", "replace", VIP, "lladdr", OTHER_MAC, "nud", "stale", "dev", "eth0")
    assert ask(site, neighbours, V4) is None
    assert entry_in(director, V4) == ""


def test_a_permanent_entry_is_put_back(site: Site, neighbours: NetlinkNeighbours) -> None:
    director = site.director
    director.run("ip", "neighbour", "replace", VIP, "lladdr", OTHER_MAC, "nud", "permanent", "dev", "eth0")
    before = entry_in(director, V4)
    assert ask(site, neighbours, V4) is None
    after = entry_in(director, V4)
    director.run("ip", "neighbour", "del", VIP, "dev", "eth0")
    assert after == before
    assert "PERMANENT" in after


def test_an_interface_that_does_no_arp_has_nobody_to_ask(site: Site, neighbours: NetlinkNeighbours) -> None:
    site.director.run("ip", "link", "add", "d0", "type", "dummy")
    site.director.run("ip", "link", "set", "d0", "up")
    started = time.monotonic()
    try:
        assert ask(site, neighbours, V4, "d0") is None
    finally:
        site.director.run("ip", "link", "del", "d0")
    assert time.monotonic() - started < 2


def test_an_interface_that_is_not_there_is_named(site: Site, neighbours: NetlinkNeighbours) -> None:
    with pytest.raises(RefusedError, match="no interface 'eth7'"):
        ask(site, neighbours, V4, "eth7")


def test_a_real_server_that_is_not_silent_is_found_and_a_silent_one_is_not(
    site: Site, neighbours: NetlinkNeighbours
) -> None:
    real_server = site.real_servers[0]
    real_server.run("ip", "address", "add", f"{VIP}/32", "dev", "lo")
    try:
        assert ask(site, neighbours, V4) == real_server.mac
        real_server.run("sysctl", "-w", "net.ipv4.conf.all.arp_ignore=1")
        assert ask(site, neighbours, V4) is None
    finally:
        real_server.run("sysctl", "-w", "net.ipv4.conf.all.arp_ignore=0")
        real_server.run("ip", "address", "del", f"{VIP}/32", "dev", "lo")


def detect(host: Host) -> DadOutcome:
    """Add the IPv6 VIP, wait, and remove it again."""
    addresses = in_host(host, NetlinkAddresses)
    try:
        in_host(host, lambda: addresses.add_vip(V6, "eth0", Placement.DIRECTOR))
        outcome = asyncio.run(wait_for_dad(addresses, V6, "eth0", Runner(host)))
        in_host(host, lambda: addresses.remove_address(V6, 128, "eth0"))
        return outcome
    finally:
        in_host(host, addresses.close)


def test_duplicate_address_detection_finds_an_address_that_is_taken(site: Site) -> None:
    assert detect(site.director) is DadOutcome.UNIQUE
    site.client.run("ip", "address", "add", f"{VIP6}/128", "dev", "eth0", "nodad")
    try:
        assert detect(site.director) is DadOutcome.TAKEN
    finally:
        site.client.run("ip", "address", "del", f"{VIP6}/128", "dev", "eth0")


def test_silent_real_servers_do_not_disturb_duplicate_address_detection(site: Site) -> None:
    real_server = site.real_servers[0]
    real_server.run("ip", "address", "add", f"{VIP6}/128", "dev", "lo")
    try:
        assert detect(site.director) is DadOutcome.UNIQUE
    finally:
        real_server.run("ip", "address", "del", f"{VIP6}/128", "dev", "lo")


@pytest.mark.parametrize("state", ["reachable", "stale"])
@pytest.mark.parametrize("address", [V4, V6])
def test_an_announcement_moves_the_address_in_the_neighbours_tables(site: Site, address: IpAddress, state: str) -> None:
    client, director = site.client, site.director
    client.run("ip", "neighbour", "replace", str(address), "lladdr", OTHER_MAC, "nud", state, "dev", "eth0")
    try:
        assert mac_in(client, address) == OTHER_MAC
        in_host(director, lambda: announce(address, "eth0"))
        deadline = time.monotonic() + 2
        while mac_in(client, address) == OTHER_MAC and time.monotonic() < deadline:
            time.sleep(0.05)
        assert mac_in(client, address) == director.mac
    finally:
        client.run("ip", "neighbour", "del", str(address), "dev", "eth0")


def test_what_is_sent_is_what_tcpdump_calls_an_announcement(site: Site) -> None:
    sniffer = site.client.popen("tcpdump", "-nn", "-e", "-v", "-c", "6", "-i", "eth0", "arp or icmp6[0] == 136")
    assert sniffer.stdout is not None
    while "listening on" not in sniffer.stdout.readline():
        pass
    for address in (V4, V6):
        asyncio.run(announce_thrice(address, "eth0", Runner(site.director)))
    said = " ".join(sniffer.communicate(timeout=20)[0].split())
    mac = site.director.mac
    assert said.count(f"{mac} > ff:ff:ff:ff:ff:ff") == 3, said
    assert said.count(f"Announcement {VIP}") == 3 or said.count(f"who-has {VIP} tell {VIP}") == 3, said
    assert said.count(f"{mac} > 33:33:00:00:00:01") == 3, said
    advertised = f"neighbor advertisement, length 32, tgt is {VIP6}, Flags [override]"
    assert said.count(f"{VIP6} > ff02::1: [icmp6 sum ok] ICMP6, {advertised}") == 3, said
    assert said.count("hlim 255, next-header ICMPv6 (58) payload length: 32") == 3, said


def test_only_an_ethernet_interface_can_announce(site: Site) -> None:
    site.director.run("ip", "link", "add", "t1", "type", "ipip", "local", site.director.ipv4)
    site.director.run("ip", "link", "set", "t1", "up")
    try:
        with pytest.raises(RefusedError, match="not an Ethernet interface"):
            in_host(site.director, lambda: announce(V4, "t1"))
        with pytest.raises(RefusedError, match="no such interface"):
            in_host(site.director, lambda: announce(V4, "eth7"))
    finally:
        site.director.run("ip", "link", "del", "t1")


WITHOUT_CAPABILITY = """
from ipaddress import ip_address
from agent_common.errors import LvsError
from agent_director.packet_announce import announce
try:
    announce(ip_address("192.168.0.200"), "eth0")
except LvsError as error:
    print(error.reason, error)
"""


def test_without_the_capability_the_error_names_it(site: Site) -> None:
    said = site.director.out("setpriv", "--bounding-set", "-net_raw", sys.executable, "-c", WITHOUT_CAPABILITY)
    assert said.startswith("NO_CAPABILITY cannot announce 192.168.0.200 on eth0: ")
    assert "CAP_NET_RAW" in said
