"""What the kernel says, at random: an object, or an error of ours, never another exception and never no end."""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hypothesis import strategies as st

from agent_common.errors import LvsError
from agent_common.generic_netlink import DumpInterruptedError, GenericNetlink, Message, NetlinkError
from agent_common.host_files import name_servers
from agent_common.netlink_frames import CodecError
from agent_common.netlink_notices import gone_in
from agent_common.procfs_route import has_host_route
from agent_common.procfs_settings import forwarding_settings
from agent_common.procfs_sockets import ProcfsSockets
from agent_common.virtual_server import FirewallMark, Protocol, parse_key
from agent_director.procfs_connections import ProcfsConnections
from agent_realserver.arp import ArpName
from agent_realserver.procfs_arp import ProcfsArpSysctls
from agent_realserver.procfs_ipvs import serves
from tests.director import kernel_messages as kernel
from tests.director.test_ipvs_codec_errors import READERS
from tests.fuzz.fuzzing import Fuzz

FAMILY = 28
EXPECTED = (NetlinkError, DumpInterruptedError, CodecError)
KEY = parse_key("tcp/192.168.0.200:80")

PROCFS = {
    "tcp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    "   0: 0100007F:1F90 C800A8C0:0050 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n",
    "tcp6": "  sl  local_address                         remote_address                        st\n"
    "   0: 00000000000000000000000000000000:0016 0000000000000000FFFF0000C800A8C0:0050 01 0 0 0 0 0 0 1\n",
    "udp": "   sl  local_address rem_address   st\n  1: 00000000:0044 00000000:0000 07 00000000:00000000 00\n",
    "sctp/eps": " ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS\n 0 0 2 10 21 5000 0 1 *192.168.0.10 fe80::1\n",
    "ip_vs_conn": "Pro FromIP FPrt ToIP TPrt DestIP DPrt State Expires PEName PEData\n"
    "TCP C0A80068 9C40 C0A800C8 0050 C0A8000A 0050 ESTABLISHED     899 sip x\n",
    "route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "lo\tC800A8C0\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n",
    "ip_vs": "IP Virtual Server version 1.2.1 (size=4096)\nTCP  C0A800C8:0050 rr\nFWM  00000007 wlc\n"
    "TCP  [2001:0db8:0000:0000:0000:0000:0000:00c8]:0050 rr\n",
    "resolv.conf": "nameserver 192.168.0.1\nnameserver fe80::1%eth0\n",
    "eth0/arp_ignore": "1\n",
}


class Datagrams:
    """Stands for the kernel: whatever is asked, these datagrams come; then it has nothing more to say."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers

    def send(self, data: bytes) -> None:
        sequence = data[8:12]
        self._answers = [each.replace(b"SEQ!", sequence) for each in self._answers]

    def receive(self) -> bytes:
        if not self._answers:
            raise NetlinkError(errno.ETIMEDOUT)
        return self._answers.pop(0)

    def close(self) -> None:
        pass


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A message in answer to what was asked, or to something else, with any length in its header."""
    payload = draw(st.binary(max_size=80) | st.lists(attributes, max_size=4).map(kernel.join))
    length = draw(st.just(16 + len(payload)) | st.sampled_from((0, 15, 16, 17, 2**32 - 1)) | st.integers(0, 200))
    kind = draw(st.sampled_from((1, 2, 2, 3, 3, 4, FAMILY, FAMILY, 65535)))
    flags = draw(st.sampled_from((0, 2, 0x10, 0x100, 0x200, 0x300, 65535)))
    sequence = draw(st.sampled_from((b"SEQ!", b"SEQ!", bytes(4))))
    return struct.pack("=IHH", length, kind, flags) + sequence + bytes(4) + payload + bytes(-len(payload) % 4)


attributes = st.tuples(st.integers(0, 20), st.binary(max_size=20))
datagrams = st.lists(st.lists(frames(), max_size=4).map(b"".join) | st.binary(max_size=100), max_size=6)


def test_answers_of_generic_netlink(fuzz: Fuzz) -> None:
    """Whatever comes, an exchange ends: with messages that can be looked into, or with one of three errors."""

    def check(answers: list[bytes]) -> None:
        asked: list[Callable[[GenericNetlink], object]] = [
            lambda netlink: netlink.family("IPVS"),
            lambda netlink: read_all(netlink.call(FAMILY, 1)),
            lambda netlink: read_all(netlink.dump(FAMILY, 1)),
            lambda netlink: netlink.call_all(FAMILY, [(1, b"12345678")] * 3),
        ]
        for ask in asked:
            with suppress(*EXPECTED):
                ask(GenericNetlink(Datagrams(list(answers))))

    fuzz(check, datagrams, examples=300)


def read_all(messages: list[Message]) -> None:
    for data, start, end in messages:
        for read in READERS:
            with suppress(CodecError):
                read(data[start:end])


def test_notifications_of_addresses(fuzz: Fuzz) -> None:
    """Addresses, or nothing: the event loop itself reads them."""
    kinds = st.sampled_from((21, 25, 20, 2))
    message = st.tuples(kinds, st.integers(0, 200), st.binary(max_size=60), st.lists(attributes, max_size=4))

    def pack(kind: int, length: int, body: bytes, more: list[tuple[int, bytes]]) -> bytes:
        payload = body + kernel.join(more)
        return struct.pack("=IHHII", length or 16 + len(payload), kind, 0, 0, 0) + payload

    def check(messages: list[tuple[int, int, bytes, list[tuple[int, bytes]]]], rest: bytes) -> None:
        list(gone_in(b"".join(pack(*each) for each in messages) + rest))

    fuzz(check, st.lists(message, max_size=3), st.binary(max_size=20), examples=200)


@st.composite
def files(draw: st.DrawFn) -> dict[str, bytes]:
    """Files of /proc, some of them not as the kernel writes them."""
    return {name: draw(spoilt(text.encode())) for name, text in PROCFS.items()}


@st.composite
def spoilt(draw: st.DrawFn, data: bytes) -> bytes:
    """Data of which some was replaced, cut out, or put in twice; or something else."""
    if not draw(st.integers(0, 9)):
        return draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(0, 3))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        middle = draw(st.sampled_from((b"", b"\n", b" ", b"\xff", b":", b"G", b"-1", data[start:end] * 2)))
        data = data[:start] + middle + data[end:]
    return data


def test_files_of_proc(fuzz: Fuzz, tmp_path: Path) -> None:
    """What cannot be read is an error of ours, or is passed over."""
    for name in PROCFS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
    sockets, connections = ProcfsSockets(tmp_path), ProcfsConnections(tmp_path)
    vip = ipaddress.IPv4Address("192.168.0.200")
    readers: list[Callable[[], object]] = [
        *(lambda protocol=each: sockets.listeners(protocol) for each in Protocol),
        lambda: sockets.established_to(vip),
        lambda: list(connections.read(0)),
        lambda: has_host_route(vip, "lo", tmp_path / "route"),
        lambda: serves(KEY, tmp_path / "ip_vs"),
        lambda: serves(parse_key("tcp/[2001:db8::c8]:80"), tmp_path / "ip_vs"),
        lambda: serves(FirewallMark(mark=7, family=KEY.family), tmp_path / "ip_vs"),
        lambda: name_servers((tmp_path / "resolv.conf",)),
        lambda: ProcfsArpSysctls(tmp_path).read("eth0", ArpName.IGNORE),
    ]

    def check(contents: dict[str, bytes]) -> None:
        for name, data in contents.items():
            (tmp_path / name).write_bytes(data)
        for read in readers:
            with suppress(LvsError):
                read()

    fuzz(check, files(), examples=150)


def test_settings_of_the_network(fuzz: Fuzz, tmp_path: Path) -> None:
    """The same of /proc/sys/net."""
    file = tmp_path / "ipv4" / "ip_forward"
    file.parent.mkdir()

    def check(data: bytes) -> None:
        file.write_bytes(data)
        with suppress(LvsError):
            forwarding_settings(tmp_path)

    fuzz(check, spoilt(b"1\n"), examples=100)
