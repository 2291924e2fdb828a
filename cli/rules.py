"""Reads the rules of ipvsadm -R: a line adds a virtual server (-A) or a destination (-a). No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address

from agent_common.destination import (
    PLAIN_TUNNEL,
    Destination,
    DestinationKey,
    Forwarding,
    Tunnel,
    TunnelChecksum,
    TunnelType,
)
from agent_common.errors import InvalidInputError
from agent_common.scheduler import DEFAULT_SCHEDULER, NO_FLAGS, SchedulerFlags, parse_flags
from agent_common.table import Entry
from agent_common.virtual_server import (
    Family,
    FirewallMark,
    IpAddress,
    Persistence,
    Protocol,
    ServiceAddress,
    VirtualServer,
    VirtualServerKey,
    parse_address,
    parse_clients,
    parse_port,
    split_endpoint,
)

DEFAULT_PERSISTENCE = 360
"""Seconds of -p without a number."""

REMEMBERED = 10_000
"""Words whose meaning is remembered: a virtual server is named in the line of each of its destinations."""


METHODS = {"-g": Forwarding.DIRECT_ROUTING, "-i": Forwarding.TUNNELING, "-m": Forwarding.MASQUERADING}
PROTOCOLS = {"-t": Protocol.TCP, "-u": Protocol.UDP, "--sctp-service": Protocol.SCTP}
_TUNNEL_TYPES = {each.name.lower(): each for each in TunnelType}
CHECKSUMS = {
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
_WITHOUT_VALUE = frozenset(("-A", "-a", "-6", "-o", "-g", "-i", "-m", "-n", *CHECKSUMS))
_OTHER_COMMANDS = frozenset(
    (
        *("-E", "-D", "-C", "-R", "-S", "-e", "-d", "-L", "-l", "-Z", "--edit-service", "--delete-service", "--clear"),
        *("--restore", "--save", "--edit-server", "--delete-server", "--list", "--zero", "--set"),
        *("--start-daemon", "--stop-daemon"),
    )
)

_SERVER_ONLY = frozenset(("-s", "-p", "-M", "-o", "-b", "--pe"))
_TUNNEL_OPTIONS = frozenset(("--tun-type", "--tun-port", *CHECKSUMS))
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
            words = text.split()
            options = read_options(words[1:] if words[0] == "ipvsadm" else words)
            if "-A" in options:
                self._add_server(number, read_virtual_server(options))
            else:
                self._add_destination(number, *read_destination(options))
        except InvalidInputError as error:
            self.bad.append(BadLine(number=number, text=text, reason=error.message))

    def _add_server(self, number: int, server: VirtualServer) -> None:
        self._once(number, server.key, lambda: f"virtual server {server.key}")
        self.table.setdefault(server.key, Entry()).virtual_server = server

    def _add_destination(self, number: int, key: VirtualServerKey, destination: Destination) -> None:
        translates = destination.forwarding is Forwarding.MASQUERADING or isinstance(key, FirewallMark)
        if isinstance(key, ServiceAddress) and not translates and destination.key.port != key.port:
            self.warnings.append(f"line {number}: {destination.key} gets port {key.port}: dr and tun translate none")
            destination = replace(destination, key=replace(destination.key, port=key.port))
        destination.check(key)
        self._once(number, (key, destination.key), lambda: f"{destination.key} in {key}")
        entry = self.table.get(key) or self.table.setdefault(key, Entry())
        entry.destinations[destination.key] = destination

    def _once(self, number: int, key: object, name: Callable[[], str]) -> None:
        first = self._lines.setdefault(key, number)
        if first != number:
            raise InvalidInputError("rule", f"{name()} is added twice, first in line {first}")


def read_options(words: list[str]) -> dict[str, str]:
    """Return the options of a line by their short names, as ipvsadm would take them; raises InvalidInputError."""
    found: dict[str, str] = {}
    left = list(reversed(words))
    while left:
        word = left.pop()
        if word in _WITH_VALUE and left:  # as ipvsadm -S writes them, without a look at what else a word may be
            split: Iterable[tuple[str, str]] = ((word, left.pop()),)
        elif word in _WITHOUT_VALUE:
            split = ((word, ""),)
        else:
            split = _split_word(word, left)
        for name, value in split:
            if name in _OTHER_COMMANDS:
                raise InvalidInputError("rule", f"{name} is no rule; only -A and -a are")
            if name in found:
                raise InvalidInputError("rule", f"{name} is given twice")
            found[name] = value
    _check_options(frozenset(found))
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


@lru_cache(maxsize=REMEMBERED)
def _check_options(found: frozenset[str]) -> None:
    commands = [name for name in ("-A", "-a") if name in found]
    if len(commands) != 1:
        raise InvalidInputError("rule", "a line must have one of -A and -a")
    for group in (("-t", "-u", "--sctp-service", "-f"), ("-g", "-i", "-m"), tuple(CHECKSUMS)):
        given = [name for name in group if name in found]
        if len(given) > 1:
            raise InvalidInputError("rule", f"{' and '.join(given)} exclude each other")
    foreign = (_DESTINATION_ONLY if commands == ["-A"] else _SERVER_ONLY) & found
    if foreign:
        raise InvalidInputError("rule", f"{commands[0]} does not take {' '.join(sorted(foreign))}")


def read_key(options: Options) -> VirtualServerKey:
    """Return the virtual server that a line is about."""
    if "-6" in options and "-f" not in options:
        raise InvalidInputError("rule", "-6 is only for -f: an address has its family")
    if "-f" in options:
        return FirewallMark(mark=_number(options["-f"], "-f"), family=Family.IPV6 if "-6" in options else Family.IPV4)
    for name in PROTOCOLS:
        if name in options:
            return _service_address(name, options[name])
    raise InvalidInputError("rule", "one of -t, -u, --sctp-service and -f must be given")


@lru_cache(maxsize=REMEMBERED)
def _service_address(name: str, text: str) -> ServiceAddress:
    """Read a virtual server's address: thousands of destinations have the same."""
    address, port = _endpoint(text, name)
    return ServiceAddress(protocol=PROTOCOLS[name], address=address, port=port or 0)


def read_virtual_server(options: Options) -> VirtualServer:
    """Return the virtual server that a line adds."""
    scheduler = options.get("-s", DEFAULT_SCHEDULER)
    key, persistence = read_key(options), None
    if "-p" in options:
        length, netmask = _clients(options["-M"], key) if "-M" in options else (None, None)
        persistence = Persistence(timeout=_number(options["-p"], "-p"), prefix_length=length, netmask=netmask)
    return VirtualServer(
        key=key,
        scheduler=scheduler,
        scheduler_flags=_flags(options["-b"], scheduler) if "-b" in options else NO_FLAGS,
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
    method = next((method for name, method in METHODS.items() if name in options), Forwarding.DIRECT_ROUTING)
    return key, Destination(
        key=DestinationKey(address=address, port=own if port is None else port),
        forwarding=method,
        weight=_number(options.get("-w", "1"), "-w"),
        upper_threshold=_number(options.get("-x", "0"), "-x"),
        lower_threshold=_number(options.get("-y", "0"), "-y"),
        tunnel=_tunnel(options),
    )


def _clients(text: str, key: VirtualServerKey) -> tuple[int | None, IPv4Address | None]:
    """Read -M: a mask for IPv4, bits for IPv6. ipvsadm takes a number for a mask with IPv4, too: 24 for 0.0.0.24."""
    if key.family is Family.IPV4 and text.isdecimal():
        raise InvalidInputError("-M", f"-M: {text!r} is no IPv4 mask; write it out (255.255.255.0)")
    return parse_clients(text, "-M")


def _flags(text: str, scheduler: str) -> SchedulerFlags:
    if text == "none":
        raise InvalidInputError("-b", "-b: 'none' is no flag; leave it out")
    return parse_flags(text, scheduler)


def _tunnel(options: Options) -> Tunnel:
    """Return how packets are wrapped; as with ipvsadm an option that means nothing there is an error."""
    if options.keys().isdisjoint(_TUNNEL_OPTIONS):
        return PLAIN_TUNNEL
    if "-i" not in options:
        raise InvalidInputError("tunnel", "tunnel: only with forwarding method tun")
    name = options.get("--tun-type", "ipip")
    if name not in _TUNNEL_TYPES:
        raise InvalidInputError("tunnel.type", f"--tun-type: {name!r} is not ipip, gue or gre")
    if "--tun-port" in options and name != "gue":
        raise InvalidInputError("tunnel.port", f"tunnel.port: {name} takes no port")
    if name == "ipip" and not options.keys().isdisjoint(CHECKSUMS):
        raise InvalidInputError("tunnel.checksum", "tunnel.checksum: ipip has none")
    return Tunnel(
        type=_TUNNEL_TYPES[name],
        port=_number(options.get("--tun-port", "0"), "--tun-port"),
        checksum=next((each for name, each in CHECKSUMS.items() if name in options), TunnelChecksum.NONE),
    )


@lru_cache(maxsize=REMEMBERED)
def _endpoint(text: str, field: str) -> tuple[IpAddress, int | None]:
    """Read ADDRESS[:PORT] or [IPV6][:PORT]. No name is looked up."""
    host, port = split_endpoint(text)
    return parse_address(host, field), None if port is None else parse_port(port, field)


@lru_cache(maxsize=REMEMBERED)
def _number(text: str, field: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise InvalidInputError(field, f"{field}: {text!r} is not a number")
    return int(text)
