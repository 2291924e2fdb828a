"""A table on every director or on none; agents answer over real gRPC, from fakes."""

from __future__ import annotations

from pathlib import Path

from cli import operations
from cli.errors import ExitStatus
from cli.rules import read_rules
from cli.single import change_each
from tests.cli.served_site import serving_site
from tests.director.ipvs_contract import table


async def test_what_the_second_director_refuses_is_taken_back_on_the_first(tmp_path: Path) -> None:
    rules = read_rules(["-A -t 192.168.0.200:80 -s sh", "-a -t 192.168.0.200:80 -r 192.168.0.104 -g"])
    operation = operations.apply_table(rules.table, replace=True)
    async with serving_site(tmp_path, directors=2) as site:
        agents = (await site.run()).clients.site.director_names()
        for host in site.directors:
            host.ipvs.schedulers = frozenset({"rr"})
        site.directors[0].ipvs.schedulers = frozenset({"sh"})
        outcome = await change_each("replace the table", operation, agents, await site.run())
        assert outcome.status is ExitStatus.ROLLED_BACK
        assert [table(host.ipvs) for host in site.directors] == [{}, {}]
        assert [host.virtual_servers.committed() for host in site.directors] == [[], []]
        site.directors[1].ipvs.schedulers = frozenset({"sh"})
        outcome = await change_each("replace the table", operation, agents, await site.run())
        assert outcome.status is ExitStatus.DONE
        assert len({str(table(host.ipvs)) for host in site.directors}) == 1
        assert len(table(site.director.ipvs)) == 1
