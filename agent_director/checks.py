"""Every kind of check, by its type, as a director makes them."""

from __future__ import annotations

from agent_common.check import AgentCheck, IcmpCheck, Kind, ScriptCheck
from agent_common.check_icmp import check_icmp
from agent_common.check_script import Scripts
from agent_common.checker import Answer, Checker, Target
from agent_common.checks import NetworkChecks
from agent_director.check_agent import AgentChecks


class DirectorChecks:
    """agent_common.checker.Checker for all kinds; those through the VIP's path are for the real server's agent."""

    def __init__(self, scripts: Scripts, agents: AgentChecks, network: Checker | None = None) -> None:
        self._scripts = scripts
        self._agents = agents
        self._network = network or NetworkChecks()

    async def __call__(self, kind: Kind, target: Target, seconds: float) -> Answer:
        """Make one check."""
        if target.through_vip:
            return await self._agents(kind, target, seconds)
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
