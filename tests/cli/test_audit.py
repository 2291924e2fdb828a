"""lvs audit from the words to what is printed and the exit status; agents answer over real gRPC."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from lvsagent.v1 import audit_service_pb2

from agent_common.audit_file import open_audit
from tests.cli.program import lvs, said
from tests.cli.served_site import Site
from tests.cli.sites import RS1
from tests.hosts import DirectorHost, RealServerHost
from tests.serving import Served, served, services


def record(second: int, method: str, resource: str) -> audit_service_pb2.AuditRecord:
    """Return one that is so many seconds after the beginning of 2026."""
    made = audit_service_pb2.AuditRecord(method=method, caller="spiffe://site/lvs/operator/ada", outcome="OK")
    made.time.FromSeconds(1_767_225_600 + second)
    made.changes.add(resource=resource)
    return made


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A director and a real server, each with two records; the other director of the site is gone."""
    hosts: dict[str, DirectorHost | RealServerHost] = {
        "d1": DirectorHost(),
        "d2": DirectorHost(),
        RS1: RealServerHost(address=RS1),
    }
    async with AsyncExitStack() as stack:
        made = Site(Served(tmp_path, stack), hosts)
        for number, name in enumerate(("d1", RS1)):
            (tmp_path / name).mkdir()
            audit = open_audit(tmp_path / name)
            audit.append(record(number, "CreateVip", f"{name}/first"))
            audit.append(record(10 + number, "DeleteVip", f"{name}/second"))
            offered = services(hosts[name], audit=audit)
            await stack.enter_async_context(served(made.served.path(name), offered))
        yield made


async def test_records_of_all_that_answer_are_one_table_the_newest_first(site: Site) -> None:
    status, out, err = await lvs(site, "audit")
    assert (status, "d2.sock" in err) == (14, True)
    head, *rows = (line.split() for line in out.splitlines())
    assert head == ["TIME", "(UTC)", "AGENT", "CALLER", "CALL", "CHANGED", "OUTCOME"]
    assert [[row[1], *row[3:]] for row in rows] == [
        ["00:00:10", "operator/ada", "DeleteVip", "d1/second", "OK"],
        ["00:00:00", "operator/ada", "CreateVip", "d1/first", "OK"],
    ]


async def test_what_is_asked_for_is_what_real_servers_remember(site: Site) -> None:
    out = await said(site, "audit", "--rs", RS1, "--match", "second", "--limit", "1")
    (_, row) = out.splitlines()
    assert row.split()[1:] == ["00:00:11", RS1, "operator/ada", "DeleteVip", f"{RS1}/second", "OK"]
    assert "nothing was changed" in await said(site, "audit", "--rs", RS1, "--since", "1m")


async def test_it_is_json_too_with_the_error_of_the_one_that_does_not_answer(site: Site) -> None:
    status, out, _ = await lvs(site, "--output", "json", "audit", "--limit", "1")
    first, second = json.loads(out)["agents"]
    assert status == 14
    assert [each["method"] for each in first["answer"]] == ["DeleteVip"]
    assert second["error"]
