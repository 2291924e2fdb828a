"""Every kind of check against servers as packages provide them: what passes, what fails, and what is said of it.

The director is asked (ProbeDestination) to check a destination once, with a policy that is set for it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lvsagent.v1 import health_pb2, health_service_pb2

from agent_common import wire
from agent_common.check import (
    AgentCheck,
    Check,
    DnsCheck,
    GrpcCheck,
    HttpCheck,
    IcmpCheck,
    Kind,
    ScriptCheck,
    SmtpCheck,
    TcpCheck,
    Tls,
    UdpCheck,
    kind_name,
)
from agent_common.destination import DestinationKey
from agent_common.health import HealthPolicy
from agent_common.virtual_server import parse_address, parse_key
from agent_common.wire_health import pack_policy
from cli.client import AgentClient
from lab.servers import exim, health, nginx, nsd
from lab.servers.server import Server
from lab.site import VIP, Site
from tests.certificates import Authority
from tests.lab.conftest import UsualSite
from tests.lab.health_site import moment, unplug
from tests.lab.operator import LVS, Operator

ONE_SIXTH = True

HTTP, HTTPS, GRPC, GRPCS, DNS, SMTP, EXPIRED, NOBODY = 8001, 8002, 8003, 8004, 8005, 8006, 8007, 8099
TIMEOUT = 0.5
QUERY = bytes.fromhex("1234 0100 0001 0000 0000 0000 03777777 076578616d706c65 0474657374 00 0001 0001")
SCRIPTS = Path("/run/checks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """What runs on the first real server, by its port, and the CA of its certificates."""

    operator: Operator
    by_port: dict[int, Server] = field(default_factory=dict)
    ca: Path

    def check(self, kind: Kind, port: int, *, through_vip: bool = False) -> tuple[bool, str]:
        """Have the director check once; whether it passes, and what is said."""
        key = parse_key(f"tcp/{VIP}:{port}")
        check = Check(kind=kind, timeout=TIMEOUT, interval=TIMEOUT, rise=1, fall=1, through_vip=through_vip)
        real_server = DestinationKey(address=parse_address(self.operator.site.real_servers[0].ipv4, "rs"), port=port)

        async def ask(client: AgentClient) -> tuple[bool, str]:
            wanted = health_pb2.SetHealthRequest(
                virtual_server=wire.pack_key(key), policy=pack_policy(HealthPolicy(check=check))
            )
            await client.ask(client.health.SetHealth, wanted)
            request = health_service_pb2.ProbeDestinationRequest(
                virtual_server=wire.pack_key(key), destination=wire.pack_destination_key(real_server)
            )
            begun = time.monotonic()
            answer = await client.ask(client.health.ProbeDestination, request)
            assert time.monotonic() - begun < TIMEOUT + 0.5
            assert answer.checks == 1
            return answer.passed, answer.detail

        return self.operator.ask(ask)


@pytest.fixture(scope="module")
def servers(usual_site: UsualSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A director, and a real server with nginx, NSD, Exim and gRPC's health service."""
    usual_site.end()
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    with Site.make(real_servers=1) as site:
        rs = site.real_servers[0]
        SCRIPTS.mkdir(exist_ok=True)
        hosts = [(site.director, "director"), (rs, "realserver")]
        with ThreadPoolExecutor(2) as pool:
            agents = list(
                pool.map(
                    lambda each: site.start_agent(
                        each[0],
                        each[1],
                        "--insecure",
                        *(("--script-dir", str(SCRIPTS)) if each[1] == "director" else ()),
                    ),
                    hosts,
                )
            )
        operator = Operator(site=site, agents={host.name: each for (host, _), each in zip(hosts, agents, strict=True)})
        good = authority.issue("good", hosts=["web.example.test"]).files
        old = authority.issue("old", hosts=["web.example.test"], days=(-2, -1)).files
        tls = (good.cert, good.key)
        paths = {
            "/": nginx.Answer(body="all is well"),
            "/ill": nginx.Answer(status=503, body="ill"),
            "/slow": nginx.Answer(body="late", delay=2.0),
            "/drip": nginx.Answer(body="x", delay=0.05, repeat=4),
            "/elsewhere": nginx.Answer(status=302, body="/"),
        }
        by_port = {
            HTTP: nginx.start(rs, port=HTTP, paths=paths),
            HTTPS: nginx.start(rs, port=HTTPS, paths=paths, tls=tls),
            EXPIRED: nginx.start(rs, port=EXPIRED, paths=paths, tls=(old.cert, old.key)),
            GRPC: health.start(rs, port=GRPC, statuses={"": "SERVING", "shop": "NOT_SERVING"}),
            GRPCS: health.start(rs, port=GRPCS, tls=tls),
            DNS: nsd.start(rs, address=rs.ipv4, port=DNS, records=["www A 192.0.2.1", "www TXT hello"]),
            SMTP: exim.start(rs, port=SMTP),
        }
        rules = "".join(f"-A -t {VIP}:{port} -s rr\n" for port in (*by_port, NOBODY))
        site.director.run(str(LVS), "--insecure", "restore", input=rules)
        yield Servers(operator=operator, by_port=by_port, ca=Path(good.ca))


def tls(servers: Servers, name: str = "web.example.test", **fields: object) -> Tls:
    return Tls(server_name=name, ca_file=str(servers.ca), **fields)  # type: ignore[arg-type]


def script(name: str, text: str) -> ScriptCheck:
    file = SCRIPTS / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return ScriptCheck(argv=(str(file), "one", "two words"))


Case = tuple[int, Callable[[Servers], Kind], bool, str]

CASES: dict[str, Case] = {
    "tcp passes": (HTTP, lambda s: TcpCheck(), True, ""),
    "tcp: nobody listens": (NOBODY, lambda s: TcpCheck(), False, "connection refused"),
    "http passes": (HTTP, lambda s: HttpCheck(body="is well"), True, ""),
    "http: nobody listens": (NOBODY, lambda s: HttpCheck(), False, "connection refused"),
    "http: another status": (HTTP, lambda s: HttpCheck(path="/ill"), False, "503"),
    "http: a redirection is none of those that pass": (HTTP, lambda s: HttpCheck(path="/elsewhere"), False, "302"),
    "http: a redirection that passes": (HTTP, lambda s: HttpCheck(path="/elsewhere", statuses=((302, 302),)), True, ""),
    "http: not that text": (HTTP, lambda s: HttpCheck(body="is better"), False, "body"),
    "http: slow": (HTTP, lambda s: HttpCheck(path="/slow"), False, "no answer within 0.5 s"),
    "http: in pieces, in time": (HTTP, lambda s: HttpCheck(path="/drip", body="xxxx"), True, ""),
    "http to a server that speaks TLS": (HTTPS, lambda s: HttpCheck(), False, "400"),
    "https passes": (HTTPS, lambda s: HttpCheck(tls=tls(s), body="well"), True, ""),
    "https: another name": (HTTPS, lambda s: HttpCheck(tls=tls(s, "other.example.test")), False, "certificate"),
    "https: nobody knows the CA": (
        HTTPS,
        lambda s: HttpCheck(tls=Tls(server_name="web.example.test")),
        False,
        "certificate",
    ),
    "https: expired": (EXPIRED, lambda s: HttpCheck(tls=tls(s)), False, "expired"),
    "https without verification": (HTTPS, lambda s: HttpCheck(tls=Tls(verify=False)), True, ""),
    "https to a server that speaks none": (HTTP, lambda s: HttpCheck(tls=tls(s)), False, "TLS"),
    "https: another status": (HTTPS, lambda s: HttpCheck(tls=tls(s), path="/ill"), False, "503"),
    "grpc passes": (GRPC, lambda s: GrpcCheck(), True, ""),
    "grpc: not serving": (GRPC, lambda s: GrpcCheck(service="shop"), False, "NOT_SERVING"),
    "grpc: no such service": (GRPC, lambda s: GrpcCheck(service="nothing"), False, "nothing"),
    "grpc: nobody listens": (NOBODY, lambda s: GrpcCheck(), False, "connection refused"),
    "grpc to a server that speaks HTTP/1.1": (HTTP, lambda s: GrpcCheck(), False, ""),
    "grpc with TLS": (GRPCS, lambda s: GrpcCheck(tls=tls(s)), True, ""),
    "grpc with TLS, another name": (GRPCS, lambda s: GrpcCheck(tls=tls(s, "other.example.test")), False, "certificate"),
    "dns passes": (DNS, lambda s: DnsCheck(name="www.example.test", answers=("192.0.2.1",)), True, ""),
    "dns over TCP": (DNS, lambda s: DnsCheck(name="www.example.test", tcp=True), True, ""),
    "dns: another type": (DNS, lambda s: DnsCheck(name="example.test", type="SOA"), True, ""),
    "dns: another record": (
        DNS,
        lambda s: DnsCheck(name="www.example.test", answers=("192.0.2.9",)),
        False,
        "192.0.2.1",
    ),
    "dns: no such name": (DNS, lambda s: DnsCheck(name="no.example.test"), False, "NXDOMAIN"),
    "dns: not its zone": (DNS, lambda s: DnsCheck(name="www.elsewhere.test"), False, "REFUSED"),
    "dns: nobody listens": (NOBODY, lambda s: DnsCheck(name="www.example.test"), False, "refused|unreachable"),
    "udp passes with a reply": (DNS, lambda s: UdpCheck(payload=QUERY, reply=QUERY[:2]), True, ""),
    "udp: another reply": (DNS, lambda s: UdpCheck(payload=QUERY, reply=b"\xff\xff"), False, "reply"),
    "udp: no reply": (DNS, lambda s: UdpCheck(payload=b"x", reply=b""), False, "no "),
    "udp: silence passes": (DNS, lambda s: UdpCheck(payload=b"x"), True, ""),
    "udp: an ICMP error": (NOBODY, lambda s: UdpCheck(payload=b"x"), False, "refused|unreachable"),
    "icmp passes": (NOBODY, lambda s: IcmpCheck(), True, ""),
    "smtp passes": (SMTP, lambda s: SmtpCheck(), True, ""),
    "smtp to a web server": (HTTP, lambda s: SmtpCheck(), False, ""),
    "smtp: nobody listens": (NOBODY, lambda s: SmtpCheck(), False, "connection refused"),
    "script passes": (HTTP, lambda s: script("pass", 'test "$1 $2 $LVS_PORT" = "one two words 8001"'), True, ""),
    "script fails": (HTTP, lambda s: script("fail", "echo it is ill; exit 3"), False, "3.*it is ill"),
    "script hangs": (HTTP, lambda s: script("hang", "sleep 60"), False, "0.5 s"),
    "script has none of the agent's capabilities": (
        HTTP,
        lambda s: script("caps", "grep -q 'CapEff:.0000000000000000' /proc/self/status"),
        True,
        "",
    ),
    "agent: no VIP here": (HTTP, lambda s: AgentCheck(), False, "not on lo"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_check(servers: Servers, case: Case) -> None:
    port, kind, passes, said = case
    passed, detail = servers.check(kind(servers), port)
    assert passed is passes, detail
    assert re.search(said, detail), detail


KINDS: dict[int, Callable[[Servers], Kind]] = {
    HTTP: lambda s: HttpCheck(),
    HTTPS: lambda s: HttpCheck(tls=tls(s)),
    GRPC: lambda s: GrpcCheck(),
    DNS: lambda s: DnsCheck(name="www.example.test"),
    SMTP: lambda s: SmtpCheck(),
}


@pytest.mark.parametrize("port", KINDS, ids=["http", "https", "grpc", "dns", "smtp"])
def test_a_server_that_stands_still_is_found_out_by_all_but_tcp(servers: Servers, port: int) -> None:
    """The kernel takes its connections all the same: they are open on one side only."""
    server = servers.by_port[port]
    server.pause()
    try:
        passed, detail = servers.check(KINDS[port](servers), port)
        assert not passed
        assert "0.5 s" in detail
        if port != DNS:
            assert servers.check(TcpCheck(), port)[0]
    finally:
        server.resume()
    moment(lambda: servers.check(KINDS[port](servers), port)[0], 5)


@pytest.mark.parametrize(
    "kind", [TcpCheck(), HttpCheck(), IcmpCheck(), UdpCheck(payload=b"x", reply=b"")], ids=kind_name
)
def test_a_host_that_is_gone_is_found_out_by_every_kind(servers: Servers, kind: Kind) -> None:
    rs = servers.operator.site.real_servers[0]
    unplug(rs)
    try:
        passed, detail = servers.check(kind, HTTP)
        assert not passed
        assert re.search(r"0\.5 s|no route|unreachable", detail)
    finally:
        unplug(rs, back=True)
    moment(lambda: servers.check(TcpCheck(), HTTP)[0], 5)
