"""A PKI in a directory of a test, by the command itself."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.pki import make_authority, make_pair
from cli.pki_files import Folder
from cli.pki_request import parse_agent

DAY = datetime.timedelta(days=1)
LVS = ("-c", "import sys; sys.argv[0] = 'lvs'; from cli.__main__ import program; program()")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document that was printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Pki:
    """The command, in a process of its own, with a directory for its PKI."""

    path: Path

    def __call__(self, *words: str, umask: int = -1, environment: Mapping[str, str] | None = None) -> Ended:
        """Run `lvs pki WORDS`."""
        done = subprocess.run(
            [sys.executable, *LVS, "pki", *words],
            env=self.environment | dict(environment or {}),
            capture_output=True,
            text=True,
            check=False,
            umask=umask,
        )
        return Ended(status=done.returncode, out=done.stdout, err=done.stderr)

    @property
    def environment(self) -> dict[str, str]:
        """Nothing is set but where the PKI is."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LVS_")}
        return {**kept, "XDG_CONFIG_HOME": "/nonexistent", "LVS_PKI": str(self.path)}

    def done(self, *words: str, umask: int = -1) -> Ended:
        """Run it; it must end well."""
        ended = self(*words, umask=umask)
        assert ended.status == 0, ended
        return ended

    def init(self, *words: str) -> Ended:
        """Make the CA."""
        return self.done("init", str(self.path), *words)

    def certificates(self) -> list[dict[str, Any]]:
        """What it says of its certificates."""
        found: list[dict[str, Any]] = self.done("show", "--output", "json").document["certificates"]
        return found

    def show(self) -> dict[str, dict[str, Any]]:
        """The same by name and state; of those that were superseded the latest."""
        return {f"{each['name']} {each['state']}": each for each in self.certificates()}

    def contents(self) -> dict[str, bytes]:
        """Every file, by its path in the directory."""
        files = (each for each in self.path.rglob("*") if each.is_file())
        return {str(each.relative_to(self.path)): each.read_bytes() for each in files}


def openssl(*words: str, given: bytes = b"") -> str:
    """Run openssl, which must end well, and return what it prints."""
    done = subprocess.run(["openssl", *words], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def aged(path: Path, days: int, *, valid: int = 365, name: str = "lb1") -> None:
    """Make a PKI whose only certificate was issued so many days ago."""
    then = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - days * DAY
    path.mkdir(exist_ok=True, parents=True)
    folder = Folder(path)
    folder.put_authority(make_authority("lvs.internal", then, 3650 * DAY))
    holder, authority = parse_agent(name, ["192.168.0.10"], "director"), folder.authority()
    folder.put(holder, make_pair(authority, holder, then, valid * DAY), authority)


def assert_pair(directory: Path) -> None:
    """The key is that of the certificate, as openssl sees it."""
    of_certificate = openssl("x509", "-noout", "-pubkey", "-in", f"{directory}/tls.crt")
    assert openssl("pkey", "-pubout", "-in", f"{directory}/tls.key") == of_certificate
