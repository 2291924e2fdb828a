"""Where clients get whom the kernel knows already, while a real server is out: what sysctls of IPVS make of them."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest

from lab.host import Host
from lab.servers import nginx
from lab.servers.server import Server
from lab.site import VIP
from tests.lab.health_site import INTERVAL, RISE, TIMEOUT, WRITE, moment, weights
from tests.lab.operator import Operator

ONE_SIXTH = True

WEB = 8080
NAMES = {"192.168.0.104": "rs1", "192.168.0.105": "rs2"}
REAL_SERVERS = [word for address in NAMES for word in ("--rs", address)]
HTTP = ("--check", "http", "--port", str(WEB), "--floor", "0", "--damping-hold", "0")
CHECK = (*HTTP, "--interval", str(INTERVAL), "--check-timeout", str(TIMEOUT), "--rise", str(RISE), "--fall", "1")
PATIENCE_SECONDS = 1.5


@pytest.fixture
def servers(operator: Operator) -> Iterator[dict[str, Server]]:
    """A web server on each real server, by the host's name."""
    found = {
        host.name: nginx.start(host, port=WEB, paths={"/": nginx.Answer(body=host.name)})
        for host in operator.site.real_servers
    }
    yield found
    for each in found.values():
        each.stop()


@pytest.fixture(params=["tcp"])
def key(request: pytest.FixtureRequest, operator: Operator, servers: dict[str, Server]) -> Iterator[str]:
    """A virtual server of both, whom rr gives every other client."""
    where = ("--vip", f"{VIP}:{WEB}", "--protocol", request.param)
    operator.lvs("add-backend", *where, "--scheduler", "rr", "--no-ready-check", *REAL_SERVERS)
    yield f"{request.param}/{VIP}:{WEB}"
    operator.lvs("remove-backend", *where, "--no-drain", "--prune", "--force", *REAL_SERVERS)


@pytest.fixture(params=[0, 1])
def expires(request: pytest.FixtureRequest, operator: Operator, key: str) -> Iterator[bool]:
    """Whether the kernel is told to forget connections to a destination that is out; it has IPVS by then."""
    sysctl = "net.ipv4.vs.expire_nodest_conn"
    operator.site.director.run("sysctl", "-qw", f"{sysctl}={request.param}")
    yield bool(request.param)
    operator.site.director.run("sysctl", "-qw", f"{sysctl}=0")


def fall_ill(operator: Operator, servers: dict[str, Server]) -> None:
    """Have the web server of rs2 die, and wait until it is out."""
    servers["rs2"].kill()
    moment(lambda: weights(operator.site.director, NAMES).get("rs2", 0) == 0, INTERVAL + TIMEOUT + WRITE)


def check(operator: Operator, key: str, effect: str, expires: bool) -> None:
    """Have it checked; lvs says what the kernel is going to do with the clients that it knows."""
    told = operator.lvs("health", "set", key, *CHECK, "--effect", effect).stderr
    assert ("expire_nodest_conn is 0" in told) is not expires
    moment(lambda: set(weights(operator.site.director, NAMES).values()) == {1}, 5)


def fetch(client: Host, source_port: int) -> str:
    """Who answers a connection from this port; the server closes it, so that the client may use the port again."""

    def ask() -> str:
        with socket.socket() as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.bind(("0.0.0.0", source_port))  # a client's port
            connection.connect((VIP, WEB))
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with connection.makefile("rb") as answer:
                return answer.read().decode().rpartition("\r\n\r\n")[2]

    return client.inside(ask)


def fetch_or_not(client: Host, source_port: int) -> str:
    try:
        return fetch(client, source_port)
    except OSError:
        return "nobody"


@pytest.mark.parametrize("effect", ["weight-zero", "remove"])
def test_a_port_that_is_used_again_leads_to_who_is_out_unless_connections_to_it_expire(
    operator: Operator, servers: dict[str, Server], key: str, effect: str, expires: bool
) -> None:
    """Two minutes after the end of a connection the kernel still knows it."""
    client, first = operator.site.client, 20_000 + 10 * (2 * expires + (effect == "remove"))
    check(operator, key, effect, expires)
    before = {port: fetch(client, port) for port in range(first, first + 4)}
    assert sorted(before.values()) == ["rs1", "rs1", "rs2", "rs2"]
    fall_ill(operator, servers)
    after = [fetch_or_not(client, port) for port, who in before.items() if who == "rs2"]
    assert after == (["rs1", "rs1"] if expires else ["nobody", "nobody"])


def test_a_connection_to_who_is_out_by_weight_0_goes_on(
    operator: Operator, servers: dict[str, Server], key: str, expires: bool
) -> None:
    """It fails its check, and answers all the same."""
    check(operator, key, "weight-zero", expires)
    client = operator.site.client
    kept = client.inside(lambda: [_open(), _open()])
    assert sorted(_ask(each) for each in kept) == ["rs1", "rs2"]
    operator.lvs("health", "set", key, "--rs", "192.168.0.105", "--check", "http", "--path", "/absent")
    moment(lambda: weights(operator.site.director, NAMES)["rs2"] == 0, INTERVAL + TIMEOUT + WRITE)
    assert sorted(_ask(each) for each in kept) == ["rs1", "rs2"]
    for each in kept:
        each.close()


def _open() -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(VIP, WEB, timeout=PATIENCE_SECONDS)
    connection.connect()
    return connection


def _ask(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/")
    return connection.getresponse().read().decode()


@pytest.mark.parametrize("key", ["udp"], indirect=True)
@pytest.mark.parametrize("effect", ["weight-zero", "remove"])
def test_a_udp_client_that_keeps_its_port_stays_with_who_is_out_unless_it_is_removed(
    operator: Operator, servers: dict[str, Server], key: str, effect: str, expires: bool
) -> None:
    """What has died is the web server that is asked; that datagrams are still answered shows where they go."""
    programs = [operator.site.serve_udp(host, WEB, address=VIP) for host in operator.site.real_servers]
    told = operator.lvs("health", "set", key, *CHECK, "--effect", effect).stderr
    assert ("--effect remove" in told) is (effect == "weight-zero")
    moment(lambda: set(weights(operator.site.director, NAMES).values()) == {1}, 5)
    clients = [operator.site.client.inside(_udp_client) for _ in range(2)]
    assert sorted(_ask_udp(each) for each in clients) == ["rs1", "rs2"]
    fall_ill(operator, servers)
    for each in clients:  # what the kernel drops while it forgets is sent again
        _ask_udp(each)
    after = sorted(_ask_udp(each) for each in clients)
    if effect == "weight-zero":
        assert after == ["rs1", "rs2"]
    else:
        assert after == (["rs1", "rs1"] if expires else ["nobody", "rs1"])
    for each in clients:
        each.close()
    for program in programs:
        program.stop()


def _udp_client() -> socket.socket:
    client = socket.socket(type=socket.SOCK_DGRAM)
    client.settimeout(0.5)
    client.connect((VIP, WEB))
    return client


def _ask_udp(client: socket.socket) -> str:
    client.send(b"who?")
    try:
        return client.recv(100).decode()
    except OSError:
        return "nobody"
