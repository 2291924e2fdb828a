"""The units: how much they may do, as systemd itself judges, and when they start."""

from __future__ import annotations

import configparser
import json
import shutil
from pathlib import Path

import pytest

from tests.packaging.conftest import CHECKOUT, Analyze

UNITS = CHECKOUT / "packaging/systemd"
NAMES = ("lvs-director", "lvs-realserver")
THRESHOLD = 19
"""Tenths: what the design asks for."""

each_unit = pytest.mark.parametrize("name", NAMES)


def settings(name: str) -> dict[str, dict[str, list[str]]]:
    """The sections of a unit, each key with all its values."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in (UNITS / f"{name}.service").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).extend(value.split())
    return found


@each_unit
def test_it_may_do_little(name: str, analyze: Analyze) -> None:
    """`systemd-analyze security` gives at most 1.9 of 10."""
    unit = str(UNITS / f"{name}.service")
    judged = analyze("security", "--offline=true", f"--threshold={THRESHOLD}", unit)
    assert judged.returncode == 0, judged.stdout + judged.stderr


@each_unit
def test_what_is_not_forbidden_is_what_it_needs(name: str, analyze: Analyze) -> None:
    """Whoever takes away a line of the sandbox is told which one, though the score may still do."""
    unit = str(UNITS / f"{name}.service")
    judged = json.loads(analyze("security", "--offline=true", "--json=short", unit).stdout)
    allowed = {
        each["json_field"].rstrip(")") for each in judged if not each["set"] and float(each["exposure"] or 0) > 0
    }
    needed = {
        "AmbientCapabilities",
        "CapabilityBoundingSet_CAP_NET_ADMIN",
        "DeviceAllow",  # ProtectClock= gives the clock to read
        "IPAddressDeny",
        "PrivateNetwork",
        "PrivateUsers",
        "ProcSubset",
        "RestrictAddressFamilies_AF_INET_INET6",
        "RestrictAddressFamilies_AF_NETLINK",
        "RestrictAddressFamilies_AF_UNIX",
        "RootDirectoryOrRootImage",
        "SystemCallFilter_privileged",  # chown
    }
    if name == "lvs-director":
        packets = {"RestrictAddressFamilies_AF_PACKET", "CapabilityBoundingSet_CAP_NET_BIND_SERVICE_BROADCAST_RAW"}
        needed |= packets
    assert allowed == needed


@each_unit
def test_systemd_takes_every_line_and_finds_the_program(
    name: str, analyze: Analyze, unpacked: Path, tmp_path: Path
) -> None:
    """`systemd-analyze verify` beside Debian's own units says nothing: no unknown key, no cycle of units."""
    shutil.copytree(analyze.root / "lib/systemd", tmp_path / "usr/lib/systemd", symlinks=True)
    shutil.copytree(unpacked, tmp_path, symlinks=True, dirs_exist_ok=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    verified = analyze("verify", "--man=no", f"--root={tmp_path}", f"{name}.service")
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [("lvs-director", {"CAP_NET_ADMIN", "CAP_NET_RAW"}), ("lvs-realserver", {"CAP_NET_ADMIN"})],
)
def test_it_has_a_user_of_its_own_and_no_other_capability(name: str, capabilities: set[str]) -> None:
    service = settings(name)["Service"]
    assert service["User"] == service["Group"] == service["StateDirectory"] == service["RuntimeDirectory"] == [name]
    assert set(service["AmbientCapabilities"]) == set(service["CapabilityBoundingSet"]) == capabilities


@each_unit
def test_it_never_gives_up_but_on_settings_that_cannot_be_read(name: str) -> None:
    """Status 2 is that of a wrong command line or file, which a restart does not mend."""
    found = settings(name)
    assert found["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert found["Service"]["Restart"] == ["always"]
    assert found["Service"]["RestartPreventExitStatus"] == ["2"]
    assert found["Service"]["Type"] == ["notify"]
    assert found["Service"]["WatchdogSec"]


def test_a_real_server_has_its_vips_before_what_waits_for_the_network() -> None:
    """And nothing waits for the network before that: packets come as soon as there is one."""
    unit = settings("lvs-realserver")["Unit"]
    assert unit["Before"] == ["network-online.target"]
    assert "network-online.target" not in unit.get("Wants", [])
    assert unit["After"] == ["systemd-sysctl.service"]


def test_a_director_has_its_virtual_servers_before_keepalived_brings_vips() -> None:
    unit = settings("lvs-director")["Unit"]
    assert unit["Before"] == ["keepalived.service"]
    assert set(unit["After"]) == set(unit["Wants"]) == {"network-online.target", "modprobe@ip_vs.service"}


@each_unit
def test_only_the_sysctls_that_it_sets_can_be_written(name: str) -> None:
    service = settings(name)["Service"]
    writable = {"lvs-director": ["-/proc/sys/net/ipv4/vs"], "lvs-realserver": ["/proc/sys/net/ipv4/conf"]}
    assert service["ProtectKernelTunables"] == ["yes"]
    assert service["ReadWritePaths"] == writable[name]


@each_unit
def test_its_groups_exist_before_it_starts(name: str) -> None:
    """sysusers.d makes the user, and puts it into every group that it gives a socket to, and the one of the keys."""
    lines = [line.split() for line in (UNITS / "lvs-agents.sysusers").read_text(encoding="utf-8").splitlines()]
    assert ["u", name] in [line[:2] for line in lines]
    made = {line[1] for line in lines if line[:1] == ["g"]}
    assert made == {"lvs-viewer", "lvs-operator", "lvs-admin", "lvs-tls"}
    assert {line[2] for line in lines if line[:2] == ["m", name]} == made


def test_the_drop_in_keeps_foreign_addresses() -> None:
    """KeepConfiguration= of systemd.network(5), and nothing else of the network's."""
    drop_in = configparser.ConfigParser()
    drop_in.optionxform = str  # type: ignore[assignment, method-assign]
    drop_in.read(CHECKOUT / "packaging/network/networkd-keep-vips.conf")
    assert dict(drop_in["Network"]) == {"KeepConfiguration": "yes"}
