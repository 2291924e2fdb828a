"""Combinations of the options of a virtual server and of a destination in it, in which every two values meet.

And what is wrong with one: by ipvsadm 1.31 as it was measured, and by lvs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from ipaddress import IPv4Address, IPv6Address
from itertools import combinations, product
from random import Random

from agent_common.destination import Destination, DestinationKey, Forwarding, Tunnel, TunnelChecksum, TunnelType
from agent_common.scheduler import parse_flags
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
)
from tests.director.ipvs_samples import KERNEL_SCHEDULERS

Row = Mapping[str, str]
"""One combination: an option's value by its name, "" for one that is not given."""

Pair = tuple[tuple[str, str], tuple[str, str]]

VALUES: dict[str, tuple[str, ...]] = {
    "protocol": ("tcp", "udp", "sctp", "mark"),
    "family": ("4", "6"),
    "port": ("80", "0"),  # a mark has none
    "scheduler": (*KERNEL_SCHEDULERS, "twos"),
    "flags": (
        *("", "flag-1", "flag-2", "flag-3", "flag-1,flag-2,flag-3", "flag-4"),
        *("sh-fallback", "sh-port", "sh-fallback,sh-port", "mh-fallback", "mh-port"),
    ),
    "persistence": ("", "1", "2678400", "2678401", "60 prefix", "60 netmask"),
    "engine": ("", "sip"),
    "one_packet": ("", "-o"),
    "method": ("-g", "-m", "-i"),
    "real_server": ("same family", "other family", "vip"),
    "real_port": ("", "80", "8080", "0"),
    "weight": ("", "0", "1", "65535", "2147483647", "2147483648"),
    "upper": ("", "1", "65535", "2147483647", "2147483648"),
    "lower": ("", "1", "65535"),
    "tunnel_type": ("", "ipip", "gue", "gre"),
    "tunnel_port": ("", "1", "6080", "65536"),
    "checksum": ("", "nocsum", "csum", "remcsum", "nocsum csum"),
}

SERVER_OPTIONS = frozenset(tuple(VALUES)[:8])
"""Those of the virtual server, which come first."""

_VIPS: dict[str, IpAddress] = {"4": IPv4Address("10.1.0.1"), "6": IPv6Address("2001:db8:1::1")}
_REAL_SERVERS: dict[str, IpAddress] = {"4": IPv4Address("192.168.0.104"), "6": IPv6Address("2001:db8::104")}
_MASKS = {"prefix": {"4": "255.255.255.0", "6": "64"}, "netmask": {"4": "255.0.255.0", "6": "255.0.255.0"}}
_OPTIONS = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}
_METHODS = {"-g": Forwarding.DIRECT_ROUTING, "-m": Forwarding.MASQUERADING, "-i": Forwarding.TUNNELING}
_TYPES = {"": TunnelType.IPIP, "ipip": TunnelType.IPIP, "gue": TunnelType.GUE, "gre": TunnelType.GRE}
_CHECKSUMS = {"csum": TunnelChecksum.FULL, "remcsum": TunnelChecksum.REMOTE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is wrong with values of some options together, and what ipvsadm and lvs say of it; "" for who takes it.

    restored: where lvs reads rules it takes it, too, and does what ipvsadm does.
    """

    about: tuple[str, ...]
    is_broken: Callable[..., bool]
    ipvsadm: str
    lvs: str
    restored: bool = False

    @property
    def is_servers(self) -> bool:
        """Whether it is the virtual server that is wrong."""
        return SERVER_OPTIONS.issuperset(self.about)


def _rule(is_broken: Callable[..., bool], *, ipvsadm: str, lvs: str, restored: bool = False) -> Rule:
    about = tuple(signature(is_broken).parameters)
    return Rule(about=about, is_broken=is_broken, ipvsadm=ipvsadm, lvs=lvs, restored=restored)


RULES = (
    _rule(
        lambda protocol, port, persistence: protocol != "mark" and port == "0" and not persistence,
        ipvsadm="Zero port specified for non-persistent service",
        lvs="port: 0 (every port) needs persistence",
    ),
    _rule(
        lambda protocol, one_packet: one_packet != "" and protocol not in ("udp", "mark"),
        ipvsadm="One-Packet Scheduling is only for UDP virtual services",
        lvs="one_packet: needs UDP or a firewall mark",
    ),
    _rule(
        lambda scheduler: scheduler == "twos",  # Linux 6.1 has it not
        ipvsadm="Scheduler or persistence engine not found",
        lvs="scheduler twos",
    ),
    _rule(
        lambda scheduler, flags: flags[:3] in ("sh-", "mh-") and flags[:2] != scheduler,
        ipvsadm="incompatible scheduler flag",
        lvs="needs scheduler",
    ),
    _rule(
        lambda flags: flags == "flag-4",
        ipvsadm="invalid scheduler flag",
        lvs="scheduler_flags: 'flag-4' is unknown",
    ),
    _rule(
        lambda persistence: persistence == "2678401",
        ipvsadm="invalid timeout value",
        lvs="persistence timeout: 2678401 s is out of range",
    ),
    _rule(
        lambda family, persistence: family == "6" and persistence == "60 netmask",
        ipvsadm="illegal ipv6 netmask specified",
        lvs="persistence netmask: IPv6 takes a prefix length",
    ),
    _rule(
        lambda method, real_server: method != "-i" and real_server == "other family",
        ipvsadm="Different address family is allowed only for tunneling servers",
        lvs="differ in family; only tunnelling joins them",
    ),
    _rule(
        lambda weight: weight == "2147483648",
        ipvsadm="illegal weight specified",
        lvs="weight: 2147483648 is out of range",
    ),
    _rule(
        lambda upper: upper == "2147483648",
        ipvsadm="illegal u_threshold specified",
        lvs="upper_threshold: 2147483648 is out of range",
    ),
    _rule(
        lambda upper, lower: int(lower or 0) > int(upper or 0),
        ipvsadm="Numerical result out of range",
        lvs="lower_threshold: must not be above upper_threshold",
    ),
    _rule(
        lambda method, tunnel_type, tunnel_port, checksum: (
            method != "-i" and (tunnel_type, tunnel_port, checksum) != ("", "", "")
        ),
        ipvsadm="Tunnel options conflict with forward method",
        lvs="tunnel: only with forwarding method tun",
    ),
    _rule(
        lambda method, tunnel_type, tunnel_port: (method, tunnel_type, tunnel_port) == ("-i", "gue", ""),
        ipvsadm="You need to supply the 'tun-port' option",
        lvs="tunnel.port: 0 is not a port",
    ),
    _rule(
        lambda method, tunnel_type, tunnel_port: method == "-i" and tunnel_type != "gue" and tunnel_port != "",
        ipvsadm="Illegal 'tun-port' option",
        lvs="takes no port",
    ),
    _rule(
        lambda tunnel_port: tunnel_port == "65536",
        ipvsadm="illegal tunnel port specified",
        lvs="65536 is not a port",
    ),
    _rule(
        lambda method, tunnel_type, checksum: (
            method == "-i" and tunnel_type in ("", "ipip") and checksum not in ("", "nocsum")
        ),
        ipvsadm="csum' option with the 'ipip' tunnel type",
        lvs="tunnel.checksum: ipip has none",
    ),
    _rule(
        lambda method, tunnel_type, checksum: (method, tunnel_type, checksum) == ("-i", "gre", "remcsum"),
        ipvsadm="Illegal 'tun-remcsum' option with the 'gre' tunnel type",
        lvs="tunnel.checksum: remote checksum offload needs gue",
    ),
    _rule(
        lambda checksum: checksum == "nocsum csum",
        ipvsadm="The option 'tun-csum' conflicts with the 'tun-nocsum' option",
        lvs="--tun-nocsum and --tun-csum exclude each other",
    ),
    _rule(
        lambda protocol, port, method, real_port: protocol != "mark" and method != "-m" and real_port not in ("", port),
        ipvsadm="",  # it writes the virtual server's instead
        lvs="cannot translate ports",
        restored=True,
    ),
)


def broken(row: Row) -> list[Rule]:
    """Return the rules that a combination breaks, as far as it goes."""
    return [rule for rule in RULES if _is_given(rule, row) and rule.is_broken(*(row[name] for name in rule.about))]


def is_left_out(row: Row) -> bool:
    """Whether ipvsadm refuses what lvs takes: --tun-nocsum without gue and gre, or --tun-type ipip without -i."""
    if any(name not in row for name in ("method", "tunnel_type", "tunnel_port", "checksum")):
        return False
    means_nothing = row["tunnel_type"] in ("", "ipip") and not row["tunnel_port"] and row["checksum"] in ("", "nocsum")
    return means_nothing and (row["checksum"] != "" or (row["method"] != "-i" and row["tunnel_type"] != ""))


def pairwise(choose: Random, *, mistakes: int) -> Iterator[Row]:
    """Return combinations that each break so many rules, and in which all values meet that can meet in such ones.

    Those that break one begin with one for each rule. The first ones have most in them that those before have not.
    """
    missing = _pairs((name, value) for name, values in VALUES.items() for value in values)
    for begun in _beginnings(missing, mistakes, choose):
        row = _completed(begun, missing, mistakes, choose)
        if row is not None:
            missing.difference_update(_pairs(row.items()))
            yield row


def _beginnings(missing: set[Pair], mistakes: int, choose: Random) -> Iterator[dict[str, str]]:
    for rule in choose.sample(RULES, len(RULES)) if mistakes else ():
        tried = (dict(zip(rule.about, each, strict=True)) for each in product(*(VALUES[name] for name in rule.about)))
        yield choose.choice([each for each in tried if broken(each) == [rule] and not is_left_out(each)])
    for pair in choose.sample(sorted(missing), len(missing)):
        if pair in missing:
            yield dict(pair)


def _pairs(values: Iterable[tuple[str, str]]) -> set[Pair]:
    return {(one, other) for one, other in combinations(sorted(values), 2) if one[0] != other[0]}


def _completed(row: dict[str, str], missing: set[Pair], mistakes: int, choose: Random) -> Row | None:
    """Choose the options that are missing, most new pairs first; None if none fit."""
    if len(broken(row)) > mistakes or is_left_out(row):
        return None
    left = [name for name in VALUES if name not in row]
    if not left:
        return row if len(broken(row)) == mistakes else None
    # Next the one that shares most rules with those chosen: what cannot end well is found out at once.
    name = max(left, key=lambda name: (_shared(name, row), choose.random()))

    def gain(value: str) -> tuple[int, float]:
        return len(missing & {_pair((name, value), each) for each in row.items()}), choose.random()

    for value in sorted(VALUES[name], key=gain, reverse=True):
        whole = _completed({**row, name: value}, missing, mistakes, choose)
        if whole is not None:
            return whole
    return None


def _pair(one: tuple[str, str], other: tuple[str, str]) -> Pair:
    return (one, other) if one < other else (other, one)


def _shared(name: str, row: Row) -> int:
    return sum(name in rule.about and any(each in row for each in rule.about) for rule in RULES)


def _is_given(rule: Rule, row: Row) -> bool:
    return all(name in row for name in rule.about)


def key_of(row: Row, number: int = 0) -> VirtualServerKey:
    """Return the key of a combination's virtual server; with a number one of its own."""
    if row["protocol"] == "mark":
        return FirewallMark(mark=7 + number, family=Family.IPV4 if row["family"] == "4" else Family.IPV6)
    protocol = Protocol[row["protocol"].upper()]
    return ServiceAddress(protocol=protocol, address=_VIPS[row["family"]] + number, port=int(row["port"]))


def server_words(row: Row, number: int = 0) -> list[str]:
    """Return what ipvsadm -A is given."""
    words = [*_key_words(row, number), "-s", row["scheduler"]]
    if row["persistence"]:
        seconds, _, clients = row["persistence"].partition(" ")
        words += ["-p", seconds, *(["-M", _MASKS[clients][row["family"]]] if clients else [])]
    words += ["--pe", row["engine"]] if row["engine"] else []
    words += ["-b", row["flags"]] if row["flags"] else []
    return [*words, row["one_packet"]] if row["one_packet"] else words


def destination_words(row: Row, number: int = 0) -> list[str]:
    """Return what ipvsadm -a is given."""
    words = [*_key_words(row, number), "-r", real_server(row), row["method"]]
    options = {"weight": "-w", "upper": "-x", "lower": "-y", "tunnel_type": "--tun-type", "tunnel_port": "--tun-port"}
    words += [word for name, option in options.items() if row[name] for word in (option, row[name])]
    return words + [f"--tun-{each}" for each in row["checksum"].split()]


def _key_words(row: Row, number: int) -> list[str]:
    key = key_of(row, number)
    if isinstance(key, FirewallMark):
        return ["-f", str(key.mark), *(["-6"] if key.family is Family.IPV6 else [])]
    return [_OPTIONS[row["protocol"]], format_endpoint(key.address, key.port)]


def real_server(row: Row) -> str:
    """Return the real server, as both programs read it."""
    address = _real_address(row)
    return format_endpoint(address, int(row["real_port"])) if row["real_port"] else str(address)


def _real_address(row: Row) -> IpAddress:
    if row["real_server"] == "vip":
        return _VIPS[row["family"]]
    other = {"4": "6", "6": "4"}[row["family"]]
    return _REAL_SERVERS[row["family"] if row["real_server"] == "same family" else other]


def virtual_server(row: Row) -> VirtualServer:
    """Return the virtual server, unchecked but for what can be written at all; raises InvalidInputError."""
    seconds, _, clients = row["persistence"].partition(" ")
    length = {"4": 24, "6": 64}[row["family"]] if clients == "prefix" else None
    netmask = IPv4Address(_MASKS["netmask"]["4"]) if clients == "netmask" else None
    return VirtualServer(
        key=key_of(row),
        scheduler=row["scheduler"],
        scheduler_flags=parse_flags(row["flags"] or "none", row["scheduler"]),
        persistence=Persistence(timeout=int(seconds), prefix_length=length, netmask=netmask) if seconds else None,
        persistence_engine=row["engine"],
        one_packet=bool(row["one_packet"]),
    )


def destination(row: Row) -> Destination:
    """Return the destination, unchecked."""
    key = key_of(row)
    own_port = key.port if isinstance(key, ServiceAddress) else 0
    return Destination(
        key=DestinationKey(address=_real_address(row), port=int(row["real_port"] or own_port)),
        forwarding=_METHODS[row["method"]],
        weight=int(row["weight"] or 1),
        upper_threshold=int(row["upper"] or 0),
        lower_threshold=int(row["lower"] or 0),
        tunnel=Tunnel(
            type=_TYPES[row["tunnel_type"]],
            port=int(row["tunnel_port"] or 0),
            checksum=_CHECKSUMS.get(row["checksum"], TunnelChecksum.NONE),
        ),
    )
