"""add-backend sends clients to nobody who does not pass the check of the virtual server first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.servers import nginx
from lab.servers.server import Server
from lab.site import VIP
from tests.lab.health_site import moment, weights
from tests.lab.operator import Operator

ONE_SIXTH = True

WEB = 8080
KEY = f"tcp/{VIP}:{WEB}"
ADDRESSES = {"192.168.0.104": "rs1", "192.168.0.105": "rs2"}
CHECK = ("--check", "http", "--path", "/health", "--interval", "0.5", "--check-timeout", "0.4", "--rise", "2")


@pytest.fixture
def servers(operator: Operator) -> Iterator[list[Server]]:
    """One real server behind the VIP, which is checked, and another that is not there yet."""
    answers = {"/health": nginx.Answer(body="well"), "/": nginx.Answer(body="hello")}
    found = [nginx.start(host, port=WEB, paths=answers) for host in operator.site.real_servers]
    operator.lvs("add-backend", "--vip", f"{VIP}:{WEB}", "--rs", "192.168.0.104")
    operator.lvs("health", "set", KEY, *CHECK)
    yield found
    operator.lvs(
        "remove-backend",
        "--vip",
        f"{VIP}:{WEB}",
        "--no-drain",
        "--prune",
        "--force",
        "--rs",
        "192.168.0.104",
        "--rs",
        "192.168.0.105",
    )
    for each in found:
        each.stop()


def table(operator: Operator) -> dict[str, int]:
    return weights(operator.site.director, ADDRESSES)


def test_who_passes_is_added_and_serves_at_once(operator: Operator, servers: list[Server]) -> None:
    done = operator.lvs("add-backend", "--vip", f"{VIP}:{WEB}", "--rs", "192.168.0.105")
    assert table(operator) == {"rs1": 1, "rs2": 1}
    assert "check" in done.stdout + done.stderr


def test_who_fails_is_not_added_and_all_is_as_before(operator: Operator, servers: list[Server]) -> None:
    """The reason is the check's own; the real server has no VIP either."""
    nginx.change(servers[1], {"/health": nginx.Answer(status=503, body="ill")})
    before = operator.snapshots()
    arguments = ("add-backend", "--vip", f"{VIP}:{WEB}", "--rs", "192.168.0.105", "--ready-timeout", "2")
    document = operator.lvs_json(*arguments, status=10)
    assert "503" in document["message"]
    assert table(operator) == {"rs1": 1}
    assert operator.differences(before) == ""


def test_who_becomes_well_in_time_is_added(operator: Operator, servers: list[Server]) -> None:
    nginx.change(servers[1], {"/health": nginx.Answer(status=503, body="ill")})
    well = threading.Timer(2.0, lambda: nginx.change(servers[1], {"/health": nginx.Answer(body="well")}))
    well.start()
    operator.lvs("add-backend", "--vip", f"{VIP}:{WEB}", "--rs", "192.168.0.105", "--ready-timeout", "10")
    well.join()
    assert table(operator) == {"rs1": 1, "rs2": 1}


def test_without_the_gate_a_new_one_begins_with_weight_zero(operator: Operator, servers: list[Server]) -> None:
    servers[1].kill()
    operator.lvs("add-backend", "--vip", f"{VIP}:{WEB}", "--rs", "192.168.0.105", "--no-ready-check")
    assert table(operator) == {"rs1": 1, "rs2": 0}


def test_a_saved_table_brings_back_how_it_is_checked(operator: Operator, servers: list[Server], tmp_path: Path) -> None:
    """After everything was flushed: the weights, the policy, and that who is dead goes out."""
    operator.lvs("add-backend", "--vip", f"{VIP}:{WEB}", "--rs", "192.168.0.105")
    policy = _policy(operator.lvs("health", "show", KEY).stdout)
    saved = tmp_path / "table.json"
    saved.write_text(operator.lvs("--output", "json", "save").stdout)
    operator.lvs("flush", "--yes")
    assert table(operator) == {}
    operator.lvs("restore", str(saved))
    assert table(operator) == {"rs1": 1, "rs2": 1}
    assert _policy(operator.lvs("health", "show", KEY).stdout) == policy
    servers[1].kill()
    moment(lambda: table(operator) == {"rs1": 1, "rs2": 0}, 5)


IMPOSSIBLE = (
    (("--check", "https", "--path", "/"), "server_name"),
    (("--interval", "1", "--check-timeout", "2"), "timeout"),
    (("--check", "script", "--command", "/bin/true"), "script_dir"),
    (("--quorum", "2"), "quorum"),
    (("--check", "agent", "--through-vip"), "through"),
    (("--slow-start", "5000"), "slow"),
    (("--floor", "101%"), "floor"),
)


def test_an_impossible_check_is_refused_with_the_rule_and_changes_nothing(
    operator: Operator, servers: list[Server]
) -> None:
    before = operator.lvs("health", "show", KEY).stdout
    for options, rule in IMPOSSIBLE:
        done = operator.lvs("health", "set", KEY, *options, status=None)
        assert done.returncode in (2, 13)
        assert rule in done.stderr
    assert _policy(operator.lvs("health", "show", KEY).stdout) == _policy(before)


def _policy(shown: str) -> list[str]:
    """What is said of the policy itself."""
    return shown.splitlines()[1:2]
