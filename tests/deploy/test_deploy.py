"""The package on hosts as they are: installed, configured, restarted, rebooted, upgraded, removed, under traffic.

Each test finds the hosts as the one before has left them, and is left out once one has failed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy import package
from tests.deploy.certificates import OPERATOR, configure_agent, configure_operator, issue_all
from tests.deploy.site import PORT, VIP, DeploySite, must_run, role_of, unit_of
from tests.deploy.state import files, kernel

URL = f"http://{VIP}:{PORT}/"


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout."""
    return package.build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def bare(site: DeploySite) -> dict[str, tuple[str, set[str]]]:
    """Kernel and files of each host before anything of ours came."""
    return {each.name: (kernel(each), files(each)) for each in site.served}


def lvs(site: DeploySite, *argv: str, timeout: float = 60) -> str:
    """What the operator's `lvs` prints on the director; fails unless its status is 0."""
    return site.director.out("runuser", "--user", OPERATOR, "--", "lvs", *argv, timeout=timeout)


def test_install_starts_nothing(site: DeploySite, deb: Path, bare: dict[str, tuple[str, set[str]]]) -> None:
    """The package installs with nothing but Debian's own, starts no agent, and leaves the kernel as it is."""
    for each in site.served:
        each.push(deb, "/root/lvs-agents.deb")
        each.run("dpkg", "--install", "/root/lvs-agents.deb", timeout=120)
        assert each.out("systemctl", "is-active", unit_of(each), check=False) == "inactive"
        assert kernel(each) == bare[each.name][0]
        must_run(each)


def test_agents_start_with_certificates(site: DeploySite) -> None:
    """With certificates and an address in the settings the agents start when they are enabled, and are not root."""
    issue_all(site)
    for each in site.served:
        configure_agent(each)
        each.run("systemctl", "enable", "--quiet", "--now", unit_of(each))
        user = each.out("ps", "-o", "user:20=", "-p", each.out("systemctl", "show", "-P", "MainPID", unit_of(each)))
        assert user == f"lvs-{role_of(each)}"
    configure_operator(site)
    assert "lb1" in lvs(site, "status")


def test_operator_adds_backends(site: DeploySite) -> None:
    """An operator adds both real servers with one command, and a client gets answers of both through the VIP."""
    backends = [word for each in site.real_servers for word in ("--rs", each.host.ipv4)]
    lvs(site, "add-backend", "--vip", f"{VIP}:{PORT}", *backends, timeout=120)
    assert {site.curl(URL) for _ in range(8)} == {"rs1", "rs2"}


def test_restart_of_agents_loses_nothing(site: DeploySite) -> None:
    """Each agent is restarted under traffic: every question is answered, and a kept connection lives on."""
    before = {each.name: kernel(each) for each in site.served}
    with site.traffic() as asked:
        for each in site.served:
            each.run("systemctl", "restart", unit_of(each))
    asked.must_be_unharmed()
    assert {each.name: kernel(each) for each in site.served} == before
