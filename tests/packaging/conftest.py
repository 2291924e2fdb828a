"""The package, built once for all workers, and Debian's systemd-analyze. Both need a package index."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that all workers of this run have in common."""
    base = factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / name
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as `make deb` builds it."""
    folder = shared_folder(tmp_path_factory, "deb")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("*.deb")):
            command = [str(CHECKOUT / "packaging/deb/build"), sys.executable, str(folder)]
            ended = subprocess.run(command, check=False, capture_output=True, text=True)
            assert ended.returncode == 0, ended.stdout + ended.stderr
    (built,) = folder.glob("*.deb")
    return built


@pytest.fixture(scope="session")
def unpacked(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files as they would lie below /, with the maintainer's scripts in DEBIAN."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(folder)], check=True)
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyze:
    """Debian's systemd-analyze, of the version that the distribution has, and its own units."""

    program: Path
    libraries: str

    @property
    def root(self) -> Path:
        """Where the package of systemd is unpacked."""
        return self.program.parents[2]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        environment = {**os.environ, "LD_LIBRARY_PATH": self.libraries}
        command = [str(self.program), *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="session")
def analyze() -> Analyze:
    said = subprocess.run([str(CHECKOUT / "packaging/fetch-systemd")], check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    libraries, program = said.stdout.strip().removeprefix("LD_LIBRARY_PATH=").split(" ", 1)
    return Analyze(program=Path(program), libraries=libraries)
