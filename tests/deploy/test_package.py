"""The package on hosts as they are: installed, configured, restarted, rebooted, upgraded, removed, under traffic.

Each test finds the hosts as the one before has left them, and is left out once one has failed.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lab.debian_host import DebianHost
from tests.deploy import certificates, package
from tests.deploy.site import PORT, VIP, DeploySite, add_application, must_run, role_of, together, unit_of
from tests.deploy.state import Reconfigured, difference, files, kernel

URL = f"http://{VIP}:{PORT}/"
KEY = f"tcp/{VIP}:{PORT}"

BOUND_PORT = 10001
"""Of an application that binds the VIP itself, and cannot start where that is missing."""

CERTIFICATES = {"/etc/lvs", *(f"/etc/lvs/tls{name}" for name in ("", "/ca.crt", "/tls.crt", "/tls.key"))}
"""What a purge leaves: they are the operator's."""

Bare = dict[str, tuple[set[str], set[str]]]


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout."""
    return package.build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def bare(site: DeploySite) -> Bare:
    """Kernel and files of each host before anything of ours came."""
    return {each.name: (kernel(each), files(each)) for each in site.served}


@pytest.fixture
def before(site: DeploySite) -> set[str]:
    """The kernels of our hosts before a test."""
    return kernels(site)


def kernels(site: DeploySite) -> set[str]:
    """The kernels of our hosts."""
    return set[str]().union(*(kernel(each) for each in site.served))


def must_be_as(before: set[str], site: DeploySite) -> None:
    """Fail unless the kernels of our hosts are as before."""
    assert difference(before, kernels(site)) == []


def lvs(site: DeploySite, *argv: str, timeout: float = 60) -> str:
    """What the operator's `lvs` prints on the director; fails unless its status is 0."""
    return site.director.out("runuser", "--user", certificates.OPERATOR, "--", "lvs", *argv, timeout=timeout)


def install(host: DebianHost, deb: Path) -> None:
    """Install or upgrade our package, as an administrator does."""
    host.push(deb, "/root/lvs-agents.deb")
    host.run("dpkg", "--install", "/root/lvs-agents.deb", timeout=180)


def test_install_starts_nothing(site: DeploySite, deb: Path, bare: Bare) -> None:
    """The package installs on a bare Debian, starts no agent, and leaves the kernel as it is."""
    together(site.served, lambda each: install(each, deb))
    for each in site.served:
        assert each.out("systemctl", "is-active", unit_of(each), check=False) == "inactive"
        assert difference(bare[each.name][0], kernel(each)) == []
        must_run(each)


def test_agents_start_with_certificates(site: DeploySite) -> None:
    """With certificates and an address in the settings the agents start when they are enabled, and are not root."""
    certificates.issue_all(site)

    def start(host: DebianHost) -> None:
        certificates.bring_to_agent(site, host)
        certificates.configure_agent(host)
        host.run("systemctl", "enable", "--quiet", "--now", unit_of(host))

    together(site.served, start)
    certificates.make_operator(site)
    for each in site.served:
        pid = each.out("systemctl", "show", "--property", "MainPID", "--value", unit_of(each))
        assert each.out("ps", "--format", "user:20=", "--pid", pid) == f"lvs-{role_of(each)}"
    assert f"director {site.director.host.ipv4}:9710 (lb1)" in lvs(site, "status")


def test_operator_adds_backends(site: DeploySite) -> None:
    """An operator adds both real servers with one command, and a client gets answers of both through the VIP."""
    backends = [word for each in site.real_servers for word in ("--rs", each.host.ipv4)]
    lvs(site, "add-backend", "--vip", f"{VIP}:{PORT}", *backends, timeout=120)
    assert {site.curl(URL) for _ in range(8)} == {"rs1", "rs2"}


CHECKS = {
    "http": (),
    "icmp": (),
    "agent": (),
    "script": ("--command", "/usr/local/lib/lvs-checks/without-capabilities"),
}
SCRIPT = """#!/bin/sh
grep -q '^CapEff:[[:space:]]*0000000000000000$' /proc/self/status && test "$(id -un)" = lvs-director
"""


def test_checks_are_made_within_the_unit(site: DeploySite) -> None:
    """The director's unit lets it send echoes and run programs, and its certificate asks real servers' agents.

    The program is the operator's own, which a purge leaves alone: it goes with this test.
    """
    lb = site.director
    (program,) = CHECKS["script"][1:]
    lb.bash(f"mkdir {Path(program).parent}; cat > {program} <<'END'\n{SCRIPT}END\nchmod 755 {program}")
    lb.bash(
        "echo 'script_dir = \"/usr/local/lib/lvs-checks\"' >> /etc/lvs/director.toml; systemctl restart lvs-director"
    )
    for kind, options in CHECKS.items():
        often = ("--interval", "3", "--check-timeout", "3", "--rise", "1", "--fall", "1", "--floor", "0")
        lb.run("lvs", "health", "set", KEY, "--check", kind, *options, *often)
        deadline = time.monotonic() + 30
        while not proven(lb):
            assert time.monotonic() < deadline, f"{kind}: {lb.out('lvs', 'health', 'show', KEY)}"
            time.sleep(0.2)
        lb.run("lvs", "health", "remove", KEY)
    lb.run("rm", "-r", str(Path(program).parent))


def proven(lb: DebianHost) -> bool:
    """Whether every destination is up, because its checks have said so."""
    (agent,) = json.loads(lb.out("lvs", "--output", "json", "health", "show", KEY))["agents"]
    found = [each["health"] for each in agent["answer"][0]["destinations"]]
    return len(found) == 2 and all(each["proven"] and each["verdict"] == "VERDICT_UP" for each in found)


def test_sockets_open_to_those_in_the_groups(site: DeploySite) -> None:
    """Who is in lvs-viewer may look through the socket of that role, and change nothing; others reach no socket."""
    lb = site.director
    lb.bash("useradd --groups lvs-viewer looker; useradd stranger")

    def must_end(status: int, user: str, *argv: str) -> None:
        socket = ("--director", "unix:/run/lvs-director/viewer.sock")
        done = lb.run("runuser", "--user", user, "--", "lvs", *socket, *argv, check=False)
        assert done.returncode == status, done.stderr

    must_end(0, "looker", "list")
    must_end(13, "looker", "flush", "--yes")
    must_end(14, "stranger", "list")


def test_restart_of_agents_loses_nothing(site: DeploySite, before: set[str]) -> None:
    """Each agent is restarted under traffic: every question is answered, and a kept connection lives on."""
    with site.traffic() as asked:
        for each in site.served:
            each.run("systemctl", "restart", unit_of(each))
    asked.must_be_unharmed()
    must_be_as(before, site)


def test_vip_that_networkd_removes_is_back_at_once(site: DeploySite, before: set[str]) -> None:
    """`networkctl reconfigure` takes the VIP from the director's interface; within two seconds it is there again."""
    seen = Reconfigured.watched(site.director)
    assert seen.was_removed, seen.lines
    assert seen.gap < 2, seen.lines
    must_be_as(before, site)
    assert site.curl(URL) in ("rs1", "rs2")


def test_networkd_keeps_the_vip_with_our_drop_in(site: DeploySite, before: set[str]) -> None:
    """With the drop-in that the package brings, networkd leaves the VIP, and clients notice nothing."""
    site.director.bash("""
        mkdir /etc/systemd/network/lan.network.d
        ln -s /usr/share/lvs-agents/networkd-keep-vips.conf /etc/systemd/network/lan.network.d/
        networkctl reload
    """)
    with site.traffic() as asked:
        seen = Reconfigured.watched(site.director)
    assert not seen.was_removed, seen.lines
    asked.must_be_unharmed()
    must_be_as(before, site)


def test_reboot_brings_everything_back(site: DeploySite, before: set[str]) -> None:
    """All hosts reboot at once. What was committed is back, on real servers before an application starts that needs
    the network, and one that binds the VIP itself can; nobody has done anything."""
    for each in site.real_servers:
        add_application(each, "web-vip", VIP, BOUND_PORT)
    boots = [each.out("cat", "/proc/sys/kernel/random/boot_id") for each in site.served]
    for each in site.served:
        each.reboot()
    together(site.served, must_run)
    assert boots != [each.out("cat", "/proc/sys/kernel/random/boot_id") for each in site.served]
    must_be_as(before, site)
    for each in site.real_servers:
        assert each.out("systemctl", "is-active", "web-vip", check=False) == "active"
    with site.traffic() as asked:
        asked.wait_for(20)
    asked.must_be_unharmed()
    assert asked.servers == {"rs1", "rs2"}


def test_upgrade_loses_nothing(site: DeploySite, deb: Path, tmp_path: Path, before: set[str]) -> None:
    """A newer package is installed under traffic: every question is answered, and the agents run the new version, the
    real server's beside one that is older."""
    newer = package.newer(deb, tmp_path)
    upgraded = (site.director, site.real_servers[0])
    with site.traffic() as asked:
        together(upgraded, lambda each: install(each, newer))
    asked.must_be_unharmed()
    must_be_as(before, site)
    assert package.NEWER in lvs(site, "status")
    for each in upgraded:
        assert package.NEWER in each.journal("--unit", unit_of(each), "--lines", "3")
        must_run(each)


def test_purge_leaves_the_kernel_alone(site: DeploySite, before: set[str], bare: Bare) -> None:
    """The package is purged under traffic, which goes on; what it prints removes from the kernel all that is left of
    us; and on the disk only the certificates are, and nothing is gone that was there before us."""
    purged = (site.director, site.real_servers[0])
    printed: dict[str, str] = {}

    def purge(host: DebianHost) -> None:
        printed[host.name] = host.out("dpkg", "--purge", "lvs-agents", timeout=120)

    with site.traffic() as asked:
        together(purged, purge)
    asked.must_be_unharmed()
    must_be_as(before, site)
    for each in purged:
        each.bash(printed[each.name].rpartition("how it is removed (a boot does, too):\n")[2].partition("/etc/lvs")[0])
        assert difference(bare[each.name][0], kernel(each)) == [], printed[each.name]
        new = files(each) - bare[each.name][1]
        assert bare[each.name][1] - files(each) == set()
        assert {path for path in new if "lvs" in path} == CERTIFICATES
