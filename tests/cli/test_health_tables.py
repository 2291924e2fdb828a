"""What lvs health show, lvs status and lvs list print of health: pure functions of what directors answer."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from lvsagent.v1 import destination_pb2, health_pb2, ipvs_service_pb2, virtual_server_pb2

from agent_common import wire
from agent_common.check import AgentCheck, Check, DnsCheck, GrpcCheck, HttpCheck, ScriptCheck, TcpCheck, Tls, UdpCheck
from agent_common.destination import DestinationKey
from agent_common.health import Damping, DynamicWeight, Effect, Floor, HealthPolicy, Start, WeightSource
from agent_common.virtual_server import parse_address
from agent_common.wire_health import pack_policy
from cli.destination_table import destination_table
from cli.health_tables import age, check_text, event_lines, health_lines
from cli.list_table import View, table_lines
from cli.policy_text import policy_lines
from cli.reading import table_of
from cli.site import AgentName, Role
from tests.hosts import WEB

NOW = datetime.datetime(2026, 11, 28, 16, 0, 0, tzinfo=datetime.UTC)
RS = DestinationKey(address=parse_address("192.168.0.104", "rs"), port=80)


def before(seconds: int) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(NOW - datetime.timedelta(seconds=seconds))
    return made


def destination(
    last: int, weight: int = 5, current: int | None = None, **health: Any
) -> destination_pb2.DestinationStatus:
    """Return a destination 192.168.0.LAST:80; without fields of health it is not checked."""
    key = destination_pb2.DestinationKey(address=f"192.168.0.{last}", port=80)
    status = destination_pb2.DestinationStatus(
        destination=destination_pb2.Destination(
            key=key, weight=weight, forwarding_method=destination_pb2.FORWARDING_METHOD_DIRECT_ROUTING
        ),
        current_weight=weight if current is None else current,
        managed=True,
    )
    if health:
        checked = health.pop("checked", 1)
        status.health.CopyFrom(destination_pb2.DestinationHealth(**health))
        if checked is not None:
            status.health.checked.CopyFrom(before(int(str(checked))))
            status.health.took.FromMilliseconds(3)
    return status


UP: dict[str, Any] = {"verdict": destination_pb2.VERDICT_UP, "proven": True, "percent": 100, "since": before(192)}
DOWN: dict[str, Any] = {
    "verdict": destination_pb2.VERDICT_DOWN,
    "proven": True,
    "since": before(12),
    "detail": "connection refused",
}
EVERY_STATE = [
    destination(104, **UP, detail="200"),
    destination(105, current=0, **DOWN),
    destination(106, **DOWN, percent=100, note="kept in: 1 of 3 must stay"),
    destination(107, **{**UP, "proven": False}, checked=None),
    destination(108, current=0, **DOWN, removed=True),
    destination(109, current=1, **{**UP, "percent": 20}, detail="200", against=2, note="slow start: 20 %"),
    destination(110),
]


def test_all_of_a_virtual_server_is_shown_and_the_alarm_comes_first() -> None:
    status = health_pb2.HealthStatus(
        virtual_server=wire.pack_key(WEB),
        policy=pack_policy(HealthPolicy(check=Check(kind=HttpCheck(path="/health"), interval=2.0))),
        health=health_pb2.VirtualServerHealth(
            has_quorum=True,
            since=before(90061),
            weight_up=11,
            alarm="3 of 6 destinations are down, 1 of them is kept in",
        ),
        destinations=EVERY_STATE,
    )
    assert health_lines([status], NOW) == SHOWN.splitlines()
    assert health_lines([status], NOW, 200) == SHOWN.splitlines()
    assert health_lines([status], NOW, 80) == NARROW.splitlines()
    assert max(map(len, health_lines([status], NOW, 80))) <= 80
    assert health_lines([], NOW) == ["nothing is checked; this begins it: lvs health set KEY --check KIND"]
    assert health_lines([status, status], NOW).count("") == 1


SHOWN = """\
tcp/192.168.0.200:80  ALARM: 3 of 6 destinations are down, 1 of them is kept in
  has its quorum since 1d01h, weight 11 is up
  http GET /health, every 2 s
  DESTINATION       WEIGHT  KERNEL  STATE        SINCE  LAST ANSWER                NOTE
  192.168.0.104:80  5       5       up           3m12s  200 (3 ms)
  192.168.0.105:80  5       0       down         12s    connection refused (3 ms)
  192.168.0.106:80  5       5       down         12s    connection refused (3 ms)  kept in: 1 of 3 must stay
  192.168.0.107:80  5       5       up?          3m12s  none yet
  192.168.0.108:80  5       -       down         12s    connection refused (3 ms)
  192.168.0.109:80  5       1       up           3m12s  200 (3 ms)                 slow start: 20 %, failed 2 in a row
  192.168.0.110:80  5       5       not checked  -      -
"""

NARROW = """\
tcp/192.168.0.200:80  ALARM: 3 of 6 destinations are down, 1 of them is kept in
  has its quorum since 1d01h, weight 11 is up
  http GET /health, every 2 s
  DESTINATION       WEIGHT  KERNEL  STATE        SINCE  LAST ANSWER
  192.168.0.104:80  5       5       up           3m12s  200 (3 ms)
  192.168.0.105:80  5       0       down         12s    connection refused
                                                        (3 ms)
  192.168.0.106:80  5       5       down         12s    connection refused
                                                        (3 ms)
                                                        kept in: 1 of 3 must
                                                        stay
  192.168.0.107:80  5       5       up?          3m12s  none yet
  192.168.0.108:80  5       -       down         12s    connection refused
                                                        (3 ms)
  192.168.0.109:80  5       1       up           3m12s  200 (3 ms)
                                                        slow start: 20 %, failed
                                                        2 in a row
  192.168.0.110:80  5       5       not checked  -      -
"""


def test_one_that_is_not_watched_yet_has_lost_nothing() -> None:
    """As right after its checks were set: nobody knows anything of its quorum."""
    status = health_pb2.HealthStatus(
        virtual_server=wire.pack_key(WEB), policy=pack_policy(HealthPolicy(check=Check(kind=TcpCheck())))
    )
    assert health_lines([status], NOW) == [
        "tcp/192.168.0.200:80  not watched yet",
        "  tcp, every 5 s",
        "  no destinations",
    ]


def test_a_status_without_checks_is_as_it_was() -> None:
    assert destination_table([destination(104)], NOW, ["ready"]) == [
        "DESTINATION       FORWARD  WEIGHT  ACTIVE  INACTIVE  STATE    ORIGIN  REAL SERVER",
        "192.168.0.104:80  dr       5       0       0         serving  lvs     ready",
    ]


def test_a_status_with_checks_has_the_kernels_weight_and_what_they_see() -> None:
    kept, slow = EVERY_STATE[2], EVERY_STATE[5]
    simple = [each for each in EVERY_STATE if each not in (kept, slow)]
    assert destination_table(simple, NOW) == STATUS.splitlines()
    assert check_text(kept, NOW) == "down 12s: connection refused; kept in: 1 of 3 must stay"
    assert check_text(slow, NOW) == "up 3m12s: 200; slow start: 20 %, failed 2 in a row"


STATUS = """\
DESTINATION       FORWARD  WEIGHT  KERNEL  ACTIVE  INACTIVE  STATE    ORIGIN  CHECK
192.168.0.104:80  dr       5       5       0       0         serving  lvs     up 3m12s
192.168.0.105:80  dr       5       0       0       0         out      lvs     down 12s: connection refused
192.168.0.107:80  dr       5       5       0       0         serving  lvs     up? 3m12s
192.168.0.108:80  dr       5       -       0       0         out      lvs     down 12s: connection refused
192.168.0.110:80  dr       5       5       0       0         serving  lvs     not checked
"""


def test_what_does_not_fit_a_terminal_stands_below_its_row() -> None:
    """First why a check fails, so that the rest keeps its columns; then all that is not as it should be."""
    some = [EVERY_STATE[number] for number in (0, 1, 5, 6)]
    ready = ["ready", "ready", "ANSWERS ARP on eth0", "-"]
    assert destination_table(some, NOW, ready, 150) == destination_table(some, NOW, ready)
    assert destination_table(some, NOW, ready, 120) == MIDDLE.splitlines()
    assert destination_table(some, NOW, ready, 76) == NARROW_STATUS.splitlines()
    assert destination_table([destination(104)], NOW, ["ready"], 76) == [
        "DESTINATION       FORWARD  WEIGHT  ACTIVE  INACTIVE  STATE    REAL SERVER",
        "192.168.0.104:80  dr       5       0       0         serving  ready",
    ]
    some[0].managed = False
    assert destination_table(some[:1], NOW, ["ready"], 80)[1:] == [
        "192.168.0.104:80  dr       5       5       0       0         serving",
        "  foreign",
    ]


MIDDLE = """\
DESTINATION       FORWARD  WEIGHT  KERNEL  ACTIVE  INACTIVE  STATE    ORIGIN  REAL SERVER          CHECK
192.168.0.104:80  dr       5       5       0       0         serving  lvs     ready                up 3m12s
192.168.0.105:80  dr       5       0       0       0         out      lvs     ready                down 12s
  connection refused
192.168.0.109:80  dr       5       1       0       0         serving  lvs     ANSWERS ARP on eth0  up 3m12s
  200; slow start: 20 %, failed 2 in a row
192.168.0.110:80  dr       5       5       0       0         serving  lvs     -                    not checked
"""

NARROW_STATUS = """\
DESTINATION       FORWARD  WEIGHT  KERNEL  ACTIVE  INACTIVE  STATE
192.168.0.104:80  dr       5       5       0       0         serving
192.168.0.105:80  dr       5       0       0       0         out
  check: down 12s: connection refused
192.168.0.109:80  dr       5       1       0       0         serving
  real server: ANSWERS ARP on eth0; check: up 3m12s: 200; slow start: 20 %,
      failed 2 in a row
192.168.0.110:80  dr       5       5       0       0         serving
  not checked
"""


def test_a_weight_of_0_is_told_apart_by_whose_it_is() -> None:
    """The operator's, a drain, the checks', what checks are followed by, or somebody's with ipvsadm."""
    draining = destination(104, current=0, **DOWN)
    draining.destination.draining = True
    wanted = destination(105, weight=0, **UP)
    by_hand = destination(106, current=0, **UP)
    out = destination(107, current=0, **DOWN)
    sorry = destination(108, current=0, **{**UP, "percent": 0}, note="the sorry server serves while the quorum is lost")
    unchecked = destination(109, current=0, verdict=destination_pb2.VERDICT_UNSPECIFIED, percent=0)
    lines = destination_table([draining, wanted, by_hand, out, sorry, unchecked], NOW)
    states = [line[lines[0].index("STATE") :].split("  ")[0].strip() for line in lines[1:]]
    assert states == ["draining", "weight 0", "weight 0", "out", "waiting", "waiting"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m00s"), (192, "3m12s"), (7500, "2h05m"), (367200, "4d06h"), (-5, "0s")],
)
def test_an_age_has_two_units_and_is_never_below_0(seconds: int, text: str) -> None:
    assert age(before(seconds), NOW) == text


def test_an_age_that_nobody_knows() -> None:
    assert age(Timestamp(), NOW) == "?"


def test_events_are_in_the_order_of_time() -> None:
    up = health_pb2.HealthEvent(
        kind=health_pb2.HEALTH_EVENT_KIND_UP,
        time=before(1),
        virtual_server=wire.pack_key(WEB),
        destination=wire.pack_destination_key(RS),
        detail="200",
    )
    alarm = health_pb2.HealthEvent(
        kind=health_pb2.HEALTH_EVENT_KIND_ALARM, time=before(2), virtual_server=wire.pack_key(WEB), detail="all down"
    )
    unknown = health_pb2.HealthEvent(time=before(3), virtual_server=wire.pack_key(WEB))
    director = AgentName(role=Role.DIRECTOR, name="lb1:9710")
    assert event_lines([(director, [unknown, up, alarm])], 72) == [
        "TIME (UTC)           EVENT    VIRTUAL SERVER        DESTINATION",
        "2026-11-28 15:59:59  up       tcp/192.168.0.200:80  192.168.0.104:80",
        "                     200",
        "2026-11-28 15:59:58  ALARM    tcp/192.168.0.200:80  -",
        "                     all down",
        "2026-11-28 15:59:57  event 0  tcp/192.168.0.200:80  -",
    ]
    assert event_lines([(director, [unknown, up, alarm])]) == [
        "TIME (UTC)           EVENT    VIRTUAL SERVER        DESTINATION       DETAIL",
        "2026-11-28 15:59:59  up       tcp/192.168.0.200:80  192.168.0.104:80  200",
        "2026-11-28 15:59:58  ALARM    tcp/192.168.0.200:80  -                 all down",
        "2026-11-28 15:59:57  event 0  tcp/192.168.0.200:80  -",
    ]


def server(*destinations: destination_pb2.DestinationStatus) -> ipvs_service_pb2.GetVirtualServerResponse:
    status = virtual_server_pb2.VirtualServerStatus(
        virtual_server=virtual_server_pb2.VirtualServer(key=wire.pack_key(WEB), scheduler="wlc")
    )
    return ipvs_service_pb2.GetVirtualServerResponse(status=status, destinations=destinations)


def test_lvs_list_shows_what_ipvsadm_does_and_lvs_save_what_the_operator_wants() -> None:
    found = server(destination(104, current=0, **DOWN), destination(105, current=0, **DOWN, removed=True))
    listed = list(table_lines([found], View.CONNECTIONS))
    assert [line.split() for line in listed[3:]] == [["->", "192.168.0.104:80", "Route", "0", "0", "0"]]
    saved = table_of([found])[WEB].destinations
    assert {str(key): each.weight for key, each in saved.items()} == {"192.168.0.104:80": 5, "192.168.0.105:80": 5}


@pytest.mark.parametrize(
    ("policy", "lines"),
    [
        (HealthPolicy(check=Check(kind=TcpCheck())), ["tcp, every 5 s"]),
        (
            HealthPolicy(
                check=Check(
                    kind=AgentCheck(),
                    port=81,
                    interval=1.0,
                    timeout=0.5,
                    rise=1,
                    fall=1,
                    through_vip=True,
                    agent_port=99,
                )
            ),
            ["agent, port 81, every 1 s, timeout 0.5 s, rise 1, fall 1, through the VIP, agent port 99"],
        ),
        (HealthPolicy(check=Check(kind=TcpCheck(), interval=1.0, timeout=1.0)), ["tcp, every 1 s"]),
        (
            HealthPolicy(check=Check(kind=HttpCheck(headers=(("Authorization", "Basic c2VjcmV0"),)))),
            ["http GET / with Authorization: ..., every 5 s"],
        ),
        (
            HealthPolicy(
                check=Check(
                    kind=HttpCheck(
                        method="HEAD",
                        path="/a",
                        host="h",
                        headers=(("X", "y"),),
                        statuses=((200, 204), (301, 301)),
                    )
                )
            ),
            ["http HEAD /a of h with X: y = 200-204 or 301, every 5 s"],
        ),
        (
            HealthPolicy(check=Check(kind=HttpCheck(host="h", body="ok\n", tls=Tls(server_name="h")))),
            ['https GET / of h with "ok?" in the body, every 5 s'],
        ),
        (
            HealthPolicy(check=Check(kind=HttpCheck(tls=Tls(server_name="n", ca_file="/ca")))),
            ["https GET / TLS as n by /ca, every 5 s"],
        ),
        (
            HealthPolicy(check=Check(kind=HttpCheck(tls=Tls(verify=False)))),
            ["https GET / TLS without verification, every 5 s"],
        ),
        (HealthPolicy(check=Check(kind=GrpcCheck(service="a.B"))), ["grpc a.B, every 5 s"]),
        (HealthPolicy(check=Check(kind=GrpcCheck(tls=Tls(server_name="n")))), ["grpc TLS as n, every 5 s"]),
        (
            HealthPolicy(check=Check(kind=DnsCheck(name="a.b", type="MX", answers=("1 m.", "2 n."), tcp=True))),
            ["dns a.b MX = 1 m. or 2 n. over TCP, every 5 s"],
        ),
        (
            HealthPolicy(check=Check(kind=UdpCheck(payload=b"ping", reply=b"\x00\xff"))),
            ['udp "ping" and a reply that begins with 0x00ff, every 5 s'],
        ),
        (HealthPolicy(check=Check(kind=UdpCheck(reply=b""))), ["udp and any reply, every 5 s"]),
        (
            HealthPolicy(check=Check(kind=ScriptCheck(argv=("/bin/a", "b c")))),
            ["script /bin/a 'b c', every 5 s"],
        ),
        (
            HealthPolicy(
                check=Check(kind=HttpCheck()),
                start=Start.UP,
                effect=Effect.REMOVE,
                slow_start=30.0,
                dynamic_weight=DynamicWeight(source=WeightSource.HTTP_HEADER, header="X-Load"),
                quorum=3,
                hysteresis=1,
                sorry=RS,
                floor=Floor(percent=50),
                damping=Damping(falls=5),
                max_changes=7,
                up_command=("/bin/up",),
                down_command=("/bin/down", "a b"),
            ),
            [
                "http GET /, every 5 s",
                "start up, effect remove, slow start 30 s, weight by http-header:X-Load, 10 to 100 %, quorum 3 ± 1, "
                "sorry server 192.168.0.104:80, floor 50 %, held out 120 s after 5 falls in 600 s, "
                "at most 7 changes a second, up command /bin/up, down command /bin/down 'a b'",
            ],
        ),
        (
            HealthPolicy(check=Check(kind=TcpCheck()), damping=Damping(hold=0.0), floor=Floor(destinations=0)),
            ["tcp, every 5 s", "floor 0, never held out"],
        ),
        (
            HealthPolicy(check=Check(kind=TcpCheck()), overrides={RS: None}),
            ["tcp, every 5 s", "192.168.0.104:80: not checked"],
        ),
        (
            HealthPolicy(check=Check(kind=TcpCheck()), overrides={RS: Check(kind=TcpCheck(), port=81)}),
            ["tcp, every 5 s", "192.168.0.104:80: tcp, port 81, every 5 s"],
        ),
        (
            HealthPolicy(check=Check(kind=HttpCheck(body="x" * 200))),
            [f'http GET / with "{"x" * 57}..." in the body, every 5 s'],
        ),
    ],
)
def test_a_policy_is_told_by_what_differs_from_the_defaults(policy: HealthPolicy, lines: list[str]) -> None:
    assert policy_lines(policy) == lines
