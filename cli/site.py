"""The agents that a command talks to: where they are and how they are reached. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent_common.endpoint import Endpoint, TlsFiles, check_plaintext, parse_endpoint
from agent_common.errors import InvalidInputError
from agent_common.vip import VipMode
from agent_common.virtual_server import IpAddress, parse_unicast

DIRECTOR_PORT = 9710
REALSERVER_PORT = 9711


class Role(enum.StrEnum):
    """Kind of an agent, as messages call it."""

    DIRECTOR = "director"
    REAL_SERVER = "real server"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentName:
    """An agent of the site: a director by its endpoint, a real server by its own address.

    label is what people call it, where that is not its name.
    """

    role: Role
    name: str
    label: str = field(default="", compare=False)

    @property
    def host(self) -> str:
        """What people call its host."""
        return self.label or self.name

    def __str__(self) -> str:
        return f"{self.role} {self.host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Directors (the first is the authority), real servers' agents, how to reach them, who puts VIPs on directors.

    local_name is this host's name: what the agent behind a unix socket is called. Times are in seconds.
    """

    directors: Sequence[Endpoint]
    rs_agents: Mapping[IpAddress, Endpoint]
    tls: TlsFiles | None = None
    insecure: bool = False
    timeout: float = 10.0
    lock_timeout: float = 10.0
    vip_mode: VipMode | None = None
    local_name: str = ""

    def director_names(self) -> list[AgentName]:
        """Return the directors, the authority first."""
        has_one_socket = sum(bool(endpoint.path) for endpoint in self.directors) == 1
        return [
            AgentName(
                role=Role.DIRECTOR,
                name=str(endpoint),
                label=self.local_name if endpoint.path and has_one_socket else "",
            )
            for endpoint in self.directors
        ]

    def endpoint(self, agent: AgentName) -> Endpoint:
        """Return where an agent is; raises InvalidInputError if it would be reached in plaintext without --insecure."""
        if agent.role is Role.DIRECTOR:
            found = next(each for each in self.directors if str(each) == agent.name)
        else:
            address = parse_unicast(agent.name, "rs")
            found = self.rs_agents.get(address) or Endpoint(host=str(address), port=REALSERVER_PORT)
        if self.tls is None:
            check_plaintext([found], str(agent), insecure=self.insecure)
        return found


def real_server(address: IpAddress) -> AgentName:
    """Return the agent of a real server."""
    return AgentName(role=Role.REAL_SERVER, name=str(address))


def parse_directors(texts: Sequence[str]) -> tuple[Endpoint, ...]:
    """Read --director options; the same one twice is an error."""
    endpoints = tuple(parse_endpoint(text, "director", DIRECTOR_PORT) for text in texts)
    for endpoint in endpoints:
        if endpoints.count(endpoint) > 1:
            raise InvalidInputError("director", f"director: {endpoint} is given twice")
    return endpoints


def parse_rs_agents(texts: Sequence[str]) -> dict[IpAddress, Endpoint]:
    """Read --rs-agent options, RIP=HOST:PORT."""
    agents: dict[IpAddress, Endpoint] = {}
    for text in texts:
        address, equals, endpoint = text.partition("=")
        if not equals:
            raise InvalidInputError("rs_agent", f"rs_agent: cannot read {text!r}; write RIP=HOST:PORT")
        agents[parse_unicast(address.strip("[]"), "rs_agent")] = parse_endpoint(endpoint, "rs_agent", REALSERVER_PORT)
    return agents
