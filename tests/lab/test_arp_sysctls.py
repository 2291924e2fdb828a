"""ARP sysctls on a real kernel: what we call silent silences, and it is written where we say."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from agent_common.errors import Reason, RefusedError
from agent_realserver.arp import (
    ALL,
    SILENT_ANNOUNCE,
    SILENT_IGNORE,
    ArpName,
    answering,
    needed_changes,
    read_values,
    with_changes,
)
from agent_realserver.procfs_arp import ProcfsArpSysctls
from lab.site import VIP, Host, Site
from tests.lab.inside import executor_of, in_host

IGNORE, ANNOUNCE = ArpName.IGNORE, ArpName.ANNOUNCE
ETHERTYPE_ARP = 0x0806


@pytest.fixture
def host(site: Site) -> Iterator[Host]:
    """A real server with the VIP on lo, as after a boot otherwise."""
    host = site.real_servers[0]
    host.run("ip", "address", "add", f"{VIP}/32", "dev", "lo")
    before = values(host)
    yield host
    for (interface, name), value in before.items():
        put(host, interface, name, value)
    host.run("ip", "address", "del", f"{VIP}/32", "dev", "lo")


def values(host: Host) -> dict[tuple[str, ArpName], int]:
    return dict(in_host(host, lambda: read_values(ProcfsArpSysctls(), ["eth0"])))


def put(host: Host, interface: str, name: ArpName, value: int) -> None:
    in_host(host, lambda: ProcfsArpSysctls().write(interface, name, value))


def answers_arp(site: Site) -> bool:
    """Whether anybody answers the client's question for the VIP."""
    asked = site.client.run("arping", "-f", "-c", "1", "-w", "1", "-I", "eth0", VIP, check=False)
    assert ("Received 1 " in asked.stdout) is (asked.returncode == 0), asked.stdout
    return asked.returncode == 0


@pytest.mark.parametrize("value", range(10))
def test_exactly_the_values_that_we_call_silent_silence_answers(site: Site, host: Host, value: int) -> None:
    put(host, "eth0", IGNORE, value)
    assert answers_arp(site) is (value not in SILENT_IGNORE)


@pytest.mark.parametrize(
    ("all_value", "own", "answers"), [(1, 0, False), (1, 2, False), (1, 3, True), (8, 3, False), (3, 1, True)]
)
def test_the_larger_value_counts(site: Site, host: Host, all_value: int, own: int, answers: bool) -> None:
    put(host, ALL, IGNORE, all_value)
    put(host, "eth0", IGNORE, own)
    assert answers_arp(site) is answers
    assert bool(answering({**values(host), (ALL, ANNOUNCE): 2}, ["eth0"])) is answers


def test_the_values_of_lo_alone_silence_nothing(site: Site, host: Host) -> None:
    put(host, "lo", IGNORE, 1)
    put(host, "lo", ANNOUNCE, 2)
    assert answers_arp(site)


def sender_of_question(site: Site, host: Host) -> IPv4Address:
    """Let the real server send from the VIP to the client, and return who asks by ARP for the client."""
    host.run("ip", "neighbour", "flush", "dev", "eth0")

    def capture() -> socket.socket:
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_ARP))
        packets.bind(("eth0", ETHERTYPE_ARP))
        packets.settimeout(5)
        return packets

    with in_host(site.client, capture) as packets:
        pinging = host.popen("ping", "-c", "1", "-W", "1", "-I", VIP, site.client.ipv4, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            frame = packets.recv(128)
            asked = frame[38:42] == IPv4Address(site.client.ipv4).packed
            if frame[20:22] == b"\0\1" and frame[6:12] == bytes.fromhex(host.mac.replace(":", "")) and asked:
                pinging.wait(10)
                return IPv4Address(frame[28:32])
    raise AssertionError("nobody asked")


@pytest.mark.parametrize("value", range(4))
def test_exactly_the_value_that_we_call_silent_never_asks_in_the_vips_name(site: Site, host: Host, value: int) -> None:
    put(host, "eth0", ANNOUNCE, value)
    own = IPv4Address(host.ipv4)
    assert sender_of_question(site, host) == (own if value == SILENT_ANNOUNCE else IPv4Address(VIP))


def test_after_the_needed_changes_the_host_is_silent(site: Site, host: Host) -> None:
    assert answers_arp(site)
    before = values(host)
    changes = needed_changes(before)
    for change in changes:
        put(host, change.interface, change.name, change.new)
    assert values(host) == with_changes(before, changes)
    assert answering(values(host), ["eth0"]) == []
    assert not answers_arp(site)
    assert sender_of_question(site, host) == IPv4Address(host.ipv4)


def test_what_we_write_is_what_proc_and_sysctl_show(host: Host) -> None:
    put(host, ALL, IGNORE, 8)
    assert host.out("sysctl", "-n", "net.ipv4.conf.all.arp_ignore") == "8"
    host.run("sysctl", "-w", "net.ipv4.conf.all.arp_ignore=2")
    assert values(host)[ALL, IGNORE] == 2


def test_dots_in_a_name_are_literal_and_what_we_say_to_type_mends_it(host: Host) -> None:
    host.run("ip", "link", "add", "eth0.100", "type", "dummy")
    try:
        put(host, "eth0.100", IGNORE, 3)
        named = in_host(host, lambda: ProcfsArpSysctls().interfaces())
        before = in_host(host, lambda: read_values(ProcfsArpSysctls(), ["eth0.100"]))
        (judged,) = answering(with_changes(before, needed_changes(before)), ["eth0.100"])
        command = judged.problem.partition("type: ")[2]
        host.run(*command.split())
        after = in_host(host, lambda: ProcfsArpSysctls().read("eth0.100", IGNORE))
    finally:
        host.run("ip", "link", "del", "eth0.100")
    assert {"lo", "eth0", "eth0.100"} <= set(named)
    assert not {ALL, "default"} & set(named)
    assert after == 1


def test_an_interface_that_is_gone_is_named(host: Host) -> None:
    with pytest.raises(RefusedError, match="cannot set eth7/arp_ignore to 1") as caught:
        put(host, "eth7", IGNORE, 1)
    assert caught.value.reason is Reason.NO_DEVICE


WITHOUT_CAPABILITY = """
from agent_common.errors import LvsError
from agent_realserver.arp import ArpName
from agent_realserver.procfs_arp import ProcfsArpSysctls
sysctls = ProcfsArpSysctls()
assert sysctls.read("all", ArpName.IGNORE) == 0
try:
    sysctls.write("all", ArpName.IGNORE, 1)
except LvsError as error:
    print(error.reason, error)
"""


def test_without_the_capability_the_error_names_it(host: Host) -> None:
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    said = host.out(*nobody, sys.executable, "-c", WITHOUT_CAPABILITY)
    assert said.startswith("NO_CAPABILITY cannot set all/arp_ignore to 1: ")
    assert "CAP_NET_ADMIN" in said


def test_the_worker_thread_of_a_host_is_one(host: Host) -> None:
    assert executor_of(host) is executor_of(host)
