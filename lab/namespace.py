"""Namespaces of a host: make them, step into them, drop them.

Entered from a thread instead of by `ip netns exec` or nsenter: starting a program is what costs time
in the guest (an `ip netns exec` adds two more), and a socket made in such a thread stays in its host.
Python has setns and unshare from 3.12 on; these are the plain calls of namespaces(7) and mount(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MNT_DETACH = 2

NET = Path("/run/netns")
"""Where `ip netns` looks, so that its commands know our hosts too."""

ANCHORS = Path("/run/lab")
"""Where the other namespaces are pinned: NAME.uts and NAME.mnt."""

ETC = Path("/etc/netns")
"""Each host's own /etc files, in folders by name, as `ip netns exec` has them."""

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int | bytes | None) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {name}{arguments}: {os.strerror(number)}")


def _mount(source: str, target: Path, kind: str = "", flags: int = 0) -> None:
    _call("mount", source.encode(), os.fsencode(target), kind.encode(), flags, None)


class _Outcome(Generic[T]):
    """Runs a function in a thread of its own, and keeps what it gave or raised."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._results: list[T] = []
        self._error: BaseException | None = None

    def _run(self) -> None:
        try:
            self._results.append(self._function())
        except BaseException as error:  # raised again in the thread that waits
            self._error = error

    def wait(self) -> T:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]


def inside(name: str, function: Callable[[], T]) -> T:
    """What `function` gives when run inside the host: sockets, /proc/sys and new processes are its.

    /proc/net is that of the process; inside, read /proc/thread-self/net instead.
    """

    def enter() -> T:
        folder = Path.cwd()
        with contextlib.ExitStack() as files:
            opened = [files.enter_context(path.open("rb")) for path in anchors(name)]
            _call("unshare", CLONE_FS)  # a mount namespace is entered by a thread with a root of its own
            for file in opened:
                _call("setns", file.fileno(), 0)
        os.chdir(folder)
        return function()

    return _Outcome(enter).wait()


def anchors(name: str) -> tuple[Path, Path, Path]:
    """The files that hold the host's namespaces: network, UTS, mounts."""
    return NET / name, ANCHORS / f"{name}.uts", ANCHORS / f"{name}.mnt"


def make(name: str, private: Callable[[], None]) -> None:
    """Make a host: a network with `lo` down, a name, and mounts with its own /etc files and /sys.

    `private` runs inside, once, to add mounts that only this host sees.
    """
    net, uts, mounts = anchors(name)
    if not ANCHORS.is_mount():
        ANCHORS.mkdir(exist_ok=True)
        _mount("lab", ANCHORS, "tmpfs")
        _mount("", ANCHORS, flags=MS_PRIVATE)  # a mount namespace cannot be pinned on a shared mount
    for path in (net, uts, mounts):
        path.touch()

    def build() -> int:
        _call("unshare", CLONE_FS | CLONE_NEWNET | CLONE_NEWUTS)
        socket.sethostname(name)
        _mount("/proc/thread-self/ns/net", net, flags=MS_BIND)
        _mount("/proc/thread-self/ns/uts", uts, flags=MS_BIND)
        _call("unshare", CLONE_NEWNS)
        _mount("", Path("/"), flags=MS_SLAVE | MS_REC)  # sees later mounts of the guest, shows it none
        _mount("sys", Path("/sys"), "sysfs")  # /sys/class/net shows the network of whoever mounted it
        for file in (ETC / name).iterdir():
            _mount(str(file), Path("/etc") / file.name, flags=MS_BIND)
        private()
        return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    descriptor = _Outcome(build).wait()
    _mount(f"/proc/self/fd/{descriptor}", mounts, flags=MS_BIND)
    os.close(descriptor)


def bind(source: Path, target: Path) -> None:
    """Show a folder at another place too; for `private` of `make`."""
    target.mkdir(parents=True, exist_ok=True)
    _mount(str(source), target, flags=MS_BIND)


def drop(name: str) -> None:
    """Let go of a host, also of one that was made only in part; its processes must be gone."""
    for path in anchors(name):
        with contextlib.suppress(OSError):  # not mounted
            _call("umount2", os.fsencode(path), MNT_DETACH)
        path.unlink(missing_ok=True)
    shutil.rmtree(ETC / name, ignore_errors=True)


def processes(names: set[str]) -> list[int]:
    """The process ids of everything that runs in the networks of these hosts."""
    wanted = {(NET / name).stat().st_ino for name in names if (NET / name).exists()}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if (folder / "ns/net").stat().st_ino in wanted:
                found.append(int(folder.name))
    return found
