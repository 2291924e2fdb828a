"""The disk that every Debian host of the lab starts from (lab/debian_host.py): made once, then kept in the cache.

    python -m lab.image     makes it if it is not there, and prints where it is

An ordinary user makes a real Debian: its packages are unpacked here, and configured, by their own scripts and as root,
in a guest. It takes 40 s, most of them there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lab.boot import fetch, scratch_parent
from lab.guest import LAB, POLL_SECONDS, LabError, launch
from lab.unpacked import unpack

SIZE = "1G"
CONFIGURE_SECONDS = 400.0
"""It takes 30 s; several times that where all processors are busy."""

INGREDIENTS = (
    *("fetch-debian", "downloads", "unpacked.py", "image.py"),
    *("debian/configure", "debian/init", "debian/lab-commands.service"),
)

INSIDE = "usr/lib/lvs-lab"
"""What is the lab's own on such a disk."""


@contextlib.contextmanager
def image(processor: int = 0) -> Iterator[Path]:
    """The disk, which stays for as long as this lasts; made now if it is not there yet."""
    while (held := _held(disk := _made(processor))) is None:
        pass  # another checkout, with another lab, has removed it just now
    with held:
        yield disk


def _held(disk: Path) -> BinaryIO | None:
    """A file whose lock keeps the disk, or None if it is gone."""
    try:
        held = disk.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(held, fcntl.LOCK_SH)
    if disk.exists():
        return held
    held.close()
    return None


def _made(processor: int) -> Path:
    cache = fetch()
    folder = cache.parent / "debian"
    disk = folder / f"{_fingerprint()}.ext4"
    if disk.exists():
        return disk
    folder.mkdir(exist_ok=True)
    with _locked(folder / "lock", "w", fcntl.LOCK_EX):  # two at once: the second finds it ready
        if disk.exists():
            return disk
        print(f"making the disk of the lab's Debian hosts in {folder}", file=sys.stderr, flush=True)
        _clear(folder)
        with tempfile.TemporaryDirectory(prefix="work.", dir=folder) as work:
            try:
                _make(Path(work), cache, processor).rename(disk)
            except subprocess.CalledProcessError as error:
                why = (error.stderr or b"see above").decode(errors="replace").strip()
                raise LabError(f"cannot make the disk of a Debian host: {error}; {why}") from error
    return disk


def e2fsprogs(cache: Path) -> dict[str, str]:
    """An environment that has mke2fs and debugfs; they are fetched where the machine lacks them."""
    fetched = cache / "root/usr"
    return {
        **os.environ,
        "PATH": f"{fetched}/sbin:/usr/sbin:/sbin:/usr/bin:/bin",
        "LD_LIBRARY_PATH": str(fetched / "lib/x86_64-linux-gnu"),
    }


def _fingerprint() -> str:
    """Names a disk by all that it is made of: when that changes, it is made anew."""
    return hashlib.sha256(b"".join((LAB / name).read_bytes() for name in INGREDIENTS)).hexdigest()[:16]


@contextlib.contextmanager
def _locked(file: Path, mode: str, how: int) -> Iterator[None]:
    with file.open(mode) as lock:
        fcntl.flock(lock, how)
        yield


def _clear(folder: Path) -> None:
    """Remove the disks of other labs, unless hosts run from them, and what one that was interrupted has left."""
    for left in folder.glob("work.*"):
        shutil.rmtree(left)
    for disk in folder.glob("*.ext4"):
        with contextlib.suppress(BlockingIOError), _locked(disk, "rb", fcntl.LOCK_EX | fcntl.LOCK_NB):
            disk.unlink()


def _make(work: Path, cache: Path, processor: int) -> Path:
    if subprocess.run((LAB / "fetch-debian", work), check=False).returncode != 0:
        raise LabError("cannot make the disk of a Debian host: lab/fetch-debian failed, see above")
    root = work / "root"
    owners = unpack(sorted((work / "debs").glob("*.deb")), root, work)
    ours = root / INSIDE
    ours.mkdir()
    (ours / "owners").write_text("".join(f"{line}\n" for line in owners))
    for name in ("configure", "init"):
        shutil.copy(LAB / "debian" / name, ours)
    shutil.copy(LAB / "debian/lab-commands.service", root / "etc/systemd/system")
    disk = work / "disk.ext4"
    _make_filesystem(disk, root, cache)
    _configure(disk, cache, processor)
    return disk


def _make_filesystem(disk: Path, root: Path, cache: Path) -> None:
    """A filesystem of the tree's files, which are root's in there, whoever makes it."""
    environment = e2fsprogs(cache)
    # Tables are written now: else every host would do it in the background, each into its own copy.
    options = ("-q", "-t", "ext4", "-N", "32768", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d", str(root))
    subprocess.run(("mke2fs", *options, str(disk), SIZE), env=environment, check=True, capture_output=True)
    files = {path.lstat().st_ino for path in root.rglob("*")}  # a file that has two names is one
    inodes = (2, *range(11, 12 + len(files)))  # the root, lost+found, and then one after the other
    orders = "".join(f"set_inode_field <{inode}> {field} 0\n" for inode in inodes for field in ("uid", "gid"))
    subprocess.run(
        ("debugfs", "-w", "-f", "-", str(disk)),
        input=orders.encode(),
        env=environment,
        check=True,
        capture_output=True,
    )


def _configure(disk: Path, cache: Path, processor: int) -> None:
    """Have the packages configured, in a guest."""
    with tempfile.TemporaryDirectory(prefix="lvs-lab-", dir=scratch_parent()) as scratch:
        out = Path(scratch)
        root = (f"ubda={disk}", "root=/dev/ubda", "rw", f"init=/{INSIDE}/configure", "quiet", "loglevel=4")
        guest = launch((*root, f"lab_out={out}"), "512M", processor, out, cache, out)
        try:
            deadline = time.monotonic() + CONFIGURE_SECONDS
            while not guest.has_ended() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        finally:
            guest.end(0.0)
        status, log = out / "status", out / "log"
        if not status.exists() or status.read_text().strip() != "0":
            said = log.read_text()[-2000:] if log.exists() else ""
            raise guest.failure(f"cannot make the disk of a Debian host: its packages are not configured\n{said}")


def main() -> int:
    """Make it, and print where it is."""
    try:
        with image() as disk:
            print(disk)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
