"""How the command line starts: what it must not load, and that a defect shows no internals in colour."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent_common.version import VERSION
from cli.app import COMMANDS, make_app

HEAVY = ("grpc", "cryptography", "google.protobuf", "lvsagent", "pyroute2", "rich", "sqlite3", "importlib.metadata")

PROBE = f"""
import sys
sys.argv[0] = "lvs"
from cli.__main__ import main
try:
    main()
except SystemExit as end:
    status = end.code
loaded = [name for name in {HEAVY!r} if name in sys.modules]
sys.stderr.write("loaded: " + " ".join(loaded) + "\\n")
sys.exit(status)
"""


def lvs(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, and let it tell what it has loaded."""
    return subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        env={**os.environ, "XDG_CONFIG_HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("-h",),
        ("--version",),
        ("add-backend", "--help"),
        ("service", "--help"),
        ("service", "edit", "--help"),
        ("status", "--help"),
        ("health", "set", "--help"),
        ("pki", "issue", "agent", "--help"),
    ],
    ids=" ".join,
)
def test_help_and_version_load_neither_grpc_nor_what_comes_with_it(arguments: tuple[str, ...]) -> None:
    ended = lvs(*arguments)
    assert ended.returncode == 0
    assert ended.stderr == "loaded: \n"
    assert ended.stdout


@pytest.mark.parametrize(
    ("words", "count", "completed"),
    [
        ("lvs add", "1", "add-backend"),
        ("lvs service e", "2", "edit"),
        ("lvs add-backend --no-cr", "2", "--no-create"),
        ("lvs health set --check htt", "4", "https"),
    ],
)
def test_completion_loads_neither_grpc_nor_what_comes_with_it(words: str, count: str, completed: str) -> None:
    ended = lvs(_LVS_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    assert completed in ended.stdout.split()
    assert ended.stderr.splitlines()[-1] == "loaded: "


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("add-backend", "--vip", "192.168.0.200:80"),
        ("add-backend", "--vip", "nonsense", "--rs", "192.168.0.104"),
        ("--director", "x", "add-backend", "--vip", "192.168.0.200:80", "--rs", "192.168.0.104", "--lease", "1"),
    ],
    ids=" ".join,
)
def test_what_the_command_line_alone_shows_to_be_wrong_is_told_without_grpc(arguments: tuple[str, ...]) -> None:
    ended = lvs(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Traceback" not in ended.stderr
    assert "grpc" not in ended.stderr.splitlines()[-1].split()


def test_the_version_is_that_of_the_distribution() -> None:
    assert lvs("--version").stdout == f"lvs {VERSION}\n"
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{VERSION}"' in pyproject or "dynamic" in pyproject


def test_a_defect_is_printed_plainly_and_without_the_values_of_variables() -> None:
    """Typer's own tracebacks show locals, keys and certificates among them."""
    assert make_app().pretty_exceptions_enable is False


def test_without_typer_the_program_says_what_to_install() -> None:
    script = "import sys; sys.modules['typer'] = None; from cli.__main__ import main; main()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "lvs: the command line is not installed; install it with: pip install 'lvs-agents[cli]'\n"


def test_an_import_that_fails_within_is_not_taken_for_a_missing_typer() -> None:
    script = "import sys; sys.modules['cli.options'] = None; from cli.__main__ import main; main()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "cli.options" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", COMMANDS)
def test_only_the_command_that_is_meant_is_loaded(name: str) -> None:
    assert names(["--director", "lb1", name, "--help"]) == {name}


@pytest.mark.parametrize(
    "words",
    [(), ("--help",), ("--help", "restore"), ("restroe",), ("--director", "list", "-h"), ("statsu", "list")],
    ids=" ".join,
)
def test_who_names_no_command_is_shown_all(words: tuple[str, ...]) -> None:
    assert names(words) == COMMANDS.keys()


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_who_closes_an_output_gets_the_status_all_the_same(closed: str) -> None:
    """Scripts do: >&- and 2>&-."""
    script = "from cli.__main__ import program; program()"
    close = {"stdout": ">&-", "stderr": "2>&-"}[closed]
    command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(script)} --director 127.0.0.1:1 status {close}"
    ended = subprocess.run(["sh", "-c", command], check=False, capture_output=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 14


def names(words: Sequence[str]) -> set[str | None]:
    """The commands that are loaded for a command line."""
    app = make_app(words)
    return {each.name for each in app.registered_commands} | {each.name for each in app.registered_groups}
