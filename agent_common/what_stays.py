"""Says what an agent leaves in the kernel, as the commands that remove it: run when its package is removed.

`python -m agent_common.what_stays STATE_DIR` reads the journal of an agent that has stopped, and prints a shell script,
or nothing. Only what the agent made itself is in it. Order matters: VIPs before what serves them, silence last.

Root will run the script, and the journal belongs to the agent's user: every word of it is read as what it must be, and
an interface's name is quoted.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from agent_common.errors import InvalidInputError, LvsError
from agent_common.sqlite_state import SqliteState
from agent_common.state import State
from agent_common.sync_daemon import SyncRole
from agent_common.virtual_server import (
    Family,
    FirewallMark,
    VirtualServerKey,
    format_endpoint,
    parse_address,
    parse_key,
    parse_port,
)

_CONF = "/proc/sys/net/ipv4/conf"
_SYSCTLS = {name: name for name in ("arp_ignore", "arp_announce")}


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
        yield f"ipvsadm --stop-daemon {SyncRole[role.upper()]}"
    if state.list("timeouts"):
        yield "# IPVS's timeouts stay as they were set; the kernel's own are: ipvsadm --set 900 120 300"
    yield from _tunnels(state)
    yield from _sysctls(state)


def _vips(state: State) -> Iterator[str]:
    for name, body in state.list("vip").items():
        vip, device = parse_address(name, "vip"), _interface(body["device"])
        if body["made_route"]:
            yield f"ip route del {vip} dev {device} scope host"
        if body["made_address"]:
            yield f"ip address del {vip}/{vip.max_prefixlen} dev {device}"


def _destinations(state: State) -> Iterator[str]:
    """Those in virtual servers of others; the rest goes with its virtual server."""
    ours = state.list("virtual_server").keys()
    for body in state.bodies("destination"):
        if body["managed"] and body["server"] not in ours:
            key = body["config"]["key"]
            destination = format_endpoint(parse_address(key["address"], "destination"), int(key.get("port", 0)))
            yield f"ipvsadm -d {_service(parse_key(body['server']))} -r {destination}"


def _service(key: VirtualServerKey) -> str:
    if isinstance(key, FirewallMark):
        return f"-f {key.mark}" + (" -6" if key.family is Family.IPV6 else "")
    return f"--{key.protocol.name.lower()}-service {format_endpoint(key.address, key.port)}"


def _tunnels(state: State) -> Iterator[str]:
    for name in state.list("gue_port"):
        family, _, port = name.partition("/")
        yield f"ip fou del port {parse_port(port, 'gue_port')}" + (" -6" if family == "6" else "")
    for device, body in state.list("tunnel_device").items():
        name = _interface(device)
        if body.get("created"):
            yield f"ip link del {name}"
            continue
        if body.get("addressed"):
            yield f"ip address del 127.254.0.1/32 dev {name}"
        if "rp_filter" in body:
            yield f"echo {int(body['rp_filter'])} >{_CONF}/{name}/rp_filter"
        if body.get("raised"):
            yield f"ip link set {name} down"


def _sysctls(state: State) -> Iterator[str]:
    records = state.list("arp_sysctl")
    if records:
        yield "# not while another address that must stay silent is on lo or a tunnel's device:"
    for name, body in reversed(records.items()):
        interface, _, sysctl = name.rpartition("/")
        yield f"echo {int(body['original'])} >{_CONF}/{_interface(interface)}/{_SYSCTLS[sysctl]}"


def _interface(name: str) -> str:
    """Return the name of an interface for a shell; the rule is the kernel's (dev_valid_name in net/core/dev.c)."""
    if not re.fullmatch(r"[^\s/:]{1,15}", name) or name in (".", ".."):
        raise InvalidInputError("interface", f"interface: {name!r} is not the name of an interface")
    return shlex.quote(name)


if __name__ == "__main__":
    main()
