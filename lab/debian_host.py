"""Hosts as an administrator gets them: a Debian with systemd, its own kernel, disk and network card, on one switch.

    with plugged() as switch, DebianHost.made(switch, host) as debian:
        debian.power_on()
        debian.wait()
        debian.push(Path("lvs-agents.deb"), "/root/lvs-agents.deb")
        debian.run("dpkg", "--install", "/root/lvs-agents.deb")
        debian.reboot()

Nothing of this checkout is visible on it. Its disk is a copy-on-write file over the one that all share (lab/image.py),
and is gone in the end; what was written to it survives a reboot, and, if it was synced, a power cut.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.guest import LAB, Guest, LabError, launch
from lab.host import Host
from lab.image import INSIDE, image
from lab.machine import MEMORY, Machine, Switch

BOOTED_SECONDS = 120.0
"""systemd has started everything after 10 s; several times that where all processors are busy."""

NETWORK = """\
[Match]
Name=eth0

[Network]
Address={ipv4}/24
Address={ipv6}/64
IPv6AcceptRA=no
"""


@dataclass(slots=True, kw_only=True)
class DebianHost:
    """One such host."""

    machine: Machine

    @classmethod
    @contextlib.contextmanager
    def made(cls, switch: Switch, host: Host, processor: int = 0) -> Iterator[DebianHost]:
        """A host on which nobody has been yet, without power; at the end it has none again."""
        with (
            image(processor) as disk,
            Machine.plugged_in(switch, host, "", processor, functools.partial(_boot, disk=disk)) as machine,
        ):
            shutil.copyfile(LAB / "machine-serve", machine.outside / "machine-serve")
            _lay_out_etc(machine.outside / "etc", host)
            yield cls(machine=machine)

    @property
    def host(self) -> Host:
        return self.machine.host

    @property
    def name(self) -> str:
        return self.machine.host.name

    def power_on(self) -> None:
        """Boot; returns at once, so that several boot together. See `wait`."""
        self.machine.power_on()

    def wait(self) -> str:
        """Wait until systemd has started all that is to start; what it calls the outcome, `running` if all is well."""
        self.machine.wait(BOOTED_SECONDS)
        return self.out("systemctl", "is-system-running", "--wait", check=False, timeout=BOOTED_SECONDS)

    def reboot(self) -> None:
        """Reboot as an administrator does; returns when it goes down. See `wait`."""
        self.run("systemctl", "reboot")
        self.machine.expect_boot()

    def cut_power(self) -> None:
        """End it in the middle of whatever it does."""
        self.machine.cut_power()

    def run(self, *argv: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command there as root; raises CommandError for another status than 0, unless `check` is off."""
        return self.machine.run(*argv, check=check, timeout=timeout)

    def out(self, *argv: str, check: bool = True, timeout: float = 60) -> str:
        """What a command prints there, without blanks around it."""
        return self.run(*argv, check=check, timeout=timeout).stdout.strip()

    def bash(self, script: str, *, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a script there, as `run` does."""
        return self.machine.bash(script, check=check, timeout=timeout)

    def push(self, source: Path, there: str) -> None:
        """Copy one of this machine's files, or a folder, to a path there; root owns it, and modes stay."""
        between = self.machine.outside / "pushed"
        if source.is_dir():
            shutil.copytree(source, between)
        else:
            shutil.copy(source, between)
        self.bash(f"cp -r --preserve=mode,timestamps /run/out/pushed {shlex.quote(there)}; rm -r /run/out/pushed")

    def journal(self, *arguments: str) -> str:
        """What the host's journal says since it has booted, as `--unit NAME` and the like narrow it."""
        form = ("--boot", "--no-pager", "--quiet", "--output", "short-monotonic")
        return self.out("journalctl", *form, *arguments, check=False)  # 1: nothing there

    def console(self) -> str:
        """What its console has shown since the power was switched on."""
        return (self.machine.outside / "console").read_text(errors="replace")


def _lay_out_etc(etc: Path, host: Host) -> None:
    """What an administrator types when Debian is installed: a name and an address."""
    network = etc / "systemd/network"
    network.mkdir(parents=True)
    (etc / "hostname").write_text(f"{host.name}\n")
    (etc / "machine-id").write_text(f"{hashlib.sha256(host.mac.encode()).hexdigest()[:32]}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n::1 localhost\n")
    (network / "lan.network").write_text(NETWORK.format(ipv4=host.ipv4, ipv6=host.ipv6))


def _boot(machine: Machine, disk: Path) -> Guest:
    cache = machine.switch.cache
    modules = cache / "root/usr/lib/uml/modules"
    if not modules.is_dir():
        raise LabError(f"cannot boot {machine.host.name}: {modules} is missing; remove {cache} and run lab/fetch")
    arguments = (
        *(f"ubda={machine.folder}/disk.cow,{disk}", "root=/dev/ubda", "rw", f"init=/{INSIDE}/init"),
        *(f"lab_out={machine.outside}", f"lab_modules={modules}", machine.network_card),
        "pty.legacy_count=0",  # 256 terminals that nobody uses, and udev would look at each
        *("quiet", "loglevel=4"),
    )
    return launch(arguments, MEMORY, machine.processor, machine.folder, cache, machine.outside)
