"""What users install: the wheel's content, a plain install, and one with the command line. Needs a package index."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from agent_common.version import VERSION

ROOT = Path(__file__).parents[1]


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build the wheel or the sdist as a release does."""
    subprocess.run(
        [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(folder), str(source)],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    (built,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the checkout."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment, with nothing of this one."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    return folder


def install(venv: Path, what: str) -> None:
    """Install as the documentation says, with our pins."""
    ended = subprocess.run(
        [
            str(venv / "bin/pip"),
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--constraint",
            str(ROOT / "constraints.txt"),
            what,
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


def run(venv: Path, program: str, *arguments: str) -> tuple[int, str]:
    """Run an installed program away from the sources; return its status, and what it said on both channels."""
    ended = subprocess.run(
        [str(venv / "bin" / program), *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=venv,
        env={"PATH": "/usr/bin:/bin", "HOME": str(venv)},
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_the_wheel_holds_our_packages_their_stubs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = f"lvs_agents-{VERSION}.dist-info"
    assert {name.partition("/")[0] for name in names} == {
        "agent_common",
        "agent_director",
        "agent_realserver",
        "cli",
        "lvsagent",
        info,
    }
    assert "lvsagent/v1/ipvs_service_pb2_grpc.py" in names
    assert "lvsagent/v1/ipvs_service_pb2.pyi" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("proto")]
    assert f"{info}/licenses/LICENSE" in names


def test_every_module_of_ours_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in ("agent_common", "agent_director", "agent_realserver", "cli"):
        for file in (ROOT / package).rglob("*.py"):
            assert str(file.relative_to(ROOT)) in names
    for file in (ROOT / "proto/lvsagent").rglob("*.py*"):
        if "__pycache__" not in file.parts:
            assert str(file.relative_to(ROOT / "proto")) in names


def test_the_sdist_makes_the_same_wheel_and_holds_what_a_distribution_packages(wheel: Path, tmp_path: Path) -> None:
    """Units, settings and the scripts of the .deb; nothing of the lab and the tests, which need a checkout."""
    subprocess.run(["tar", "-xzf", str(build("sdist", ROOT, tmp_path)), "-C", str(tmp_path)], check=True)
    source = tmp_path / f"lvs_agents-{VERSION}"
    assert {path.name for path in source.iterdir()} == {
        *("agent_common", "agent_director", "agent_realserver", "cli", "proto", "packaging", "docs"),
        *("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "constraints.txt", "PKG-INFO", ".gitignore"),
    }
    assert os.access(source / "packaging/deb/build", os.X_OK)
    (tmp_path / "again").mkdir()
    again = build("wheel", source, tmp_path / "again")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert {each.filename: each.CRC for each in first.infolist()} == {
            each.filename: each.CRC for each in second.infolist()
        }


def test_a_plain_install_has_both_agents_and_the_extra_adds_the_command_line(wheel: Path, venv: Path) -> None:
    install(venv, str(wheel))
    agents = ("lvs-director", "lvs-realserver")
    for program in agents:
        assert run(venv, program, "--version") == (0, f"{program} {VERSION}\n")
    assert run(venv, "python", "-c", "import typer")[0] == 1
    assert run(venv, "python", "-c", "import cli.add_backend, cli.remove_backend, cli.set_weight") == (0, "")
    for program in ("lvs", "lvsctl"):
        status, said = run(venv, program, "--version")
        assert (status, said.count("\n")) == (1, 1)
        assert "pip install 'lvs-agents[cli]'" in said

    install(venv, f"{wheel}[cli]")
    for program in ("lvs", "lvsctl"):
        assert run(venv, program, "--version") == (0, f"lvs {VERSION}\n")
        assert run(venv, program, "add-backend", "--help")[0] == 0
    for program in agents:
        assert run(venv, program, "--version") == (0, f"{program} {VERSION}\n")
