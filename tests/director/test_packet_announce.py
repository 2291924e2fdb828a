"""Announcements: the frames, byte for byte, and when they are sent."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_common.errors import Reason, RefusedError
from agent_common.virtual_server import IpAddress
from agent_director.packet_announce import announce, announce_thrice, announcement, internet_checksum

T = TypeVar("T")

VIP = IPv4Address("192.168.0.200")
VIP6 = IPv6Address("2001:db8::200")
MAC = bytes.fromhex("020000000010")

GRATUITOUS_ARP = bytes.fromhex(
    "ffffffffffff 020000000010 0806"  # to everybody
    "0001 0800 06 04 0001"  # a request
    "020000000010 c0a800c8"  # from the VIP
    "000000000000 c0a800c8"  # for the VIP
)
ADVERTISEMENT = bytes.fromhex(
    "333300000001 020000000010 86dd"  # to all nodes
    "60000000 0020 3a ff"  # 32 bytes of ICMPv6, hop limit 255
    "20010db8000000000000000000000200"
    "ff020000000000000000000000000001"
    "88 00 f51d 20000000"  # neighbour advertisement, override
    "20010db8000000000000000000000200"
    "02 01 020000000010"  # target link-layer address
)


def test_ipv4_is_announced_by_a_gratuitous_arp_request() -> None:
    assert announcement(VIP, MAC) == GRATUITOUS_ARP


def test_ipv6_is_announced_by_an_unsolicited_neighbour_advertisement() -> None:
    assert announcement(VIP6, MAC) == ADVERTISEMENT


@given(st.ip_addresses(v=6), st.binary(min_size=6, max_size=6))
def test_the_receiver_finds_the_checksum_right(address: IPv6Address, mac: bytes) -> None:
    frame = announcement(address, mac)
    ip, icmp = frame[14:54], frame[54:]
    assert internet_checksum(ip[8:40] + struct.pack("!II", len(icmp), 58) + icmp) == 0


def test_the_checksum_is_that_of_rfc_1071() -> None:
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    assert internet_checksum(b"\x01") == 0xFEFF


def test_an_address_is_announced_three_times_a_second_apart() -> None:
    sent: list[tuple[float, IpAddress, str]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def run(function: Callable[[], T], /) -> T:
            return function()

        await announce_thrice(VIP, "eth0", run, send=lambda a, d: sent.append((loop.time(), a, d)))

    asyncio.run(main())
    assert [each[1:] for each in sent] == [(VIP, "eth0")] * 3
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(sent)]
    assert gaps == [pytest.approx(1.0, abs=0.3)] * 2


def test_an_interface_that_is_not_there_or_that_we_may_not_use_is_named() -> None:
    with pytest.raises(RefusedError, match="on nosuchdevice") as caught:
        announce(VIP, "nosuchdevice")
    # Who runs the tests without CAP_NET_RAW is told that instead.
    assert caught.value.reason in (Reason.NO_DEVICE, Reason.NO_CAPABILITY)
