"""A site of agents on fakes behind real gRPC, and the commands of an operator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from agent_common.access import Callers
from cli.add_backend import add_backend
from cli.interrupt import Interrupt
from cli.outcome import Outcome, StepReport
from cli.remove_backend import remove_backend
from cli.request import AddBackend, RemoveBackend, SetWeight
from cli.set_weight import set_weight
from cli.workflow import Run
from tests.cli.sites import RS1, RS2, backend, table
from tests.hosts import VIP, WEB, DirectorHost, RealServerHost
from tests.serving import Served


class Site:
    """Agents, and the commands of an operator."""

    def __init__(self, served: Served, hosts: dict[str, DirectorHost | RealServerHost]) -> None:
        self.served = served
        self.hosts = hosts
        self.interrupt = Interrupt()
        self.timeout = 5.0
        self.lock_timeout = 10.0

    @property
    def director(self) -> DirectorHost:
        host = self.hosts["d1"]
        assert isinstance(host, DirectorHost)
        return host

    def rs(self, address: str) -> RealServerHost:
        host = self.hosts[address]
        assert isinstance(host, RealServerHost)
        return host

    async def add(
        self,
        *real_servers: str,
        dry_run: bool = False,
        on_step: Callable[[StepReport], None] = lambda step: None,
        **fields: object,
    ) -> Outcome:
        fields.setdefault("ready_timeout", None)
        vip = str(fields.pop("vip", f"{VIP}:80"))
        request = AddBackend(backend=backend(*real_servers, vip=vip), **fields)  # type: ignore[arg-type]
        return await add_backend(request, replace(await self.run(dry_run=dry_run), on_step=on_step))

    async def remove(self, *real_servers: str, dry_run: bool = False, **fields: object) -> Outcome:
        request = RemoveBackend(backend=backend(*real_servers), **fields)  # type: ignore[arg-type]
        return await remove_backend(request, await self.run(dry_run=dry_run))

    async def weight(self, *real_servers: str, **fields: object) -> Outcome:
        request = SetWeight(backend=backend(*real_servers), **fields)  # type: ignore[arg-type]
        return await set_weight(request, await self.run())

    async def run(self, *, dry_run: bool = False) -> Run:
        clients = await self.served.clients(self.timeout, self.lock_timeout)
        return Run(clients=clients, interrupt=self.interrupt, dry_run=dry_run)

    def snapshot(self) -> object:
        """Return all that the commands can change on any host."""
        return [
            (
                sorted(str(each) for each in host.addresses.addresses()),
                host.vips.list_all(),
                table(host, WEB) if isinstance(host, DirectorHost) else dict(host.silence.values()),
                host.ipvs.virtual_servers() if isinstance(host, DirectorHost) else (),
            )
            for host in self.hosts.values()
        ]

    @property
    def directors(self) -> list[DirectorHost]:
        return [host for host in self.hosts.values() if isinstance(host, DirectorHost)]


@asynccontextmanager
async def serving_site(folder: Path, *, directors: int = 1, callers: Callers | None = None) -> AsyncIterator[Site]:
    """Serve so many directors, and two real servers; whoever calls may do everything, unless callers say who it is."""
    hosts: dict[str, DirectorHost | RealServerHost] = {
        f"d{number}": DirectorHost(address=f"192.168.0.{9 + number}") for number in range(1, directors + 1)
    }
    hosts.update({address: RealServerHost(address=address) for address in (RS1, RS2)})
    async with AsyncExitStack() as stack:
        served = Served(folder, stack, callers)
        for name, host in hosts.items():
            await served.start(name, host)
        yield Site(served, hosts)
