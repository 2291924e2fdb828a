"""What an agent tells systemd: on real datagram sockets, from the class alone and from real agents."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent_common.endpoint import Endpoint
from agent_common.notify import Notifier
from agent_common.own_address import wait_for_addresses
from agent_common.worker import Worker

AGENTS = {"agent_director": "lvs-director", "agent_realserver": "lvs-realserver"}


class Manager:
    """The end of systemd: a datagram socket by a path, or by an abstract name."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.heard: list[str] = []

    def listen(self, seconds: float = 0.0) -> list[str]:
        """Return the lines that come within so many seconds, and that were there."""
        until = time.monotonic() + seconds
        new: list[str] = []
        while True:
            self._socket.settimeout(max(0.001, until - time.monotonic()))
            try:
                new += self._socket.recv(4096).decode().split("\n")
            except TimeoutError:
                self.heard += new
                return new

    def wait_for(self, line: str, seconds: float = 20.0) -> None:
        """Return when a line has come."""
        until = time.monotonic() + seconds
        while line not in self.heard:
            assert time.monotonic() < until, self.heard
            self.listen(0.1)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@lvs-test-{os.getpid()}-{time.monotonic_ns()}"
    with contextlib.closing(Manager(address)) as made:
        yield made


def test_lines_come_in_one_datagram_whatever_the_name_of_the_socket(manager: Manager) -> None:
    Notifier(address=manager.address).tell("READY=1", "STATUS=serving")
    assert manager.listen() == ["READY=1", "STATUS=serving"]


def test_without_systemd_nothing_is_told_and_nothing_goes_on() -> None:
    notifier = Notifier.of({})
    notifier.tell("READY=1")

    async def never() -> bool:
        raise AssertionError

    asyncio.run(asyncio.wait_for(notifier.follow(never), 1))


def test_a_socket_that_is_gone_does_not_end_the_agent(caplog: pytest.LogCaptureFixture) -> None:
    Notifier(address="/nowhere/notify").tell("READY=1")
    assert "cannot tell systemd" in caplog.text


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"}, 2.0),
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({}, 0),
    ],
)
def test_only_our_own_watchdog_is_fed(variables: dict[str, str], seconds: float) -> None:
    """WATCHDOG_PID is that of the process whose watchdog it is (sd_watchdog_enabled(3))."""
    assert Notifier.of({"NOTIFY_SOCKET": "/x", **variables}, pid=7).watchdog_seconds == seconds


class TestWatchdog:
    """What feeds it."""

    @pytest.fixture
    def manager(self, tmp_path: Path) -> Iterator[Manager]:
        with contextlib.closing(Manager(str(tmp_path / "notify"))) as made:
            yield made

    @pytest.mark.parametrize("answer", [True, False, OSError("no")])
    async def test_any_answer_feeds_it(self, manager: Manager, answer: bool | Exception) -> None:
        """A kernel without IPVS, a corrupt journal or a failure is not mended by a restart."""

        async def is_serving() -> bool:
            if isinstance(answer, Exception):
                raise answer
            return answer

        following = asyncio.ensure_future(Notifier(address=manager.address, watchdog_seconds=0.2).follow(is_serving))
        await asyncio.sleep(0.3)
        following.cancel()
        heard = manager.listen()
        assert heard.count("WATCHDOG=1") > 2
        assert {line.startswith("STATUS=serving") for line in heard if line.startswith("STATUS")} == {answer is True}

    async def test_a_worker_thread_that_hangs_feeds_nothing_until_it_answers_again(self, manager: Manager) -> None:
        worker, freed = Worker(), threading.Event()

        async def is_serving() -> bool:
            return await worker(lambda: True)

        following = asyncio.ensure_future(Notifier(address=manager.address, watchdog_seconds=0.2).follow(is_serving))
        await asyncio.sleep(0.2)
        assert "WATCHDOG=1" in manager.listen()
        hung = asyncio.ensure_future(worker(freed.wait))
        await asyncio.sleep(0.2)
        manager.listen()
        await asyncio.sleep(0.3)
        assert manager.listen() == []
        freed.set()
        await hung
        await asyncio.sleep(0.2)
        assert "WATCHDOG=1" in manager.listen()
        following.cancel()
        worker.close()


@contextlib.contextmanager
def agent(package: str, state: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A real agent on this host, with nothing to restore, so that it changes nothing."""
    environment = {**os.environ, "PYTHONFAULTHANDLER": "", **variables}
    arguments = [sys.executable, "-m", package, "--listen", f"unix:{state}/api.sock", "--state-dir", str(state)]
    running = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


class TestAgent:
    """The agents themselves, as systemd starts them."""

    @pytest.fixture
    def manager(self, tmp_path: Path) -> Iterator[Manager]:
        with contextlib.closing(Manager(str(tmp_path / "notify"))) as made:
            yield made

    @pytest.mark.parametrize("package", AGENTS)
    def test_it_is_ready_when_its_port_is_open_feeds_its_watchdog_and_tells_its_end(
        self, package: str, manager: Manager, tmp_path: Path
    ) -> None:
        with agent(package, tmp_path, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="400000") as running:
            manager.wait_for("READY=1")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"{tmp_path}/api.sock")
            assert manager.heard[0] == "STATUS=restores what was committed"
            manager.wait_for("WATCHDOG=1")
            manager.listen(0.1)
            assert manager.listen(1.0).count("WATCHDOG=1") >= 4
            running.send_signal(signal.SIGTERM)
            manager.wait_for("STOPPING=1")
            assert running.wait(20) == 0

    def test_a_corrupt_journal_is_no_reason_for_the_watchdog_to_end_it(self, manager: Manager, tmp_path: Path) -> None:
        (tmp_path / "state.db").write_bytes(b"no database" * 1000)
        with agent("agent_realserver", tmp_path, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="400000"):
            manager.wait_for("READY=1")
            assert manager.listen(1.0).count("WATCHDOG=1") >= 4
            assert any(line.startswith("STATUS=not serving") for line in manager.heard)

    def test_what_a_watchdog_ends_says_where_it_was(self, tmp_path: Path, manager: Manager) -> None:
        """SIGABRT writes the stack of every thread into the log."""
        with agent("agent_realserver", tmp_path, NOTIFY_SOCKET=manager.address) as running:
            manager.wait_for("READY=1")
            running.send_signal(signal.SIGABRT)
            _, log = running.communicate(timeout=20)
        assert "Current thread" in log
        assert "worker.py" in log or "thread.py" in log


class TestOwnAddress:
    """An agent starts before the network is up."""

    async def test_an_address_that_is_there_is_not_waited_for(self) -> None:
        endpoints = [Endpoint(host="127.0.0.1", port=1), Endpoint(path="/run/x"), Endpoint(host="localhost", port=1)]
        await asyncio.wait_for(wait_for_addresses(endpoints, seconds=60), 2)

    async def test_one_that_does_not_come_is_left_to_whoever_binds_it(self) -> None:
        missing = Endpoint(host=str(ip_address("192.0.2.77")), port=9711)
        begun = time.monotonic()
        await wait_for_addresses([missing], seconds=0.5)
        assert 0.4 < time.monotonic() - begun < 5
