"""Bytes of IPVS messages, recorded on Linux 6.1.176 (little-endian), and what they mean.

DUMPED is what the kernel sent for objects that ipvsadm had made, without the statistics at the end. SENT is what we
send for the same objects; the kernel took it, and ipvsadm showed what was meant.
"""

from __future__ import annotations

from ipaddress import ip_address

from agent_common.destination import (
    MAX_WEIGHT,
    Destination,
    DestinationKey,
    Forwarding,
    Tunnel,
    TunnelChecksum,
    TunnelType,
)
from agent_common.scheduler import SchedulerFlags
from agent_common.sync_daemon import SyncDaemon, SyncRole
from agent_common.virtual_server import Persistence, VirtualServer, VirtualServerKey, parse_key

SH = VirtualServer(
    key=parse_key("tcp/192.168.0.200:80"),
    scheduler="sh",
    scheduler_flags=SchedulerFlags(flag_1=True),
    persistence=Persistence(timeout=300, prefix_length=24),
)
SIP = VirtualServer(
    key=parse_key("udp/[2001:db8::200]:5060"),
    persistence=Persistence(timeout=60, prefix_length=64),
    persistence_engine="sip",
)
ONE_PACKET = VirtualServer(key=parse_key("fwmark/7"), scheduler="rr", one_packet=True)
MARK6 = VirtualServer(key=parse_key("fwmark6/8"), scheduler="wrr")

GUE = Destination(
    key=DestinationKey(address=ip_address("192.168.0.104"), port=80),
    forwarding=Forwarding.TUNNELING,
    weight=MAX_WEIGHT,
    upper_threshold=200,
    lower_threshold=100,
    tunnel=Tunnel(type=TunnelType.GUE, port=6080, checksum=TunnelChecksum.REMOTE),
)
NAT = Destination(
    key=DestinationKey(address=ip_address("2001:db8::104"), port=5060), forwarding=Forwarding.MASQUERADING, weight=0
)
MIXED = Destination(
    key=DestinationKey(address=ip_address("192.168.0.105"), port=0), forwarding=Forwarding.TUNNELING, weight=1
)
"""An IPv4 destination of an IPv6 virtual server, which only tunnelling can have."""

_DUMPED_VIRTUAL_SERVERS = [
    (
        SH,
        "5400 0100 0600 0100 0200 0000 0600 0200 0600 0000 1400 0300 c0a800c8 000000000000000000000000"
        "0600 0400 0050 0000 0700 0600 736800 00 0c00 0700 0b000000 ffffffff 0800 0800 2c010000 0800 0900 ffffff00",
    ),
    (
        SIP,
        "5c00 0100 0600 0100 0a00 0000 0600 0200 1100 0000 1400 0300 20010db8000000000000000000000200"
        "0600 0400 13c4 0000 0800 0600 776c6300 0800 0b00 73697000 0c00 0700 03000000 ffffffff 0800 0800 3c000000"
        "0800 0900 40000000",
    ),
    (
        ONE_PACKET,
        "3800 0100 0600 0100 0200 0000 0800 0500 07000000 0700 0600 727200 00 0c00 0700 06000000 ffffffff"
        "0800 0800 00000000 0800 0900 ffffffff",
    ),
    (
        MARK6,
        "3800 0100 0600 0100 0a00 0000 0800 0500 08000000 0800 0600 77727200 0c00 0700 02000000 ffffffff"
        "0800 0800 00000000 0800 0900 80000000",
    ),
]
_SENT_VIRTUAL_SERVERS = [
    (
        SH,
        "5400 0180 0600 0100 0200 0000 0600 0200 0600 0000 1400 0300 c0a800c8 000000000000000000000000"
        "0600 0400 0050 0000 0700 0600 736800 00 0c00 0700 09000000 3d000000 0800 0800 2c010000 0800 0900 ffffff00",
    ),
    (
        SIP,
        "5c00 0180 0600 0100 0a00 0000 0600 0200 1100 0000 1400 0300 20010db8000000000000000000000200"
        "0600 0400 13c4 0000 0800 0600 776c6300 0c00 0700 01000000 3d000000 0800 0800 3c000000 0800 0900 40000000"
        "0800 0b00 73697000",
    ),
    (
        ONE_PACKET,
        "3800 0180 0600 0100 0200 0000 0800 0500 07000000 0700 0600 727200 00 0c00 0700 04000000 3d000000"
        "0800 0800 00000000 0800 0900 ffffffff",
    ),
    (
        MARK6,
        "3800 0180 0600 0100 0a00 0000 0800 0500 08000000 0800 0600 77727200 0c00 0700 00000000 3d000000"
        "0800 0800 00000000 0800 0900 80000000",
    ),
]
_DUMPED_DESTINATIONS = [
    (
        GUE,
        "7800 0200 1400 0100 c0a80068 000000000000000000000000 0600 0200 0050 0000 0800 0300 02000000"
        "0800 0400 ffffff7f 0500 0d00 01 000000 0600 0e00 17c0 0000 0600 0f00 0200 0000 0800 0500 c8000000"
        "0800 0600 64000000 0800 0700 00000000 0800 0800 00000000 0800 0900 00000000 0600 0b00 0200 0000",
    ),
    (
        NAT,
        "7800 0200 1400 0100 20010db8000000000000000000000104 0600 0200 13c4 0000 0800 0300 00000000"
        "0800 0400 00000000 0500 0d00 00 000000 0600 0e00 0000 0000 0600 0f00 0000 0000 0800 0500 00000000"
        "0800 0600 00000000 0800 0700 00000000 0800 0800 00000000 0800 0900 00000000 0600 0b00 0a00 0000",
    ),
    (
        MIXED,
        "7800 0200 1400 0100 c0a80069 000000000000000000000000 0600 0200 0000 0000 0800 0300 02000000"
        "0800 0400 01000000 0500 0d00 00 000000 0600 0e00 0000 0000 0600 0f00 0000 0000 0800 0500 00000000"
        "0800 0600 00000000 0800 0700 00000000 0800 0800 00000000 0800 0900 00000000 0600 0b00 0200 0000",
    ),
]
_SENT_DESTINATIONS = [
    (
        GUE,
        "6000 0280 0600 0b00 0200 0000 1400 0100 c0a80068 000000000000000000000000 0600 0200 0050 0000"
        "0800 0300 02000000 0800 0400 ffffff7f 0800 0500 c8000000 0800 0600 64000000 0500 0d00 01 000000"
        "0600 0e00 17c0 0000 0600 0f00 0200 0000",
    ),
    (
        NAT,
        "6000 0280 0600 0b00 0a00 0000 1400 0100 20010db8000000000000000000000104 0600 0200 13c4 0000"
        "0800 0300 00000000 0800 0400 00000000 0800 0500 00000000 0800 0600 00000000 0500 0d00 00 000000"
        "0600 0e00 0000 0000 0600 0f00 0000 0000",
    ),
    (
        MIXED,
        "6000 0280 0600 0b00 0200 0000 1400 0100 c0a80069 000000000000000000000000 0600 0200 0000 0000"
        "0800 0300 02000000 0800 0400 01000000 0800 0500 00000000 0800 0600 00000000 0500 0d00 00 000000"
        "0600 0e00 0000 0000 0600 0f00 0000 0000",
    ),
]
_SENT_KEYS = [
    (
        parse_key("sctp/192.168.0.200:80"),
        "3000 0180 0600 0100 0200 0000 0600 0200 8400 0000 1400 0300 c0a800c8 000000000000000000000000"
        "0600 0400 0050 0000",
    ),
    (parse_key("fwmark6/7"), "1400 0180 0600 0100 0a00 0000 0800 0500 07000000"),
]

DUMPED_VIRTUAL_SERVERS = [(server, bytes.fromhex(text)) for server, text in _DUMPED_VIRTUAL_SERVERS]
DUMPED_DESTINATIONS = [(destination, bytes.fromhex(text)) for destination, text in _DUMPED_DESTINATIONS]
SENT_VIRTUAL_SERVERS = [(server, bytes.fromhex(text)) for server, text in _SENT_VIRTUAL_SERVERS]
SENT_DESTINATIONS = [(destination, bytes.fromhex(text)) for destination, text in _SENT_DESTINATIONS]
SENT_KEYS: list[tuple[VirtualServerKey, bytes]] = [(key, bytes.fromhex(text)) for key, text in _SENT_KEYS]
SENT_DESTINATION_KEY = bytes.fromhex(
    "2800 0280 0600 0b00 0200 0000 1400 0100 c0a80068 000000000000000000000000 0600 0200 0050 0000"
)
"""The key of GUE."""
INFO = bytes.fromhex("0800 0100 01020100 0800 0200 00100000")
"""The answer to GET_INFO: 1.2.1, 4096 buckets."""

TIMEOUTS = bytes.fromhex("0800 0400 201c0000 0800 0500 3c000000 0800 0600 90010000")
"""The answer to GET_CONFIG after ipvsadm --set 7200 60 400, and what we send for the same."""

_BACKUP6 = SyncDaemon(
    role=SyncRole.BACKUP,
    interface="lo",
    sync_id=255,
    max_length=1400,
    group=ip_address("ff02::7"),
    port=9000,
    ttl=3,
)
_MASTER = SyncDaemon(
    role=SyncRole.MASTER,
    interface="eth0",
    sync_id=7,
    max_length=1472,
    group=ip_address("224.0.0.81"),
    port=8848,
    ttl=1,
)
_DUMPED_SYNC_DAEMONS = [
    (
        _MASTER,
        "4000 0300 0800 0100 01000000 0900 0200 6574683000 000000 0800 0300 07000000 0600 0400 c005 0000"
        "0600 0700 9022 0000 0500 0800 01 000000 0800 0500 e0000051",
    ),
    (
        _BACKUP6,
        "4800 0300 0800 0100 02000000 0700 0200 6c6f00 00 0800 0300 ff000000 0600 0400 7805 0000 0600 0700 2823 0000"
        "0500 0800 03 000000 1400 0600 ff020000000000000000000000000007",
    ),
]
_SENT_SYNC_DAEMONS = [
    (
        _MASTER,
        "4000 0380 0800 0100 01000000 0900 0200 6574683000 000000 0800 0300 07000000 0600 0400 c005 0000"
        "0800 0500 e0000051 0600 0700 9022 0000 0500 0800 01 000000",
    ),
    (
        _BACKUP6,
        "4800 0380 0800 0100 02000000 0700 0200 6c6f00 00 0800 0300 ff000000 0600 0400 7805 0000"
        "1400 0600 ff020000000000000000000000000007 0600 0700 2823 0000 0500 0800 03 000000",
    ),
]

DUMPED_SYNC_DAEMONS = [(daemon, bytes.fromhex(text)) for daemon, text in _DUMPED_SYNC_DAEMONS]
SENT_SYNC_DAEMONS = [(daemon, bytes.fromhex(text)) for daemon, text in _SENT_SYNC_DAEMONS]
