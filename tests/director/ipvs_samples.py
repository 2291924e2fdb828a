"""Virtual servers and destinations to try: between them every value of every field."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, ip_address
from itertools import product

from agent_common.destination import (
    MAX_THRESHOLD,
    MAX_WEIGHT,
    Destination,
    DestinationKey,
    Forwarding,
    Tunnel,
    TunnelChecksum,
    TunnelType,
)
from agent_common.scheduler import SCHEDULERS, SchedulerFlags
from agent_common.virtual_server import MAX_PERSISTENCE_SECONDS, Persistence, VirtualServer, VirtualServerKey, parse_key

WEB = parse_key("tcp/192.168.0.200:80")
KEYS = [
    parse_key(text)
    for text in (
        "tcp/192.168.0.200:80",
        "udp/192.168.0.200:80",
        "sctp/192.168.0.200:80",
        "tcp/192.168.0.200:81",
        "tcp/192.168.0.201:80",
        "tcp/[2001:db8::200]:80",
        "udp/[2001:db8::200]:80",
        "sctp/[2001:db8::200]:65535",
        "fwmark/7",
        "fwmark6/7",
        "fwmark/4294967295",
    )
]
"""Different virtual servers, some in one respect only."""

KERNEL_SCHEDULERS = sorted(SCHEDULERS - {"twos"})
"""Those that Linux 6.1 has already."""


def virtual_servers() -> list[VirtualServer]:
    """Return configurations that between them have every value of every field, and that ipvsadm would take."""
    tcp, tcp6, udp, udp6, mark, mark6 = (
        parse_key(text)
        for text in (
            "tcp/192.168.0.200:80",
            "tcp/[2001:db8::200]:80",
            "udp/192.168.0.200:5060",
            "udp/[2001:db8::200]:5060",
            "fwmark/7",
            "fwmark6/7",
        )
    )
    found = [VirtualServer(key=key) for key in KEYS]
    found += [VirtualServer(key=tcp, scheduler=scheduler) for scheduler in KERNEL_SCHEDULERS]
    found += [
        VirtualServer(
            key=tcp, scheduler=scheduler, scheduler_flags=SchedulerFlags(flag_1=one, flag_2=two, flag_3=three)
        )
        for scheduler in ("sh", "mh", "rr")
        for one, two, three in product((False, True), repeat=3)
    ]
    found += [
        VirtualServer(key=key, persistence=Persistence(timeout=timeout, prefix_length=length))
        for key, lengths in (
            (tcp, (None, 1, 8, 23, 31)),
            (tcp6, (None, 1, 64, 127)),
            (mark, (None, 24)),
            (mark6, (48,)),
        )
        for length in lengths
        for timeout in (1, 360, MAX_PERSISTENCE_SECONDS)
    ]
    found += [VirtualServer(key=key, one_packet=True, scheduler="rr") for key in (udp, udp6, mark, mark6)]
    found += [
        VirtualServer(key=key, persistence=persistence, persistence_engine="sip", one_packet=one_packet)
        for key, one_packet in product((udp, udp6), (False, True))
        for persistence in (None, Persistence(timeout=60))
    ]
    found += [
        VirtualServer(key=key, persistence=Persistence(timeout=60, netmask=IPv4Address(mask)))
        for key, mask in product((tcp, mark), ("255.0.255.0", "0.0.0.1"))
    ]
    found += [VirtualServer(key=key, persistence=Persistence(timeout=60, prefix_length=0)) for key in (tcp, mark)]
    return [*found, VirtualServer(key=parse_key("tcp/192.168.0.202:0"), persistence=Persistence(timeout=300))]


def destination(address: str = "192.168.0.104", port: int = 80, **fields: object) -> Destination:
    """Return a destination with what a test cares about."""
    return dataclasses.replace(
        Destination(key=DestinationKey(address=ip_address(address), port=port)),
        **fields,  # type: ignore[arg-type]
    )


TUNNELS = [
    Tunnel(),
    Tunnel(type=TunnelType.GRE),
    Tunnel(type=TunnelType.GRE, checksum=TunnelChecksum.FULL),
    Tunnel(type=TunnelType.GUE, port=6080),
    Tunnel(type=TunnelType.GUE, port=1, checksum=TunnelChecksum.FULL),
    Tunnel(type=TunnelType.GUE, port=65535, checksum=TunnelChecksum.REMOTE),
]


def destinations() -> list[tuple[VirtualServerKey, Destination]]:
    """Return configurations that between them have every value of every field, and that ipvsadm would take."""
    web6, mark, mark6 = (parse_key(text) for text in ("tcp/[2001:db8::200]:80", "fwmark/7", "fwmark6/7"))
    found: list[tuple[VirtualServerKey, Destination]] = []
    for key, address in (
        (WEB, "192.168.0.104"),
        (web6, "2001:db8::104"),
        (mark, "192.168.0.104"),
        (mark6, "2001:db8::104"),
    ):
        found += [(key, destination(address, forwarding=Forwarding.DIRECT_ROUTING))]
        found += [(key, destination(address, port, forwarding=Forwarding.MASQUERADING)) for port in (1, 8080, 65535)]
        found += [(key, destination(address, forwarding=Forwarding.TUNNELING, tunnel=tunnel)) for tunnel in TUNNELS]
        found += [(key, destination(address, weight=weight)) for weight in (0, 1, 100, 65536, MAX_WEIGHT)]
        found += [
            (key, destination(address, upper_threshold=upper, lower_threshold=lower))
            for upper, lower in ((1, 0), (1, 1), (200, 100), (MAX_THRESHOLD, MAX_THRESHOLD))
        ]
    # Only tunnelling joins two families.
    found += [(WEB, destination("2001:db8::104", forwarding=Forwarding.TUNNELING, tunnel=tunnel)) for tunnel in TUNNELS]
    found += [
        (web6, destination("192.168.0.104", forwarding=Forwarding.TUNNELING, tunnel=tunnel)) for tunnel in TUNNELS
    ]
    return [*found, (mark, destination("192.168.0.104", 0)), (mark6, destination("2001:db8::104", 0))]
