"""What is printed when a package is removed: the commands that take back what the agents made, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent_common.errors import LvsError
from agent_common.fake_state import FakeState
from agent_common.sqlite_state import SqliteState
from agent_common.what_stays import commands
from cli import operations
from tests.director.ipvs_samples import destination
from tests.hosts import VIP, VIP6, WEB, DirectorHost, RealServerHost, holder


async def test_a_director_names_its_vip_before_the_virtual_server_behind_it() -> None:
    """A VIP without its virtual server resets connections; destinations go with the virtual server."""
    host = DirectorHost()
    await host.changes.apply(operations.create_virtual_server(WEB, None, None), "")
    await host.changes.apply(operations.create_destination(WEB, destination().key, None, 5), "")
    await host.changes.apply(operations.create_vip(VIP, holder()), "")
    assert list(commands(host.state)) == [
        "ip route del 192.168.0.200 dev eth0 scope host",
        "ip address del 192.168.0.200/32 dev eth0",
        "ipvsadm -D --tcp-service 192.168.0.200:80",
    ]


async def test_a_real_server_gets_its_sysctls_back_after_the_vip_is_gone() -> None:
    host = RealServerHost()
    for vip in (VIP, VIP6):
        await host.changes.apply(operations.create_vip(vip, holder()), "")
    lines = list(commands(host.state))
    assert lines[:3] == [
        "ip route del 192.168.0.200 dev lo scope host",
        "ip address del 192.168.0.200/32 dev lo",
        "ip address del 2001:db8::200/128 dev lo",
    ]
    assert lines[3].startswith("# not while")
    originals = host.silence.originals()
    assert sorted(lines[4:]) == sorted(f"echo {was} >/proc/sys/net/ipv4/conf/{name}" for name, was in originals.items())


def test_what_others_made_is_not_named() -> None:
    """A VIP that was there already, and a destination that was only drained; one of ours in another's server is."""
    state = FakeState()
    vip = {"device": "eth0", "mode": "agent", "holders": ["operator/ann"], "made_address": False, "made_route": False}
    state.put("vip", "192.168.0.201", vip)
    for port, managed in ((80, False), (81, True)):
        config = {"key": {"address": "10.0.0.1", "port": port}}
        state.put("destination", str(port), {"managed": managed, "server": "fwmark6/7", "config": config})
    assert list(commands(state)) == ["ipvsadm -d -f 7 -6 -r 10.0.0.1:81"]


def test_tunnels_ports_daemons_and_timeouts_are_named() -> None:
    state = FakeState()
    state.put("gue_port", "6/6080", {})
    state.put("tunnel_device", "gre0", {"created": True})
    state.put("tunnel_device", "tunl0", {"created": False, "addressed": True, "rp_filter": 1, "raised": True})
    state.put("sync_daemon", "master", {})
    state.put("timeouts", "timeouts", {})
    daemon, timeouts, *tunnels = commands(state)
    assert daemon == "ipvsadm --stop-daemon master"
    assert timeouts.startswith("# IPVS's timeouts stay")
    assert tunnels == [
        "ip fou del port 6080 -6",
        "ip link del gre0",
        "ip address del 127.254.0.1/32 dev tunl0",
        "echo 1 >/proc/sys/net/ipv4/conf/tunl0/rp_filter",
        "ip link set tunl0 down",
    ]


@pytest.mark.parametrize("device", ["eth0; reboot", "../../kernel", "", "a b"])
def test_what_is_no_name_of_an_interface_does_not_get_into_a_script_of_root(device: str) -> None:
    """The journal belongs to the agent's user, whoever has become that."""
    vip = {"device": device, "mode": "agent", "holders": [], "made_address": True, "made_route": False}
    for kind, name, body in (("vip", "192.0.2.1", vip), ("arp_sysctl", f"{device}/arp_ignore", {"original": 0})):
        state = FakeState()
        state.put(kind, name, body)
        with pytest.raises(LvsError, match="not the name of an interface"):
            list(commands(state))


def test_a_name_that_a_shell_would_take_apart_is_quoted() -> None:
    state = FakeState()
    state.put("tunnel_device", "$(id)", {"created": True})
    assert list(commands(state)) == ["ip link del '$(id)'"]


def run(directory: Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "agent_common.what_stays", str(directory)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    return ended.returncode, ended.stdout, ended.stderr


def test_the_program_reads_the_journal_and_prints_nothing_for_an_empty_one(tmp_path: Path) -> None:
    state = SqliteState(tmp_path)
    state.close()
    assert run(tmp_path) == (0, "", "")
    state = SqliteState(tmp_path)
    state.put("sync_daemon", "backup", {})
    state.close()
    assert run(tmp_path) == (
        0,
        f"# made by the agent whose state was in {tmp_path}\nipvsadm --stop-daemon backup\n",
        "",
    )


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_a_journal_that_cannot_be_believed_is_said_to_be_so(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(content)
    status, out, told = run(tmp_path)
    assert (status, out) == (1, "")
    assert "cannot tell what stays in the kernel (" in told
