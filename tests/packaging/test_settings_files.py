"""The settings files that are installed: complete, true, and read by the programs."""

from __future__ import annotations

import grp
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_common.agent_settings import AgentSettings, read_settings
from agent_common.identity import Role
from cli.settings import DEFAULTS, load_settings, make_site
from tests.packaging.conftest import CHECKOUT

FILES = CHECKOUT / "packaging/etc/lvs"
AGENTS = {"director": ("lvs-director", 9710), "realserver": ("lvs-realserver", 9711)}

INSTALLED = {"listen", "socket_group"}
"""What the files set: everything else in them is a comment."""

each_agent = pytest.mark.parametrize("short", AGENTS)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("LISTEN", "STATE_DIR", "CONFIG", *map(str.upper, DEFAULTS)):
        monkeypatch.delenv(f"LVS_{key}", raising=False)


def shown(short: str) -> dict[str, Any]:
    """Every key of a file with its value, as if the # before it was taken away; examples are indented, and left out."""
    text = (FILES / f"{short}.toml").read_text(encoding="utf-8")
    return tomllib.loads("\n".join(re.findall(r"^(?:# )?([a-z_]+ = .*)$", text, re.MULTILINE)))


def settings(short: str, file: Path) -> AgentSettings:
    """What an agent makes of a file."""
    program, port = AGENTS[short]
    return read_settings(program, port, ["--config", str(file)])


def known_keys(short: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The keys that an agent says it knows."""
    (tmp_path / "wrong.toml").write_text("misspelt = 1\n")
    with pytest.raises(SystemExit):
        settings(short, tmp_path / "wrong.toml")
    return set(capsys.readouterr().err.partition("known are ")[2].strip().split(", "))


@each_agent
def test_every_key_of_an_agent_is_in_its_file_and_no_other(
    short: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(shown(short)) == known_keys(short, tmp_path, capsys)


@each_agent
def test_what_is_shown_is_the_default(short: str, tmp_path: Path) -> None:
    """With all of it taken in, but for what is set there, an agent is set as with an empty file."""
    lines = [f"{key} = {toml(value)}" for key, value in shown(short).items() if key not in INSTALLED]
    (tmp_path / "all.toml").write_text("\n".join(lines))
    (tmp_path / "empty.toml").write_text("")
    given, default = settings(short, tmp_path / "all.toml"), settings(short, tmp_path / "empty.toml")
    assert given.deny_list.serials() == default.deny_list.serials() == frozenset()
    assert replace(given, deny_list=default.deny_list) == default


@each_agent
def test_as_it_is_installed_an_agent_listens_on_its_sockets_alone(short: str, tmp_path: Path) -> None:
    """Plaintext on loopback would obey every local user; a socket obeys those who are in its role's group."""
    text = (FILES / f"{short}.toml").read_text(encoding="utf-8")
    assert set(tomllib.loads(text)) == INSTALLED
    mine = grp.getgrgid(os.getgid()).gr_name  # those of the package need not be on this host
    groups = {role: f"lvs-{role}" for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN)}
    for group in groups.values():
        text = text.replace(f'={group}"', f'={mine}"')
    (tmp_path / "installed.toml").write_text(text)
    found = settings(short, tmp_path / "installed.toml")
    assert [str(endpoint) for endpoint in found.listen] == [f"unix:/run/lvs-{short}/api.sock"]
    assert found.groups == dict.fromkeys(groups, mine)
    assert not found.insecure


@each_agent
def test_the_example_with_tls_is_taken(short: str, tmp_path: Path) -> None:
    """Its lines, without the # before them."""
    text = (FILES / f"{short}.toml").read_text(encoding="utf-8")
    (tmp_path / "tls.toml").write_text("\n".join(re.findall(r"^#     (.*)$", text, re.MULTILINE)))
    found = settings(short, tmp_path / "tls.toml")
    assert found.tls is not None
    assert [endpoint.is_local for endpoint in found.listen] == [False, True]


def test_every_key_of_the_command_is_in_its_file_with_its_default(tmp_path: Path) -> None:
    found: Mapping[str, Any] = shown("cli")
    assert {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()} == dict(DEFAULTS)


def test_as_it_is_installed_the_command_asks_the_agent_of_its_host() -> None:
    values = load_settings({}, FILES / "cli.toml")
    assert values == DEFAULTS
    assert make_site(values, needs_director=False).tls is None


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
