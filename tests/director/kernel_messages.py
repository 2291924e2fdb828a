"""What the kernel would send, written without the codec: a second opinion on the layout, for the tests.

Attributes stand in the order of ip_vs_genl_fill_service and ip_vs_genl_fill_dest of Linux 6.1; numbers are written out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from agent_common.destination import DestinationStatus
from agent_common.statistics import Statistics
from agent_common.sync_daemon import SyncDaemon
from agent_common.virtual_server import FirewallMark, VirtualServer

Attributes = list[tuple[int, bytes]]
NESTED = 0x8000


def join(attributes: Iterable[tuple[int, bytes]]) -> bytes:
    """Write attributes one after the other, each padded to four bytes."""
    parts = []
    for kind, payload in attributes:
        parts.append(struct.pack("=HH", len(payload) + 4, kind) + payload)
        parts.append(b"\0" * (-len(payload) % 4))
    return b"".join(parts)


def split(data: bytes) -> dict[int, bytes]:
    """Read attributes that `join`, or the codec, wrote; flags of the type are left out."""
    found = {}
    while data:
        length, kind = struct.unpack("=HH", data[:4])
        assert 4 <= length <= len(data)
        assert kind & 0x3FFF not in found
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) // 4 * 4 :]
    return found


def u16(number: int) -> bytes:
    """Write two bytes in the host's order."""
    return struct.pack("=H", number)


def u32(number: int) -> bytes:
    """Write four bytes in the host's order."""
    return struct.pack("=I", number)


def port(number: int) -> bytes:
    """Write two bytes, the high one first."""
    return bytes((number >> 8, number & 0xFF))


def counters(statistics: Statistics, *, wide: bool) -> bytes:
    """Write STATS64, or STATS with what does not fit cut off as the kernel cuts it."""
    values = [getattr(statistics, name) for name in Statistics.__slots__]
    longs = (4, 5) if not wide else range(1, 11)
    return join(
        (kind, struct.pack("=Q", value) if kind in longs else u32(value & 0xFFFFFFFF))
        for kind, value in enumerate(values, start=1)
    )


def virtual_server(server: VirtualServer, *, hashed: bool = True) -> Attributes:
    """Return the attributes of a virtual server, without statistics."""
    key, persistence, flags = server.key, server.persistence, server.scheduler_flags
    found: Attributes = [(1, u16(key.family))]
    if isinstance(key, FirewallMark):
        found += [(5, u32(key.mark))]
    else:
        found += [(2, u16(key.protocol)), (3, key.address.packed.ljust(16, b"\0")), (4, port(key.port))]
    found += [(6, server.scheduler.encode() + b"\0")]
    if server.persistence_engine:
        found += [(11, server.persistence_engine.encode() + b"\0")]
    bits = 0x2 if hashed else 0
    bits += 0x1 if persistence is not None else 0
    bits += 0x4 if server.one_packet else 0
    bits += 0x8 * flags.flag_1 + 0x10 * flags.flag_2 + 0x20 * flags.flag_3
    longest = 32 if key.family == 2 else 128
    length = longest if persistence is None or persistence.prefix_length is None else persistence.prefix_length
    mask = u32(length)
    if key.family == 2:
        mask = int("1" * length + "0" * (32 - length), 2).to_bytes(4, "big")
        if persistence is not None and persistence.netmask is not None:
            mask = persistence.netmask.packed
    return [*found, (7, u32(bits) + b"\xff" * 4), (8, u32(persistence.timeout if persistence else 0)), (9, mask)]


def destination(status: DestinationStatus) -> Attributes:
    """Return the attributes of a destination, without statistics."""
    wanted = status.destination
    return [
        (1, wanted.key.address.packed.ljust(16, b"\0")),
        (2, port(wanted.key.port)),
        (3, u32(wanted.forwarding)),
        (4, u32(status.current_weight)),
        (13, bytes([wanted.tunnel.type])),
        (14, port(wanted.tunnel.port)),
        (15, u16(wanted.tunnel.checksum)),
        (5, u32(wanted.upper_threshold)),
        (6, u32(wanted.lower_threshold)),
        (7, u32(status.active)),
        (8, u32(status.inactive)),
        (9, u32(status.persistent)),
        (11, u16(2 if wanted.key.address.version == 4 else 10)),
    ]


def sync_daemon(daemon: SyncDaemon) -> Attributes:
    """Return the attributes of a daemon that runs."""
    assert daemon.max_length is not None and daemon.group is not None
    assert daemon.port is not None and daemon.ttl is not None
    return [
        (1, u32(daemon.role)),
        (2, daemon.interface.encode() + b"\0"),
        (3, u32(daemon.sync_id)),
        (4, u16(daemon.max_length)),
        (7, u16(daemon.port)),
        (8, bytes([daemon.ttl])),
        (5 if daemon.group.version == 4 else 6, daemon.group.packed),
    ]


def message(kind: int, attributes: Attributes) -> bytes:
    """Wrap attributes in the one that holds an object: 1 a virtual server, 2 a destination, 3 a sync daemon."""
    return join([(kind, join(attributes))])


def frame(kind: int, payload: bytes, *, flags: int = 0, sequence: int = 1) -> bytes:
    """Write a netlink message around a payload."""
    length = 16 + len(payload)
    return struct.pack("=IHHII", length, kind, flags, sequence, 0) + payload + b"\0" * (-length % 4)
