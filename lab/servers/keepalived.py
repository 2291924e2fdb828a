"""keepalived with its IPVS checkers and without VRRP: virtual servers in keepalived's own words.

web = Check(kind="HTTP_GET", settings={"connect_timeout": 1, "url": {"path": "/health", "status_code": 200}})
keepalived.start(director, VirtualServer(address=VIP, port=80, real_servers=(RealServer(..., check=web),)))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from lab.host import Host
from lab.servers.server import Recipe, Server, endpoint, folder

Settings: TypeAlias = Mapping[str, "str | int | float | Settings"]
"""Keywords of keepalived.conf(5) with their values; a mapping is a block in braces, "" a keyword without a value."""

USUAL: Settings = {"delay_loop": 1, "lvs_sched": "rr", "lvs_method": "DR", "protocol": "TCP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How a real server is checked: TCP_CHECK, HTTP_GET, MISC_CHECK ..., with its settings."""

    kind: str
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealServer:
    """One real server; keepalived takes it out while its check fails."""

    address: str
    port: int
    check: Check
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualServer:
    """One virtual server; its settings are added to those of USUAL."""

    address: str
    port: int
    real_servers: tuple[RealServer, ...]
    settings: Settings = field(default_factory=dict)


def start(host: Host, *virtual_servers: VirtualServer) -> Server:
    """Start keepalived; IPVS has its virtual servers when this returns.

    It takes them out when it is stopped, and not when it is killed. At first it counts every real server as good, and
    asks them within the first `delay_loop`.
    """
    own = folder(host, "keepalived")
    (own / "conf").write_text("\n".join([*_block("global_defs", {"script_user": "root"}), *_lines(virtual_servers)]))
    files = ("--use-file", str(own / "conf"), "--pid", str(own / "pid"), "--checkers_pid", str(own / "checkers"))
    argv = ("/usr/sbin/keepalived", "--check", "--dont-fork", "--log-console", "--log-detail", "--no-syslog", *files)
    wanted = [f" {endpoint(each.address, each.port)} " for each in virtual_servers]

    def answers() -> bool:
        table = host.run("ipvsadm", "-Sn", check=False).stdout
        return all(each in table for each in wanted)

    return Server(Recipe(host=host, folder=own, argv=argv, answers=answers))


def _lines(virtual_servers: tuple[VirtualServer, ...]) -> Iterator[str]:
    for each in virtual_servers:
        real_servers = {f"real_server {rs.address} {rs.port}": _real_server(rs) for rs in each.real_servers}
        yield from _block(f"virtual_server {each.address} {each.port}", {**USUAL, **each.settings, **real_servers})


def _real_server(each: RealServer) -> Settings:
    return {"weight": 1, **each.settings, each.check.kind: each.check.settings}


def _block(name: str, settings: Settings) -> Iterator[str]:
    yield f"{name} {{"
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _block(key, value)
        else:
            yield f"{key} {value}"
    yield "}"
