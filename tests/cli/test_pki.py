"""`lvs pki`: its files, what is never overwritten, what is renewed. No agent is asked."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.pki import LVS, Pki, aged, assert_pair, openssl


@pytest.mark.parametrize("umask", [0, 0o077, 0o777], ids=oct)
def test_nobody_else_can_read_the_files_whatever_the_umask(pki: Pki, umask: int) -> None:
    """Files 0600, directories 0700."""
    pki.path.parent.mkdir()
    pki.done("init", str(pki.path), umask=umask)
    pki.done("issue", "agent", "rs1", "--address", "192.168.0.104", umask=umask)
    pki.done("renew", "rs1", umask=umask)
    modes = {str(each.relative_to(pki.path)): stat.S_IMODE(each.stat().st_mode) for each in pki.path.rglob("*")}
    assert {name for name, mode in modes.items() if mode == 0o700} == {"issued", "realserver-rs1"}
    files = {name for name, mode in modes.items() if mode == 0o600}
    whole = {"ca.crt", "ca.key", *(f"realserver-rs1/{name}" for name in ("ca.crt", "tls.crt", "tls.key"))}
    assert files == whole | {name for name in modes if name.startswith("issued/")}
    assert stat.S_IMODE(pki.path.stat().st_mode) == 0o700


def test_a_directory_is_all_that_a_host_gets(site: Pki) -> None:
    """CA, certificate and key, and nothing of the CA's key."""
    found = {name: sorted(each.name for each in (site.path / name).iterdir()) for name in ("director-lb1", "admin-ada")}
    assert list(found.values()) == [["ca.crt", "tls.crt", "tls.key"]] * 2
    assert_pair(site.path / "director-lb1")
    assert (site.path / "admin-ada/ca.crt").read_bytes() == (site.path / "ca.crt").read_bytes()


AGAIN = {
    "a CA": ("init", "{path}"),
    "an agent": ("issue", "agent", "lb1", "--role", "director", "--address", "192.168.0.11"),
    "a user": ("issue", "user", "ada", "--role", "admin"),
}


@pytest.mark.parametrize("what", AGAIN)
def test_nothing_is_overwritten_without_force(site: Pki, what: str) -> None:
    """13, one line that names --force, and every file as it was; with --force it is replaced."""
    words = [each.format(path=site.path) for each in AGAIN[what]]
    before = site.contents()
    ended = site(*words)
    assert (ended.status, ended.out, ended.err.count("\n")) == (13, "", 1)
    assert "nothing was changed" in ended.err
    assert "--force" in ended.err
    assert site.contents() == before
    site.done(*words, "--force")
    assert site.contents() != before


@pytest.mark.parametrize("name", ["ca.crt", "ca.key"])
def test_half_a_ca_is_not_overwritten_either(pki: Pki, name: str) -> None:
    """Not even a link that leads nowhere, to a disk that is not mounted now."""
    pki.path.mkdir(parents=True)
    (pki.path / name).symlink_to("/nowhere/ca")
    assert pki("init", str(pki.path)).status == 13
    assert (pki.path / name).is_symlink()


def test_what_stood_there_is_replaced_and_not_written_through(site: Pki, tmp_path: Path) -> None:
    """A link in the place of a key leads to a file that stays as it is."""
    other = tmp_path / "other"
    other.write_text("other")
    (site.path / "admin-ada/tls.key").unlink()
    (site.path / "admin-ada/tls.key").symlink_to(other)
    site.done("renew", "admin/ada")
    assert other.read_text() == "other"
    assert_pair(site.path / "admin-ada")


def test_foreign_files_stay(site: Pki) -> None:
    """Beside the certificates, and directories that only look like ours."""
    for name in ("admin-ada/cli.toml", "viewer-/x", "director-..x/x", "notes"):
        (site.path / name).parent.mkdir(exist_ok=True)
        (site.path / name).write_text("mine")
    site.done("renew", "--all")
    site.done("issue", "user", "ada", "--role", "admin", "--force")
    assert [name for name, content in site.contents().items() if content == b"mine"] != []
    assert len([name for name, content in site.contents().items() if content == b"mine"]) == 4
    assert set(site.show()) == {
        "admin/ada current",
        "admin/ada superseded",
        "director/lb1 current",
        "director/lb1 superseded",
    }


def test_a_host_with_both_agents_has_a_directory_for_each(site: Pki) -> None:
    """And a user with two roles, too: a directory is an identity."""
    site.done("issue", "agent", "lb1", "--role", "realserver", "--address", "192.168.0.10")
    site.done("issue", "user", "ada", "--role", "viewer")
    assert {each.partition(" ")[0] for each in site.show()} == {
        "admin/ada",
        "director/lb1",
        "realserver/lb1",
        "viewer/ada",
    }
    ended = site("renew", "lb1")
    assert (ended.status, "director/lb1 or realserver/lb1: say which" in ended.err) == (13, True)


def test_an_agent_is_a_real_servers_unless_told_otherwise(pki: Pki) -> None:
    """The role that may do least; the command says which it was."""
    pki.init()
    ended = pki.done("issue", "agent", "rs1", "--address", "192.168.0.104")
    assert ended.out.startswith("issued realserver/rs1 for 192.168.0.104 in ")
    assert f"tar -C {pki.path} -cf - realserver-rs1 | ssh root@192.168.0.104 " in ended.err


def test_renewing_keeps_identity_and_addresses_and_nothing_else(pki: Pki) -> None:
    """A new key, a new serial, as many days as before; the old one is listed as superseded."""
    pki.init()
    pki.done("issue", "agent", "rs1", "--address", "192.168.0.104", "--address", "rs1.example.org", "--days", "90")
    before, key = pki.show()["realserver/rs1 current"], (pki.path / "realserver-rs1/tls.key").read_bytes()
    ended = pki.done("renew", "rs1", "--output", "json")
    shown = pki.show()
    after = shown["realserver/rs1 current"]
    same = ("identity", "addresses", "subject", "issuer", "key")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert after["addresses"] == ["192.168.0.104", "rs1.example.org"]
    assert after["serial"] != before["serial"]
    assert (pki.path / "realserver-rs1/tls.key").read_bytes() != key
    assert after["days_left"] in (89, 90)
    assert shown["realserver/rs1 superseded"]["serial"] == before["serial"]
    assert [each["serial"] for each in ended.document["certificates"]] == [after["serial"]]
    assert_pair(pki.path / "realserver-rs1")


@pytest.mark.parametrize(
    ("age", "options", "renewed"),
    [
        (300, (), False),
        (336, (), True),
        (364, (), True),
        (400, (), True),
        (300, ("--within", "70"), True),
        (336, ("--within", "7"), False),
        (0, ("--all",), True),
        (0, ("lb1",), True),
        (0, ("director/lb1",), True),
    ],
)
def test_what_expires_soon_is_renewed(pki: Pki, age: int, options: tuple[str, ...], renewed: bool) -> None:
    """Within 30 days unless told otherwise, expired ones too; what is named, or all, at any time."""
    aged(pki.path, age)
    before = pki.contents()
    ended = pki.done("renew", *options)
    assert ended.out.startswith("renewed director/lb1 " if renewed else "nothing to renew: ")
    assert (pki.contents() != before) is renewed


def test_one_that_cannot_be_renewed_does_not_keep_the_others_from_it(site: Pki) -> None:
    """A timer must not be stopped by it: 11 and both are said; 13 if it was named, and nothing is done then."""
    (site.path / "admin-ada/tls.crt").write_text("")
    ended = site("renew", "--all")
    assert ended.status == 11
    assert "cannot renew admin/ada: " in ended.err
    assert "renewed all the same: director/lb1" in ended.err
    before = site.contents()
    ended = site("renew", "lb1", "ada")
    assert (ended.status, "nothing was changed" in ended.err) == (13, True)
    assert site.contents() == before


def test_a_new_ca_is_rolled_out_beside_the_old_one(site: Pki, tmp_path: Path) -> None:
    """What stands in ca.crt behind the CA comes with every directory: such hosts take old and new certificates."""
    new = Pki(path=tmp_path / "new")
    new.init()
    old_ca, new_ca = ((each.path / "ca.crt").read_bytes() for each in (site, new))
    (new.path / "ca.crt").write_bytes(new_ca + old_ca)
    new.done("issue", "user", "ada", "--role", "admin")
    both = new.path / "admin-ada/ca.crt"
    assert both.read_bytes() == new_ca + old_ca
    for each in (site, new):
        openssl("verify", "-CAfile", str(both), f"{each.path}/admin-ada/tls.crt")
    assert new.show()["admin/ada current"]["notes"] == []


def test_what_another_ca_has_signed_is_said_and_can_be_renewed(site: Pki) -> None:
    """After `init --force` every certificate is of no use, until it is renewed."""
    site.init("--force")
    assert all(row["notes"] == ["another CA has signed it"] for row in site.show().values())
    site.done("renew", "--all")
    assert site.show()["admin/ada current"]["notes"] == []
    openssl("verify", "-CAfile", f"{site.path}/ca.crt", f"{site.path}/admin-ada/tls.crt")


def test_a_key_that_others_can_read_is_said(site: Pki) -> None:
    """A warning beside what was asked for."""
    (site.path / "ca.key").chmod(0o644)
    assert "chmod 600" in site.done("issue", "user", "bob", "--role", "viewer").err
    (site.path / "ca.key").chmod(0o600)
    assert "chmod" not in site.done("issue", "user", "eve", "--role", "viewer").err


def test_the_directory_is_a_setting(site: Pki, tmp_path: Path) -> None:
    """Flag over variable over file, as everywhere; show takes another one as its argument, too."""
    file = tmp_path / "cli.toml"
    file.write_text(f'pki = "{site.path}"\n')
    elsewhere = Pki(path=tmp_path / "nowhere")
    assert elsewhere("show").status == 13
    assert elsewhere("show", "--pki", str(site.path)).status == 0
    assert elsewhere("show", str(site.path)).status == 0
    assert elsewhere("show", environment={"LVS_CONFIG": str(file)}).status == 13
    kept = {name: value for name, value in site.environment.items() if name != "LVS_PKI"}
    words = [sys.executable, *LVS, "--config", str(file), "pki", "show"]
    assert subprocess.run(words, env=kept, capture_output=True, check=False).returncode == 0
