"""Hosts that are machines of their own: each a kernel with a network card and a disk, all on one switch.

    with plugged() as switch:
        with Machine.made(switch, host, start="lvs-director ... &") as machine:
            machine.power_on()
            machine.wait()
            machine.out("ip", "-o", "addr")
            machine.cut_power()

A site's hosts (lab/site.py) are namespaces of one kernel, and their files are the machine's own: neither can lose its
power. Here everything that was not synced is lost with it. The disk is a file in a temporary folder, and is gone in the
end with all that runs.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.boot import fetch, guest_environment, scratch_parent
from lab.guest import BOOT_SECONDS, LAB, POLL_SECONDS, Guest, LabError, Order, prepare, start
from lab.host import CommandError, Host
from lab.image import e2fsprogs

DISK = "/var/lib/lvs"
"""Where a machine has its disk; all else that it writes is in memory."""

DISK_BYTES = 64 * 2**20
MEMORY = "256M"
SWITCH_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A running uml_switch: its socket, the temporary folder that is everybody's, and where the lab's files are."""

    socket: Path
    folder: Path
    cache: Path


@contextlib.contextmanager
def plugged() -> Iterator[Switch]:
    """A switch to which machines can be connected; gone at the end, with the disks of them all."""
    cache = fetch()
    with tempfile.TemporaryDirectory(prefix="lvs-lab-", dir=scratch_parent()) as scratch:
        switch = Switch(socket=Path(scratch) / "switch", folder=Path(scratch), cache=cache)
        argv = (str(cache / "root/usr/bin/uml_switch"), "-unix", str(switch.socket))
        process = subprocess.Popen(
            ("setpriv", "--pdeathsig", "TERM", *argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _until(switch.socket.exists, SWITCH_SECONDS, "the switch has not made its socket")
            yield switch
        finally:
            process.kill()
            process.wait()


@dataclass(slots=True, kw_only=True)
class Machine:
    """One host. `start` is a bash script that it runs at every boot, as root, before it takes commands.

    What it writes to /run/out is here in `outside`, also after a power cut. `boot` starts its kernel.
    """

    host: Host
    start: str
    folder: Path
    switch: Switch
    processor: int
    boot: Callable[[Machine], Guest]
    _guest: Guest | None = None
    _asked: int = 0

    @classmethod
    @contextlib.contextmanager
    def made(cls, switch: Switch, host: Host, start: str, processor: int = 0) -> Iterator[Machine]:
        """A machine with an empty disk, without power; at the end it has none again."""
        with cls.plugged_in(switch, host, start, processor, _boot_from_our_files) as machine:
            _make_disk(machine.disk, switch.cache)
            yield machine

    @classmethod
    @contextlib.contextmanager
    def plugged_in(
        cls, switch: Switch, host: Host, start: str, processor: int, boot: Callable[[Machine], Guest]
    ) -> Iterator[Machine]:
        """A machine that boots in a way of its own, without power and disk; at the end it has no power again."""
        folder = switch.folder / host.name
        (folder / "out").mkdir(parents=True)
        machine = cls(host=host, start=start, folder=folder, switch=switch, processor=processor, boot=boot)
        try:
            yield machine
        finally:
            machine.cut_power()

    @property
    def disk(self) -> Path:
        return self.folder / "disk.ext4"

    @property
    def outside(self) -> Path:
        """What is /run/out inside."""
        return self.folder / "out"

    @property
    def network_card(self) -> str:
        """The kernel's argument that makes its eth0, on the switch."""
        return f"eth0=daemon,{self.host.mac},unix,{self.switch.socket}"

    @property
    def is_on(self) -> bool:
        return self._guest is not None

    def power_on(self) -> None:
        """Boot from the disk; returns at once, so that several boot together. See `wait`.

        To be called from a thread that lives as long as the machine shall: its kernel ends with that thread.
        """
        self.expect_boot()
        (self.outside / "start").write_text(self.start)
        self._guest = self.boot(self)

    def expect_boot(self) -> None:
        """Forget what was asked, and that it has booted: from now on it is about to."""
        self._asked = 0
        (self.outside / "ready").unlink(missing_ok=True)
        for name in ("asked", "answered"):
            shutil.rmtree(self.outside / name, ignore_errors=True)
            (self.outside / name).mkdir()

    def wait(self, seconds: float = BOOT_SECONDS) -> None:
        """Wait until it takes commands; raises LabError with its console if it does not come to that."""
        self._until((self.outside / "ready").exists, seconds, "it has not booted")

    def cut_power(self) -> None:
        """End it in the middle of whatever it does. What was not synced is lost; without power nothing happens."""
        if self._guest is not None:
            self._guest.cut()
            self._guest = None

    def run(self, *argv: str, check: bool = True, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command there as root; raises CommandError for another status than 0, unless `check` is off."""
        return self.bash(shlex.join(argv), check=check, timeout=timeout)

    def out(self, *argv: str, timeout: float = 30) -> str:
        """What a command prints there, without blanks around it."""
        return self.run(*argv, timeout=timeout).stdout.strip()

    def bash(self, script: str, *, check: bool = True, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a script there, as `run` does; several commands in one go are several times faster."""
        self._asked += 1
        number = str(self._asked)
        write_whole(self.outside / "asked" / number, script)
        answers = self.outside / "answered"
        self._until((answers / number).exists, timeout, f"no answer to `{script}` after {timeout:g} s")
        done = subprocess.CompletedProcess(
            ["bash", "-c", script],
            int((answers / number).read_text()),
            (answers / f"{number}.stdout").read_text(),
            (answers / f"{number}.stderr").read_text(),
        )
        if check and done.returncode != 0:
            raise CommandError(self.host.name, done)
        return done

    def _until(self, is_so: Callable[[], bool], seconds: float, what: str) -> None:
        guest = self._guest
        if guest is None:
            raise LabError(f"cannot ask {self.host.name}: it has no power")

        def is_over() -> bool:
            return is_so() or guest.has_ended()

        try:
            _until(is_over, seconds, what)
        except LabError as error:
            raise guest.failure(f"{self.host.name}: {error}") from error
        if not is_so():
            printed = self.outside / "stdout"
            raise guest.failure(f"{self.host.name}: it died\n{printed.read_text() if printed.exists() else ''}")


def write_whole(file: Path, text: str) -> None:
    """Write a file that somebody waits for: it is there with all of the text."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text)
    new.rename(file)


def _boot_from_our_files(machine: Machine) -> Guest:
    order = Order(
        command=("bash", str(LAB / "machine-init"), machine.host.name, machine.host.ipv4, machine.host.ipv6, DISK),
        environment=guest_environment((), interactive=False),
        memory=MEMORY,
        timeout=None,
        tty=False,
        processor=machine.processor,
        devices=(machine.network_card, f"ubda={machine.disk}"),
    )
    prepare(order, machine.folder, machine.switch.cache, machine.outside)
    return start(order, machine.folder, machine.switch.cache, machine.outside)


def _make_disk(file: Path, cache: Path) -> None:
    with file.open("wb") as disk:
        disk.truncate(DISK_BYTES)
    subprocess.run(("mke2fs", "-q", "-t", "ext4", str(file)), env=e2fsprogs(cache), check=True)


def _until(is_so: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise LabError(what)
        time.sleep(POLL_SECONDS)
