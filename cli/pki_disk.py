"""Files that must not be lost, half written, or read by others: read and replaced. No cryptography."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_common.errors import ConflictError, ExhaustedError, Reason
from cli.pki_request import refused

LARGEST = 1 << 20
"""Bytes of a file that is read: a bundle of CAs has a quarter of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file as it shall be."""

    path: Path
    content: bytes


def is_there(path: Path) -> bool:
    """Whether something has that name, be it a link that leads nowhere; raises RefusedError if that cannot be seen."""
    with telling("read", path):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def read(path: Path) -> bytes:
    """Read a file; raises RefusedError."""
    with telling("read", path), path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise refused(f"cannot read {path}: it is larger than {LARGEST >> 20} MiB, so it is no certificate")
    return content


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep out others who change the same PKI; raises ConflictError at once if somebody does so now."""
    with telling("open", directory):
        number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with telling("lock", directory):
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = f"cannot change {directory}: another lvs pki does; nothing was changed"
                raise ConflictError(message, Reason.LOCKED) from error
        yield
    finally:
        os.close(number)


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[None]:
    """Make a directory with mode 0700, if it is missing; one that was made goes again if what follows fails."""
    made = False
    with telling("make", path):
        if not path.is_dir():
            path.mkdir()
            made = True
            path.chmod(0o700)  # whatever the umask
    try:
        yield
        if made:
            _sync(path.parent)
    except BaseException:
        if made:
            with contextlib.suppress(OSError):  # it is not empty: then something is in place there
                path.rmdir()
        raise


def replace(files: Sequence[File]) -> None:
    """Write files with mode 0600, each at once and in this order: a crash leaves the first ones new, the others old.

    All that takes room on the disk comes first, beside them, so that a full one leaves every file as it was.
    """
    staged: list[Path] = []
    try:
        for number, each in enumerate(files):
            # Always the same names: the next one who writes here takes away what a crash has left.
            name = each.path.parent / f".new-{number}"
            staged.append(name)
            with telling("write", each.path):
                _write(name, each.content)
        for name, each in zip(tuple(staged), files, strict=True):
            with telling("write", each.path):
                name.replace(each.path)
                _sync(each.path.parent)
            staged.remove(name)
    finally:
        for name in staged:
            with contextlib.suppress(OSError):  # the first error is the one that counts
                name.unlink()


@contextlib.contextmanager
def telling(what: str, path: Path) -> Iterator[None]:
    """Say what the system does not allow: RefusedError, or ExhaustedError for a full disk."""
    try:
        yield
    except OSError as error:
        message = f"cannot {what} {path}: {os.strerror(error.errno or 0)}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExhaustedError(message, Reason.DISK_FULL) from error
        raise refused(message) from error


def _write(path: Path, content: bytes) -> None:
    """Write a new file: never through a link, and for its owner alone before the first byte is in it."""
    path.unlink(missing_ok=True)
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "wb") as file:
        os.fchmod(number, 0o600)  # whatever the umask
        file.write(content)
        file.flush()
        os.fsync(number)


def _sync(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
