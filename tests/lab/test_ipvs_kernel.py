"""The adapter and the rest of the kernel: traffic, modules that come and go, capabilities, network namespaces."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_common.errors import NotFoundError, Reason, RefusedError
from agent_common.generic_netlink import GenericNetlink, NetlinkError
from agent_common.netlink_frames import NLA_F_NESTED, pack_attribute
from agent_common.netlink_socket import NetlinkSocket
from agent_common.statistics import Statistics
from agent_common.virtual_server import Persistence, VirtualServer, parse_key
from agent_director import ipvs_codec as codec
from agent_director import ipvs_numbers as n
from agent_director.ipvs import Info
from agent_director.netlink_ipvs import NetlinkIpvs
from lab.site import VIP, Host, Site
from tests.director.ipvs_contract import raises
from tests.director.ipvs_samples import WEB, destination

MODPROBE = Path("/proc/sys/kernel/modprobe")
"""What the kernel runs to load a module; it is the guest's, not a host's."""

NO_CAPABILITY = """
from agent_common.errors import LvsError
from agent_common.virtual_server import VirtualServer, parse_key
from agent_director.netlink_ipvs import NetlinkIpvs
ipvs = NetlinkIpvs()
key = parse_key("tcp/192.168.0.200:80")
for call in (ipvs.info, ipvs.virtual_servers, lambda: ipvs.virtual_server(key), lambda: ipvs.destinations(key),
             lambda: ipvs.add_virtual_server(VirtualServer(key=key))):
    try:
        print(call())
    except LvsError as error:
        print(type(error).__name__, error.reason, "CAP_NET_ADMIN" in str(error))
"""


@pytest.fixture
def director(site: Site) -> Iterator[Host]:
    site.director.run("ipvsadm", "-C")
    yield site.director
    site.director.run("ipvsadm", "-C")


@pytest.fixture
def ipvs(director: Host) -> Iterator[NetlinkIpvs]:
    adapter = director.inside(NetlinkIpvs)
    yield adapter
    adapter.close()


@pytest.fixture
def netlink(director: Host) -> Iterator[GenericNetlink]:
    found = GenericNetlink(director.inside(NetlinkSocket))
    yield found
    found.close()


@pytest.fixture
def no_modprobe() -> Iterator[None]:
    """The kernel cannot load modules by itself; we still can."""
    usual = MODPROBE.read_text()
    MODPROBE.write_text("/bin/false")
    yield
    MODPROBE.write_text(usual)
    modprobe("ip_vs")


def modprobe(*arguments: str) -> None:
    """Load or unload modules."""
    subprocess.run(["modprobe", *arguments], check=True)


def unload(prefix: str) -> None:
    """Take modules out of the kernel: IPVS's are all called ip_vs or ip_vs_SOMETHING."""
    names = [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]
    for name in sorted((name for name in names if name.startswith(prefix)), key=len, reverse=True):
        subprocess.run(["rmmod", name], check=True)


def rows(host: Host, *options: str) -> list[list[str]]:
    """Return the lines of ipvsadm -L for virtual servers and destinations, as words."""
    lines = [line.split() for line in host.out("ipvsadm", "-L", "-n", *options).splitlines()]
    return [words for words in lines if words[0] in ("TCP", "UDP", "->") and words[1][0].isdigit()]


def connect(site: Site, *, times: int) -> None:
    """Let the client open connections to the VIP, which the director has meanwhile; nobody answers there."""
    site.director.run("ip", "address", "add", f"{VIP}/32", "dev", "eth0")
    try:
        for _ in range(times):
            site.client.run("curl", "-s", "--max-time", "0.5", f"http://{VIP}/", check=False)
    finally:
        site.director.run("ip", "address", "del", f"{VIP}/32", "dev", "eth0")


def numbers(statistics: Statistics) -> list[list[int]]:
    """Return counters and rates as ipvsadm --stats and --rate have them."""
    values = [getattr(statistics, name) for name in Statistics.__slots__]
    return [values[:5], values[5:]]


def test_connections_and_statistics_are_those_of_ipvsadm(
    site: Site, director: Host, ipvs: NetlinkIpvs, netlink: GenericNetlink
) -> None:
    """Connection counts, counters and rates of a virtual server and its destination are those that ipvsadm prints."""
    ipvs.add_virtual_server(VirtualServer(key=WEB, persistence=Persistence(timeout=300)))
    ipvs.add_destination(WEB, destination(site.real_servers[0].ipv4))
    connect(site, times=3)
    family = netlink.family(n.IPVS_GENL_NAME)
    assert family is not None

    def ours() -> tuple[list[list[int]], list[list[int]], tuple[int, int, int]]:
        (server,) = netlink.dump(family, n.IPVS_CMD_GET_SERVICE)
        (own,) = netlink.dump(family, n.IPVS_CMD_GET_DEST, codec.pack_key(WEB))
        (status,) = ipvs.destinations(WEB)
        counts = (status.active, status.inactive, status.persistent)
        return (
            numbers(codec.unpack_virtual_server_statistics(*server)),
            numbers(codec.unpack_destination_statistics(*own)),
            counts,
        )

    def theirs() -> tuple[list[list[int]], list[list[int]], tuple[int, int, int]]:
        stats, rate = rows(director, "--stats", "--exact"), rows(director, "--rate", "--exact")
        both = [[[int(word) for word in table[line][2:7]] for table in (stats, rate)] for line in (0, 1)]
        (_, plain), (_, persistent) = rows(director), rows(director, "--persistent-conn")
        return both[0], both[1], (int(plain[4]), int(plain[5]), int(persistent[3]))

    for _ in range(20):  # the kernel counts up every two seconds; in between both see the same
        before, shown, after = ours(), theirs(), ours()
        if before == after and after[0][0][0] == 3:
            break
        time.sleep(0.5)
    assert shown == after
    (connections, packets_in, packets_out, bytes_in, bytes_out), _ = after[0]
    assert (connections, packets_in >= 3, packets_out, bytes_in >= 180, bytes_out) == (3, True, 0, True, 0)
    # With direct routing a SYN alone is an active connection: answers, or their absence, are not seen.
    assert after[2] == (3, 0, 1)


def test_table_is_that_of_the_network_namespace(site: Site, director: Host, ipvs: NetlinkIpvs) -> None:
    """An adapter sees and changes the table of the host that it was made on, and no other, from whatever thread."""
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    elsewhere = site.client.inside(NetlinkIpvs)
    assert elsewhere.virtual_servers() == []
    with pytest.raises(NotFoundError):
        elsewhere.remove_virtual_server(WEB)
    elsewhere.close()
    assert director.out("ipvsadm", "-S", "-n") == f"-A -t {VIP}:80 -s wlc"


def test_without_the_capability_everything_is_refused(director: Host) -> None:
    """Without CAP_NET_ADMIN every call, a read too, says what is missing."""
    drop = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", NO_CAPABILITY)
    lines = director.out(*drop).splitlines()
    assert lines == ["RefusedError NO_CAPABILITY True"] * 5


@pytest.mark.usefixtures("no_modprobe")
def test_kernel_without_ipvs(director: Host, ipvs: NetlinkIpvs) -> None:
    """An adapter can be made without IPVS, says so at every call, and works as soon as the module is there."""
    unload("ip_vs")
    early = director.inside(NetlinkIpvs)
    for adapter in (early, ipvs):
        calls: list[Callable[[], object]] = [
            adapter.info,
            adapter.virtual_servers,
            lambda adapter=adapter: adapter.virtual_server(WEB),  # type: ignore[misc]
            lambda adapter=adapter: adapter.add_virtual_server(VirtualServer(key=WEB)),  # type: ignore[misc]
            lambda adapter=adapter: adapter.destinations(WEB),  # type: ignore[misc]
            lambda adapter=adapter: adapter.remove_destination(WEB, destination().key),  # type: ignore[misc]
        ]
        for call in calls:
            with raises(Reason.IPVS_MISSING, RefusedError, "load the ip_vs module (modprobe ip_vs)"):
                call()
    modprobe("ip_vs")
    assert early.virtual_servers() == ipvs.virtual_servers() == []
    early.close()


@pytest.mark.usefixtures("no_modprobe")
def test_module_that_went_and_came_back(ipvs: NetlinkIpvs, netlink: GenericNetlink) -> None:
    """After the module was loaded again the family has another number, and no caller notices."""
    assert ipvs.virtual_servers() == []
    before = netlink.family(n.IPVS_GENL_NAME)
    for call in (ipvs.virtual_servers, ipvs.info, lambda: ipvs.virtual_server(WEB)):
        unload("ip_vs")
        modprobe("ip_vs")
        assert call() in ([], Info(version="1.2.1", connection_table_size=4096), None)
    assert netlink.family(n.IPVS_GENL_NAME) != before
    unload("ip_vs")
    modprobe("-a", "ip_vs", "ip_vs_wlc")
    ipvs.add_virtual_server(VirtualServer(key=WEB))
    assert ipvs.virtual_servers() == [VirtualServer(key=WEB)]


def test_kernel_loads_ipvs_when_it_is_asked(director: Host, ipvs: NetlinkIpvs) -> None:
    """The lookup of the family loads the module, and an add loads the scheduler: nobody need have done so before."""
    unload("ip_vs")
    ipvs.add_virtual_server(VirtualServer(key=WEB, scheduler="fo"))
    assert director.out("ipvsadm", "-S", "-n") == f"-A -t {VIP}:80 -s fo"


@pytest.mark.usefixtures("no_modprobe")
def test_modules_that_cannot_be_loaded_are_named(ipvs: NetlinkIpvs) -> None:
    """A scheduler or persistence engine without its module is named with the command that loads it."""
    unload("ip_vs_")
    key = parse_key(f"udp/{VIP}:5060")
    with raises(Reason.MODULE_MISSING, RefusedError, key, "scheduler wlc", "modprobe ip_vs_wlc"):
        ipvs.add_virtual_server(VirtualServer(key=key))
    modprobe("ip_vs_wlc")
    sip = VirtualServer(key=key, persistence=Persistence(timeout=60), persistence_engine="sip")
    for change in (ipvs.add_virtual_server, ipvs.edit_virtual_server):
        with raises(Reason.MODULE_MISSING, RefusedError, key, "engine sip", "modprobe ip_vs_pe_sip"):
            change(sip)
        if ipvs.virtual_server(key) is None:
            ipvs.add_virtual_server(VirtualServer(key=key))
    assert ipvs.virtual_servers() == [VirtualServer(key=key)]


def test_sentence_of_the_kernel_is_passed_on(netlink: GenericNetlink) -> None:
    """The extended acknowledgement of a refusal comes with the errno."""
    family = netlink.family(n.IPVS_GENL_NAME)
    assert family is not None
    with pytest.raises(NetlinkError) as raised:
        netlink.call(family, n.IPVS_CMD_GET_SERVICE, pack_attribute(n.IPVS_CMD_ATTR_SERVICE | NLA_F_NESTED, b"\3\0"))
    assert (raised.value.number, raised.value.detail) == (errno.ERANGE, "Attribute failed policy validation")


def test_silence_ends(director: Host) -> None:
    """A kernel that does not answer is waited for as long as was asked, and not for ever."""
    socket = director.inside(lambda: NetlinkSocket(timeout=0.3))
    began = time.monotonic()
    with pytest.raises(NetlinkError, match="ETIMEDOUT"):
        socket.receive()
    assert 0.25 < time.monotonic() - began < 5
    socket.close()
    with pytest.raises(NetlinkError):
        socket.send(b"")
