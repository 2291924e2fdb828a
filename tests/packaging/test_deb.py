"""The .deb: what is in it, to whom it belongs, and that nothing of where it was built is."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_common.version import VERSION
from cli.app import COMMANDS
from tests.packaging.conftest import CHECKOUT

HOME = Path("opt/lvs-agents")
SCRIPTS = ("postinst", "prerm", "postrm")
PROGRAMS = ("lvsctl", "lvs-director", "lvs-realserver")

PLACES = {
    "etc/bash_completion.d/lvs-agents",
    "etc/lvs/cli.toml",
    "etc/lvs/director.toml",
    "etc/lvs/realserver.toml",
    "usr/bin/lvsctl",
    "usr/lib/systemd/system/lvs-director.service",
    "usr/lib/systemd/system/lvs-realserver.service",
    "usr/lib/sysusers.d/lvs-agents.conf",
    "usr/lib/tmpfiles.d/lvs-agents.conf",
    "usr/sbin/lvs-director",
    "usr/sbin/lvs-realserver",
    "usr/share/bash-completion/completions/lvsctl",
    "usr/share/doc/lvs-agents/CHANGELOG.md.gz",
    "usr/share/doc/lvs-agents/changelog.gz",
    "usr/share/doc/lvs-agents/copyright",
    "usr/share/fish/vendor_completions.d/lvsctl.fish",
    "usr/share/lvs-agents/networkd-keep-vips.conf",
    "usr/share/lvs-agents/networkmanager-lvs.conf",
    "usr/share/man/man8/lvs-director.8.gz",
    "usr/share/man/man8/lvs-realserver.8.gz",
    "usr/share/man/man8/lvsctl.8.gz",
    "usr/share/zsh/vendor-completions/_lvsctl",
}
"""All but /opt/lvs-agents. Neither lvs nor its manual page, which are LVM's."""


@pytest.fixture(scope="module")
def members(deb: Path) -> list[tarfile.TarInfo]:
    """Every file, folder and link, as it stands in the archive."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        with tarfile.open(fileobj=running.stdout, mode="r|") as archive:
            return list(archive)


def files(unpacked: Path) -> Iterator[Path]:
    """Every file that is installed, no links."""
    for folder, folders, names in os.walk(unpacked):
        if Path(folder) == unpacked:
            folders.remove("DEBIAN")
        yield from (path for name in names if not (path := Path(folder, name)).is_symlink())


def control(unpacked: Path) -> dict[str, str]:
    text = (unpacked / "DEBIAN/control").read_text(encoding="utf-8")
    return dict(re.findall(r"^(\S+): (.*)$", text, re.MULTILINE))


def test_every_file_is_where_it_belongs(members: list[tarfile.TarInfo]) -> None:
    names = {member.name.removeprefix("./") for member in members if not member.isdir()}
    assert {name for name in names if not name.startswith(f"{HOME}/")} == PLACES
    ours = {name.removeprefix(f"{HOME}/") for name in names if name.startswith(f"{HOME}/") and "/lib/" not in name}
    assert ours == {"pyvenv.cfg", "bin/python3", *(f"bin/{program}" for program in PROGRAMS)}


def test_everything_belongs_to_root_and_only_programs_can_be_run(members: list[tarfile.TarInfo]) -> None:
    """No file is writable by others, or runs as somebody else."""
    for member in members:
        assert (member.uname, member.gname, member.uid, member.gid) == ("root", "root", 0, 0), member.name
        program = member.name.startswith(f"./{HOME}/bin/")
        expected = 0o777 if member.issym() else 0o755 if member.isdir() or program else 0o644
        assert stat.S_IMODE(member.mode) == expected, member.name


def test_nothing_says_where_it_was_built(unpacked: Path) -> None:
    """No path of the checkout, of its venv, or of the folder in which it was put together; no pip."""
    paths = re.compile(b"|".join(map(re.escape, (bytes(CHECKOUT), b"/tmp/tmp."))))
    assert [path for path in files(unpacked) if paths.search(path.read_bytes())] == []
    site = next(unpacked.glob(f"{HOME}/lib/python3.*/site-packages"))
    assert not (site / "pip").exists()
    assert [*site.glob("*.dist-info/RECORD"), *site.glob("*.dist-info/direct_url.json")] == []


def test_the_venv_is_at_home_where_it_will_lie(unpacked: Path) -> None:
    """And no program of it takes modules from where a caller says."""
    for program in PROGRAMS:
        first = (unpacked / HOME / "bin" / program).read_text(encoding="utf-8").splitlines()[0]
        assert first == f"#!/{HOME}/bin/python3 -I"
    assert (unpacked / HOME / "bin/python3").readlink() == Path("/usr/bin/python3")
    assert re.fullmatch(
        r"home = /usr/bin\ninclude-system-site-packages = false\nversion = 3\.\d+\.\d+\n",
        (unpacked / HOME / "pyvenv.cfg").read_text(encoding="utf-8"),
    )
    assert (unpacked / "usr/bin/lvsctl").readlink() == Path(f"/{HOME}/bin/lvsctl")


@pytest.mark.parametrize("program", PROGRAMS)
def test_its_programs_run_with_what_it_brings(program: str, unpacked: Path) -> None:
    python = unpacked / HOME / "bin/python3"
    script = unpacked / HOME / "bin" / program
    ended = subprocess.run([python, "-I", script, "--version"], check=False, capture_output=True, text=True)
    name = "lvs" if program == "lvsctl" else program
    assert (ended.returncode, ended.stdout) == (0, f"{name} {VERSION}\n"), ended.stderr


def test_every_module_has_bytecode_that_is_valid(unpacked: Path) -> None:
    """The agents' users could not write it; without it, or with one that is stale, every start would compile."""
    for source in (path for path in files(unpacked) if path.suffix == ".py"):
        cached = Path(importlib.util.cache_from_source(str(source)))
        tag = re.sub(
            r"cpython-\d+", f"cpython-3{next(part for part in source.parts if part[:8] == 'python3.')[8:]}", cached.name
        )
        header = (cached.parent / tag).read_bytes()[4:16]
        about = source.stat()
        fields = [int.from_bytes(header[at : at + 4], "little") for at in (0, 4, 8)]
        assert fields == [0, int(about.st_mtime), about.st_size], source


def test_it_wants_the_python_for_which_it_was_built(unpacked: Path) -> None:
    """A venv does not outlive a minor version of Python."""
    about = control(unpacked)
    minor = int(next(unpacked.glob(f"{HOME}/lib/python3.*")).name.removeprefix("python3."))
    depends = about["Depends"].split(", ")
    assert {f"python3 (>= 3.{minor})", f"python3 (<< 3.{minor + 1})", "kmod", "systemd (>= 250)"} <= set(depends)
    assert (about["Package"], about["Version"], about["Section"]) == ("lvs-agents", VERSION, "net")
    installed = sum(path.stat().st_size for path in files(unpacked)) // 1024
    assert abs(int(about["Installed-Size"]) - installed) < installed / 5


def test_settings_are_kept_over_upgrades(unpacked: Path) -> None:
    """All of /etc is a conffile: dpkg asks before it replaces what was edited."""
    listed = (unpacked / "DEBIAN/conffiles").read_text(encoding="utf-8").split()
    assert sorted(listed) == sorted(f"/{place}" for place in PLACES if place.startswith("etc/"))


def test_every_file_has_a_checksum(unpacked: Path) -> None:
    """What `dpkg --verify` compares."""
    sums = unpacked / "DEBIAN/md5sums"
    assert len(sums.read_text(encoding="utf-8").splitlines()) == len(list(files(unpacked)))
    subprocess.run(["md5sum", "--check", "--quiet", str(sums)], check=True, cwd=unpacked)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_maintainers_scripts_can_be_read_by_sh(script: str, unpacked: Path) -> None:
    """By dash where it is sh; and by shellcheck, where that is installed."""
    path = unpacked / "DEBIAN" / script
    assert path.stat().st_mode & 0o111 == 0o111
    subprocess.run([shutil.which("dash") or "sh", "-n", str(path)], check=True)
    subprocess.run(["bash", "-n", str(CHECKOUT / "packaging/deb/build")], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(path)], check=True)


def test_no_agent_is_started_or_enabled_by_the_installation(unpacked: Path) -> None:
    """A host has one role; only agents that run are started anew."""
    script = (unpacked / "DEBIAN/postinst").read_text(encoding="utf-8")
    assert "enable" not in re.sub(r"^#.*", "", script, flags=re.MULTILINE)
    assert re.findall(r"deb-systemd-invoke (\w+)", script) == ["restart"]
    assert 'is-active "$unit"; then deb-systemd-invoke restart' in script


def test_bash_completes_a_command(unpacked: Path) -> None:
    """With the file that is installed, and the program's own words."""
    completion = unpacked / "usr/share/bash-completion/completions/lvsctl"
    words = "COMP_WORDS=(lvsctl add-); COMP_CWORD=1; _lvsctl_completion lvsctl; echo ${COMPREPLY[@]}"
    path = f"{CHECKOUT / '.venv/bin'}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", f". {completion}; {words}"], check=True, capture_output=True, text=True, env={"PATH": path}
    )
    assert ended.stdout == "add-backend\n"


def test_the_manual_has_every_command_option_and_no_line_that_roff_takes_for_another(unpacked: Path) -> None:
    pages = {
        name: subprocess.run(
            ["gzip", "-dc", str(unpacked / f"usr/share/man/man8/{name}.8.gz")],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        for name in PROGRAMS
    }
    headings = [line for line in pages["lvsctl"] if line.startswith(".SS")]
    for command in COMMANDS:
        name = command.replace("-", "\\-")
        assert any(line.startswith(f'.SS "lvsctl {name}') for line in headings), command
    assert "\\fB\\-\\-state\\-dir DIR\\fR" in pages["lvs-director"]
    macros = {line.split()[0] for lines in pages.values() for line in lines if line.startswith((".", "'"))}
    assert macros <= {".TH", ".nh", ".SH", ".SS", ".PP", ".TP"}
