"""The site's certificates, made on the director by its administrator, and where each host has its own."""

from __future__ import annotations

from lab.debian_host import DebianHost
from tests.deploy.site import DeploySite, role_of, write

OPERATOR = "ops"
"""The account on the director whose certificate is an operator's."""

MAKE_CA = """
    umask 077
    mkdir -p /root/pki; cd /root/pki
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=lvs CA" \
        -keyout ca.key -out ca.pem 2>/dev/null
"""

ISSUE = """
    cd /root/pki
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN={name}" \
        -addext "subjectAltName=URI:spiffe://example.org/lvs/{kind}/{name}{address}" \
        -keyout {name}.key -out {name}.csr 2>/dev/null
    openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -copy_extensions copy \
        -out {name}.pem 2>/dev/null
"""


def issue_all(site: DeploySite) -> None:
    """Make a CA, a certificate for each agent, and one for the operator; put all where they belong."""
    site.director.bash(MAKE_CA)
    for each in site.served:
        address = f",IP:{each.host.ipv4},DNS:{each.name}"
        site.director.bash(ISSUE.format(name=each.name, kind=role_of(each), address=address))
        _hand_out(site, each.name, each.name)
        each.bash(f"""
            cd /etc/lvs/tls
            install -m 0640 -g lvs-tls /root/handed/* .
            mv {each.name}.pem agent.pem; mv {each.name}.key agent.key
        """)
    site.director.bash(ISSUE.format(name=OPERATOR, kind="operator", address=""))
    _hand_out(site, OPERATOR, site.director.name)
    site.director.bash(f"""
        useradd --create-home --shell /bin/bash {OPERATOR}
        install -d -m 0700 -o {OPERATOR} -g {OPERATOR} /home/{OPERATOR}/.config/lvs
        chown {OPERATOR}:{OPERATOR} /home/{OPERATOR}/.config
        install -m 0600 -o {OPERATOR} -g {OPERATOR} /root/handed/* /home/{OPERATOR}/.config/lvs
    """)


SETTINGS = """\
listen = ["{address}:{port}", "unix:/run/lvs-{role}/api.sock"]
tls_ca = "/etc/lvs/tls/ca.pem"
tls_cert = "/etc/lvs/tls/agent.pem"
tls_key = "/etc/lvs/tls/agent.key"
"""

OPERATOR_SETTINGS = """\
director = ["{address}"]
tls_ca = "{home}/ca.pem"
tls_cert = "{home}/{name}.pem"
tls_key = "{home}/{name}.key"
"""


def configure_agent(host: DebianHost) -> None:
    """Give an agent an address for others, and its certificate."""
    role = role_of(host)
    port = 9710 if role == "director" else 9711
    write(host, f"/etc/lvs/{role}.toml", SETTINGS.format(address=host.host.ipv4, port=port, role=role))


def configure_operator(site: DeploySite) -> None:
    """Tell the operator's `lvs` where the director is, and who the operator is."""
    home = f"/home/{OPERATOR}/.config/lvs"
    settings = OPERATOR_SETTINGS.format(address=site.director.host.ipv4, home=home, name=OPERATOR)
    write(site.director, f"{home}/cli.toml", settings)


def _hand_out(site: DeploySite, name: str, host: str) -> None:
    """Carry a certificate, its key and the CA's certificate to a host, into /root/handed."""
    (there,) = (each for each in site.served if each.name == host)
    there.bash("rm -rf /root/handed; mkdir -m 0700 /root/handed")
    for file in ("ca.pem", f"{name}.pem", f"{name}.key"):
        site.director.pull(f"/root/pki/{file}", site.folder / file)
        there.push(site.folder / file, f"/root/handed/{file}")
