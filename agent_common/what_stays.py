"""Says what an agent leaves in the kernel, as the commands that remove it: run when its package is removed.

`python -m agent_common.what_stays STATE_DIR` reads the journal of an agent that has stopped, and prints a shell script,
or nothing. Only what the agent made itself is in it. Order matters: VIPs before what serves them, silence last.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from agent_common.errors import LvsError
from agent_common.sqlite_state import SqliteState
from agent_common.state import State
from agent_common.virtual_server import Family, FirewallMark, VirtualServerKey, format_endpoint, parse_key

_CONF = "/proc/sys/net/ipv4/conf"


def main() -> None:
    """Print the script of the state directory that is named."""
    directory = Path(sys.argv[1])
    try:
        with closing(SqliteState(directory)) as state:
            state.check_intact()
            lines = list(commands(state))
    except LvsError as error:
        sys.exit(f"cannot tell what stays in the kernel ({error.message})")
    if lines:
        sys.stdout.write("\n".join([f"# made by the agent whose state was in {directory}", *lines, ""]))


def commands(state: State) -> Iterator[str]:
    """Return the commands, and comments where a command would be wrong."""
    yield from _vips(state)
    yield from _destinations(state)
    for name in state.list("virtual_server"):
        yield f"ipvsadm -D {_service(parse_key(name))}"
    for role in state.list("sync_daemon"):
        yield f"ipvsadm --stop-daemon {role}"
    if state.list("timeouts"):
        yield "# IPVS's timeouts stay as they were set; the kernel's own are: ipvsadm --set 900 120 300"
    yield from _tunnels(state)
    yield from _sysctls(state)


def _vips(state: State) -> Iterator[str]:
    for name, body in state.list("vip").items():
        device = body["device"]
        if body["made_route"]:
            yield f"ip route del {name} dev {device} scope host"
        if body["made_address"]:
            yield f"ip address del {name}/{ipaddress.ip_address(name).max_prefixlen} dev {device}"


def _destinations(state: State) -> Iterator[str]:
    """Those in virtual servers of others; the rest goes with its virtual server."""
    ours = state.list("virtual_server").keys()
    for body in state.bodies("destination"):
        if body["managed"] and body["server"] not in ours:
            key = body["config"]["key"]
            destination = format_endpoint(ipaddress.ip_address(key["address"]), key.get("port", 0))
            yield f"ipvsadm -d {_service(parse_key(body['server']))} -r {destination}"


def _service(key: VirtualServerKey) -> str:
    if isinstance(key, FirewallMark):
        return f"-f {key.mark}" + (" -6" if key.family is Family.IPV6 else "")
    return f"--{key.protocol.name.lower()}-service {format_endpoint(key.address, key.port)}"


def _tunnels(state: State) -> Iterator[str]:
    for name in state.list("gue_port"):
        family, _, port = name.partition("/")
        yield f"ip fou del port {port}" + (" -6" if family == "6" else "")
    for name, body in state.list("tunnel_device").items():
        if body.get("created"):
            yield f"ip link del {name}"
            continue
        if body.get("addressed"):
            yield f"ip address del 127.254.0.1/32 dev {name}"
        if "rp_filter" in body:
            yield f"echo {body['rp_filter']} >{_CONF}/{name}/rp_filter"
        if body.get("raised"):
            yield f"ip link set {name} down"


def _sysctls(state: State) -> Iterator[str]:
    records = state.list("arp_sysctl")
    if records:
        yield "# not while another address that must stay silent is on lo or a tunnel's device:"
    for name, body in reversed(records.items()):
        yield f"echo {body['original']} >{_CONF}/{name}"


if __name__ == "__main__":
    main()
