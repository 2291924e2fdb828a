"""Hypothesis strategies for everything that the kernel can hold of virtual servers and destinations."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import strategies as st

from agent_common.destination import (
    MAX_WEIGHT,
    Destination,
    DestinationKey,
    DestinationStatus,
    Forwarding,
    Tunnel,
    TunnelChecksum,
    TunnelType,
)
from agent_common.scheduler import SCHEDULERS, SchedulerFlags
from agent_common.statistics import Statistics
from agent_common.sync_daemon import MAX_SYNC_ID, SyncDaemon, SyncRole
from agent_common.timeouts import Timeouts
from agent_common.virtual_server import (
    MAX_PERSISTENCE_SECONDS,
    Family,
    FirewallMark,
    Persistence,
    Protocol,
    ServiceAddress,
    VirtualServer,
    VirtualServerKey,
    prefix_length_of,
)

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)

keys: st.SearchStrategy[VirtualServerKey] = st.one_of(
    st.builds(ServiceAddress, protocol=st.sampled_from(Protocol), address=st.ip_addresses(), port=u16),
    st.builds(FirewallMark, mark=st.integers(1, 0xFFFFFFFF), family=st.sampled_from(Family)),
)
flags = st.builds(SchedulerFlags, flag_1=st.booleans(), flag_2=st.booleans(), flag_3=st.booleans())
names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=15)


@st.composite
def _virtual_servers(draw: st.DrawFn) -> VirtualServer:
    key = draw(keys)
    longest = 32 if key.family is Family.IPV4 else 128
    seconds = st.integers(1, MAX_PERSISTENCE_SECONDS)
    lengths = st.none() | st.integers(0 if longest == 32 else 1, longest - 1)  # the longest is read as None
    persistence = st.builds(Persistence, timeout=seconds, prefix_length=lengths)
    if longest == 32:
        holes = st.integers(0, 2**32 - 1).map(IPv4Address).filter(lambda mask: prefix_length_of(mask) is None)
        persistence |= st.builds(Persistence, timeout=seconds, netmask=holes)
    return VirtualServer(
        key=key,
        scheduler=draw(st.sampled_from(sorted(SCHEDULERS)) | names),
        scheduler_flags=draw(flags),
        persistence=draw(st.none() | persistence),
        persistence_engine=draw(st.sampled_from(["", "sip"])),
        one_packet=draw(st.booleans()),
    )


virtual_servers = _virtual_servers()
destination_keys = st.builds(DestinationKey, address=st.ip_addresses(), port=u16)
tunnels = st.builds(Tunnel, type=st.sampled_from(TunnelType), port=u16, checksum=st.sampled_from(TunnelChecksum))
destinations = st.builds(
    Destination,
    key=destination_keys,
    forwarding=st.sampled_from(Forwarding),
    weight=st.integers(0, MAX_WEIGHT),
    draining=st.just(False),  # nothing that the kernel knows of
    upper_threshold=u32,
    lower_threshold=u32,
    tunnel=tunnels,
)


@st.composite
def _statuses(draw: st.DrawFn) -> DestinationStatus:
    destination = draw(destinations)
    return DestinationStatus(
        destination=destination,
        current_weight=destination.weight,
        active=draw(u32),
        inactive=draw(u32),
        persistent=draw(u32),
    )


statuses = _statuses()
statistics = st.builds(Statistics, **dict.fromkeys(Statistics.__slots__, u64))
timeouts = st.builds(Timeouts, tcp=u32, tcp_fin=u32, udp=u32)
sync_daemons = st.builds(
    SyncDaemon,
    role=st.sampled_from(SyncRole),
    interface=names,
    sync_id=st.integers(0, MAX_SYNC_ID),
    max_length=u16,
    group=st.ip_addresses(),
    port=u16,
    ttl=st.integers(0, 255),
)
"""Daemons that run: the kernel has filled in everything."""
