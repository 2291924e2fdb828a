"""docs/how-to/certificates.md: every command that it shows works, and what `lvs pki` tells to type works, too."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.pki import Pki, openssl
from tests.lab import console

PAGE = console.CHECKOUT / "docs/how-to/certificates.md"
HOME = "/home/ada"
"""What the page calls the home of whoever types."""


def blocks(name: str) -> list[console.Block]:
    """The blocks of the page that are marked with a name: they run in one directory, without a lab."""
    text = PAGE.read_text(encoding="utf-8").replace("<!-- here: ", "<!-- lab: ")
    return [block for block in console.parse(text) if block.host == name]


@pytest.mark.parametrize("name", ["pki", "openssl"])
def test_what_the_page_shows_is_what_happens(tmp_path: Path, name: str) -> None:
    """In an empty home, one command after the other, each with what it prints."""
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**Pki(path=tmp_path / "lvs-pki").environment, "HOME": str(tmp_path), "PATH": programs}
    commands = [command for block in blocks(name) for command in block.commands]
    assert len(commands) > 4
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", f"exec 2>&1; {command.text}"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = done.stdout.replace(str(tmp_path), HOME)
        assert done.returncode == 0, printed
        assert console.matches(command.shown, printed), f"{command.text}\nprinted:\n{printed}"


def test_certificates_of_openssl_are_whose_they_say(tmp_path: Path) -> None:
    """The recipe's agent and user are accepted, without a warning, and openssl verifies them for their use."""
    for block in blocks("openssl"):
        for command in block.commands[:-1]:
            subprocess.run(["bash", "-c", command.text], cwd=tmp_path, capture_output=True, check=True)
    pki = Pki(path=tmp_path / "none")
    for name, purpose, uri in (("lb1", "sslserver", "director/lb1"), ("ada", "sslclient", "admin/ada")):
        file = str(tmp_path / f"{name}.crt")
        (found,) = pki.done("show", file, "--output", "json").document["certificates"]
        assert (found["identity"], found["warnings"]) == (f"spiffe://example.org/lvs/{uri}", [])
        openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", f"{tmp_path}/ca.crt", file)


def test_the_command_that_brings_files_to_a_host_does_so(tmp_path: Path) -> None:
    """Mode 0640 whether they are the first or not, and nothing is left on the way."""
    pki = Pki(path=tmp_path / "a site/pki")
    pki.init()
    host, way = tmp_path / "etc", tmp_path / "way"
    way.mkdir()
    for words in (("issue", "agent", "lb1", "--role", "director", "--address", "192.168.0.10"), ("renew", "lb1")):
        command = pki.done(*words).err.splitlines()[-1]
        assert "ssh root@192.168.0.10 " in command
        there = command.replace("ssh root@192.168.0.10", f"env TMPDIR={way} sh -c").replace("/etc/lvs/tls", str(host))
        subprocess.run(["bash", "-c", there.replace("lvs-tls", str(os.getgid()))], check=True)
        brought = {each.name: each.read_bytes() for each in host.iterdir()}
        assert brought == {each.name: each.read_bytes() for each in (pki.path / "director-lb1").iterdir()}
        assert {stat.S_IMODE(each.stat().st_mode) for each in host.iterdir()} == {0o640}
        assert list(way.iterdir()) == []
