"""Runs our own code inside a lab host: in a thread that has entered the host's network namespace."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
"""include/uapi/linux/sched.h"""


class Named(Protocol):
    """A lab host, as far as this module needs it: `ip netns` knows it by this name."""

    @property
    def name(self) -> str: ...


def enter(namespace: Path) -> None:
    """Put the calling thread, and no other, into a network namespace (setns(2); os.setns came with Python 3.12)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open("rb") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace))


@functools.cache
def _executor(namespace: Path, inode: int) -> ThreadPoolExecutor:
    # The inode tells a namespace that was made again under an old name from the one that our thread still keeps alive.
    return ThreadPoolExecutor(1, f"in {namespace.name}", initializer=enter, initargs=(namespace,))


def executor_of(host: Named) -> ThreadPoolExecutor:
    """Return the one worker thread of a host, as an agent there would have it; /proc/thread-self is the host's too."""
    namespace = Path("/run/netns") / host.name
    return _executor(namespace, namespace.stat().st_ino)


def in_host(host: Named, function: Callable[[], T]) -> T:
    """Call a function in the host's worker thread and return what it returns, or raise what it raises."""
    return executor_of(host).submit(function).result()


class Runner:
    """What an agent passes to our async functions as `run`: short synchronous calls go to the host's worker thread."""

    def __init__(self, host: Named) -> None:
        self._executor = executor_of(host)

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._executor, function)
