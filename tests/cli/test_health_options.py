"""lvs health set, from its options to a policy: what is not given stays, and what is wrong is named by its option."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
import typer

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
)
from agent_common.destination import DestinationKey
from agent_common.errors import InvalidInputError
from agent_common.health import Damping, DynamicWeight, Effect, Floor, HealthPolicy, Start, WeightSource
from agent_common.virtual_server import parse_address, parse_key
from cli import cmd_health_set
from cli.health_options import HealthOptions, apply
from cli.health_request import read_options

KEY = "tcp/192.168.0.200:80"
RS1 = DestinationKey(address=parse_address("192.168.0.104", "rs"), port=80)
RS2 = DestinationKey(address=parse_address("192.168.0.105", "rs"), port=8080)

TCP = HealthPolicy(check=Check(kind=TcpCheck()))
HEALTH = HttpCheck(path="/health", host="www.example.org", headers=(("X-A", "1"),), body="ok")
HTTP = HealthPolicy(
    check=Check(
        kind=HEALTH,
        port=8080,
        interval=1.0,
        timeout=0.5,
        rise=1,
        fall=2,
        through_vip=True,
        agent_port=9712,
    )
)
HTTPS = replace(HTTP, check=replace(HTTP.check, kind=replace(HEALTH, tls=Tls(server_name="www.example.org"))))


def read(*words: str, key: str = KEY) -> HealthOptions:
    """Return what the words behind lvs health set KEY ask for."""
    app = typer.Typer()
    app.command()(cmd_health_set.set_health)
    context = typer.main.get_command(app).make_context("set", [key, *words])
    return read_options(parse_key(key), context.params)


def meant(policy: HealthPolicy | None, *words: str, key: str = KEY) -> HealthPolicy:
    """Return the policy that these words make of one that is there."""
    return apply(read(*words, key=key), policy)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("--check tcp", TcpCheck()),
        ("--check http", HttpCheck()),
        (
            "--check http --method HEAD --path /a?b=c --host h:81 --header X-A:1 --header X-B:2:3 "
            "--status 200-299 --status 404",
            HttpCheck(
                method="HEAD",
                path="/a?b=c",
                host="h:81",
                headers=(("X-A", "1"), ("X-B", "2:3")),
                statuses=((200, 299), (404, 404)),
            ),
        ),
        ("--check http --body ok", HttpCheck(body="ok")),
        (
            "--check https --host www.example.org:444",
            HttpCheck(host="www.example.org:444", tls=Tls(server_name="www.example.org")),
        ),
        (
            "--check https --host [2001:db8::1]:444",
            HttpCheck(host="[2001:db8::1]:444", tls=Tls(server_name="2001:db8::1")),
        ),
        ("--check https --server-name a --ca-file /ca.pem", HttpCheck(tls=Tls(server_name="a", ca_file="/ca.pem"))),
        ("--check https --no-verify", HttpCheck(tls=Tls(verify=False))),
        ("--check grpc", GrpcCheck()),
        ("--check grpc --grpc-service a.B", GrpcCheck(service="a.B")),
        ("--check grpc --tls --server-name a", GrpcCheck(tls=Tls(server_name="a"))),
        ("--check dns --name example.org", DnsCheck(name="example.org")),
        (
            "--check dns --name example.org --type AAAA --answer 2001:db8::1 --answer 2001:db8::2 --tcp",
            DnsCheck(name="example.org", type="AAAA", answers=("2001:db8::1", "2001:db8::2"), tcp=True),
        ),
        ("--check udp", UdpCheck()),
        ("--check udp --payload ping --reply 0x706f6e67", UdpCheck(payload=b"ping", reply=b"pong")),
        ("--check udp --payload 0x00ff --reply ''", UdpCheck(payload=b"\x00\xff", reply=b"")),
        ("--check icmp", IcmpCheck()),
        ("--check smtp", SmtpCheck()),
        ("--check smtp --helo lb1.example.org", SmtpCheck(helo="lb1.example.org")),
        ("--check script --command '/usr/lib/check \"a b\" c'", ScriptCheck(argv=("/usr/lib/check", "a b", "c"))),
        ("--check agent", AgentCheck()),
    ],
)
def test_each_kind_of_check_has_its_options(words: str, kind: Kind) -> None:
    assert meant(None, *shlex.split(words)) == HealthPolicy(check=Check(kind=kind))


def test_when_and_where_is_asked() -> None:
    words = (
        "--check tcp --port 8080 --interval 1.5 --check-timeout 0.5 --rise 1 --fall 5 --through-vip --agent-port 9712"
    )
    expected = Check(
        kind=TcpCheck(), port=8080, interval=1.5, timeout=0.5, rise=1, fall=5, through_vip=True, agent_port=9712
    )
    assert meant(None, *words.split()).check == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--start up", replace(TCP, start=Start.UP)),
        ("--effect remove", replace(TCP, effect=Effect.REMOVE)),
        ("--effect weight-zero", replace(TCP, effect=Effect.WEIGHT_ZERO)),
        ("--slow-start 30", replace(TCP, slow_start=30.0)),
        ("--quorum 5 --hysteresis 2", replace(TCP, quorum=5, hysteresis=2)),
        (
            "--up-command '/bin/a b' --down-command /bin/c",
            replace(TCP, up_command=("/bin/a", "b"), down_command=("/bin/c",)),
        ),
        ("--sorry 192.168.0.104", replace(TCP, sorry=RS1)),
        ("--sorry 192.168.0.105:8080", replace(TCP, sorry=RS2)),
        ("--floor 2", replace(TCP, floor=Floor(destinations=2))),
        ("--floor 0", replace(TCP, floor=Floor(destinations=0))),
        ("--floor 50%", replace(TCP, floor=Floor(percent=50))),
        ("--damping-falls 5", replace(TCP, damping=Damping(falls=5))),
        ("--damping-window 60 --damping-hold 0", replace(TCP, damping=Damping(window=60.0, hold=0.0))),
        ("--max-changes 7", replace(TCP, max_changes=7)),
    ],
)
def test_each_option_of_a_policy_sets_what_it_names(words: str, expected: HealthPolicy) -> None:
    assert meant(TCP, *shlex.split(words)) == expected
    assert meant(expected, *shlex.split(words)) == expected


@pytest.mark.parametrize(
    ("policy", "words", "expected"),
    [
        (replace(TCP, effect=Effect.REMOVE), "--effect default", TCP),
        (replace(TCP, slow_start=9.0), "--slow-start 0", TCP),
        (replace(TCP, sorry=RS1), "--sorry none", TCP),
        (replace(TCP, up_command=("/a",), down_command=("/b",)), "--up-command '' --down-command ''", TCP),
        (replace(HTTP, dynamic_weight=DynamicWeight(source=WeightSource.HTTP_BODY)), "--dynamic-weight off", HTTP),
    ],
)
def test_what_was_set_can_be_ended(policy: HealthPolicy, words: str, expected: HealthPolicy) -> None:
    assert meant(policy, *shlex.split(words)) == expected


class TestDynamicWeight:
    """Where it comes from, and its bounds."""

    def test_each_source(self) -> None:
        header = DynamicWeight(source=WeightSource.HTTP_HEADER, header="X-Weight")
        assert meant(HTTP, "--dynamic-weight", "http-header:X-Weight").dynamic_weight == header
        body = DynamicWeight(source=WeightSource.HTTP_BODY)
        assert meant(HTTP, "--dynamic-weight", "http-body").dynamic_weight == body
        agent = DynamicWeight(source=WeightSource.AGENT_LOAD, min_percent=20, max_percent=200)
        words = "--check agent --dynamic-weight agent-load --min-percent 20 --max-percent 200"
        assert meant(None, *words.split()).dynamic_weight == agent

    def test_bounds_that_are_not_given_stay(self) -> None:
        was = DynamicWeight(source=WeightSource.HTTP_BODY, min_percent=50, max_percent=500)
        policy = replace(HTTP, dynamic_weight=was)
        assert meant(policy, "--min-percent", "70").dynamic_weight == replace(was, min_percent=70)
        assert meant(policy, "--path", "/x").dynamic_weight == was
        expected = replace(was, source=WeightSource.HTTP_HEADER, header="X")
        assert meant(policy, "--dynamic-weight", "http-header:X").dynamic_weight == expected

    def test_bounds_without_a_source_are_refused(self) -> None:
        assert refusal(TCP, "--max-percent", "90") == "max_percent: goes with --dynamic-weight"
        policy = replace(HTTP, dynamic_weight=DynamicWeight(source=WeightSource.HTTP_BODY))
        assert (
            refusal(policy, "--dynamic-weight", "off", "--min-percent", "9")
            == "min_percent: goes with --dynamic-weight"
        )


class TestWhatIsNotGivenStays:
    """Of the check and of the policy."""

    def test_one_option_of_a_kind_changes_that_alone(self) -> None:
        kind = HTTP.check.kind
        assert isinstance(kind, HttpCheck)
        expected = replace(HTTP, check=replace(HTTP.check, kind=replace(kind, path="/x")))
        assert meant(HTTP, "--path", "/x") == expected
        assert meant(HTTP, "--check", "http", "--path", "/x") == expected
        assert meant(HTTP, "--fall", "9") == replace(HTTP, check=replace(HTTP.check, fall=9))

    def test_a_list_is_given_as_a_whole(self) -> None:
        assert meant(HTTP, "--header", "X-B: 2").check.kind == replace_kind(HTTP, headers=(("X-B", "2"),))
        assert meant(HTTP, "--header", "").check.kind == replace_kind(HTTP, headers=())
        both = meant(HTTP, "--status", "200", "--status", "301-302")
        assert both.check.kind == replace_kind(HTTP, statuses=((200, 200), (301, 302)))
        assert meant(both, "--status", "").check.kind == HTTP.check.kind
        assert meant(HTTP, "--body", "").check.kind == replace_kind(HTTP, body="")

    def test_another_kind_keeps_when_and_where_it_asks_and_nothing_of_what(self) -> None:
        assert meant(HTTP, "--check", "tcp") == replace(HTTP, check=replace(HTTP.check, kind=TcpCheck()))
        assert meant(meant(HTTP, "--check", "tcp"), "--check", "http").check.kind == HttpCheck()

    def test_what_cannot_be_asked_through_the_vip_is_asked_directly(self) -> None:
        check = meant(HTTP, "--check", "icmp").check
        assert (check.kind, check.through_vip, check.interval) == (IcmpCheck(), False, 1.0)

    def test_https_is_http_with_tls_and_back(self) -> None:
        assert meant(HTTP, "--check", "https") == HTTPS
        assert meant(HTTPS, "--check", "http") == HTTP

    def test_a_name_that_nobody_has_chosen_follows_the_host(self) -> None:
        kind = meant(HTTPS, "--host", "other.example.org").check.kind
        assert isinstance(kind, HttpCheck)
        assert kind.tls == Tls(server_name="other.example.org")
        chosen = meant(HTTPS, "--server-name", "chosen.example.org")
        kind = meant(chosen, "--host", "other.example.org").check.kind
        assert isinstance(kind, HttpCheck)
        assert kind.tls == Tls(server_name="chosen.example.org")

    def test_a_ca_goes_with_the_verification(self) -> None:
        verified = meant(None, *["--check", "https", "--server-name", "a", "--ca-file", "/ca.pem"])
        assert meant(verified, "--no-verify").check.kind == HttpCheck(tls=Tls(server_name="a", verify=False))
        with pytest.raises(InvalidInputError, match="ca_file: not where verification is off"):
            meant(verified, "--no-verify", "--ca-file", "/other.pem")

    def test_tls_of_grpc_is_ended(self) -> None:
        policy = meant(None, "--check", "grpc", "--tls", "--server-name", "n")
        assert policy.check.kind == GrpcCheck(tls=Tls(server_name="n"))
        assert meant(policy, "--check", "grpc", "--tls") == policy
        assert meant(policy, "--grpc-service", "a").check.kind == GrpcCheck(service="a", tls=Tls(server_name="n"))
        assert meant(policy, "--no-tls").check.kind == GrpcCheck()

    def test_no_reply_is_expected_any_more(self) -> None:
        policy = meant(None, "--check", "udp", "--payload", "a", "--reply", "b")
        assert meant(policy, "--no-reply").check.kind == UdpCheck(payload=b"a")

    def test_a_timeout_that_nobody_has_chosen_is_no_longer_than_the_interval(self) -> None:
        assert meant(None, "--check", "tcp", "--interval", "1").check.timeout == 1.0
        assert meant(TCP, "--interval", "1").check.timeout == 1.0

    def test_a_timeout_that_is_there_already_is_named_as_such(self) -> None:
        """Whether somebody has chosen it, or it came with an interval, the policy does not say."""
        there = "it is there already, so give --check-timeout, too"
        said = f"check_timeout: 0.5 s is longer than the interval (0.2 s); {there}"
        assert refusal(HTTP, "--interval", "0.2") == said
        policy = meant(meant(TCP, "--interval", "1"), "--interval", "5")
        said = f"check_timeout: 1 s is longer than the interval (0.5 s); {there}"
        assert refusal(policy, "--interval", "0.5") == said
        assert refusal(policy, "--rs", "192.168.0.104", "--interval", "0.5") == said


def replace_kind(policy: HealthPolicy, **fields: object) -> Kind:
    kind = policy.check.kind
    assert isinstance(kind, HttpCheck)
    return replace(kind, **fields)  # type: ignore[arg-type]


class TestOfOneDestination:
    """With --rs the check is an override."""

    def test_it_begins_as_the_check_of_all(self) -> None:
        policy = meant(HTTP, "--rs", "192.168.0.105:8080", "--port", "81")
        assert policy == replace(HTTP, overrides={RS2: replace(HTTP.check, port=81)})
        again = meant(policy, "--rs", "192.168.0.105:8080", "--fall", "9")
        assert again.overrides == {RS2: replace(HTTP.check, port=81, fall=9)}

    def test_it_has_the_port_of_the_virtual_server(self) -> None:
        assert meant(TCP, "--rs", "192.168.0.104", "--check", "icmp").overrides.keys() == {RS1}
        marked = DestinationKey(address=RS1.address, port=0)
        assert meant(TCP, "--rs", "192.168.0.104", "--check", "icmp", key="fwmark/7").overrides.keys() == {marked}

    def test_it_is_not_checked_and_then_as_the_others(self) -> None:
        policy = meant(TCP, "--rs", "192.168.0.104", "--check", "none")
        assert policy == replace(TCP, overrides={RS1: None})
        assert meant(policy, "--rs", "192.168.0.104", "--check", "inherit") == TCP
        assert meant(TCP, "--rs", "192.168.0.104", "--check", "inherit") == TCP
        assert meant(policy, "--rs", "192.168.0.104", "--check", "tcp").overrides == {RS1: TCP.check}

    def test_the_sorry_server_has_none_to_begin_with(self) -> None:
        said = "check: must be given: 192.168.0.105:8080 is not checked"
        policy = replace(HTTP, sorry=RS2)
        assert refusal(policy, "--rs", "192.168.0.105:8080", "--port", "81") == said
        own = meant(policy, "--rs", "192.168.0.105:8080", "--check", "tcp", "--port", "81")
        assert own.check_of(RS2) == own.overrides[RS2]

    def test_the_policy_can_be_changed_beside_it(self) -> None:
        policy = meant(TCP, "--rs", "192.168.0.104", "--check", "none", "--quorum", "2")
        assert policy == replace(TCP, overrides={RS1: None}, quorum=2)


def refusal(policy: HealthPolicy | None, *words: str) -> str:
    """Return what is said of options that are refused, and see that the field is the option."""
    with pytest.raises(InvalidInputError) as caught:
        meant(policy, *words)
    assert caught.value.message.startswith((caught.value.field, "health set:"))
    return caught.value.message


@pytest.mark.parametrize(
    ("policy", "words", "said"),
    [
        (None, "--interval 2", "check: must be given: there are no health checks yet"),
        (None, "--quorum 2", "check: must be given: there are no health checks yet"),
        (
            None,
            "--rs 192.168.0.104 --check tcp",
            "rs: there are no health checks yet; set those of all destinations first",
        ),
        (
            replace(TCP, overrides={RS1: None}),
            "--rs 192.168.0.104 --port 81",
            "check: must be given: 192.168.0.104:80 is not checked",
        ),
        (TCP, "--path /x", "path: does not belong to a check of kind tcp"),
        (TCP, "--no-tls", "tls: does not belong to a check of kind tcp"),
        (HTTP, "--server-name a", "server_name: does not belong to a check of kind http; use --check https"),
        (HTTP, "--helo a", "helo: does not belong to a check of kind http"),
        (HTTP, "--status 99", "status: 99-99 is no range of status codes (200 to 599)"),
        (HTTP, "--body x --method HEAD", "body: an answer to HEAD has none"),
        (HTTP, "--header Host:a", "header: Host is set by the check itself"),
        (HTTP, "--through-vip --check agent", "through_vip: not with a check of kind agent"),
        (HTTP, "--check-timeout 3", "check_timeout: 3 s is longer than the interval (1 s)"),
        (
            replace(HTTP, dynamic_weight=DynamicWeight(source=WeightSource.HTTP_BODY)),
            "--check tcp",
            "dynamic_weight: http-body is not to be had of a check of kind tcp; --dynamic-weight off ends it",
        ),
        (
            replace(HTTP, check=replace(HTTP.check, kind=HttpCheck(method="HEAD"))),
            "--dynamic-weight http-body",
            "dynamic_weight: an answer to HEAD has none",
        ),
        (TCP, "--dynamic-weight agent-load", "dynamic_weight: agent-load is not to be had of a check of kind tcp"),
        (
            HTTP,
            "--dynamic-weight http-body --min-percent 101",
            "min_percent: 101 to 100 percent is no range (1 to 1000)",
        ),
        (TCP, "--hysteresis 1", "hysteresis: 1 must be less than the quorum (1)"),
        (
            None,
            "--check https",
            "server_name: must be set: without a name the certificate cannot be verified; or switch verification off",
        ),
        (None, "--check dns", "name: must be given with --check dns"),
        (None, "--check script", "command: must be given with --check script"),
        (TCP, "--rs 192.168.0.104 --check-timeout 9", "check_timeout: 9 s is longer than the interval (5 s)"),
    ],
)
def test_what_does_not_go_with_what_is_there_is_told_by_its_option(
    policy: HealthPolicy | None, words: str, said: str
) -> None:
    assert refusal(policy, *shlex.split(words)) == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "health set: give at least one option to change"),
        ("--rs 192.168.0.104", "rs: goes with options of a check, or --check none or inherit"),
        ("--rs 192.168.0.104 --quorum 2", "rs: goes with options of a check, or --check none or inherit"),
        ("--check none", "check: none goes with --rs; lvs health remove ends all checks"),
        ("--check inherit", "check: inherit goes with --rs; lvs health remove ends all checks"),
        ("--rs 192.168.0.104 --check none --port 3", "port: not with --check none"),
        ("--check ping", "check: 'ping' is unknown; use tcp, http, https, grpc, dns, udp, icmp, smtp, script or agent"),
        ("--check tcp --path /x", "path: does not belong to a check of kind tcp"),
        ("--check http --ca-file /a", "ca_file: does not belong to a check of kind http; use --check https"),
        ("--check https --tls", "tls: does not belong to a check of kind https"),
        ("--check grpc --ca-file /a", "ca_file: does not belong to a check of kind grpc; give --tls, too"),
        ("--check https --ca-file a", "ca_file: 'a' is not a whole path"),
        ("--check http --path x", "path: 'x' must begin with / and be printable ASCII without blanks, as in a URL"),
        ("--check http --path /ä", "path: '/ä' must begin with / and be printable ASCII without blanks, as in a URL"),
        (f"--check http --path /{'x' * 1024}", "path: 1025 octets are not 1 to 1024"),
        ("--check http --method G1", "method: 'G1' is no method in capitals, such as GET"),
        ("--check http --host 'a b'", "host: 'a b' is no host"),
        ("--check http --header X", "header: cannot read 'X'; write NAME:VALUE"),
        ("--check http --status 2xx", "status: cannot read '2xx'; write 200 or 200-299"),
        ("--check http --status 299-200", "status: 299-200 is no range of status codes (200 to 599)"),
        ("--check dns --name a..b", "name: 'a..b' is no name to ask for"),
        ("--check dns --type MD", f"type: 'MD' is not one of {', '.join(RECORD_TYPES)}"),
        ("--check dns --type AAAA --answer 192.0.2.1", "answer: '192.0.2.1' is no IPv6 address, as AAAA has"),
        ("--check grpc --tls --no-verify", "verify: grpcio always verifies; give a server_name and a ca_file"),
        ("--check udp --payload 0x0", "payload: '0x0' is not hexadecimal; write an even number of digits behind 0x"),
        ("--check udp --reply 0xzz", "reply: '0xzz' is not hexadecimal; write an even number of digits behind 0x"),
        ("--check udp --reply x --no-reply", "no_reply: not with --reply"),
        ("--check udp --reply '' --no-reply", "no_reply: not with --reply"),
        ("--check tcp --no-reply", "no_reply: does not belong to a check of kind tcp"),
        ("--rs 192.168.0.104 --check none --no-reply", "no_reply: not with --check none"),
        ("--check smtp --helo 'a b'", "helo: 'a b' is no host name"),
        ("--check script --command ls", "command: must begin with a program's whole path; no shell looks for it"),
        ('--check script --command "/bin/a \'b"', 'command: cannot read "/bin/a \'b": no closing quotation'),
        ("--port 65536", "port: 65536 is not a port (0 to 65535)"),
        ("--agent-port 0", "agent_port: 0 is not a port (1 to 65535)"),
        ("--interval 0", "interval: 0 s is out of range (0.1 s to 3600 s)"),
        ("--interval nan", "interval: nan s is out of range (0.1 s to 3600 s)"),
        ("--interval 1 --check-timeout 2", "check_timeout: 2 s is longer than the interval (1 s)"),
        ("--check-timeout 0", "check_timeout: 0 s is out of range (0.01 s to 3600 s)"),
        ("--rise 0", "rise: 0 is out of range (1 to 100)"),
        ("--fall 101", "fall: 101 is out of range (1 to 100)"),
        ("--start maybe", "start: 'maybe' is unknown; use down or up"),
        ("--effect none", "effect: 'none' is unknown; use weight-zero, remove or default"),
        ("--slow-start 0.5", "slow_start: 0.5 s is out of range (1 s to 3600 s)"),
        ("--slow-start=-1", "slow_start: -1 s is out of range (1 s to 3600 s)"),
        (
            "--dynamic-weight load",
            "dynamic_weight: 'load' is unknown; use agent-load, http-body, script-status, http-header:NAME or off",
        ),
        (
            "--dynamic-weight http-header",
            "dynamic_weight: 'http-header' is unknown; use agent-load, http-body, script-status, http-header:NAME "
            "or off",
        ),
        ("--min-percent 0", "min_percent: 0 is out of range (1 to 1000)"),
        ("--max-percent 1001", "max_percent: 1001 is out of range (1 to 1000)"),
        ("--quorum 0", "quorum: 0 is out of range (1 to 2147483647)"),
        ("--quorum 2 --hysteresis 2", "hysteresis: 2 must be less than the quorum (2)"),
        ("--hysteresis=-1", "hysteresis: -1 is out of range (0 to 2147483646)"),
        ("--hysteresis 2147483647", "hysteresis: 2147483647 is out of range (0 to 2147483646)"),
        ("--up-command reboot", "up_command: must begin with a program's whole path; no shell looks for it"),
        ("--sorry somewhere", "sorry: 'somewhere' is not an IPv4 or IPv6 address"),
        ("--floor 1001", "floor: 1001 is out of range (0 to 1000)"),
        ("--floor 101%", "floor: 101 % is out of range (0 to 100)"),
        ("--floor half", "floor: cannot read 'half'; write a number of destinations, or N%"),
        ("--damping-falls 1", "damping_falls: 1 is out of range (2 to 100)"),
        ("--damping-window 0", "damping_window: 0 s is out of range (1 s to 86400 s)"),
        ("--damping-hold=-1", "damping_hold: -1 s is out of range (0 s to 86400 s)"),
        ("--max-changes 0", "max_changes: 0 is out of range (1 to 1000)"),
    ],
)
def test_what_is_wrong_whatever_is_there_is_told_before_any_agent_is_asked(words: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(*shlex.split(words))
    assert caught.value.message == said
    assert said.startswith((caught.value.field, "health set:"))


def test_a_check_of_another_destination_that_is_wrong_is_named() -> None:
    """It was set by something else: no option of this command is to blame."""
    policy = replace(TCP, overrides={RS2: replace(TCP.check, timeout=9.0)})
    said = "check_timeout of 192.168.0.105:8080: 9 s is longer than the interval (5 s)"
    assert refusal(policy, "--quorum", "2") == said
