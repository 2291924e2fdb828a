"""A table in chunks is the same table."""

from __future__ import annotations

import pytest
from lvsagent.v1 import table_pb2

from agent_common.check import Check, TcpCheck
from agent_common.health import HealthPolicy
from agent_common.table import Entry
from agent_common.virtual_server import VirtualServer, parse_key
from agent_common.wire_table import unpack_table
from cli import operations
from cli.chunks import SIZE, table_chunks
from tests.director.ipvs_samples import destination

POLICY = HealthPolicy(check=Check(kind=TcpCheck(), port=80))


@pytest.mark.parametrize(
    "counts", [[], [0], [0] * 1000, [0] * 1001, [999], [998, 0], [999, 0], [1000], [5000, 3, 2500]]
)
def test_chunks_fit_and_are_whole_together(counts: list[int]) -> None:
    """The first says what is to be done with them, the last that it is the last."""
    table = {}
    for number, count in enumerate(counts, 1):
        key = parse_key(f"fwmark/{number}")
        own = [destination(f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}", 0) for n in range(count)]
        table[key] = Entry(
            virtual_server=VirtualServer(key=key), destinations={each.key: each for each in own}, health=POLICY
        )
    request = operations.apply_table(table, replace=True).apply_table
    request.change_id, request.validate_only = "one", True
    chunks = list(table_chunks(request))
    sizes = [len(each.part.entries) + sum(len(one.destinations) for one in each.part.entries) for each in chunks]
    assert max(sizes) <= SIZE
    assert [each.last for each in chunks] == [False] * (len(chunks) - 1) + [True]
    assert (chunks[0].part.replace, chunks[0].part.change_id, chunks[0].part.validate_only) == (True, "one", True)
    entries: list[table_pb2.TableEntry] = [one for each in chunks for one in each.part.entries]
    assert unpack_table(entries) == table
