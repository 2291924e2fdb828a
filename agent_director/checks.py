"""Every kind of check, by its type, as a director makes them."""

from __future__ import annotations

from agent_common.check import AgentCheck, IcmpCheck, Kind, ScriptCheck
from agent_common.check_icmp import check_icmp
from agent_common.check_script import Scripts
from agent_common.checker import Answer, Checker, Target
from agent_director.check_agent import AgentChecks


class DirectorChecks:
    """agent_common.checker.Checker for all kinds; to the VIP goes the real server's agent, or a mark leads there."""

    def __init__(self, scripts: Scripts, agents: AgentChecks, marked: Checker, network: Checker) -> None:
        self._scripts = scripts
        self._agents = agents
        self._marked = marked
        self._network = network

    async def __call__(self, kind: Kind, target: Target, seconds: float) -> Answer:
        """Make one check."""
        if target.through_vip:
            return await (self._marked if target.by_mark else self._agents)(kind, target, seconds)
        match kind:
            case AgentCheck():
                return await self._agents(kind, target, seconds)
            case IcmpCheck():
                return await check_icmp(kind, target, seconds)
            case ScriptCheck():
                return await self._scripts.check(kind, target, seconds)
        return await self._network(kind, target, seconds)

    async def close(self) -> None:
        """Close the connections to agents."""
        await self._agents.close()
