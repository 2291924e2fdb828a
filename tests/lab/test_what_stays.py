"""What the removal of the package prints is true: the commands, run, take back what the agents made, to the byte."""

from __future__ import annotations

import sys

from lab.host import Host
from lab.site import STATE
from tests.lab.operator import Operator


def script(host: Host) -> str:
    """What the removal writes down on a host whose agent has stopped."""
    return host.out(sys.executable, "-m", "agent_common.what_stays", str(STATE / host.name))


def test_the_commands_leave_both_hosts_as_they_were_before(operator: Operator) -> None:
    """Their agents are stopped by then, as they are when the package is removed."""
    hosts = (operator.site.director, operator.site.real_servers[0])
    agents = [operator.agents[host.name] for host in hosts]
    before = operator.snapshots(hosts)
    assert operator.add(operator.vip(4), operator.rs(4)[:1]).status == 0
    for agent in agents:
        assert agent.stop() == 0
    assert operator.differences(before) != ""
    for host in hosts:
        host.run("sh", "-euc", script(host))
    assert operator.differences(before) == ""
    for agent in agents:
        agent.start()
    assert operator.remove(operator.vip(4), operator.rs(4)[:1], prune=True, drain_timeout=None).status == 0
    assert operator.differences(before) == ""
