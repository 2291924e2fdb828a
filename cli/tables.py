"""Tables for people, from what agents answered. Pure functions; JSON is the agents' own messages."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from lvsagent.v1 import (
    destination_pb2,
    drift_service_pb2,
    host_service_pb2,
    ipvs_service_pb2,
    vip_pb2,
    virtual_server_pb2,
)

from agent_common import wire, wire_vip
from agent_common.destination import Forwarding
from agent_common.drift import Drift, DriftKind
from agent_common.scheduler import flag_names
from agent_common.vip import held_for
from agent_common.virtual_server import ServiceAddress
from agent_common.wire_drift import unpack_drift
from cli.destination_table import destination_table
from cli.errors import text_of
from cli.health_tables import alarming
from cli.reading import DirectorState, Reading, RealServerState
from cli.site import AgentName
from cli.text_table import fold, table
from cli.typed import target


def as_json(message: Message) -> dict[str, Any]:
    """Return a message as the proto3 mapping with proto field names and all fields."""
    from google.protobuf import json_format  # 13 ms that a table does not need

    document: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return document


def reading_as_json(reading: Reading[Any]) -> dict[str, Any]:
    """Return what an agent answered as the document that --output json prints."""
    document: dict[str, Any] = {"role": reading.agent.role.value, "host": reading.agent.host}
    if reading.error is not None:
        return {**document, "error": text_of(reading.error)}
    return {**document, "answer": _plain(reading.answer)}


def drift_as_json(reading: Reading[DirectorState] | Reading[RealServerState]) -> dict[str, Any]:
    """Return what differs at an agent; problems are why it may not be able to tell."""
    state = reading.answer
    if state is None:
        return reading_as_json(reading)
    document = reading_as_json(Reading(agent=reading.agent, answer=state.drift))
    return {**document, "problems": list(state.host.problems)}


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return as_json(value)
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_plain(each) for each in value]


SERVICE_HEAD = ("VIRTUAL SERVER", "SCHEDULER", "PERSISTENT", "DESTINATIONS", "ORIGIN")


def service_row(response: ipvs_service_pb2.GetVirtualServerResponse) -> tuple[str, ...]:
    """Return a virtual server as a row."""
    server = response.status.virtual_server
    return (
        str(wire.unpack_key(server.key)),
        _scheduler(server),
        f"{server.persistence.timeout.seconds} s" if server.HasField("persistence") else "-",
        str(len(response.destinations)),
        _origin(response.status.managed),
    )


def services_lines(_: AgentName, servers: Sequence[ipvs_service_pb2.GetVirtualServerResponse]) -> list[str]:
    """Return what lvs service list prints of a director."""
    return table(SERVICE_HEAD, map(service_row, servers)).splitlines()


def service_lines(server: ipvs_service_pb2.GetVirtualServerResponse, width: int) -> list[str]:
    """Return what lvs service show prints of a director."""
    head = table(SERVICE_HEAD, [service_row(server)]).splitlines()
    return [*head, "", *destination_lines(server.destinations, width)]


def destination_lines(statuses: Sequence[destination_pb2.DestinationStatus], width: int) -> list[str]:
    """Return what lvs destination list prints of a director, for a terminal of so many columns; 0: any number."""
    return destination_table(statuses, datetime.datetime.now(datetime.UTC), width=width)


def vip_lines(_: AgentName, vips: Sequence[vip_pb2.Vip]) -> list[str]:
    """Return what lvs vip list prints of an agent."""
    return table(VIP_HEAD, map(vip_row, vips)).splitlines()


VIP_HEAD = ("VIP", "DEVICE", "MODE", "ADDRESS", "HELD FOR")


def vip_row(vip: vip_pb2.Vip) -> tuple[str, ...]:
    """Return a VIP as a row."""
    whose = "made by lvs" if vip.made_address else "foreign"
    mode = "external" if vip.mode == vip_pb2.VIP_MODE_EXTERNAL else "agent"
    return (
        vip.address,
        vip.present_device or "-",
        mode,
        whose if vip.present else "not there",
        ", ".join(wire_vip.unpack_holder(holder).label for holder in vip.holders) or "-",
    )


def status_lines(
    agent: AgentName,
    state: DirectorState,
    real_servers: Mapping[str, Reading[RealServerState]],
    now: datetime.datetime,
    width: int = 0,
) -> list[str]:
    """Return a director's part of lvs status, for a terminal of so many columns; 0: any number.

    real_servers are by address.
    """
    ipvs = f"IPVS {state.host.ipvs_version}" if state.host.ipvs_version else "NO IPVS IN THIS KERNEL"
    lines = [f"{_named(agent, state.host.hostname)}, lvs-agents {state.host.version}, {ipvs}"]
    for each in alarming(state.health):
        lines += fold(f"ALARM: {wire.unpack_key(each.virtual_server)}: {each.health.alarm}", width, "  ")
    lines += _problems(state.host, state.drift)
    if state.vips:
        lines += _indent(table(VIP_HEAD, map(vip_row, state.vips)), 2)
    for server in state.virtual_servers:
        lines.append("")
        row = service_row(server)
        persistent = "" if row[2] == "-" else f", persistent {row[2]}"
        lines.append(f"  {row[0]}  {row[1]}{persistent}" + ("" if row[4] == "lvs" else f", {row[4]}"))
        vips = _vips_of(server.status.virtual_server.key, state.vips)
        ready = [_ready(each.destination, vips, real_servers) for each in server.destinations]
        lines += _indented(destination_table(server.destinations, now, ready, max(width - 4, 0)), 4)
    for leftover in state.host.leftovers:
        key = wire.unpack_key(leftover.virtual_server)
        lines.append(f"  left behind: real server {leftover.real_server} may still hold the VIP of {key}; finish with:")
        lines.append(f"    lvs remove-backend {target(key)} --rs {leftover.real_server}")
    return lines


def real_server_word(state: RealServerState, vips: Sequence[str]) -> str:
    """Return in a few words whether a real server is ready for the VIPs of a virtual server: there, and silent.

    Of a firewall mark nobody may know any: then whatever it holds must be silent.
    """
    if state.host.problems:
        return "DEGRADED: see lvs rs show"
    there, held = ({each.address for each in found} for found in (state.host.addresses, state.vips))
    missing = [vip for vip in vips if vip not in there]
    if gone := [vip for vip in missing if vip in held]:
        return f"VIP {', '.join(gone)} IS GONE"
    if missing:
        return "HAS NO VIP" + (f" {', '.join(missing)}" if len(vips) > 1 else "")
    if any(not end.ready for each in state.vips if each.address in vips for end in each.tunnels):
        return "ITS TUNNEL IS NOT READY"
    loud = [each.interface for each in state.arp.interfaces if not each.silent]
    if loud and any(":" not in address for address in (vips or held)):
        return f"ANSWERS ARP on {', '.join(loud)}"
    return "ready"


def real_server_lines(agent: AgentName, state: RealServerState) -> list[str]:
    """Return what lvs rs show prints."""
    lines = [
        f"{_named(agent, state.host.hostname)}, lvs-agents {state.host.version}",
        *_problems(state.host, state.drift),
        "",
    ]
    lines += _indent(table(VIP_HEAD, map(vip_row, state.vips)), 2) if state.vips else ["  no VIP is held here"]
    tunnels = [
        (str(end), vip.address, "yes" if end.ready else "NO")
        for vip in state.vips
        for end in wire_vip.unpack_tunnels(vip.tunnels)
    ]
    lines += ["", *_indent(table(("TUNNEL", "FOR VIP", "READY"), tunnels), 2)] if tunnels else []
    sysctls = [
        (f"{each.interface}/{each.name}", str(each.value), str(each.original) if each.HasField("original") else "-")
        for each in state.arp.sysctls
    ]
    lines += ["", *_indent(table(("ARP SYSCTL", "VALUE", "ORIGINAL"), sysctls), 2)]
    silence = [
        (each.interface, str(each.arp_ignore), str(each.arp_announce), "yes" if each.silent else "NO")
        for each in state.arp.interfaces
    ]
    head = ("INTERFACE", "EFFECTIVE ARP_IGNORE", "ARP_ANNOUNCE", "SILENT")
    return [*lines, "", *_indent(table(head, silence), 2)]


def _vips_of(message: virtual_server_pb2.VirtualServerKey, vips: Iterable[vip_pb2.Vip]) -> list[str]:
    """Return the VIPs of a virtual server: a firewall mark's are those that the director holds for it."""
    key = wire.unpack_key(message)
    if isinstance(key, ServiceAddress):
        return [message.service_address.address]
    return [str(address) for address in held_for(key, map(wire_vip.unpack_vip, vips))]


def _ready(
    destination: destination_pb2.Destination, vips: Sequence[str], real_servers: Mapping[str, Reading[RealServerState]]
) -> str:
    """With nat nothing has to be ready on the real server."""
    reading = real_servers.get(destination.key.address)
    if _forwarding(destination) is Forwarding.MASQUERADING or reading is None:
        return "-"
    return "unknown: no answer" if reading.answer is None else real_server_word(reading.answer, vips)


def drift_lines(agent: AgentName, state: DirectorState | RealServerState | None) -> list[str]:
    """Return what lvs drift prints of an agent."""
    drift = [unpack_drift(message) for message in (state.drift if state else ())]
    problems = state.host.problems if state else ()
    return [
        *(f"{'degraded':9} {agent}: {problem}" for problem in problems),
        *(f"{each.kind:9} {agent}: {_described(each)}" for each in drift),
    ]


def _described(drift: Drift) -> str:
    return f"{drift.resource}: {drift.detail}" if drift.detail else str(drift.resource)


def _problems(host: host_service_pb2.GetHostResponse, drift: Iterable[drift_service_pb2.Drift]) -> list[str]:
    """What is foreign is not told here: the tables show it."""
    found = [each for message in drift if (each := unpack_drift(message)).kind is not DriftKind.FOREIGN]
    return [
        *(f"  DEGRADED: {problem}" for problem in host.problems),
        *(f"  DRIFT: {each.kind}: {_described(each)}" for each in found),
    ]


def _named(agent: AgentName, hostname: str) -> str:
    """Return an agent's name, and its host's where that is another."""
    return str(agent) if hostname == agent.host else f"{agent} ({hostname})"


def _forwarding(destination: destination_pb2.Destination) -> Forwarding:
    return wire.unpack_enum(wire.FORWARDINGS, destination.forwarding_method, "forwarding_method")


def _scheduler(server: virtual_server_pb2.VirtualServer) -> str:
    names = flag_names(wire.unpack_flags(server.scheduler_flags), server.scheduler)
    return f"{server.scheduler} ({','.join(names)})" if names else server.scheduler


def _origin(managed: bool) -> str:
    return "lvs" if managed else "foreign"


def _indent(text: str, columns: int) -> list[str]:
    return _indented(text.splitlines(), columns)


def _indented(lines: Iterable[str], columns: int) -> list[str]:
    return [" " * columns + line for line in lines]
