"""Sockets on a real kernel: those of the host that we are in, of every protocol."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from agent_common.procfs_sockets import ProcfsSockets, accepts_tcp
from agent_common.sockets import Binding, listening_on
from agent_common.virtual_server import Protocol
from lab.site import Host, Site
from tests.lab.inside import in_host


def bound(protocol: Protocol, family: int, address: str) -> Callable[[], socket.socket]:
    def bind() -> socket.socket:
        kind = socket.SOCK_DGRAM if protocol is Protocol.UDP else socket.SOCK_STREAM
        own = socket.socket(family, kind, int(protocol))
        own.bind((address, 4444))
        if protocol is not Protocol.UDP:
            own.listen()
        return own

    return bind


def binding(host: Host, protocol: Protocol, address: str) -> Binding:
    found = in_host(host, lambda: ProcfsSockets().listeners(protocol))
    return listening_on(found, protocol, ip_address(address), 4444)


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("wildcard", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_a_server_is_found_on_its_own_host_only(site: Site, protocol: Protocol, wildcard: bool, version: int) -> None:
    host, other = site.real_servers[:2]
    own = host.ipv4 if version == 4 else host.ipv6
    everywhere = "0.0.0.0" if version == 4 else "::"
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with in_host(host, bound(protocol, family, everywhere if wildcard else own)):
        assert binding(host, protocol, own) is (Binding.WILDCARD if wildcard else Binding.EXACT)
        assert binding(other, protocol, own) is Binding.NONE
        # The wildcard of IPv6 takes IPv4 too.
        expected = Binding.WILDCARD if wildcard else Binding.NONE
        assert binding(host, protocol, "192.0.2.1") is expected
    assert binding(host, protocol, own) is Binding.NONE


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_connection_to_another_host_is_found_by_its_address(site: Site, family: int) -> None:
    server, client = site.real_servers[:2]
    remote = server.ipv4
    # An IPv6 socket reaches IPv4 by a mapped address.
    target = remote if family == socket.AF_INET else f"::ffff:{remote}"

    def connect() -> socket.socket:
        own = socket.socket(family, socket.SOCK_STREAM)
        own.connect((target, 4444))
        return own

    with in_host(server, bound(Protocol.TCP, socket.AF_INET, "0.0.0.0")), in_host(client, connect) as own:
        (found,) = in_host(client, lambda: ProcfsSockets().established_to(ip_address(remote)))
        assert (found.local_port, found.remote_port) == (own.getsockname()[1], 4444)
        assert str(found.local_address) == client.ipv4
        assert in_host(server, lambda: ProcfsSockets().established_to(ip_address(remote))) == []


def test_whether_a_port_accepts_is_asked_inside_the_host(site: Site) -> None:
    host = site.real_servers[0]
    site.serve_http(host, 4444)
    own, nobody = ip_address(host.ipv4), ip_address("192.168.0.199")
    assert in_host(host, lambda: asyncio.run(accepts_tcp(own, 4444, 2.0))).accepted
    assert in_host(host, lambda: asyncio.run(accepts_tcp(own, 4445, 2.0))).detail == "connection refused"
    assert in_host(host, lambda: asyncio.run(accepts_tcp(nobody, 4444, 0.5))).detail == "no answer within 0.5 s"
