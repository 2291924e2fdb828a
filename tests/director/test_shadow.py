"""What a virtual server would shadow: programs of the director that its clients could no longer reach."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from agent_common.endpoint import Endpoint, parse_endpoint
from agent_common.errors import Reason, RefusedError
from agent_common.fake_address import FakeAddresses
from agent_common.fake_sockets import FakeSockets
from agent_common.sockets import Listener
from agent_common.virtual_server import IpAddress, Protocol, parse_key
from agent_director.shadow import Shadow
from tests.hosts import own_address

OWN, OWN6, VIP, VIP6 = "192.168.0.10", "[2001:db8::10]", "192.168.0.200", "[2001:db8::200]"


def listener(address: str, port: int = 80, protocol: Protocol = Protocol.TCP) -> Listener:
    return Listener(protocol=protocol, address=ip_address(address), port=port)


def shadow(*listeners: Listener, own: tuple[Endpoint, ...] = (), made: tuple[IpAddress, ...] = ()) -> Shadow:
    """A director with two addresses of its own, and those that were made for LVS."""
    there = [own_address(OWN), own_address("2001:db8::10", 64), *(own_address(str(each), 32) for each in made)]
    return Shadow(FakeAddresses(there), FakeSockets(listeners), own, lambda address: address in made)


def refuses(shadow: Shadow, key: str) -> str:
    """Return what the refusal says, or "" if there is none."""
    try:
        shadow.check(parse_key(key))
    except RefusedError as error:
        assert error.reason is Reason.LISTENER_SHADOWED
        assert error.metadata == {"virtual_server": key}
        return error.message
    return ""


def test_nothing_listens_and_nothing_is_refused() -> None:
    assert not refuses(shadow(), f"tcp/{VIP}:80")


@pytest.mark.parametrize(
    ("bound", "key", "refused"),
    [
        (listener(VIP), f"tcp/{VIP}:80", True),
        (listener(VIP), f"tcp/{VIP}:81", False),
        (listener(VIP), f"udp/{VIP}:80", False),
        (listener(VIP, protocol=Protocol.UDP), f"udp/{VIP}:80", True),
        (listener(VIP, protocol=Protocol.SCTP), f"sctp/{VIP}:80", True),
        (listener("192.168.0.201"), f"tcp/{VIP}:80", False),
        (listener("2001:db8::200"), f"tcp/{VIP6}:80", True),
        (listener(VIP, 8080), f"tcp/{VIP}:0", True),
        (listener(OWN), f"tcp/{VIP}:0", False),
    ],
)
def test_a_program_on_the_address_and_port_is_shadowed(bound: Listener, key: str, refused: bool) -> None:
    assert bool(refuses(shadow(bound), key)) is refused


@pytest.mark.parametrize(
    ("bound", "key", "refused"),
    [
        (listener("0.0.0.0"), f"tcp/{OWN}:80", True),
        (listener("::"), f"tcp/{OWN}:80", True),
        (listener("::"), f"tcp/{OWN6}:80", True),
        (listener("0.0.0.0"), f"tcp/{OWN6}:80", False),
        (listener("0.0.0.0"), f"tcp/{VIP}:80", False),
        (listener("::", 22), f"tcp/{OWN}:0", True),
        (listener("::", 22), f"tcp/{VIP}:0", False),
    ],
)
def test_a_program_on_the_wildcard_is_shadowed_on_an_address_of_the_directors_own(
    bound: Listener, key: str, refused: bool
) -> None:
    """On a VIP that exists for LVS nobody looks for it."""
    assert bool(refuses(shadow(bound), key)) is refused


def test_an_address_that_was_made_for_lvs_is_not_the_directors_own() -> None:
    vip = ip_address(VIP)
    assert not refuses(shadow(listener("0.0.0.0"), made=(vip,)), f"tcp/{VIP}:80")
    assert refuses(shadow(listener(VIP), made=(vip,)), f"tcp/{VIP}:80")


def test_the_agent_never_cuts_itself_off() -> None:
    """Whoever listens on the wildcard may be reached by the VIP, too: on its port no virtual server is made."""
    wildcard = parse_endpoint("0.0.0.0", "listen", 9710)
    exact = parse_endpoint(OWN, "listen", 9710)
    for own, key, refused in (
        (wildcard, f"tcp/{VIP}:9710", True),
        (wildcard, f"tcp/{VIP}:80", False),
        (wildcard, f"tcp/{OWN}:0", True),
        (wildcard, f"tcp/{VIP}:0", False),
        (wildcard, f"udp/{VIP}:9710", False),
        (exact, f"tcp/{OWN}:9710", True),
        (exact, f"tcp/{OWN}:0", True),
        (exact, f"tcp/{VIP}:9710", False),
    ):
        said = refuses(shadow(own=(own,)), key)
        assert bool(said) is refused, (own, key)
        assert not said or f"this agent itself listens on {own}" in said


def test_unix_sockets_and_names_are_no_addresses_that_could_be_cut() -> None:
    own = (Endpoint(path="/run/lvs-director/api.sock"), Endpoint(host="localhost", port=9710))
    assert not refuses(shadow(own=own), f"tcp/{OWN}:0")


def test_a_firewall_mark_names_no_address() -> None:
    assert not refuses(shadow(listener("0.0.0.0")), "fwmark/7")


def test_the_refusal_names_who_listens_and_what_to_do() -> None:
    assert refuses(shadow(listener("2001:db8::200", 443)), f"tcp/{VIP6}:443") == (
        "cannot serve tcp/[2001:db8::200]:443 on this director: something listens on [2001:db8::200]:443, "
        "which it would cut off; use another address or port"
    )
