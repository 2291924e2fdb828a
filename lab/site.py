"""A whole LVS site inside the lab's guest: directors, real servers and a client on one bridge.

    with Site.make(real_servers=2) as site:
        site.serve_http(site.real_servers[0], 10000)
        site.client.out("curl", "-s", f"http://{site.real_servers[0].ipv4}:10000/")

A host is a network namespace with a name, mounts and a resolv.conf of its own. The VIPs belong to nobody at first.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab import agents, namespace, process
from lab.agents import Agent, Role
from lab.host import CommandError, Host
from lab.process import Process, StartError
from lab.snapshot import diff, snapshot

__all__ = ["VIP", "VIP6", "Agent", "CommandError", "Host", "Process", "Site", "SiteError", "Sources", "StartError"]
__all__ += ["diff", "snapshot"]

VIP = "192.168.0.200"
VIP6 = "2001:db8::200"
BRIDGE = "lab0"
GUEST_MARK = Path("/run/lvs-lab")
STATE = Path("/run/state")
WEB = Path(__file__).resolve().parent / "web.py"
READY_SECONDS = 20.0

SOURCES_IPV4 = ipaddress.IPv4Network("172.20.0.0/16")
SOURCES_IPV6 = ipaddress.IPv6Network("fd00:20::/64")


class SiteError(Exception):
    """A site cannot be made here, or not like this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Further addresses of the client, to ask from."""

    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]

    def of(self, family: int) -> tuple[str, ...]:
        """Those of IP version 4 or 6."""
        return self.ipv4 if family == 4 else self.ipv6


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The hosts, and what was started on them."""

    directors: tuple[Host, ...]
    real_servers: tuple[Host, ...]
    client: Host
    intruder: Host | None
    _servers: list[Process] = field(default_factory=list)
    _agents: list[Agent] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def make(cls, *, real_servers: int = 2, directors: int = 1, intruder: bool = False) -> Iterator[Site]:
        """A site that is up, gone again at the end with everything that runs on it.

        What the agents left in /run/NAME and /run/state/NAME stays until the next site is made.
        """
        if not GUEST_MARK.exists():
            raise SiteError("cannot make a site on this machine: run this in the guest, with lab/boot.py")
        if not 1 <= directors <= 2 or not 0 <= real_servers <= 96:
            raise SiteError("cannot make such a site: give 1 or 2 directors and at most 96 real servers")
        site = cls(
            directors=tuple(_host(f"lb{n}", 9 + n) for n in range(1, directors + 1)),
            real_servers=tuple(_host(f"rs{n}", 103 + n) for n in range(1, real_servers + 1)),
            client=_host("client", 50),
            intruder=_host("intruder", 66) if intruder else None,
        )
        with _only_site():
            site._remove()  # what is left of one whose maker was killed
            try:
                site._build()
                yield site
            finally:
                site._remove()

    @property
    def director(self) -> Host:
        return self.directors[0]

    @property
    def hosts(self) -> tuple[Host, ...]:
        others = () if self.intruder is None else (self.intruder,)
        return (*self.directors, *self.real_servers, self.client, *others)

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def serve_http(self, host: Host, port: int, address: str = "0.0.0.0", name: str | None = None) -> Process:
        """Answer every HTTP request on the host with its name; on `::` IPv4 too. Bound when this returns."""
        return self._serve("http", host, port, address, name)

    def serve_udp(self, host: Host, port: int, address: str = "0.0.0.0", name: str | None = None) -> Process:
        """Answer every datagram with the host's name, from the address that the socket is bound to."""
        return self._serve("udp", host, port, address, name)

    def serve_sctp(self, host: Host, port: int, address: str, name: str | None = None) -> Process:
        """Answer every association with the host's name; the kernel must have SCTP."""
        return self._serve("sctp", host, port, address, name)

    def start_agent(
        self,
        host: Host,
        role: Role,
        *extra_args: str,
        state_dir: Path | None = None,
        without: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Agent:
        """Start an agent; its TCP port accepts when this returns. Raises StartError with its log.

        `state_dir` is /run/state/NAME unless given (a host with both agents needs two); `without`
        names capabilities that it shall not have, as `net_admin`; `env` is added to our environment.
        """
        state = state_dir or STATE / host.name
        state.mkdir(parents=True, exist_ok=True)
        agent = Agent(host, role, agents.command(host, role, extra_args, state, without), env)
        self._agents.append(agent)
        return agent

    def client_sources(self, count: int) -> Sources:
        """Give the client `count` more addresses of each family (at most 60000), known to every host."""
        ipv4 = tuple(str(SOURCES_IPV4[n]) for n in range(1, count + 1))
        ipv6 = tuple(str(SOURCES_IPV6[n]) for n in range(1, count + 1))
        lines = [f"addr replace {address}/32 dev {self.client.device}" for address in ipv4]
        lines += [f"addr replace {address}/128 dev {self.client.device} nodad" for address in ipv6]
        _batch(self.client, lines)
        routes = [
            f"route replace {SOURCES_IPV4} via {self.client.ipv4}",
            f"route replace {SOURCES_IPV6} via {self.client.ipv6}",
        ]
        for host in self.hosts:
            if host is not self.client:
                _batch(host, routes)
        return Sources(ipv4=ipv4, ipv6=ipv6)

    def _serve(self, protocol: str, host: Host, port: int, address: str, name: str | None) -> Process:
        title = f"web.py {protocol} on {host.name}, {address} port {port}"
        # Isolated and without site-packages: half the start-up time, and lab/ is not on its path.
        argv = ("/usr/bin/python3", "-I", "-S", str(WEB), protocol, address, str(port), name or host.name)
        log_file = agents.run_folder(host) / f"{protocol}-{port}-{time.monotonic_ns()}.log"
        server = process.start(host, title, argv, log_file)
        self._servers.append(server)
        deadline = time.monotonic() + READY_SECONDS
        while not server.log().startswith("ready"):
            if not server.is_running or time.monotonic() > deadline:
                raise process.failed(server, "it is not bound")
            time.sleep(0.02)
        return server

    def _build(self) -> None:
        lines = [f"link add {BRIDGE} type bridge mcast_snooping 0", f"link set {BRIDGE} addrgenmode none up"]
        for host in self.hosts:
            _make_host(host)
            lines.append(f"link add {host.name} type veth peer name {host.device} address {host.mac} netns {host.name}")
            lines.append(f"link set {host.name} addrgenmode none master {BRIDGE} up")
        _batch(None, lines)
        for host in self.hosts:
            _bring_up(host)
        for host in self.hosts:
            _settle(host)

    def _remove(self) -> None:
        names = {host.name for host in self.hosts}
        for pid in namespace.processes(names):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for server in self._servers:
            server.kill()
        for agent in self._agents:
            agent.kill()
        # The links first: a network namespace frees its own some time after it was dropped.
        links = [name for name in (*names, BRIDGE) if (Path("/sys/class/net") / name).exists()]
        _batch(None, [f"link del {name}" for name in links])
        for name in names:
            namespace.drop(name)


@contextlib.contextmanager
def _only_site() -> Iterator[None]:
    """Refuse a second site while one is up: its hosts have the same names."""
    with GUEST_MARK.open() as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SiteError("cannot make a second site: end the one that is up, or boot another guest") from error
        yield


def _host(name: str, number: int) -> Host:
    return Host(name=name, ipv4=f"192.168.0.{number}", ipv6=f"2001:db8::{number}", mac=f"02:00:c0:a8:00:{number:02x}")


def _make_host(host: Host) -> None:
    own = namespace.ETC / host.name
    own.mkdir(parents=True, exist_ok=True)
    (own / "resolv.conf").write_text("")
    (own / "hostname").write_text(f"{host.name}\n")
    run = agents.run_folder(host)
    for left in (run, STATE / host.name):
        shutil.rmtree(left, ignore_errors=True)
    run.mkdir(exist_ok=True)

    def private() -> None:
        # The agents' default socket is right on every host, and the hosts do not share one.
        for role in agents.PORTS:
            namespace.bind(run, Path(f"/run/lvs-{role}"))

    namespace.make(host.name, private)


def _bring_up(host: Host) -> None:
    lines = (
        "link set lo up",
        f"addr add {host.ipv4}/24 brd + dev {host.device}",
        f"addr add {host.ipv6}/64 dev {host.device} nodad",
        f"link set {host.device} up",
    )
    # The link-local address, too, is to be there at once; addresses that come later are asked for as usual.
    host.inside(lambda: _accept_dad(host).write_text("0"))
    _batch(host, lines)


def _settle(host: Host) -> None:
    """Wait for the link-local address, then switch duplicate address detection on again."""

    def ready() -> bool:
        rows = [row.split() for row in Path("/proc/thread-self/net/if_inet6").read_text().splitlines()]
        tentative = 0x40
        return any(row[0].startswith("fe80") and not int(row[4], 16) & tentative for row in rows)

    deadline = time.monotonic() + READY_SECONDS
    while not host.inside(ready):
        if time.monotonic() > deadline:
            raise SiteError(f"cannot make the site: {host.name} has no link-local address after {READY_SECONDS:.0f} s")
        time.sleep(0.01)
    host.inside(lambda: _accept_dad(host).write_text("1"))


def _accept_dad(host: Host) -> Path:
    return Path("/proc/sys/net/ipv6/conf") / host.device / "accept_dad"


def _batch(host: Host | None, lines: Sequence[str]) -> None:
    """Run many `ip` commands in one process, on a host or (None) in the guest around them."""
    if not lines:
        return
    text = "".join(f"{line}\n" for line in lines)
    if host is not None:
        host.run("ip", "-batch", "-", input=text)
        return
    done = subprocess.run(["ip", "-batch", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandError("the guest", done)
