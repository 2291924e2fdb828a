"""The servers of packages that health checks are tested against: each answers a client that is not ours."""

from __future__ import annotations

import itertools
import json
import smtplib
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.host import Host
from lab.servers import exim, health, keepalived, nginx, nsd
from lab.servers.keepalived import Check, RealServer, Settings, VirtualServer
from lab.servers.nginx import Answer
from lab.site import VIP, Site
from tests.certificates import Authority

ONE_SIXTH = True

PORTS = itertools.count(8600)

CURL = ("curl", "--silent", "--show-error", "--max-time", "5")
COULD_NOT_CONNECT, TIMED_OUT = 7, 28

WATCH = """
import sys, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
name = health_pb2.HealthCheckResponse.ServingStatus.Name
if len(sys.argv) == 2:
    made = grpc.insecure_channel(sys.argv[1])
else:
    made = grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials(open(sys.argv[2], "rb").read()))
with made as channel:
    stub = health_pb2_grpc.HealthStub(channel)
    print(name(stub.Check(health_pb2.HealthCheckRequest()).status), flush=True)
    for response in stub.Watch(health_pb2.HealthCheckRequest(service="shop")):
        print(name(response.status), flush=True)
"""


def wait_until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.05)


def get(client: Host, url: str, *options: str) -> tuple[int, float, str]:
    """curl's status, seconds and body; the number of an error in place of the status if there was none."""
    shown = "\n%{http_code} %{time_total}"
    done = client.run(*CURL, *options, "--write-out", shown, url, check=False)
    body, _, last = done.stdout.rpartition("\n")
    status, seconds = last.split()
    return done.returncode or int(status), float(seconds), body


def test_nginx_answers_as_it_was_told_and_otherwise_after_a_change(site: Site) -> None:
    """Status, body, headers, slowly, at length; what it was asked is in its log."""
    rs, port = site.real_servers[0], next(PORTS)
    body = 'cost: $5 "\\"'
    paths = {
        "/": Answer(body=body, headers={"X-Lab": "a b"}),
        "/bad": Answer(status=503, body="bad"),
        "/elsewhere": Answer(status=302, body="/bad"),
        "/slow": Answer(delay=0.4, body="x", repeat=2),
        "/long": Answer(body="0123456789", repeat=100_000),
    }
    web = nginx.start(rs, port=port, paths=paths)
    url = f"http://{rs.ipv4}:{port}"
    status, _, shown = get(site.client, f"{url}/", "--include", "--user-agent", "lab")
    assert status == 200
    assert shown.endswith(f"\n\n{body}")
    assert "\nX-Lab: a b\n" in shown
    asked = f'"GET / HTTP/1.1" 200 host={rs.ipv4}:{port} sni=- agent="lab"'
    wait_until(lambda: asked in web.log())
    assert get(site.client, f"{url}/elsewhere", "--location")[::2] == (503, "bad")
    status, seconds, shown = get(site.client, f"{url}/slow")
    assert (status, shown) == (200, "xx")
    assert seconds >= 0.8
    assert len(get(site.client, f"{url}/long")[2]) == 1_000_000
    assert get(site.client, f"{url}/other")[0] == 404
    nginx.change(web, {"/": Answer(status=500)})
    assert get(site.client, f"{url}/")[0] == 500
    assert web.stop() == 0


def test_nginx_serves_https_with_the_certificate_that_it_was_given(site: Site, tmp_path: Path) -> None:
    """curl verifies it, over IPv6."""
    rs, port = site.real_servers[0], next(PORTS)
    files = Authority(tmp_path).issue("web", addresses=[rs.ipv6]).files
    web = nginx.start(rs, address="::", port=port, paths={"/": Answer(body="ok")}, tls=(files.cert, files.key))
    assert get(site.client, f"https://[{rs.ipv6}]:{port}/", "--cacert", str(files.ca))[::2] == (200, "ok")
    web.stop()


def test_a_paused_server_accepts_and_is_silent_and_a_killed_one_refuses(site: Site) -> None:
    """Its workers too; it can be resumed, and started again."""
    rs, port = site.real_servers[0], next(PORTS)
    web = nginx.start(rs, port=port, paths={"/": Answer(body="ok")})

    def ask() -> int:
        return get(site.client, f"http://{rs.ipv4}:{port}/", "--max-time", "0.7")[0]

    web.pause()
    assert ask() == TIMED_OUT
    web.resume()
    assert ask() == 200
    web.kill()
    assert ask() == COULD_NOT_CONNECT
    web.start()
    assert ask() == 200
    web.stop()


@pytest.mark.parametrize("family", [4, 6])
def test_nsd_answers_for_its_zone(site: Site, family: int) -> None:
    """The record, that a name is not there, and that another zone is none of its business."""
    rs, port = site.real_servers[0], next(PORTS)
    address = rs.ipv4 if family == 4 else rs.ipv6
    server = nsd.start(rs, address=address, port=port, records=["www A 192.0.2.1"])

    def ask(name: str) -> tuple[int, bytes]:
        answer = site.client.inside(lambda: nsd.ask(address, port, name, kind=1))
        _, flags, _, count, *_ = struct.unpack(">6H", answer[:12])
        return flags & 0xF, answer if count else b""

    code, answer = ask("www.example.test.")
    assert code == 0
    assert bytes((192, 0, 2, 1)) in answer
    assert ask("nobody.example.test.") == (3, b"")
    assert ask("example.com.") == (5, b"")
    server.pause()
    with pytest.raises(TimeoutError):
        site.client.inside(lambda: nsd.ask(address, port, "www.example.test.", kind=1, timeout=0.5))
    server.kill()
    with pytest.raises(ConnectionRefusedError):
        ask("www.example.test.")


def test_exim_greets_or_refuses(site: Site) -> None:
    """220 and 250 to smtplib; the line that was given in place of either."""
    rs, client = site.real_servers[0], site.client
    mail, closed, busy = next(PORTS), next(PORTS), next(PORTS)
    servers = [
        exim.start(rs, port=mail),
        exim.start(rs, port=closed, refusals={"connect": "554 no mail here"}),
        exim.start(rs, address="::", port=busy, refusals={"helo": "451 come again"}, delay=1),
    ]

    def hello(address: str, port: int) -> tuple[int, bytes]:
        with smtplib.SMTP(address, port, local_hostname="client", timeout=5) as connection:
            return connection.helo()

    assert client.inside(lambda: hello(rs.ipv4, mail))[0] == 250
    with pytest.raises(smtplib.SMTPConnectError, match="554, b'no mail here'"):
        client.inside(lambda: hello(rs.ipv4, closed))
    started = time.monotonic()
    assert client.inside(lambda: hello(rs.ipv6, busy)) == (451, b"come again")
    assert time.monotonic() - started >= 1
    for server in servers:
        server.stop()


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
def test_the_health_service_tells_what_was_set(site: Site, tmp_path: Path, with_tls: bool) -> None:
    """Check and Watch of the stub, before and after a change."""
    rs, port = site.real_servers[0], next(PORTS)
    files = Authority(tmp_path).issue("health", addresses=[rs.ipv4]).files
    tls, ca = ((files.cert, files.key), [str(files.ca)]) if with_tls else (None, [])
    server = health.start(rs, port=port, statuses={"": "SERVING", "shop": "NOT_SERVING"}, tls=tls)
    watching = site.client.popen(sys.executable, "-c", WATCH, f"{rs.ipv4}:{port}", *ca)
    assert watching.stdout is not None
    assert [watching.stdout.readline().strip() for _ in range(2)] == ["SERVING", "NOT_SERVING"]
    health.change(server, {"shop": "SERVING"})
    assert watching.stdout.readline().strip() == "SERVING"
    watching.kill()
    watching.communicate()
    assert server.stop() == 0


def test_keepalived_takes_out_what_fails_its_checks_and_puts_it_back(site: Site, tmp_path: Path) -> None:
    """A killed nginx leaves ipvsadm's table and comes back; so do one that answers 503, and what a script calls bad."""
    port = next(PORTS)
    webs = [nginx.start(rs, port=port, paths={"/health": Answer()}) for rs in site.real_servers]
    script = tmp_path / "check"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    get_health: Settings = {"connect_timeout": 2, "retry": 0, "url": {"path": "/health", "status_code": 200}}
    checks = {
        80: Check(kind="HTTP_GET", settings={**get_health, "connect_port": port}),
        81: Check(kind="TCP_CHECK", settings={"connect_timeout": 2, "retry": 0, "connect_port": port}),
        82: Check(kind="MISC_CHECK", settings={"misc_path": json.dumps(str(script))}),
    }
    server = keepalived.start(site.director, *(virtual_server(site, number, check) for number, check in checks.items()))

    def served() -> list[tuple[str, str]]:
        rows = site.director.out("ipvsadm", "-Sn").splitlines()
        pairs = [(row.split()[2], row.split()[4]) for row in rows if row.startswith("-a")]
        return sorted((service.rpartition(":")[2], real.partition(":")[0]) for service, real in pairs)

    first, second = (rs.ipv4 for rs in site.real_servers)
    everything = [(str(number), address) for number in checks for address in (first, second)]
    assert served() == everything
    webs[0].kill()
    wait_until(lambda: served() == [pair for pair in everything if pair not in {("80", first), ("81", first)}])
    webs[0].start()
    wait_until(lambda: served() == everything)
    nginx.change(webs[1], {"/health": Answer(status=503)})
    script.write_text("#!/bin/sh\nexit 1\n")
    wait_until(lambda: served() == [("80", first), ("81", first), ("81", second)])
    assert server.stop() == 0
    assert served() == []
    for web in webs:
        web.stop()


def virtual_server(site: Site, port: int, check: Check) -> VirtualServer:
    """One for both real servers, which are checked twice a second."""
    real_servers = tuple(RealServer(address=rs.ipv4, port=port, check=check) for rs in site.real_servers)
    return VirtualServer(address=VIP, port=port, real_servers=real_servers, settings={"delay_loop": 0.5})
