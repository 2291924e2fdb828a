"""A table as JSON comes back as it was, and what is no table is told in one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_common.check import Check, HttpCheck, TcpCheck
from agent_common.errors import InvalidInputError
from agent_common.health import Effect, Floor, HealthPolicy
from agent_common.table import Entry
from agent_common.virtual_server import VirtualServer
from cli.table_json import read_table, write_table
from tests.director.ipvs_samples import destinations, virtual_servers

SERVERS = virtual_servers()
DESTINATIONS = destinations()
POLICIES = (
    None,
    HealthPolicy(check=Check(kind=TcpCheck(), port=80)),
    HealthPolicy(
        check=Check(kind=HttpCheck(path="/health", headers=(("X-A", "b"),)), interval=2.5, timeout=1.0, port=8080),
        effect=Effect.REMOVE,
        floor=Floor(percent=50),
        quorum=7,
        slow_start=30.0,
    ),
)


@given(st.lists(st.sampled_from(SERVERS), unique_by=lambda server: server.key), st.data())
def test_there_and_back(servers: list[VirtualServer], data: st.DataObject) -> None:
    table = {}
    for server in servers:
        own = [each for key, each in DESTINATIONS if key == server.key]
        chosen = data.draw(st.lists(st.sampled_from(own), unique_by=lambda each: each.key)) if own else []
        table[server.key] = Entry(
            virtual_server=server,
            destinations={each.key: each for each in chosen},
            health=data.draw(st.sampled_from(POLICIES)),
        )
    assert read_table(json.dumps(write_table(table))) == table


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "table: "),
        ('{"rules": []}', 'no field named "rules"'),
        ('{"entries": [{}]}', "entries.key: must be set"),
        ('{"entries": [{"key": {"firewall_mark": {"mark": 7}}}]}', "entries.key.firewall_mark.family: must be set"),
        (
            '{"entries": [{"key": {"service_address": {"protocol": "PROTOCOL_TCP", "address": "192.168.0.200", '
            '"port": 80}}, "health": {}}]}',
            "entries.health of tcp/192.168.0.200:80: policy.check.kind: must be set",
        ),
    ],
)
def test_what_is_no_table_is_told(text: str, rule: str) -> None:
    with pytest.raises(InvalidInputError, match="(?s).*" + rule.replace(".", r"\.")):
        read_table(text)
