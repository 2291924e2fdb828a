"""Runs a program that is not trusted with what the agent may do, and leaves nothing of it behind.

No Python between fork and exec: grpc is loaded, and has threads. What must happen there is left to setpriv(1), since
ambient capabilities outlive an exec. Through subprocess rather than asyncio's: that has a thread for each program, and
waits for whoever has inherited its output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent_common.check_socket import shown

OUTPUT_BYTES = 4096
"""Octets of the output that are kept; the rest is read, and thrown away."""

SETPRIV = "/usr/bin/setpriv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a program ended: its status, and the first line that it wrote.

    status None: it was not started, was killed, or has not ended in time; the line says so.
    """

    status: int | None
    line: str = ""


async def run_program(argv: Sequence[str], environment: Mapping[str, str], seconds: float) -> Ran:
    """Run a program in a session of its own, without capabilities; after so many seconds its group is killed."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read_end, False)
    try:
        process = _start(argv, environment, write_end)
    except OSError as error:
        os.close(read_end)
        return Ran(status=None, line=f"cannot start {SETPRIV} for it: {os.strerror(error.errno or 0).lower()}")
    finally:
        os.close(write_end)
    return await _Running(process, read_end).end(seconds)


def _start(argv: Sequence[str], environment: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    without = ["--no-new-privs", "--ambient-caps=-all", "--inh-caps=-all"]
    if os.geteuid() == 0:  # root gets every capability of the bounding set with an exec
        without.append("--bounding-set=-all")
    return subprocess.Popen(
        [SETPRIV, *without, *argv],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd="/",
        env=dict(environment),
        start_new_session=True,
    )


class _Running:
    """A program that runs, and the pipe that it writes to."""

    def __init__(self, process: subprocess.Popen[bytes], output: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._output = output
        self._kept = b""
        self._exited = self._loop.create_future()

    async def end(self, seconds: float) -> Ran:
        """Wait for its end, or bring it about."""
        self._loop.add_reader(self._pidfd, self._notice)
        self._loop.add_reader(self._output, self._read)
        try:
            async with asyncio.timeout(seconds):
                await self._exited
            self._read()
            return self._ran(self._reap())
        except TimeoutError:
            return Ran(status=None, line=f"it has not ended within {seconds:g} s, and was killed")
        finally:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            if self._process.returncode is None:
                self._kill()
                self._loop.add_reader(self._pidfd, self._reap)

    def _notice(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if not self._exited.done():
            self._exited.set_result(None)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _reap(self) -> int:
        """Kill what is left of its group while its number is still its own, and let go of it."""
        self._kill()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        return self._process.wait()

    def _read(self) -> None:
        try:
            data = os.read(self._output, 65536)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._output)
        self._kept += data[: OUTPUT_BYTES - len(self._kept)]

    def _ran(self, status: int) -> Ran:
        if status < 0:
            return Ran(status=None, line=f"it was killed by {signal.Signals(-status).name}")
        return Ran(status=status, line=shown(self._kept.partition(b"\n")[0].strip()))
