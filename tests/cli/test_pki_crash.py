"""`lvs pki` that dies, has no room, or is not alone: what it leaves is whole, or is seen not to be."""

from __future__ import annotations

import datetime
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_common.errors import LvsError
from cli.pki_files import Folder
from cli.pki_issue import init, issue, plan_renewal
from cli.pki_request import Chosen, parse_agent, parse_user
from cli.pki_survey import State, survey
from tests.cli.pki import DAY, Ended, Pki, aged, assert_pair

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(minutes=1)
"""A little later than what a test has made with the clock."""


def test_two_at_once_do_not_mix(site: Pki) -> None:
    """The second one is told: 12."""
    before = site.contents()
    number = os.open(site.path, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        ended = site("renew", "--all")
    finally:
        os.close(number)
    assert (ended.status, "another lvs pki" in ended.err) == (12, True)
    assert site.contents() == before


CRASHING = """
import os, sys
sys.argv = ["lvs", "pki", *sys.argv[2:]]
root = os.environ["LVS_PKI"]
from cli import pki_commands
from cli.__main__ import program
WRITES = {"os.rename", "os.mkdir", "os.chmod", "os.remove", "os.rmdir", "fcntl.flock"}
left = int(os.environ["STEPS"])
def watch(event, args):
    global left
    written = event == "open" and isinstance(args[0], str) and args[0].startswith(root) and args[2] & 3
    if written or event in WRITES:
        left -= 1
        if left < 0:
            os._exit(99)
sys.addaudithook(watch)
program()
"""
"""The command, which dies as of kill -9 before one of the things that it does to files; STEPS says which."""


def crash(pki: Pki, steps: int, *words: str) -> Ended:
    """Run a command until it has done so many things to files."""
    done = subprocess.run(
        [sys.executable, "-c", CRASHING, str(steps), *words],
        env={**pki.environment, "STEPS": str(steps)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(status=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.parametrize("what", ["init", "issue", "renew", "issue --force"])
def test_a_crash_between_any_two_steps_leaves_nothing_that_looks_whole_and_is_not(tmp_path: Path, what: str) -> None:
    """A pair that does not match is said and can be renewed; no serial of a certificate that was in place is lost."""
    left = set()
    for steps in range(100):
        pki = Pki(path=tmp_path / str(steps))
        ended = crash(pki, steps, *prepare(pki, what))
        if ended.status == 0:
            break
        assert ended.status == 99, ended.err
        left.add(assert_ca_mended(pki) if what == "init" else assert_mended(pki))
    assert steps > (5 if what == "init" else 8)
    assert left == ({"no CA"} if what == "init" else {"broken", "whole"})


AGENT = ("--role", "director", "--address", "192.168.0.11")


def prepare(pki: Pki, what: str) -> tuple[str, ...]:
    """Make what a command starts from; return its words."""
    if what == "init":
        return ("init", str(pki.path))
    aged(pki.path, 0)
    words = {
        "issue": ("issue", "agent", "lb2", *AGENT),
        "renew": ("renew", "lb1"),
        "issue --force": ("issue", "agent", "lb1", *AGENT, "--force"),
    }
    return words[what]


def assert_mended(pki: Pki) -> str:
    """See that what was left is said, and that it can be brought in order; say what was left."""
    before = survey(pki.path, NOW).rows
    broken = {row.name: row.notes for row in before if row.state is State.BROKEN}
    for name in (row.name for row in before if row.state is State.CURRENT):
        assert_pair(pki.path / name.replace("/", "-"))
    for name, (note, *_) in broken.items():
        without_certificate = not (pki.path / name.replace("/", "-") / "tls.crt").exists()
        assert ("No such file" if without_certificate else "tls.key is not the key of tls.crt") in note
        if without_certificate:
            issue(pki.path, parse_agent("lb2", ["192.168.0.11"], "director"), NOW, DAY, force=True)
    renewed = list(plan_renewal(pki.path, Chosen(), NOW, None).carry_out())
    assert {str(each.holder) for each in renewed} <= broken.keys()
    list(plan_renewal(pki.path, Chosen(everything=True), NOW, None).carry_out())
    after = survey(pki.path, NOW).rows
    assert {row.facts.serial for row in before if row.facts} <= {row.facts.serial for row in after if row.facts}
    assert State.BROKEN not in {row.state for row in after}
    assert list(pki.path.glob("director-lb1/.new-*")) == []
    return "broken" if broken else "whole"


def assert_ca_mended(pki: Pki) -> str:
    """See that there is a CA that works, or that one can be made; say which."""
    folder = Folder(pki.path)
    holder, left = parse_user("ada", "admin"), "whole"
    try:
        folder.authority()
    except LvsError:
        left = "no CA"
        init(pki.path, "lvs.internal", NOW, 10 * DAY, force=folder.has_authority())
    issue(pki.path, holder, NOW, DAY, force=False)
    assert_pair(pki.path / holder.directory)
    return left


def test_a_disk_that_takes_no_more_leaves_every_file_as_it_was(site: Pki) -> None:
    """One line, and nothing of what was begun."""
    before = site.contents()
    script = f'ulimit -f 0; exec {sys.executable} -c "$0" pki renew --all'
    program = "import sys; sys.argv[0] = 'lvs'; from cli.__main__ import program; program()"
    ended = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; {script}", program],
        env=site.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (13, "")
    assert ended.stderr.startswith("lvs: cannot write ")
    assert ended.stderr.endswith(": File too large\n")
    assert site.contents() == before
