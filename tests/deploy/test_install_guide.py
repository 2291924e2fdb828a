"""docs/how-to/install.md, followed word for word: from bare hosts to a served VIP, upgraded, and removed again."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.debian_host import DebianHost
from tests.deploy import package
from tests.deploy.site import DeploySite, add_application, together
from tests.lab import console

PAGE = console.CHECKOUT / "docs/how-to/install.md"
PATIENCE = 600.0
WHOLE_SECONDS = 600.0
"""What the page promises, from the first command to the answer through the VIP; here the hosts are emulated."""

KNOWN = "host *\n    StrictHostKeyChecking accept-new\n    LogLevel ERROR\n"

RESET = """
    iptables -P INPUT ACCEPT; iptables -F INPUT
    rm -rf /etc/systemd/network/lan.network.d /etc/lvs
    networkctl reload
    systemctl stop ssh web80; rm -f /etc/systemd/system/web80.service; systemctl daemon-reload
"""


def blocks(part: str) -> list[console.Block]:
    """The page's blocks of a part: `deploy` to install and serve, `deploy-newer` to upgrade, `deploy-remove`."""
    text = PAGE.read_text(encoding="utf-8").replace(f"<!-- {part}: ", "<!-- lab: ")
    return console.parse(text)


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout."""
    return package.build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def desk(site: DeploySite, deb: Path) -> Iterator[DebianHost]:
    """Where somebody begins who has what the page wants: names, ssh, an application on port 80, and the package."""
    desk = site.client
    desk.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
    key = desk.out("cat", "/root/.ssh/id_ed25519.pub")
    names = "".join(f"{each.host.ipv4} {each.name}\n" for each in site.served)
    desk.bash(f"printf %s {shlex.quote(names)} >>/etc/hosts; printf %s {shlex.quote(KNOWN)} >/root/.ssh/config")

    def prepare(host: DebianHost) -> None:
        host.bash(f"mkdir -p -m 0700 /root/.ssh; echo {shlex.quote(key)} >/root/.ssh/authorized_keys")
        host.run("systemctl", "start", "ssh")

    together(site.served, prepare)
    together(site.real_servers, lambda each: add_application(each, "web80", "::", 80))
    desk.push(deb, f"/root/{deb.name}")
    yield desk
    together(site.served, lambda each: each.bash(RESET, check=False))


def follow(desk: DebianHost, part: str) -> None:
    """Type what the page says, in one shell as far as that can be seen; what it prints must be as shown."""
    found = blocks(part)
    assert found, f"the page has no part {part}"
    for block in found:
        if block.file:
            desk.bash(f"mkdir -p $(dirname /root/{block.file}); cat >/root/{block.file} <<'END'\n{block.content}END")
            continue
        script = "".join(console.scripted(each) for each in block.commands)
        kept = "/run/shell"
        done = desk.bash(f"exec 2>&1; cd /root; . {kept} 2>/dev/null; {script}\nexport -p >{kept}", timeout=PATIENCE)
        printed = list(console.split(done.stdout))
        assert len(printed) == len(block.commands), done.stdout
        wrong = list(console.failures(block, printed))
        assert not wrong, "\n".join(wrong)


def test_a_vip_is_served_in_under_ten_minutes(desk: DebianHost, site: DeploySite) -> None:
    """Install, certificates, settings, firewall, addresses: each command works as shown, and clients are answered."""
    began = time.monotonic()
    follow(desk, "deploy")
    assert time.monotonic() - began < WHOLE_SECONDS
    assert {site.curl("http://192.168.0.200/") for _ in range(6)} == {"rs1", "rs2"}


def test_an_upgrade_leaves_it_served(desk: DebianHost, site: DeploySite, deb: Path, tmp_path: Path) -> None:
    """Host by host, the desk last; then all run the newer version, and clients are still answered."""
    newer = package.newer(deb, tmp_path)
    desk.run("rm", f"/root/{deb.name}")
    desk.push(newer, f"/root/{newer.name}")
    follow(desk, "deploy-newer")
    assert f"lvs-agents {package.NEWER}" in desk.out("lvs", "status")
    assert {site.curl("http://192.168.0.200/") for _ in range(6)} == {"rs1", "rs2"}


def test_what_is_removed_leaves_the_hosts_as_they_were(desk: DebianHost, site: DeploySite) -> None:
    """In the kernel; on the disk are certificates, and the firewall that somebody set up."""
    follow(desk, "deploy-remove")
    assert site.director.out("ipvsadm", "-Sn") == ""
    for each in site.served:
        assert "192.168.0.200" not in each.out("ip", "address")
        assert each.out("dpkg-query", "--show", "lvs-agents", check=False) == ""
        assert each.out("ls", "/etc/lvs") == "tls"
    for each in site.real_servers:
        assert each.out("cat", "/proc/sys/net/ipv4/conf/all/arp_ignore") == "0"
