"""NSD: a DNS server with one zone, over UDP and TCP. What is outside the zone it refuses."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from lab.host import Host
from lab.servers.server import ASK_SECONDS, Recipe, Server, folder

SOA = 6

CONF = """\
server:
  ip-address: {address}@{port}
  username: ""
  server-count: 1
  database: ""
  pidfile: ""
  zonesdir: "{folder}"
  xfrdir: "{folder}"
  xfrdfile: "{folder}/xfrd"
  zonelistfile: "{folder}/zonelist"
remote-control:
  control-enable: no
zone:
  name: "{zone}"
  zonefile: "zone"
"""

ZONE = """\
$ORIGIN {zone}
$TTL 60
@ SOA ns hostmaster 1 3600 900 86400 60
@ NS ns.elsewhere.invalid.
"""


def start(
    host: Host, *, address: str, port: int = 53, zone: str = "example.test.", records: Sequence[str] = ()
) -> Server:
    """Start NSD; records are lines of the zone's file, as `www A 192.0.2.1`.

    An address of the host, not 0.0.0.0: else its answers over UDP may come from another one than was asked.
    """
    own = folder(host, f"nsd-{port}")
    (own / "conf").write_text(CONF.format(address=address, port=port, folder=own, zone=zone))
    (own / "zone").write_text(ZONE.format(zone=zone) + "".join(f"{record}\n" for record in records))
    argv = ("/usr/sbin/nsd", "-d", "-c", str(own / "conf"))
    return Server(
        Recipe(host=host, folder=own, argv=argv, answers=lambda: host.inside(lambda: _answers(address, port, zone)))
    )


def ask(address: str, port: int, name: str, kind: int, timeout: float = ASK_SECONDS) -> bytes:
    """The answer over UDP to one question, to be called inside a host; `timeout` in seconds, RFC 1035 has the kinds."""
    labels = (label.encode() for label in name.rstrip(".").split("."))
    wire_name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    question = struct.pack(">6H", 1, 0, 1, 0, 0, 0) + wire_name + struct.pack(">2H", kind, 1)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect((address, port))
        sock.send(question)
        return sock.recv(65535)


def _answers(address: str, port: int, zone: str) -> bool:
    _, flags, *_ = struct.unpack(">6H", ask(address, port, zone, SOA)[:12])
    return int(flags) & 0xF == 0
