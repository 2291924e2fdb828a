"""Sockets: the text of /proc/net is read right, and this machine's own sockets are found in it."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_common.procfs_sockets import ProcfsSockets, accepts_tcp, parse_endpoint, sctp_listeners, write_address
from agent_common.sockets import Binding, Connection, Listener, listening_on
from agent_common.virtual_server import IpAddress, Protocol

PORTS = st.integers(0, 65535)
LOCALHOST = IPv4Address("127.0.0.1")

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 5901 1 0000000000000000 100 0
   1: 0A00A8C0:9C40 C800A8C0:0050 01 00000000:00000000 00:00000000 00000000     0        0 5902 1 0000000000000000 20 4
   2: 0A00A8C0:9C41 C800A8C0:0050 06 00000000:00000000 00:00000000 00000000     0        0 0 3 0000000000000000
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr
   0: B80D01200000000000000000C8000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   1: 0000000000000000FFFF00000A00A8C0:9C42 0000000000000000FFFF0000C800A8C0:0050 02 00000000:00000000 00:00000000
"""
EPS = """\
 ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS
0000000000000000 0000000000000000 2   10  29   4444      0 14372 192.168.0.104 *2001:0db8:0000:0000:0000:0000:0000:0104
0000000000000000 0000000000000000 2   7   29   4445      0 14373 0.0.0.0
"""


def tables(folder: Path, **texts: str) -> ProcfsSockets:
    for name, text in texts.items():
        path = folder / name.replace("_", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return ProcfsSockets(folder)


@given(st.ip_addresses(), PORTS)
def test_whatever_proc_can_write_is_read_back(address: IpAddress, port: int) -> None:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    for text in write_address(address):
        assert parse_endpoint(f"{text}:{port:04X}") == (mapped or address, port)


def test_listeners_and_connections_are_told_apart(tmp_path: Path) -> None:
    sockets = tables(tmp_path, tcp=TCP, tcp6=TCP6)
    assert sockets.listeners(Protocol.TCP) == [
        Listener(protocol=Protocol.TCP, address=ip_address("0.0.0.0"), port=8080),
        Listener(protocol=Protocol.TCP, address=ip_address("2001:db8::c8"), port=80),
    ]
    own, vip = ip_address("192.168.0.10"), ip_address("192.168.0.200")
    assert sockets.established_to(vip) == [
        Connection(local_address=own, local_port=port, remote_address=vip, remote_port=80) for port in (40000, 40002)
    ]


def test_a_kernel_without_ipv6_or_sctp_has_no_such_sockets(tmp_path: Path) -> None:
    sockets = tables(tmp_path, tcp=TCP)
    assert len(sockets.listeners(Protocol.TCP)) == 1
    assert sockets.listeners(Protocol.SCTP) == []


def test_sctp_endpoints_that_listen_are_found_with_all_their_addresses(tmp_path: Path) -> None:
    addresses = [each.address for each in tables(tmp_path, sctp_eps=EPS).listeners(Protocol.SCTP)]
    assert addresses == [ip_address("192.168.0.104"), ip_address("2001:db8::104")]
    assert list(sctp_listeners(EPS.splitlines()[2])) == []


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize(("protocol", "kind"), [(Protocol.TCP, socket.SOCK_STREAM), (Protocol.UDP, socket.SOCK_DGRAM)])
def test_a_real_socket_is_found_on_its_address_and_port(protocol: Protocol, kind: int, family: int) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family, kind) as own:
        own.bind((host, 0))
        if protocol is Protocol.TCP:
            own.listen()
        port = own.getsockname()[1]
        found = ProcfsSockets().listeners(protocol)
        assert listening_on(found, protocol, ip_address(host), port) is Binding.EXACT
    gone = ProcfsSockets().listeners(protocol)
    assert listening_on(gone, protocol, ip_address(host), port) is Binding.NONE


def test_a_real_connection_is_found_by_its_remote_address() -> None:
    with socket.create_server(("127.0.0.9", 0)) as server, socket.create_connection(server.getsockname()) as client:
        found = ProcfsSockets().established_to(IPv4Address("127.0.0.9"))
        ports = (client.getsockname()[1], server.getsockname()[1])
        assert ports in [(each.local_port, each.remote_port) for each in found]
        assert ProcfsSockets().established_to(IPv4Address("127.0.0.8")) == []


@pytest.mark.parametrize(
    ("bound", "asked", "binding"),
    [
        ("192.168.0.200", "192.168.0.200", Binding.EXACT),
        ("0.0.0.0", "192.168.0.200", Binding.WILDCARD),
        ("::", "192.168.0.200", Binding.WILDCARD),
        ("::", "2001:db8::200", Binding.WILDCARD),
        ("0.0.0.0", "2001:db8::200", Binding.NONE),
        ("192.168.0.10", "192.168.0.200", Binding.NONE),
    ],
)
def test_what_is_bound_where_takes_what_arrives_there(bound: str, asked: str, binding: Binding) -> None:
    listeners = [Listener(protocol=Protocol.TCP, address=ip_address(bound), port=80)]
    assert listening_on(listeners, Protocol.TCP, ip_address(asked), 80) is binding
    assert listening_on(listeners, Protocol.TCP, ip_address(asked), 81) is Binding.NONE
    assert listening_on(listeners, Protocol.UDP, ip_address(asked), 80) is Binding.NONE


def test_an_exact_binding_wins_over_the_wildcard() -> None:
    addresses = (IPv6Address("::"), LOCALHOST)
    listeners = [Listener(protocol=Protocol.TCP, address=each, port=80) for each in addresses]
    assert listening_on(listeners, Protocol.TCP, LOCALHOST, 80) is Binding.EXACT


def test_a_port_that_listens_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert asyncio.run(accepts_tcp(LOCALHOST, port, 2.0)).accepted
    refused = asyncio.run(accepts_tcp(LOCALHOST, port, 2.0))
    assert (refused.accepted, refused.detail) == (False, "connection refused")


def test_a_port_that_never_answers_is_given_up() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        # The kernel holds one connection more than the backlog, and drops what comes after it.
        with socket.create_connection(("127.0.0.1", port)):
            late = asyncio.run(accepts_tcp(LOCALHOST, port, 0.2))
    assert (late.accepted, late.detail) == (False, "no answer within 0.2 s")
