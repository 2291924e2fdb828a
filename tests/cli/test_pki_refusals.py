"""What `lvs pki` refuses: bad input with 2, a PKI that is not in order with 13, and nothing is changed."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_common.errors import LvsError
from cli import pki_tables
from cli.pki import make_authority
from cli.pki_files import Folder
from cli.pki_issue import plan_renewal
from cli.pki_request import Chosen
from cli.pki_survey import look_at, survey
from tests.cli.pki import DAY, Pki, aged, openssl

BAD = {
    "no address": (("issue", "agent", "x"), "'--address'"),
    "an address with a port": (
        ("issue", "agent", "x", "--address", "192.168.0.1:9710"),
        "address: '192.168.0.1:9710': write the address alone, without brackets and port",
    ),
    "a name with a port": (("issue", "agent", "x", "--address", "lb1:9710"), "without brackets and port"),
    "brackets": (("issue", "agent", "x", "--address", "[2001:db8::1]"), "without brackets and port"),
    "no address at all": (("issue", "agent", "x", "--address", ""), "address: '' is neither an address nor a host's"),
    "an address out of range": (
        ("issue", "agent", "x", "--address", "192.168.0.300"),
        "address: '192.168.0.300' is not an IPv4 or IPv6 address",
    ),
    "a scope": (("issue", "agent", "x", "--address", "fe80::1%eth0"), "address: 'fe80::1%eth0' has a scope id"),
    "a link-local address": (("issue", "agent", "x", "--address", "fe80::1"), "address: fe80::1 is no address"),
    "the unspecified address": (("issue", "agent", "x", "--address", "0.0.0.0"), "address: 0.0.0.0 is no address"),
    "a multicast address": (("issue", "agent", "x", "--address", "224.0.0.1"), "address: 224.0.0.1 is no address"),
    "a wildcard": (("issue", "agent", "x", "--address", "*.example.org"), "address: '*.example.org' is neither"),
    "a name that is no host's": (("issue", "agent", "x", "--address", "a..b"), "address: 'a..b' is neither"),
    "a name beyond ASCII": (("issue", "agent", "x", "--address", "bücher.example"), "address: 'bücher.example' is"),
    "an address twice": (
        ("issue", "agent", "x", "--address", "2001:db8::1", "--address", "2001:DB8:0::1"),
        "address: 2001:db8::1 is given twice",
    ),
    "a name twice": (
        ("issue", "agent", "x", "--address", "lb1", "--address", "LB1"),
        "address: lb1 is given twice",
    ),
    "an agent with a user's role": (
        ("issue", "agent", "x", "--address", "lb1", "--role", "admin"),
        "role: 'admin' is unknown here; known are director, realserver",
    ),
    "a user with an agent's role": (
        ("issue", "user", "x", "--role", "director"),
        "role: 'director' is unknown here; known are viewer, operator, admin",
    ),
    "a user without role": (("issue", "user", "x"), "'--role'"),
    "a user's address": (("issue", "user", "x", "--role", "viewer", "--address", "lb1"), "--address"),
    "a path as name": (("issue", "user", "../x", "--role", "viewer"), "name: '../x' is no name"),
    "a name that is too long": (("issue", "user", "x" * 65, "--role", "viewer"), "is no name: 1 to 64"),
    "no days": (("issue", "user", "x", "--role", "viewer", "--days", "0"), "days: 0 is out of range (1 to 36500)"),
    "a thousand years": (("issue", "user", "x", "--role", "viewer", "--days", "365000"), "days: 365000 is out of"),
    "a domain in capitals": (("init", "DIR", "--domain", "Example.org"), "domain: 'Example.org' is no trust domain"),
    "a domain with a path": (("init", "DIR", "--domain", "example.org/x"), "is no trust domain"),
    "no days of a CA": (("init", "DIR", "--days", "-1"), "days: -1 is out of range"),
    "names and --all": (("renew", "ada", "--all"), "all: name certificates, or give --all; not both"),
    "names and --within": (("renew", "ada", "--within", "3"), "within: it chooses by date"),
    "a date of none": (("renew", "--within", "0"), "within: 0 is out of range (1 to 36500)"),
    "a name for twice": (("renew", "ada", "ada"), "name: ada is given twice"),
    "a role of none": (("renew", "root/ada"), "role: 'root' is unknown here"),
    "a path to renew": (("renew", "admin/../ada"), "role: 'admin/..' is unknown here"),
    "no such file": (("show", "/nonexistent/tls.crt"), "file: cannot read /nonexistent/tls.crt: No such file"),
    "no certificate": (("show", "/etc/passwd"), "file: /etc/passwd holds no certificate (PEM)"),
    "another output": (("show", "--output", "xml"), "output: 'xml' is unknown"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_one_line_and_changes_nothing(site: Pki, what: str) -> None:
    """Status 2, naming the field and the rule; a script that wants JSON gets its document."""
    words, rule = BAD[what]
    before = site.contents()
    ended = site(*(str(site.path.parent / "new") if each == "DIR" else each for each in words))
    assert (ended.status, ended.out) == (2, "")
    assert rule in ended.err
    assert "Traceback" not in ended.err
    assert site.contents() == before
    assert not (site.path.parent / "new").exists()


def test_a_refusal_is_a_document_too(site: Pki) -> None:
    """With --output json, whether the command line is wrong, or the files are."""
    for words, status, word in (
        (("issue", "user", "x", "--role", "root"), 2, "invalid"),
        (("issue", "user", "ada", "--role", "admin"), 13, "refused"),
        (("show", "/nonexistent"), 2, "invalid"),
        (("renew", "nobody"), 13, "refused"),
    ):
        ended = site(*words, "--output", "json")
        assert (ended.status, ended.document["exit_status"], ended.document["status"]) == (status, status, word)
        assert ended.document["message"]


def take_away(site: Pki) -> None:
    """Leave nothing where the PKI was."""
    site.path.rename(site.path.parent / "elsewhere")


def put_file_there(site: Pki) -> None:
    """Leave a file where the PKI was."""
    take_away(site)
    site.path.write_text("")


def encrypt_key(site: Pki) -> None:
    """Give the CA's key a passphrase."""
    key = site.path / "ca.key"
    key.write_text(openssl("pkcs8", "-topk8", "-passout", "pass:secret", "-in", str(key)))


def take_rsa(site: Pki) -> None:
    """Give the CA a key of another kind."""
    key = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    (site.path / "ca.key").write_text(key)


def forget_domain(site: Pki) -> None:
    """Make a CA by other means."""
    made = openssl("req", "-x509", "-key", str(site.path / "ca.key"), "-subj", "/CN=mine", "-days", "10")
    (site.path / "ca.crt").write_text(made)


def let_expire(site: Pki) -> None:
    """Make a CA of long ago."""
    then = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - 100 * DAY
    Folder(site.path).put_authority(make_authority("lvs.internal", then, 10 * DAY))


def pem(kind: str) -> str:
    """What only resembles a certificate or a key."""
    return f"-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n"


BROKEN: dict[str, tuple[Callable[[Pki], object], str, bool]] = {
    "no directory": (take_away, "has no CA: there is no ca.crt in it", False),
    "a file for a directory": (put_file_there, "has no CA", False),
    "no CA": (lambda site: (site.path / "ca.crt").unlink(), "has no CA: there is no ca.crt in it", False),
    "a CA that is none": (
        lambda site: shutil.copy(site.path / "admin-ada/tls.crt", site.path / "ca.crt"),
        "ca.crt is not a CA's certificate",
        False,
    ),
    "rubbish for a CA": (
        lambda site: (site.path / "ca.crt").write_text(pem("CERTIFICATE")),
        "ca.crt holds a certificate that cannot be read",
        False,
    ),
    "no key": (lambda site: (site.path / "ca.key").unlink(), "ca.key is not there", True),
    "another's key": (
        lambda site: shutil.copy(site.path / "admin-ada/tls.key", site.path / "ca.key"),
        "ca.key is not the key of",
        True,
    ),
    "rubbish for a key": (
        lambda site: (site.path / "ca.key").write_text(pem("PRIVATE KEY")),
        "it holds no key (PEM)",
        True,
    ),
    "a passphrase": (encrypt_key, "ca.key: it has a passphrase", True),
    "an RSA key": (take_rsa, "ca.key is no P-256 key", True),
    "a CA without domain": (forget_domain, "names no trust domain", True),
    "an expired CA": (let_expire, "cannot sign: the CA has expired on", True),
    "a file for an identity's directory": (
        lambda site: (site.path / "viewer-eve").write_text(""),
        "cannot make",
        True,
    ),
}
"""How it is broken, what is said, and whether there is still a CA to look at."""


@pytest.mark.parametrize("what", BROKEN)
def test_a_pki_that_is_not_in_order_issues_nothing(site: Pki, what: str) -> None:
    """13 and one line, before anything is changed."""
    break_it, why, has_ca = BROKEN[what]
    break_it(site)
    before = site.contents()
    ended = site("issue", "user", "eve", "--role", "viewer")
    assert (ended.status, ended.out) == (13, "")
    assert why in ended.err.splitlines()[0], ended.err
    assert "Traceback" not in ended.err
    assert site.contents() == before
    assert site("show").status == (0 if has_ca else 13)


def test_a_refusal_for_days_says_how_many_are_left(pki: Pki) -> None:
    """Before anything is written."""
    pki.init("--days", "100")
    ended = pki("issue", "user", "ada", "--role", "admin")
    assert (ended.status, ended.err.count("\n")) == (13, 1)
    assert "days: 365 are more than the CA has left" in ended.err
    assert "give at most 99, or make another CA" in ended.err or "give at most 100" in ended.err
    assert sorted(pki.contents()) == ["ca.crt", "ca.key"]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PKI whose files may be damaged."""
    path = tmp_path_factory.mktemp("damaged") / "pki"
    aged(path, 0)
    return path


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7), name=st.sampled_from(["ca.crt", "director-lb1/tls.crt"]))
@settings(max_examples=400, deadline=None)
def test_a_certificate_with_any_bit_flipped_is_read_or_refused(damaged: Path, at: int, bit: int, name: str) -> None:
    """There is no file that ends in a defect."""
    file, now = damaged / name, datetime.datetime.now(datetime.UTC)
    whole = file.read_bytes()
    content = bytearray(x509.load_pem_x509_certificate(whole).public_bytes(Encoding.DER))
    content[at % len(content)] ^= 1 << bit
    file.write_bytes(ssl.DER_cert_to_PEM_cert(bytes(content)).encode())
    try:
        for attempt in (
            lambda: list(pki_tables.survey_lines(survey(damaged, now), now)),
            lambda: [list(pki_tables.file_lines(row, now)) for row in look_at(file)],
            lambda: plan_renewal(damaged, Chosen(everything=True), now, None),
        ):
            with contextlib.suppress(LvsError):
                attempt()
    finally:
        file.write_bytes(whole)
