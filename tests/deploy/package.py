"""The package as a user gets it, and a newer one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
NEWER = "99.0.0"


def build(folder: Path) -> Path:
    """Build the package as a release does; its file. Needs a package index."""
    return _printed(str(CHECKOUT / "packaging/deb/build"), sys.executable, str(folder))


def newer(deb: Path, folder: Path) -> Path:
    """The same package with a higher version, in its metadata and in its program: what an upgrade brings."""
    tree = folder / "newer"
    subprocess.run(("dpkg-deb", "--raw-extract", str(deb), str(tree)), check=True)
    _replace(tree / "DEBIAN/control", r"^Version: .*$", f"Version: {NEWER}")
    (version,) = tree.glob("opt/lvs-agents/lib/python3*/site-packages/agent_common/version.py")
    _replace(version, r'^VERSION = ".*"$', f'VERSION = "{NEWER}"')
    file = folder / f"lvs-agents_{NEWER}.deb"
    subprocess.run(("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(file)), check=True)
    shutil.rmtree(tree)
    return file


def _printed(*argv: str) -> Path:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def _replace(file: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, by, file.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{pattern} is {count} times in {file}"
    file.write_text(text)
