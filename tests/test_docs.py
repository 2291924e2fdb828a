"""The documentation is current: generated pages, settings, verbs, options, links. What it shows runs in tests/lab."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from agent_common.agent_settings import read_settings
from cli.app import make_app
from cli.settings import DEFAULTS
from docs import generate_api, generate_cli
from tests.failpoint_table import documented
from tests.lab import console
from tests.lab.fault_cases import PLACES

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(CHECKOUT.glob("*.md")), *sorted(CHECKOUT.glob("docs/**/*.md"))]
AGENTS = {"lvs-director": 9710, "lvs-realserver": 9711}

IPVSADM_OPTIONS = """
add-service edit-service delete-service clear list zero add-server edit-server delete-server set help version restore
save start-daemon stop-daemon tcp-service udp-service sctp-service fwmark-service ipv6 scheduler persistent netmask pe
ops sched-flags real-server gatewaying ipip masquerading weight u-threshold l-threshold tun-type tun-port tun-nocsum
tun-csum tun-remcsum numeric connection timeout daemon stats rate exact thresholds persistent-conn tun-info sort nosort
mcast-interface syncid sync-maxlen mcast-group mcast-port mcast-ttl
"""
IPVSADM_LETTERS = "AEDCLlZaedhvRStuf6spMobrgimwxyncX"
"""Of ipvsadm 1.31, from the table of options in its binary."""

Row = tuple[str, str, str, str]
"""Key, flag, variable and default of a settings table."""

each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(CHECKOUT)) for page in PAGES])


def code(page: Path) -> Iterator[str]:
    """The lines of a page's code blocks, fenced or indented, and its inline code."""
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line
        else:
            yield from re.findall(r"`([^`]+)`", line)


def test_the_command_line_reference_is_what_the_program_says() -> None:
    """docs/reference/cli.md lists every command and option; `make gen` writes it."""
    assert generate_cli.TARGET.read_text(encoding="utf-8") == generate_cli.render(), "run: make gen"


def test_the_api_reference_is_what_the_protos_say() -> None:
    """docs/reference/api.md has every RPC, message and error reason; `make gen` writes it."""
    assert generate_api.TARGET.read_text(encoding="utf-8") == generate_api.render(), "run: make gen"


def test_every_failpoint_has_a_row_of_what_comes_of_it() -> None:
    """docs/explanation/transactions.md, in the order of the steps."""
    assert sorted(documented()) == sorted(f"{step}.{place}" for step, places in PLACES.items() for place in places)


def settings_rows(program: str) -> list[Row]:
    """The table below a program's heading in docs/reference/settings.md, without backquotes."""
    text = (CHECKOUT / "docs/reference/settings.md").read_text(encoding="utf-8")
    part = text.partition(f"\n## {program}\n")[2].partition("\n## ")[0]
    rows = [line.replace("`", "").strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| `")]
    return [(key, flag, variable, default) for key, flag, variable, default in rows]


def shown(value: object) -> str:
    """A default as the tables show it."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def expected_rows(defaults: dict[str, Any]) -> list[Row]:
    """The rows that defaults must have."""
    return [(key, f"--{key.replace('_', '-')}", f"LVS_{key.upper()}", shown(value)) for key, value in defaults.items()]


def test_the_settings_of_the_command_are_those_of_the_code() -> None:
    """Every key with its flag, variable and default."""
    assert sorted(settings_rows("lvs")) == sorted(expected_rows(dict(DEFAULTS)))


@pytest.mark.parametrize("program", AGENTS)
def test_the_settings_of_an_agent_are_those_of_the_code(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The keys are those that the program knows, and the defaults those that it starts with."""
    for _, _, variable, _ in settings_rows(program):
        monkeypatch.delenv(variable, raising=False)
    file = tmp_path / "settings.toml"
    file.write_text("")
    found = read_settings(program, AGENTS[program], ["--config", str(file)])
    no_tls = dict.fromkeys(("tls_ca", "tls_cert", "tls_key"), "")
    assert found.tls is None
    defaults = {
        "listen": found.listen,
        "state_dir": found.state_dir,
        "insecure": found.insecure,
        "enforce": found.enforce,
        "deny_serials": "",
        "operator_vips": tuple(found.operator_vips),
        "socket_group": tuple(found.groups),
        **no_tls,
        **({"script_dir": ""} if program == "lvs-director" else {}),
    }
    assert found.script_dir is None
    assert sorted(settings_rows(program)) == sorted(expected_rows(defaults))

    file.write_text("misspelt = 1\n")
    with pytest.raises(SystemExit):
        read_settings(program, AGENTS[program], ["--config", str(file)])
    known = capsys.readouterr().err.partition("known are ")[2].strip().split(", ")
    assert sorted(known) == sorted(row[0] for row in settings_rows(program))


@each_page
def test_every_verb_that_is_shown_is_in_the_makefile(page: Path) -> None:
    """`make VERB` in code is a verb of the Makefile."""
    verbs = set(re.findall(r"^([a-z]+):.*##", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {verb for line in code(page) for verb in re.findall(r"^(?:\$ )?make ([a-z]+)", line)}
    assert named <= verbs


@each_page
def test_every_option_that_is_shown_is_one_of_lvs(page: Path) -> None:
    """In code that begins with lvs, alone or behind a prompt and `on HOST`."""
    options = set(all_options(typer.main.get_command(make_app())))
    calls = [found[1] for line in code(page) if (found := re.match(r"(?:[#$] )?(?:on \w+ )?lvs (.*)", line.strip()))]
    named = {option for call in calls for option in re.findall(r"(?<!\S)--[a-z-]+", call.partition("|")[0])}
    assert named <= options


def all_options(command: Any) -> Iterator[str]:
    """The options of a command and of the commands below it."""
    yield "--help"
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for inner in getattr(command, "commands", {}).values():
        yield from all_options(inner)


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    """Links to files of the project: the file is there, and so is the heading behind a #."""
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, heading = target.partition("#")
        file = page.parent / name if name else page
        assert file.is_file(), target
        assert not heading or heading in headings(file), target


def headings(page: Path) -> set[str]:
    """The names by which a page's headings are linked to."""
    titles = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_option_of_ipvsadm_has_a_row() -> None:
    """And none that it has not."""
    page = (CHECKOUT / "docs/reference/ipvsadm.md").read_text(encoding="utf-8")
    first = "\n".join(line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`--([a-z0-9-]+)[` ]", first)) == set(IPVSADM_OPTIONS.split())
    assert set(re.findall(r"`-(\w)[` ]", first)) == set(IPVSADM_LETTERS)


@each_page
def test_no_line_is_too_long(page: Path) -> None:
    """At most 120 characters, except a row of a table, which cannot be broken."""
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


PAGE = """\
<!-- lab: director -->
```console
# lvs status \\
    --output table
first
... of 3
$ true
```
<!-- lab: file some.py -->
```python
print(1)
```
"""


def test_a_marked_block_is_read_as_commands_with_what_they_show() -> None:
    """A prompt begins a command, a backslash continues it, and what follows is its output."""
    block, file = console.parse(PAGE)
    first, second = block.commands
    assert (block.host, first.line, first.text) == ("director", 3, "lvs status \\\n    --output table")
    assert (first.shown, second.text, second.shown) == (["first", "... of 3"], "true", [])
    assert (file.file, file.content) == ("some.py", "print(1)\n")


@pytest.mark.parametrize("page", ["<!-- lab: rs1 -->\ntext\n", "<!-- lab: rs1 -->\n```console\noutput\n```\n"])
def test_a_block_that_cannot_be_read_is_an_error(page: str) -> None:
    """It is not passed over."""
    with pytest.raises(console.FormatError, match="line"):
        console.parse(page)


@pytest.mark.parametrize(
    ("shown_lines", "printed", "same"),
    [
        (["a b"], "a b  \n", True),
        (["id ...", "end"], "id 7f\nend\n", True),
        (["...", "end"], "any\nlines\nend\n", True),
        ([], "\n", True),
        (["a"], "a\nb\n", False),
        ([], "something\n", False),
    ],
)
def test_what_is_shown_is_compared_with_what_is_printed(shown_lines: list[str], printed: str, same: bool) -> None:
    """Blanks at the ends of lines do not count, and "..." stands for anything."""
    assert console.matches(shown_lines, printed) is same
