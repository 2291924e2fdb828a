"""The rules of checks: what is impossible is refused, with the field and the rule; and messages come back whole."""

from __future__ import annotations

from dataclasses import replace

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lvsagent.v1 import check_pb2

from agent_common.check import (
    RECORD_TYPES,
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
from agent_common.check_dns import dns_question
from agent_common.check_http import http_request
from agent_common.errors import InvalidInputError
from agent_common.health import DynamicWeight, HealthPolicy, WeightSource
from agent_common.wire_check import pack_check, unpack_check
from tests.common.checking import target

VERIFIED = Tls(server_name="www.example", ca_file="/etc/ca.pem")

GOOD: list[Kind] = [
    TcpCheck(),
    HttpCheck(),
    HttpCheck(
        method="POST",
        path="/a?b=c#d",
        host="[2001:db8::1]:8443",
        headers=(("X-A", "1"), ("x-b", "")),
        statuses=((200, 200), (401, 599)),
        body="häuser",
        tls=VERIFIED,
    ),
    HttpCheck(tls=Tls(verify=False)),
    HttpCheck(tls=Tls(server_name="2001:db8::1")),
    GrpcCheck(),
    GrpcCheck(service="a.B", tls=VERIFIED),
    DnsCheck(name="."),
    DnsCheck(name="_sip._udp.example.", type="SRV", answers=("1 2 3 x.",), tcp=True),
    DnsCheck(name="x", type="AAAA", answers=("2001:DB8::0:1",)),
    UdpCheck(),
    UdpCheck(payload=b"\x00" * 1024, reply=b""),
    IcmpCheck(),
    SmtpCheck(),
    SmtpCheck(helo="mail.example."),
    ScriptCheck(argv=("/a/b", "--x", "")),
    AgentCheck(),
]


@pytest.mark.parametrize("kind", GOOD, ids=kind_name)
def test_what_is_possible_is_taken_and_comes_back_from_a_message(kind: Kind) -> None:
    check = Check(kind=kind, port=8080, interval=1.5, timeout=0.25, rise=1, fall=100, agent_port=9999)
    assert unpack_check(pack_check(check.check())) == check


@pytest.mark.parametrize(
    ("kind", "field", "rule"),
    [
        (HttpCheck(method="get"), "http.method", "'get' is no method in capitals, such as GET"),
        (HttpCheck(method="G T"), "http.method", "is no method in capitals"),
        (HttpCheck(method="CONNECT"), "http.method", "CONNECT asks for a tunnel, not for a path"),
        (HttpCheck(path="x"), "http.path", "must begin with /"),
        (HttpCheck(path="/a b"), "http.path", "be printable ASCII without blanks, as in a URL"),
        (HttpCheck(path="/ä"), "http.path", "be printable ASCII without blanks, as in a URL"),
        (HttpCheck(path="/" + "x" * 1024), "http.path", "1025 octets are not 1 to 1024"),
        (HttpCheck(host="a/b"), "http.host", "'a/b' is no host"),
        (HttpCheck(host="a\r\nX: y"), "http.host", "is no host"),
        (HttpCheck(headers=(("X Y", ""),)), "http.headers", "'X Y' is no name of a header"),
        (HttpCheck(headers=(("HOST", "x"),)), "http.headers", "HOST is set by the check itself"),
        (HttpCheck(headers=(("Content-Length", "1"),)), "http.headers", "is set by the check itself"),
        (HttpCheck(headers=(("X", "a\nb"),)), "http.headers", "the value of X must be printable ASCII"),
        (HttpCheck(headers=(("X", " a"),)), "http.headers", "without a blank at either end"),
        (HttpCheck(headers=(("X", "a"),) * 21), "http.headers", "21 are more than 20"),
        (HttpCheck(statuses=((199, 200),)), "http.statuses", "199-200 is no range of status codes (200 to 599)"),
        (HttpCheck(statuses=((300, 299),)), "http.statuses", "300-299 is no range"),
        (HttpCheck(statuses=((600, 600),)), "http.statuses", "600-600 is no range"),
        (HttpCheck(body="x" * 1025), "http.body", "1025 octets are not 0 to 1024"),
        (HttpCheck(body="\udcff"), "http.body", "is no UTF-8"),
        (HttpCheck(body="x", method="HEAD"), "http.body", "an answer to HEAD has none"),
        (HttpCheck(tls=Tls()), "http.tls.server_name", "without a name the certificate cannot be verified"),
        (HttpCheck(tls=Tls(server_name="a..b")), "http.tls.server_name", "'a..b' is no host name"),
        (HttpCheck(tls=Tls(server_name=".a")), "http.tls.server_name", "is no host name"),
        (HttpCheck(tls=Tls(server_name="a:b")), "http.tls.server_name", "is no host name"),
        (HttpCheck(tls=Tls(server_name="x" * 64)), "http.tls.server_name", "is no host name"),
        (HttpCheck(tls=Tls(verify=False, ca_file="/x")), "http.tls.ca_file", "not where verification is off"),
        (HttpCheck(tls=Tls(server_name="x", ca_file="x")), "http.tls.ca_file", "'x' is not a whole path"),
        (GrpcCheck(service="x" * 1025), "grpc.service", "octets"),
        (GrpcCheck(tls=Tls(verify=False)), "grpc.tls.skip_verification", "grpcio always verifies"),
        (GrpcCheck(tls=Tls()), "grpc.tls.server_name", "must be set"),
        (DnsCheck(name=""), "dns.name", "is no name to ask for"),
        (DnsCheck(name="a..b"), "dns.name", "is no name to ask for"),
        (DnsCheck(name="x." * 130), "dns.name", "is no name to ask for"),
        (DnsCheck(name="x", type="a"), "dns.type", "'a' is not one of A, AAAA"),
        (DnsCheck(name="x", type="AXFR"), "dns.type", "'AXFR' is not one of A, AAAA"),
        (DnsCheck(name="x", answers=("",)), "dns.answers", "0 octets are not 1 to 1024"),
        (DnsCheck(name="x", answers=("::1",)), "dns.answers", "'::1' is no IPv4 address, as A has"),
        (DnsCheck(name="x", type="AAAA", answers=("1.2.3.4",)), "dns.answers", "is no IPv6 address"),
        (UdpCheck(payload=bytes(1025)), "udp.payload", "1025 octets"),
        (UdpCheck(reply=bytes(1025)), "udp.reply", "1025 octets"),
        (SmtpCheck(helo="a b"), "smtp.helo", "'a b' is no host name"),
        (SmtpCheck(helo="fe80::1%a b"), "smtp.helo", "is no host name"),
        (ScriptCheck(argv=()), "script.argv", "must begin with a program's whole path"),
        (ScriptCheck(argv=("sh",)), "script.argv", "no shell looks for it"),
        (ScriptCheck(argv=("/x", "a\0b")), "script.argv", "a word has a NUL in it"),
        (ScriptCheck(argv=("/x", "\udcff")), "script.argv", "is no UTF-8"),
        (ScriptCheck(argv=("/x",) * 21), "script.argv", "21 are more than 20"),
    ],
)
def test_what_is_impossible_is_refused_with_the_field_and_the_rule(kind: Kind, field: str, rule: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Check(kind=kind).check("policy.check")
    assert caught.value.field == f"policy.check.{field}"
    assert caught.value.message.startswith(f"policy.check.{field}")
    assert rule in caught.value.message


@pytest.mark.parametrize(
    ("check", "field", "rule"),
    [
        (Check(kind=TcpCheck(), interval=1.0, timeout=2.0), "timeout", "2 s is longer than the interval (1 s)"),
        (Check(kind=TcpCheck(), interval=0.05, timeout=0.01), "interval", "0.05 s is out of range (0.1 s to 3600 s)"),
        (Check(kind=TcpCheck(), timeout=0), "timeout", "0 s is out of range"),
        (Check(kind=TcpCheck(), interval=float("nan")), "interval", "out of range"),
        (Check(kind=TcpCheck(), port=65536), "port", "65536"),
        (Check(kind=TcpCheck(), agent_port=0), "agent_port", "0"),
        (Check(kind=TcpCheck(), rise=0), "rise", "0 is out of range (1 to 100)"),
        (Check(kind=TcpCheck(), fall=101), "fall", "101 is out of range (1 to 100)"),
        (Check(kind=IcmpCheck(), through_vip=True), "through_vip", "not with a check of kind icmp"),
        (Check(kind=ScriptCheck(argv=("/x",)), through_vip=True), "through_vip", "not with a check of kind script"),
        (Check(kind=AgentCheck(), through_vip=True), "through_vip", "not with a check of kind agent"),
    ],
)
def test_times_counts_and_ports_have_ranges(check: Check, field: str, rule: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check.check()
    assert caught.value.field == f"check.{field}"
    assert rule in caught.value.message


@pytest.mark.parametrize(
    ("dynamic", "check", "field"),
    [
        (DynamicWeight(source=WeightSource.HTTP_BODY), HttpCheck(method="HEAD"), "http_body"),
        (DynamicWeight(source=WeightSource.HTTP_HEADER), HttpCheck(), "http_header"),
        (DynamicWeight(source=WeightSource.HTTP_HEADER, header="X Y"), HttpCheck(), "http_header"),
    ],
)
def test_a_weight_that_no_answer_can_have_is_refused(dynamic: DynamicWeight, check: HttpCheck, field: str) -> None:
    policy = HealthPolicy(check=Check(kind=check), dynamic_weight=dynamic)
    with pytest.raises(InvalidInputError) as caught:
        policy.validate()
    assert caught.value.field == f"policy.dynamic_weight.{field}"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("www.example:8443", "www.example"),
        ("www.example", "www.example"),
        ("[2001:db8::1]:8443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
    ],
)
def test_the_name_to_verify_is_that_of_the_host_unless_another_is_given(host: str, name: str) -> None:
    message = check_pb2.Check(http=check_pb2.HttpCheck(host=host, tls=check_pb2.CheckTls()))
    kind = unpack_check(message).check().kind
    assert isinstance(kind, HttpCheck)
    assert kind.tls == Tls(server_name=name)
    message.http.tls.server_name = "other.example"
    assert replace(kind, tls=Tls(server_name="other.example")) == unpack_check(message).kind


def test_a_check_says_what_it_is() -> None:
    with pytest.raises(InvalidInputError, match=r"check\.kind: must be set"):
        unpack_check(check_pb2.Check())
    with pytest.raises(InvalidInputError, match=r"check\.udp\.reply: needs expect_reply"):
        unpack_check(check_pb2.Check(udp=check_pb2.UdpCheck(reply=b"x")))
    assert [kind_name(each) for each in (HttpCheck(), HttpCheck(tls=VERIFIED))] == ["http", "https"]


@given(st.text(max_size=80), st.text(max_size=80), st.binary(max_size=80))
def test_any_text_is_taken_or_refused_with_a_field(text: str, other: str, data: bytes) -> None:
    """Nothing but an error of ours comes of it."""
    kinds: list[Kind] = [
        HttpCheck(method=text, path=other),
        HttpCheck(host=text, body=other, headers=((text, other),)),
        HttpCheck(tls=Tls(server_name=text, ca_file=other)),
        GrpcCheck(service=text),
        DnsCheck(name=text, type="TXT", answers=(other,)),
        UdpCheck(payload=data, reply=data),
        SmtpCheck(helo=text),
        ScriptCheck(argv=("/" + text, other)),
    ]
    for kind in kinds:
        try:
            Check(kind=kind).check()
        except InvalidInputError as error:
            assert error.field.startswith("check.")


PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


@given(PRINTABLE, PRINTABLE, PRINTABLE, PRINTABLE)
def test_every_request_that_the_rules_take_can_be_sent(method: str, path: str, name: str, value: str) -> None:
    """The library that writes it has rules of its own."""
    kind = HttpCheck(method=method or "GET", path=f"/{path}", host=value, headers=((name or "X", value),))
    try:
        Check(kind=kind).check()
    except InvalidInputError:
        return
    sent = h11.Connection(h11.CLIENT).send(http_request(kind, target(80)))
    assert sent is not None
    assert sent.startswith(f"{kind.method} /{path} HTTP/1.1\r\n".encode())


NAMES = st.text(st.sampled_from("aZ0_-."), max_size=80) | st.just(".".join(["x" * 62] * 4))


@given(NAMES, st.sampled_from(RECORD_TYPES))
def test_every_question_that_the_rules_take_can_be_asked(name: str, kind: str) -> None:
    check = DnsCheck(name=name, type=kind)
    try:
        Check(kind=check).check()
    except InvalidInputError:
        return
    assert dns_question(check).to_wire()
