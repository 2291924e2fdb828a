"""Settings of the command line, and the site that they make."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from agent_common.endpoint import Endpoint, TlsFiles
from agent_common.errors import InvalidInputError
from agent_common.settings import Value
from agent_common.vip import VipMode
from cli import settings
from cli.settings import DEFAULTS, load_settings, make_site
from cli.site import AgentName, Role, Site, real_server

RS = ip_address("192.168.0.104")
HAS_LOCAL_AGENT = any(each.exists() for each in settings.LOCAL_SOCKETS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without settings, whatever the one who runs the tests has."""
    for key in (*DEFAULTS, "config"):
        monkeypatch.delenv(f"LVS_{key.upper()}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def values(**flags: Value | None) -> dict[str, Value]:
    return load_settings(flags, None)


def site(**flags: Value | None) -> Site:
    return make_site(values(**{"director": ("127.0.0.1",), **flags}))


def refused(field: str, **flags: Value | None) -> str:
    with pytest.raises(InvalidInputError) as caught:
        site(**flags)
    assert caught.value.field == field
    return caught.value.message


def test_the_users_file_is_read_without_being_named(home: Path) -> None:
    (home / "lvs").mkdir()
    (home / "lvs" / "cli.toml").write_text('director = ["d1", "d2:1"]\nvip_mode = "external"\n')
    made = make_site(values())
    assert made.directors == (Endpoint(host="d1", port=9710), Endpoint(host="d2", port=1))
    assert made.vip_mode is VipMode.EXTERNAL


def test_a_file_is_named_by_option_or_variable_and_the_option_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "variable.toml").write_text("timeout = 1\n")
    (home / "option.toml").write_text("timeout = 2\n")
    monkeypatch.setenv("LVS_CONFIG", str(home / "variable.toml"))
    assert load_settings({}, None)["timeout"] == 1.0
    assert load_settings({}, home / "option.toml")["timeout"] == 2.0
    monkeypatch.setenv("LVS_CONFIG", str(home / "missing.toml"))
    with pytest.raises(InvalidInputError, match="there is no such file"):
        load_settings({}, None)


def test_several_directors_stand_in_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVS_DIRECTOR", "d1 unix:/run/x.sock")
    assert make_site(values()).directors == (Endpoint(host="d1", port=9710), Endpoint(path="/run/x.sock"))


def test_the_first_director_is_the_authority() -> None:
    names = site(director=("127.0.0.2", "127.0.0.1")).director_names()
    assert names == [AgentName(role=Role.DIRECTOR, name=f"127.0.0.{n}:9710") for n in (2, 1)]
    assert str(names[0]) == "director 127.0.0.2:9710"


def test_the_same_director_twice_is_refused_also_if_it_is_written_otherwise() -> None:
    assert "is given twice" in refused("director", director=("127.0.0.1", "127.0.0.1:9710"))


@pytest.mark.skipif(HAS_LOCAL_AGENT, reason="an agent runs on this host: its socket is the default director")
def test_without_a_director_and_without_a_local_agent_nothing_can_be_done() -> None:
    with pytest.raises(InvalidInputError, match="use --director") as caught:
        make_site(values())
    assert caught.value.field == "director"
    assert make_site(values(), needs_director=False).directors == ()


def test_a_real_servers_agent_is_at_its_own_address_unless_told_otherwise() -> None:
    there = site(insecure=True).endpoint(real_server(RS))
    assert there == Endpoint(host="192.168.0.104", port=9711)
    there = site(insecure=True, rs_agent=("192.168.0.104=rs1.example:1",)).endpoint(real_server(RS))
    assert there == Endpoint(host="rs1.example", port=1)
    six = ip_address("2001:db8::104")
    assert str(site(insecure=True).endpoint(real_server(six))) == "[2001:db8::104]:9711"
    for text in ("2001:db8::104=unix:/x", "[2001:db8::104]=unix:/x"):
        assert site(rs_agent=(text,)).endpoint(real_server(six)) == Endpoint(path="/x")


@pytest.mark.parametrize("text", ["192.168.0.104", "=x", "rs1=127.0.0.1", "192.168.0.104=", "127.0.0.1=127.0.0.1:1"])
def test_what_is_no_real_servers_agent_is_refused(text: str) -> None:
    refused("rs_agent", rs_agent=(text,))


@pytest.mark.parametrize("text", ["", ":9710", "d1:0", "d1:65536", "d1:x", "unix:relative", "[::1", "[::1]x"])
def test_what_is_no_director_is_refused(text: str) -> None:
    refused("director", director=(text,))


def test_other_hosts_are_reached_with_tls_or_when_that_is_waived() -> None:
    """Asked when an agent is needed: a command may not need it."""
    far, near = AgentName(role=Role.DIRECTOR, name="192.168.0.10:9710"), AgentName(role=Role.DIRECTOR, name="unix:/x")
    made = site(director=("192.168.0.10", "unix:/x"))
    assert made.endpoint(near).path == "/x"
    for agent in (far, real_server(RS)):
        with pytest.raises(InvalidInputError, match="--insecure"):
            made.endpoint(agent)
    assert site(director=("192.168.0.10",), insecure=True).endpoint(far).host == "192.168.0.10"
    tls = site(director=("192.168.0.10",), tls_ca="a", tls_cert="b", tls_key="c")
    assert tls.endpoint(far).host == "192.168.0.10"
    assert tls.tls == TlsFiles(ca=Path("a"), cert=Path("b"), key=Path("c"))


@pytest.mark.parametrize("missing", ["tls_ca", "tls_cert", "tls_key"])
def test_tls_needs_all_three_files(missing: str) -> None:
    files: dict[str, Value | None] = {"tls_ca": "a", "tls_cert": "b", "tls_key": "c", missing: ""}
    refused(missing, **files)


@pytest.mark.parametrize("key", ["timeout", "lock_timeout"])
@pytest.mark.parametrize("seconds", [0.0, -1.0, 3601.0, float("nan"), float("inf")])
def test_times_are_above_0_and_at_most_an_hour(key: str, seconds: float) -> None:
    assert "is out of range (above 0, to 3600 s)" in refused(key, **{key: seconds})


def test_an_unknown_way_to_print_or_mode_is_refused() -> None:
    assert "use table or json" in refused("output", output="yaml")
    refused("vip_mode", vip_mode="both")


def test_defaults() -> None:
    made = site()
    assert (made.timeout, made.lock_timeout, made.insecure, made.tls, made.vip_mode) == (10.0, 10.0, False, None, None)
    assert values()["output"] == "table"
