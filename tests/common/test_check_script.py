"""Checks by programs: which may be run, with what, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from agent_common.check import Kind, ScriptCheck
from agent_common.check_script import Scripts
from agent_common.checker import Answer, Target
from agent_common.errors import Reason, RefusedError
from agent_common.health import DynamicWeight, WeightSource
from agent_common.program import Ran
from tests.common.checking import PLENTY, SECONDS, ask, is_root, target

STATUS = DynamicWeight(source=WeightSource.SCRIPT_STATUS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where programs may lie."""
    made = tmp_path / "checks"
    made.mkdir()
    return made


def script(folder: Path, body: str, name: str = "check", mode: int = 0o755) -> tuple[str, ...]:
    """A shell's program."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(mode)
    return (str(file),)


async def run(folder: Path, body: str, seconds: float = PLENTY, **more: Any) -> Answer:
    """Make a check with a program; nothing is left of it, but for a process that the kernel is about to end."""
    kind = ScriptCheck(argv=script(folder, body))

    async def checker(asked: Kind, where: Target, limit: float) -> Answer:
        assert isinstance(asked, ScriptCheck)
        return await Scripts(folder).check(asked, where, limit)

    return await ask(kind, target(8080, **more), seconds, checker)


async def ran(folder: Path, body: str, *arguments: str) -> Ran:
    return await Scripts(folder).run((*script(folder, body), *arguments), {"A": "b"}, PLENTY)


async def test_status_0_passes_and_all_others_fail(folder: Path) -> None:
    """The first line of the output is the detail, of whichever of the two outputs."""
    assert await run(folder, "exit 0") == Answer(passed=True, detail="exit status 0")
    assert await run(folder, "echo fine; echo more") == Answer(passed=True, detail="exit status 0: fine")
    assert await run(folder, "echo lost >&2; exit 7") == Answer(passed=False, detail="exit status 7: lost")
    shown = "exit status 1: \\x1b[31mred"
    assert await run(folder, "printf '\\033[31mred'; exit 1") == Answer(passed=False, detail=shown)
    assert await run(folder, "kill -SEGV $$") == Answer(passed=False, detail="it was killed by SIGSEGV")


@pytest.mark.parametrize(
    ("status", "passed", "percent"),
    [
        (0, True, None),
        (1, False, None),
        (2, True, 0),
        (102, True, 100),
        (255, True, 253),
        (126, False, None),
        (127, False, None),
    ],
)
async def test_the_weight_is_the_status_less_two(folder: Path, status: int, passed: bool, percent: int | None) -> None:
    """Where it is asked for; with 126 and 127 shells say that nothing was run."""
    found = await run(folder, f"exit {status}", dynamic_weight=STATUS)
    assert (found.passed, found.percent) == (passed, percent)
    found = await run(folder, f"exit {status}")
    assert (found.passed, found.percent) == (status == 0, None)


async def test_it_has_its_arguments_and_an_environment_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell reads the arguments; nothing of the agent's environment is passed on."""
    monkeypatch.setenv("SECRET", "x")
    said = await ran(folder, 'echo "$#:$1:$2:$3"', "a b", "$(id)", "*")
    assert said == Ran(status=0, line="3:a b:$(id):*")
    found = await run(folder, "env | grep -v ^_= | sort | tr '\\n' ' '")
    assert found.detail == (
        "exit status 0: LVS_ADDRESS=127.0.0.1 LVS_PORT=8080 LVS_VIRTUAL_SERVER=tcp/192.168.0.200:80 "
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbi..."
    )
    assert (await ran(folder, "cat; pwd; echo $A | head -1")).line == "/"


async def test_it_has_no_capability(folder: Path) -> None:
    """None of the four sets that matter; and it gets no new privileges from a program with setuid."""
    body = "grep -E '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs)' /proc/self/status | tr -d '\\n\\t'"
    none = "0" * 16
    assert (await ran(folder, body)).line == f"CapInh:{none}CapPrm:{none}CapEff:{none}CapAmb:{none}NoNewPrivs:1"


AS_NOBODY = """
import asyncio, sys
from pathlib import Path
from agent_common.check_script import Scripts
print(open("/proc/self/status").read().partition("CapAmb:")[2].split()[0])
print(asyncio.run(Scripts(Path(sys.argv[1]).parent).run((sys.argv[1],), {}, 5.0)))
"""


@pytest.mark.skipif(not is_root(), reason="needs root, to become another user with a capability")
def test_an_agent_that_is_not_root_does_not_pass_its_ambient_capabilities_on(tmp_path: Path) -> None:
    """They outlive an exec, for which they are made; this is how the unit runs the agent."""
    checkout = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        program = script(folder, "grep -hE '^Cap(Eff|Prm|Inh|Amb)' /proc/self/status | tr -d '\\n\\t'")[0]
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        with_capability = ["--inh-caps=+net_admin,+net_raw", "--ambient-caps=+net_admin,+net_raw"]
        done = subprocess.run(
            [*become, *with_capability, "/usr/bin/python3", "-c", AS_NOBODY, program],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        if "No module named" in done.stderr or "Permission denied" in done.stderr:
            pytest.skip(f"nobody cannot read this checkout, or the system's python is too old: {done.stderr[-200:]}")
        none = "0" * 16
        line = f"CapInh:{none}CapPrm:{none}CapEff:{none}CapAmb:{none}"
        assert done.stdout.splitlines() == ["0000000000003000", f"Ran(status=0, line='{line}')"], done.stderr


def processes(word: str) -> list[str]:
    """The processes with a word in their command line."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words:
            found.append(each.parent.name)
    return found


def gone(word: str) -> bool:
    """Whether they are gone, or are so soon."""
    until = time.monotonic() + PLENTY
    while processes(word) and time.monotonic() < until:
        time.sleep(0.01)
    return not processes(word)


async def test_what_does_not_end_in_time_is_killed_with_all_that_it_has_started(folder: Path) -> None:
    """Also what ignores signals and what runs in the background; nothing stays, not even a zombie."""
    body = "trap '' TERM INT HUP; sleep 98765 & sleep 98765; sleep 98765"
    found = await run(folder, body, SECONDS)
    assert found == Answer(passed=False, detail=f"it has not ended within {SECONDS:g} s, and was killed")
    assert gone("98765")
    await asyncio.sleep(0.05)
    assert not has_children()


def has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


async def test_what_it_leaves_in_the_background_is_killed_at_its_end(folder: Path) -> None:
    """Nor is it waited for, though it has the program's output open."""
    begun = time.monotonic()
    found = await run(folder, "sleep 87654 & echo done")
    assert found == Answer(passed=True, detail="exit status 0: done")
    assert time.monotonic() - begun < PLENTY
    assert gone("87654")


async def test_a_check_that_is_cancelled_kills_its_program(folder: Path) -> None:
    argv = script(folder, "sleep 76543")
    task = asyncio.ensure_future(Scripts(folder).run(argv, {}, PLENTY))
    while not processes("76543"):  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone("76543")
    await asyncio.sleep(0.05)
    assert not has_children()


async def test_output_without_end_is_read_and_thrown_away(folder: Path) -> None:
    """The program is not held up by it, and the agent's memory not filled."""
    found = await run(folder, "head -c 20000000 /dev/zero | tr '\\0' x")
    assert (found.passed, found.detail) == (True, f"exit status 0: {'x' * 120}...")
    found = await run(folder, "exec cat /dev/zero", SECONDS)
    assert not found.passed


async def test_many_at_a_time_end_each_with_its_own_status(folder: Path) -> None:
    argv = script(folder, "exit $1")
    found = await asyncio.gather(*(Scripts(folder).run((*argv, str(each)), {}, PLENTY) for each in range(20)))
    assert [each.status for each in found] == list(range(20))


def refused(scripts: Scripts, *argv: str) -> str:
    with pytest.raises(RefusedError) as caught:
        scripts.allowed(argv, "policy.check.script.argv")
    assert (caught.value.reason, caught.value.field) == (Reason.SCRIPT_NOT_ALLOWED, "policy.check.script.argv")
    assert caught.value.message.startswith(f"cannot run {argv[0]}: ")
    return caught.value.message.removeprefix(f"cannot run {argv[0]}: ")


def test_no_program_is_run_unless_a_folder_is_set(folder: Path) -> None:
    assert refused(Scripts(None), *script(folder, "")) == (
        "scripts are off: script_dir is not set in the director's settings"
    )
    assert refused(Scripts(Path("/nonexistent")), *script(folder, "")) == "no such file or directory"


def test_only_programs_below_the_folder_are_run(folder: Path, tmp_path: Path) -> None:
    """Wherever links lead and however a path is written; links within the folder are taken."""
    scripts = Scripts(folder)
    (folder / "sub").mkdir()
    inside = script(folder / "sub", "", "inside")
    outside = script(tmp_path, "", "outside")
    scripts.allowed(inside)
    (folder / "link").symlink_to(inside[0])
    scripts.allowed((str(folder / "link"),))
    (tmp_path / "way").symlink_to(folder)
    Scripts(tmp_path / "way").allowed(inside)
    (folder / "out").symlink_to(outside[0])
    (folder / "circle").symlink_to(folder / "circle")
    below = f"it is not below {folder} (script_dir)"
    for path in (outside[0], str(folder / "out"), f"{folder}/../outside", "/bin/sh"):
        assert refused(scripts, path) == below
    assert refused(scripts, str(folder)) == below
    assert refused(scripts, str(folder / "sub")) == "it is no file that can be executed"
    assert refused(scripts, str(folder / "none")) == "no such file or directory"
    assert refused(scripts, str(folder / "circle")) in ("links in a circle", "too many levels of symbolic links")


def test_a_program_that_cannot_be_executed_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "fifo", 0o700)
    for path in (script(folder, "", mode=0o644)[0], str(folder / "fifo")):
        assert refused(Scripts(folder), path) == "it is no file that can be executed"


def test_a_program_that_others_can_change_is_refused(folder: Path) -> None:
    """Itself, its folder, or one above it up to the one that is set."""
    scripts = Scripts(folder)
    (folder / "sub").mkdir()
    argv = script(folder / "sub", "")
    scripts.allowed(argv)
    for path in (Path(argv[0]), folder / "sub", folder):
        for mode in (0o775, 0o757):
            path.chmod(mode)
            assert refused(scripts, *argv) == f"{path} can be changed by others than root and the agent's user"
        path.chmod(0o755)
    scripts.allowed(argv)
    folder.parent.chmod(0o777)  # whoever has set it answers for what is above
    scripts.allowed(argv)
    if is_root():
        os.chown(argv[0], 65534, 0)
        assert refused(scripts, *argv).endswith("can be changed by others than root and the agent's user")


async def test_it_is_asked_before_each_run_whether_it_may_be_run(folder: Path) -> None:
    argv = script(folder, "", mode=0o777)
    found = await Scripts(folder).check(ScriptCheck(argv=argv), target(1), PLENTY)
    assert not found.passed
    assert found.detail.startswith(f"cannot run {argv[0]}: ")
    with pytest.raises(RefusedError):
        await Scripts(folder).run(argv, {}, PLENTY)


async def test_what_no_interpreter_can_run_fails(folder: Path) -> None:
    """setpriv says so, with a status that passes in no case."""
    file = folder / "broken"
    file.write_text("#!/nonexistent/interpreter\n")
    file.chmod(0o755)
    for dynamic in (None, STATUS):
        found = await Scripts(folder).check(ScriptCheck(argv=(str(file),)), target(1, dynamic_weight=dynamic), PLENTY)
        assert not found.passed
        assert found.detail.startswith(f"exit status 127: setpriv: failed to execute {file}: ")


def test_no_python_runs_between_fork_and_exec() -> None:
    """With grpc's threads that could hang for ever."""
    source = (Path(__file__).resolve().parents[2] / "agent_common/program.py").read_text(encoding="utf-8")
    assert "preexec_fn" not in source
    assert sys.version_info >= (3, 11)  # from 3.9 on subprocess uses vfork where nothing is to be run in between
