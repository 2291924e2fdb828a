"""`lvs pki show`: what a deny-list needs, and whose a certificate of any CA would be to an agent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.pki_request import parse_user
from tests.cli.pki import Pki, aged, assert_pair, openssl


def test_an_expired_certificate_is_marked_and_a_superseded_one_that_expired_is_gone(pki: Pki) -> None:
    """Nobody need deny what opens nothing any more."""
    aged(pki.path, 400)
    (row,) = pki.show().values()
    assert (row["expired"], row["days_left"]) == (True, -35)
    assert "EXPIRED 35 days ago" in pki.done("show").out
    pki.done("renew")
    assert list(pki.show()) == ["director/lb1 current"]


def test_a_stolen_certificate_can_be_denied_even_if_its_directory_is_gone(site: Pki) -> None:
    """Every certificate that was ever issued and has not expired is listed, with its serial."""
    serial = site.show()["admin/ada current"]["serial"]
    for each in (site.path / "admin-ada").iterdir():
        each.unlink()
    (site.path / "admin-ada").rmdir()
    assert site.show()["admin/ada superseded"]["serial"] == serial
    assert serial in site.done("show").out


def test_a_certificate_that_was_brought_here_is_remembered_too(site: Pki) -> None:
    """One that is in no record is put into it before it is replaced."""
    for each in (site.path / "issued").iterdir():
        each.unlink()
    serial = site.show()["admin/ada current"]["serial"]
    site.done("issue", "user", "ada", "--role", "admin", "--force")
    assert site.show()["admin/ada superseded"]["serial"] == serial


def test_a_key_that_was_taken_away_is_no_fault(site: Pki) -> None:
    """Who has brought it to its host need not keep it here; it can be renewed."""
    (site.path / "director-lb1/tls.key").unlink()
    assert site.show()["director/lb1 current"]["notes"] == ["its key is not here"]
    site.done("renew", "lb1")
    assert_pair(site.path / "director-lb1")


P256 = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")

STRANGE = {
    "no names": ((), "has no URI among its names, and must have one, of the form spiffe://"),
    "a host's name alone": (("subjectAltName=DNS:lb1",), "has no URI among its names, and must have one"),
    "two URIs": (
        ("subjectAltName=URI:spiffe://example.org/lvs/admin/ada,URI:spiffe://example.org/lvs/viewer/ada",),
        "has 2 URIs among its names, and must have one",
    ),
    "another form": (("subjectAltName=URI:spiffe://example.org/ns/default/sa/ada",), "is not of the form"),
    "another role": (("subjectAltName=URI:spiffe://example.org/lvs/root/ada",), "role 'root' is unknown"),
    "a CA": (("subjectAltName=URI:spiffe://example.org/lvs/admin/ada", "basicConstraints=CA:TRUE"), "a CA's"),
}


def foreign(
    folder: Path, *extensions: str, key: tuple[str, ...] = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
) -> Path:
    """A certificate that openssl has made."""
    options = [word for each in extensions for word in ("-addext", each)]
    if not any("basicConstraints" in each for each in extensions):
        options += ["-addext", "basicConstraints=CA:FALSE"]
    file = folder / "foreign.crt"
    openssl(
        *("req", "-x509", "-config", "/dev/null", "-nodes", "-newkey", *key, "-subj", "/CN=ada"),
        *("-keyout", f"{folder}/foreign.key", "-out", str(file), *options),
    )
    return file


@pytest.mark.parametrize("what", STRANGE)
def test_why_an_agent_would_not_accept_a_certificate_is_said(pki: Pki, tmp_path: Path, what: str) -> None:
    """Of any CA, without a PKI of one's own."""
    extensions, why = STRANGE[what]
    file = foreign(tmp_path, *extensions)
    (found,) = pki.done("show", str(file), "--output", "json").document["certificates"]
    assert found["identity"] == ""
    assert why in found["refused"]
    assert f"  identity    NONE: {found['refused']}\n" in pki.done("show", str(file)).out


@pytest.mark.parametrize(
    ("key", "name", "warning"),
    [
        (P256, "P-256", ""),
        (("ec", "-pkeyopt", "ec_paramgen_curve:P-384"), "P-384", "P-256 is what lvs-agents is tested with"),
        (("rsa:2048",), "RSA 2048", "P-256 is what lvs-agents is tested with"),
        (("ed25519",), "Ed25519", "which gRPC refuses; use P-256"),
    ],
    ids=["P-256", "P-384", "RSA", "Ed25519"],
)
def test_another_kind_of_key_is_warned_of(
    pki: Pki, tmp_path: Path, key: tuple[str, ...], name: str, warning: str
) -> None:
    """Identity and serial are read all the same."""
    file = foreign(tmp_path, "subjectAltName=URI:spiffe://example.org/lvs/admin/ada", key=key)
    (found,) = pki.done("show", str(file), "--output", "json").document["certificates"]
    assert (found["identity"], found["key"]) == ("spiffe://example.org/lvs/admin/ada", name)
    assert warning in " ".join(found["warnings"])
    assert bool(found["warnings"]) is bool(warning)


def test_an_agents_certificate_that_nobody_would_take_is_warned_of(pki: Pki, tmp_path: Path) -> None:
    """Without address, or for callers alone."""
    uri = "URI:spiffe://example.org/lvs/director/lb1"
    for extensions, words in (
        ((f"subjectAltName={uri}",), "neither address nor host's name"),
        ((f"subjectAltName={uri},DNS:lb1", "extendedKeyUsage=clientAuth"), "does not have serverAuth"),
        ((f"subjectAltName={uri},DNS:lb1", "extendedKeyUsage=serverAuth"), "does not have clientAuth"),
    ):
        file = foreign(tmp_path, *extensions)
        assert words in pki.done("show", str(file)).out


def test_a_hosts_directory_can_be_looked_at(site: Pki, tmp_path: Path) -> None:
    """What was brought to it has a CA, too, but is no PKI."""
    ended = site.done("show", str(site.path / "director-lb1"), "--output", "json")
    assert [each["identity"] for each in ended.document["certificates"]] == [
        "",
        "spiffe://lvs.internal/lvs/director/lb1",
    ]


def test_the_table_has_what_a_deny_list_takes(site: Pki) -> None:
    """A serial stands by itself, and is the one of the document."""
    lines = site.done("show").out.splitlines()
    row = next(line for line in lines if line.startswith("admin/ada "))
    assert row.split()[1] == site.show()["admin/ada current"]["serial"]
    assert lines[0] == f"CA of lvs.internal: {site.path}/ca.crt"
    assert json.loads(site.done("show", "--output", "json").out)["ca"]["domain"] == "lvs.internal"


def test_users_and_agents_of_a_library_are_the_same(tmp_path: Path) -> None:
    """Without the command, what is made is what the command reads."""
    aged(tmp_path / "pki", 1)
    assert list(Pki(path=tmp_path / "pki").show()) == ["director/lb1 current"]
    assert parse_user("ada", "admin").directory == "admin-ada"


def test_a_document_has_the_same_fields_for_what_cannot_be_read(site: Pki) -> None:
    """A program finds them all, null where nothing is known."""
    (site.path / "admin-ada/tls.crt").write_text("")
    rows = site.certificates()
    assert len({tuple(each) for each in rows}) == 1
    (broken,) = (each for each in rows if each["state"] == "broken")
    assert (broken["name"], broken["serial"]) == ("admin/ada", None)
