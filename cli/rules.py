"""The rules of ipvsadm -S and -R, read and written: a line adds a virtual server (-A) or a destination (-a). No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cmp_to_key, lru_cache

from agent_common.destination import (
    Destination,
    DestinationKey,
    Forwarding,
    Tunnel,
    TunnelChecksum,
    TunnelType,
    effective,
)
from agent_common.errors import InvalidInputError
from agent_common.scheduler import DEFAULT_SCHEDULER, NO_FLAGS, flag_names, parse_flags
from agent_common.table import Entry, Table, TableStep, verb_of
from agent_common.virtual_server import (
    Family,
    FirewallMark,
    IpAddress,
    Persistence,
    Protocol,
    ServiceAddress,
    VirtualServer,
    VirtualServerKey,
    format_endpoint,
    netmask_of,
    parse_address,
    parse_clients,
    parse_port,
)

DEFAULT_PERSISTENCE = 300
"""Seconds of -p without a number."""

REMEMBERED = 10_000
"""Words whose meaning is remembered: a virtual server is named in the line of each of its destinations."""

PLAIN_TUNNEL = Tunnel()

_METHODS = {"-g": Forwarding.DIRECT_ROUTING, "-i": Forwarding.TUNNELING, "-m": Forwarding.MASQUERADING}
_PROTOCOLS = {"-t": Protocol.TCP, "-u": Protocol.UDP, "--sctp-service": Protocol.SCTP}
_TUNNEL_TYPES = {each.name.lower(): each for each in TunnelType}
_CHECKSUMS = {
    "--tun-nocsum": TunnelChecksum.NONE,
    "--tun-csum": TunnelChecksum.FULL,
    "--tun-remcsum": TunnelChecksum.REMOTE,
}

_SHORT = {
    "--add-service": "-A",
    "--add-server": "-a",
    "--tcp-service": "-t",
    "--udp-service": "-u",
    "--fwmark-service": "-f",
    "--ipv6": "-6",
    "--scheduler": "-s",
    "--persistent": "-p",
    "--netmask": "-M",
    "--ops": "-o",
    "--sched-flags": "-b",
    "--real-server": "-r",
    "--gatewaying": "-g",
    "--ipip": "-i",
    "--masquerading": "-m",
    "--weight": "-w",
    "--u-threshold": "-x",
    "--l-threshold": "-y",
    "--numeric": "-n",
}
_WITH_VALUE = frozenset(
    ("-t", "-u", "-f", "-s", "-M", "-b", "-r", "-w", "-x", "-y", "--sctp-service", "--pe", "--tun-type", "--tun-port")
)
_WITHOUT_VALUE = frozenset(("-A", "-a", "-6", "-o", "-g", "-i", "-m", "-n", *_CHECKSUMS))
_OTHER_COMMANDS = frozenset(
    (
        *("-E", "-D", "-C", "-R", "-S", "-e", "-d", "-L", "-l", "-Z", "--edit-service", "--delete-service", "--clear"),
        *("--restore", "--save", "--edit-server", "--delete-server", "--list", "--zero", "--set"),
        *("--start-daemon", "--stop-daemon"),
    )
)

_SERVER_ONLY = frozenset(("-s", "-p", "-M", "-o", "-b", "--pe"))
_TUNNEL_OPTIONS = frozenset(("--tun-type", "--tun-port", *_CHECKSUMS))
_DESTINATION_ONLY = frozenset(("-r", "-g", "-i", "-m", "-w", "-x", "-y", *_TUNNEL_OPTIONS))

Options = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that cannot be read, and why."""

    number: int
    text: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the lines ask for, as far as they are not bad; warnings tell what is used otherwise than written."""

    table: dict[VirtualServerKey, Entry]
    bad: tuple[BadLine, ...] = ()
    warnings: tuple[str, ...] = ()


def read_rules(lines: Iterable[str]) -> Rules:
    """Read rules; all bad lines are found. Empty lines, and those that begin with #, are passed over."""
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            reader.take(number, text)
    return Rules(table=reader.table, bad=tuple(reader.bad), warnings=tuple(reader.warnings))


class _Reader:
    """What was read so far."""

    def __init__(self) -> None:
        self.table: dict[VirtualServerKey, Entry] = {}
        self.bad: list[BadLine] = []
        self.warnings: list[str] = []
        self._lines: dict[object, int] = {}

    def take(self, number: int, text: str) -> None:
        """Read a line."""
        try:
            options = read_options(text.split())
            if "-A" in options:
                self._add_server(number, read_virtual_server(options))
            else:
                self._add_destination(number, *read_destination(options))
        except InvalidInputError as error:
            self.bad.append(BadLine(number=number, text=text, reason=error.message))

    def _add_server(self, number: int, server: VirtualServer) -> None:
        self._once(number, server.key, f"virtual server {server.key}")
        self.table.setdefault(server.key, Entry()).virtual_server = server

    def _add_destination(self, number: int, key: VirtualServerKey, destination: Destination) -> None:
        translates = destination.forwarding is Forwarding.MASQUERADING or isinstance(key, FirewallMark)
        if isinstance(key, ServiceAddress) and not translates and destination.key.port != key.port:
            self.warnings.append(f"line {number}: {destination.key} gets port {key.port}: dr and tun translate none")
            destination = replace(destination, key=replace(destination.key, port=key.port))
        destination.check(key)
        self._once(number, (key, destination.key), f"{destination.key} in {key}")
        self.table.setdefault(key, Entry()).destinations[destination.key] = destination

    def _once(self, number: int, key: object, name: str) -> None:
        first = self._lines.setdefault(key, number)
        if first != number:
            raise InvalidInputError("rule", f"{name} is added twice, first in line {first}")


def read_options(words: list[str]) -> dict[str, str]:
    """Return the options of a line by their short names, as ipvsadm would take them; raises InvalidInputError."""
    found: dict[str, str] = {}
    left = list(reversed(words))
    while left:
        for name, value in _split_word(left.pop(), left):
            if name in _OTHER_COMMANDS:
                raise InvalidInputError("rule", f"{name} is no rule; only -A and -a are")
            if name in found:
                raise InvalidInputError("rule", f"{name} is given twice")
            found[name] = value
    _check_options(found)
    return found


def _split_word(word: str, left: list[str]) -> Iterator[tuple[str, str]]:
    """Return the options that a word stands for; a value may be the rest of it, or the next word."""
    if word.startswith("--"):
        long_name, equals, rest = word.partition("=")
        name = _SHORT.get(long_name, long_name)
        yield name, _value(name, rest if equals else None, left)
        return
    if not re.fullmatch(r"-[^-].*", word):
        raise InvalidInputError("rule", f"{word!r} is no option")
    letters = word[1:]
    while letters:
        name, letters = f"-{letters[0]}", letters[1:]
        takes = name in _WITH_VALUE or name == "-p"
        yield name, _value(name, letters.removeprefix("=") if takes and letters else None, left)
        if takes:
            return


def _value(name: str, rest: str | None, left: list[str]) -> str:
    if name in _WITHOUT_VALUE or name in _OTHER_COMMANDS:
        if rest is not None:
            raise InvalidInputError("rule", f"{name} takes no value")
        return ""
    if name == "-p":
        if rest is None and left and not left[-1].startswith("-"):
            rest = left.pop()
        return rest or str(DEFAULT_PERSISTENCE)
    if name not in _WITH_VALUE:
        raise InvalidInputError("rule", f"{name} is no option of ipvsadm's rules")
    if rest is None:
        if not left:
            raise InvalidInputError("rule", f"{name} needs a value")
        rest = left.pop()
    return rest


def _check_options(found: Options) -> None:
    commands = [name for name in ("-A", "-a") if name in found]
    if len(commands) != 1:
        raise InvalidInputError("rule", "a line must have one of -A and -a")
    for group in (("-t", "-u", "--sctp-service", "-f"), ("-g", "-i", "-m"), tuple(_CHECKSUMS)):
        given = [name for name in group if name in found]
        if len(given) > 1:
            raise InvalidInputError("rule", f"{' and '.join(given)} exclude each other")
    foreign = (_DESTINATION_ONLY if commands == ["-A"] else _SERVER_ONLY) & found.keys()
    if foreign:
        raise InvalidInputError("rule", f"{commands[0]} does not take {' '.join(sorted(foreign))}")


def read_key(options: Options) -> VirtualServerKey:
    """Return the virtual server that a line is about."""
    if "-f" in options:
        return FirewallMark(mark=_number(options["-f"], "-f"), family=Family.IPV6 if "-6" in options else Family.IPV4)
    for name, protocol in _PROTOCOLS.items():
        if name in options:
            address, port = _endpoint(options[name], name)
            return ServiceAddress(protocol=protocol, address=address, port=port or 0)
    raise InvalidInputError("rule", "one of -t, -u, --sctp-service and -f must be given")


def read_virtual_server(options: Options) -> VirtualServer:
    """Return the virtual server that a line adds."""
    scheduler = options.get("-s", DEFAULT_SCHEDULER)
    persistence = None
    if "-p" in options:
        length, netmask = parse_clients(options["-M"], "-M") if "-M" in options else (None, None)
        persistence = Persistence(timeout=_number(options["-p"], "-p"), prefix_length=length, netmask=netmask)
    return VirtualServer(
        key=read_key(options),
        scheduler=scheduler,
        scheduler_flags=parse_flags(options["-b"], scheduler) if "-b" in options else NO_FLAGS,
        persistence=persistence,
        persistence_engine=options.get("--pe", ""),
        one_packet="-o" in options,
    ).check()


def read_destination(options: Options) -> tuple[VirtualServerKey, Destination]:
    """Return the destination that a line adds, and its virtual server; the port is as it was written."""
    key = read_key(options)
    if "-r" not in options:
        raise InvalidInputError("rule", "-a needs -r")
    address, port = _endpoint(options["-r"], "-r")
    own = key.port if isinstance(key, ServiceAddress) else 0
    method = next((method for name, method in _METHODS.items() if name in options), Forwarding.DIRECT_ROUTING)
    return key, Destination(
        key=DestinationKey(address=address, port=own if port is None else port),
        forwarding=method,
        weight=_number(options.get("-w", "1"), "-w"),
        upper_threshold=_number(options.get("-x", "0"), "-x"),
        lower_threshold=_number(options.get("-y", "0"), "-y"),
        tunnel=_tunnel(options),
    )


def _tunnel(options: Options) -> Tunnel:
    if options.keys().isdisjoint(_TUNNEL_OPTIONS):
        return PLAIN_TUNNEL
    name = options.get("--tun-type", "ipip")
    if name not in _TUNNEL_TYPES:
        raise InvalidInputError("tunnel.type", f"--tun-type: {name!r} is not ipip, gue or gre")
    return Tunnel(
        type=_TUNNEL_TYPES[name],
        port=_number(options.get("--tun-port", "0"), "--tun-port"),
        checksum=next((each for name, each in _CHECKSUMS.items() if name in options), TunnelChecksum.NONE),
    )


@lru_cache(maxsize=REMEMBERED)
def _endpoint(text: str, field: str) -> tuple[IpAddress, int | None]:
    """Read ADDRESS[:PORT] or [IPV6][:PORT]. No name is looked up."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    elif text.count(":") > 1:
        host, port = text, None
    else:
        host, colon, rest = text.partition(":")
        port = rest if colon else None
    return parse_address(host, field), None if port is None else parse_port(port, field)


@lru_cache(maxsize=REMEMBERED)
def _number(text: str, field: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise InvalidInputError(field, f"{field}: {text!r} is not a number")
    return int(text)


def write_rules(table: Table) -> Iterator[str]:
    """Return the lines that ipvsadm -S -n prints for a table, in its order.

    Thresholds have no place in them, nor that a destination drains: its weight is the kernel's.
    """
    for key in sorted(table, key=_SERVER_ORDER):
        entry = table[key]
        if entry.virtual_server is not None:
            yield server_rule(entry.virtual_server)
        for destination in sorted(entry.destinations.values(), key=_DESTINATION_ORDER):
            yield destination_rule(key, effective(destination))


def _compare_servers(one: VirtualServerKey, other: VirtualServerKey) -> int:
    """Compare as ipvs_cmp_services of ipvsadm's libipvs does: by mark, family, protocol, address and port."""
    marks = [each.mark if isinstance(each, FirewallMark) else 0 for each in (one, other)]
    difference = _wrapped(*marks) or one.family - other.family
    if difference or isinstance(one, FirewallMark) or isinstance(other, FirewallMark):
        return difference
    return one.protocol - other.protocol or _compare_addresses(one.address, other.address) or one.port - other.port


def _compare_destinations(one: Destination, other: Destination) -> int:
    return _compare_addresses(one.key.address, other.key.address) or one.key.port - other.key.port


def _compare_addresses(one: IpAddress, other: IpAddress) -> int:
    """Compare 32 bits at a time."""
    words = zip(_words(one), _words(other), strict=False)
    return next((difference for each in words if (difference := _wrapped(*each))), 0)


def _words(address: IpAddress) -> list[int]:
    packed = address.packed
    return [int.from_bytes(packed[start : start + 4], "big") for start in range(0, len(packed), 4)]


def _wrapped(one: int, other: int) -> int:
    """Return a difference as C has it in an int: 192.0.2.1 comes before 10.0.0.1."""
    difference = (one - other) & 0xFFFFFFFF
    return difference - 2**32 if difference >= 2**31 else difference


_SERVER_ORDER = cmp_to_key(_compare_servers)
_DESTINATION_ORDER = cmp_to_key(_compare_destinations)


def server_rule(server: VirtualServer) -> str:
    """Return the line that adds a virtual server."""
    return f"-A {_key_words(server.key)} {_server_words(server)}"


def destination_rule(key: VirtualServerKey, destination: Destination) -> str:
    """Return the line that adds a destination, but for its thresholds."""
    return f"-a {_key_words(key)} -r {destination.key} {_destination_words(destination)}"


def describe(step: TableStep) -> str:
    """Return what a step does, in rules: add, remove or adopt one, or edit it, which names the old and the new one."""
    sides = (_side(step, step.before), _side(step, step.after))
    verb = verb_of(step)
    return f"{verb}: {' -> '.join(sides) if verb == 'edit' else sides[1] or sides[0]}"


def _side(step: TableStep, side: VirtualServer | Destination | None) -> str:
    if isinstance(side, Destination):
        upper, lower = side.upper_threshold, side.lower_threshold
        thresholds = (f" -x {upper}" if upper else "") + (f" -y {lower}" if lower else "")
        drains = " (draining)" if side.draining else ""
        return destination_rule(step.server, side) + thresholds + drains
    return "" if side is None else server_rule(side)


def _key_words(key: VirtualServerKey) -> str:
    if isinstance(key, FirewallMark):
        return f"-f {key.mark}" + (" -6" if key.family is Family.IPV6 else "")
    option = next(name for name, protocol in _PROTOCOLS.items() if protocol is key.protocol)
    return f"{option} {format_endpoint(key.address, key.port)}"


def _server_words(server: VirtualServer) -> str:
    words = [f"-s {server.scheduler}"]
    persistence = server.persistence
    if persistence is not None:
        words.append(f"-p {persistence.timeout}")
        if persistence.netmask is not None:
            words.append(f"-M {persistence.netmask}")
        elif persistence.prefix_length is not None:
            is_ipv4 = server.key.family is Family.IPV4
            words.append(f"-M {netmask_of(persistence.prefix_length) if is_ipv4 else persistence.prefix_length}")
    if server.persistence_engine:
        words.append(f"--pe {server.persistence_engine}")
    if server.one_packet:
        words.append("-o")
    flags = ",".join(flag_names(server.scheduler_flags, server.scheduler))
    if flags:
        words.append(f"-b {flags}")
    return " ".join(words)


def _destination_words(destination: Destination) -> str:
    method = next((name for name, each in _METHODS.items() if each is destination.forwarding), "")
    words = [method or "-g", f"-w {destination.weight}"]
    tunnel = destination.tunnel
    if destination.forwarding is Forwarding.TUNNELING:
        words.append(f"--tun-type {tunnel.type.name.lower()}")
        if tunnel.type is TunnelType.GUE:
            words.append(f"--tun-port {tunnel.port}")
        if tunnel.type is not TunnelType.IPIP:
            words.append(next(name for name, each in _CHECKSUMS.items() if each is tunnel.checksum))
    return " ".join(words)
