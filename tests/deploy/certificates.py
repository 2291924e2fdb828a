"""The site's certificates, made away from its hosts, and put where the guide says."""

from __future__ import annotations

import subprocess
import sys

from lab.debian_host import DebianHost
from tests.deploy.site import DeploySite, role_of, write

OPERATOR = "ops"
"""The account on the director whose certificate is an operator's."""

TLS = """\
tls_ca = "/etc/lvs/tls/ca.crt"
tls_cert = "/etc/lvs/tls/tls.crt"
tls_key = "/etc/lvs/tls/tls.key"
"""

OPERATOR_SETTINGS = """\
director = ["{director}"]
tls_ca = "{folder}/ca.crt"
tls_cert = "{folder}/tls.crt"
tls_key = "{folder}/tls.key"
"""


def issue_all(site: DeploySite) -> None:
    """Make the site's CA, which no host ever sees, a certificate for each agent's address, and the operator's."""
    pki = ("--pki", str(site.folder / "pki"))
    _pki("init", str(site.folder / "pki"), "--domain", "example.org")
    for each in site.served:
        _pki("issue", "agent", each.name, "--role", role_of(each), "--address", each.host.ipv4, *pki)
    _pki("issue", "user", OPERATOR, "--role", "operator", *pki)


def bring_to_agent(site: DeploySite, host: DebianHost) -> None:
    """Put its certificate where the agent finds it."""
    role = role_of(host)
    host.push(site.folder / "pki" / f"{role}-{host.name}", "/root/certificate")
    host.bash(f"install -D -g lvs-{role} -m 0640 -t /etc/lvs/tls /root/certificate/*; rm -r /root/certificate")


def configure_agent(host: DebianHost) -> None:
    """Give an agent an address for others, and its certificate, in the settings that the package brought."""
    role = role_of(host)
    port = 9710 if role == "director" else 9711
    listen = f'listen = ["{host.host.ipv4}:{port}", "unix:/run/lvs-{role}/api.sock"]'
    host.bash(f"""
        cd /etc/lvs
        sed --in-place 's|^listen = .*|{listen}|' {role}.toml
        cat >>{role}.toml <<'END'
{TLS}END
    """)


def make_operator(site: DeploySite) -> None:
    """Make the operator's account on the director, with the certificate and an `lvs` that knows the director."""
    lb = site.director
    lb.push(site.folder / "pki" / f"operator-{OPERATOR}", "/root/certificate")
    folder = f"/home/{OPERATOR}/.config/lvs"
    lb.bash(f"""
        useradd --create-home {OPERATOR}
        install -d -o {OPERATOR} {folder}
        install -o {OPERATOR} -m 0600 -t {folder} /root/certificate/*
        rm -r /root/certificate
    """)
    write(lb, f"{folder}/cli.toml", OPERATOR_SETTINGS.format(director=lb.host.ipv4, folder=folder))


def _pki(*argv: str) -> None:
    subprocess.run((sys.executable, "-m", "cli", "pki", *argv), check=True, capture_output=True)
