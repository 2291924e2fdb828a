"""A director, two real servers, and the desk of their administrator, who is a client too; each a Debian host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.debian_host import DebianHost
from lab.host import Host
from lab.machine import plugged
from tests.deploy.traffic import Traffic, traffic

PORT = 10000
VIP = "192.168.0.200"
WEB = Path(__file__).parents[2] / "lab/web.py"

DIRECTOR = Host(name="lb1", ipv4="192.168.0.10", ipv6="2001:db8::10", mac="02:00:c0:a8:00:0a")
REAL_SERVERS = (
    Host(name="rs1", ipv4="192.168.0.104", ipv6="2001:db8::104", mac="02:00:c0:a8:00:68"),
    Host(name="rs2", ipv4="192.168.0.105", ipv6="2001:db8::105", mac="02:00:c0:a8:00:69"),
)
DESK = Host(name="desk", ipv4="192.168.0.50", ipv6="2001:db8::50", mac="02:00:c0:a8:00:32")

APPLICATION = """\
[Unit]
Description=An application on {address}
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/bin/python3 -I -S /usr/local/bin/web.py http {address} {port} {name}

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploySite:
    """The hosts. On the real servers runs an application that answers with its host's name."""

    director: DebianHost
    real_servers: tuple[DebianHost, ...]
    client: DebianHost
    """The administrator's desk."""
    folder: Path
    """For what is carried from host to host."""

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[DeploySite]:
        """A site that runs; nothing of ours is on it."""
        with contextlib.ExitStack() as stack:
            switch = stack.enter_context(plugged())

            def host(each: Host, processor: int) -> DebianHost:
                return stack.enter_context(DebianHost.made(switch, each, processor))

            site = cls(
                director=host(DIRECTOR, 0),
                real_servers=tuple(host(each, 1) for each in REAL_SERVERS),
                client=host(DESK, 0),
                folder=switch.folder,
            )
            site.boot()
            together(site.real_servers, lambda each: each.push(WEB, "/usr/local/bin/web.py"))
            together(site.real_servers, lambda each: add_application(each, "web", "::", PORT))
            yield site

    @property
    def served(self) -> tuple[DebianHost, ...]:
        """The hosts that our package is for."""
        return (self.director, *self.real_servers)

    def boot(self) -> None:
        """Switch all on, and wait until systemd says that all is well on each."""
        everybody = (*self.served, self.client)
        for each in everybody:
            each.power_on()
        together(everybody, must_run)

    def traffic(self) -> contextlib.AbstractContextManager[Traffic]:
        """The client asks the VIP."""
        return traffic(self.client, VIP, PORT)

    def curl(self, url: str) -> str:
        """What the client gets; nothing, if nobody answers."""
        return self.client.run("curl", "--silent", "--max-time", "5", url, check=False).stdout.strip()

    def told(self) -> str:
        """What the hosts have to say."""
        texts = []
        for each in self.served:
            journal = each.journal("--unit", "lvs-*", "--unit", "web*", "--lines", "200") if each.machine.is_on else ""
            texts.append(f"--- {each.name}: journal\n{journal}\n--- {each.name}: console\n{each.console()[-2000:]}")
        return "\n".join(texts)


def together(hosts: Iterable[DebianHost], what: Callable[[DebianHost], object]) -> None:
    """Do something on several hosts at once."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(what, hosts))


def role_of(host: DebianHost) -> str:
    """Which of our agents a host runs."""
    return "director" if host.name == DIRECTOR.name else "realserver"


def unit_of(host: DebianHost) -> str:
    """The unit of its agent."""
    return f"lvs-{role_of(host)}.service"


def must_run(host: DebianHost) -> None:
    """Wait until a host is up, and fail if systemd finds anything wrong with it."""
    state = host.wait()
    assert state == "running", f"{host.name} is {state}: {host.out('systemctl', '--failed', '--no-pager')}"


def write(host: DebianHost, file: str, text: str) -> None:
    """Write one of its files anew, as an editor does: owner and mode stay."""
    host.bash(f"cat >{file} <<'END'\n{text}END")


def add_application(host: DebianHost, unit: str, address: str, port: int) -> None:
    """Have an application start now, and at every boot; it answers with its host's name."""
    text = APPLICATION.format(address=address, port=port, name=host.name)
    write(host, f"/etc/systemd/system/{unit}.service", text)
    host.run("systemctl", "enable", "--quiet", "--now", unit)
