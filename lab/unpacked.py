"""A tree of files as dpkg leaves it when packages are unpacked and not yet configured, made by an ordinary user.

dpkg itself can do that as root only. Who owns what is left to others: every file is ours here, and `owners` has the
few that are not root's.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

MERGED = ("bin", "sbin", "lib", "lib64")
"""Links into /usr, as every Debian has them."""

LEFT_OUT = ("doc", "info", "locale")
"""Folders of /usr/share that nobody reads there: a quarter of the disk."""


def unpack(debs: Iterable[Path], root: Path, scratch: Path) -> list[str]:
    """Unpack all of them into a new folder; the files that are not root's, as `owner group mode path`."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    database = root / "var/lib/dpkg"
    for name in ("info", "updates", "triggers"):
        (database / name).mkdir(parents=True)
    (database / "info/format").write_text("1\n")
    (database / "available").touch()
    owners: list[str] = []
    stanzas = []
    for deb in debs:
        members = _unpack_files(deb, root, scratch / "data.tar")
        owners += [_owner(each) for each in members if (each.uname, each.gname) != ("root", "root")]
        stanzas.append(_note(deb, root, scratch / "control", [each.name for each in members]))
    (database / "status").write_text("\n".join(stanzas))
    return owners


def _unpack_files(deb: Path, root: Path, archive: Path) -> list[tarfile.TarInfo]:
    with archive.open("wb") as out:
        subprocess.run(("dpkg-deb", "--fsys-tarfile", str(deb)), stdout=out, check=True)
    left_out = [f"--exclude=./usr/share/{name}/*" for name in LEFT_OUT]
    as_ours = ("--no-same-owner", "--preserve-permissions", "--keep-directory-symlink")
    subprocess.run(("tar", "--extract", *as_ours, *left_out, f"--file={archive}", f"--directory={root}"), check=True)
    with tarfile.open(archive) as tar:
        return tar.getmembers()


def _owner(member: tarfile.TarInfo) -> str:
    return f"{member.uname} {member.gname} {member.mode:o} {member.name.removeprefix('.')}"


def _note(deb: Path, root: Path, control: Path, paths: Iterable[str]) -> str:
    """Note a package's scripts and files as dpkg does; its stanza for dpkg's status."""
    subprocess.run(("dpkg-deb", "--control", str(deb), str(control)), check=True)
    text = (control / "control").read_text().rstrip("\n")
    (control / "control").unlink()
    name = _database_name(text)
    info = root / "var/lib/dpkg/info"
    for file in control.iterdir():
        file.rename(info / f"{name}.{file.name}")
    control.rmdir()
    (info / f"{name}.list").write_text("".join(f"{path.removeprefix('.') or '/.'}\n" for path in paths))
    first, rest = text.split("\n", maxsplit=1)
    return f"{first}\nStatus: install ok unpacked\n{rest}\n{_conffiles(root, info / f'{name}.conffiles')}"


def _database_name(control: str) -> str:
    """How dpkg names a package's files: with its architecture if several may be installed at once."""
    fields = dict(line.split(": ", maxsplit=1) for line in control.splitlines() if ": " in line and line[0] != " ")
    suffix = f":{fields['Architecture']}" if fields.get("Multi-Arch") == "same" else ""
    return fields["Package"] + suffix


def _conffiles(root: Path, listed: Path) -> str:
    """The field that says what the packaged configuration files are like, so that dpkg sees a later change."""
    if not listed.exists():
        return ""
    paths = [line for line in listed.read_text().splitlines() if line.startswith("/")]
    sums = [f" {path} {hashlib.md5((root / path[1:]).read_bytes()).hexdigest()}\n" for path in paths]  # noqa: S324
    return "Conffiles:\n" + "".join(sums)
