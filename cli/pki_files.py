"""A PKI on disk: the CA, a directory for each identity, and every certificate that was ever issued.

    ca.crt, ca.key       the CA
    KIND-NAME/           ca.crt, tls.crt, tls.key: all that a host or a user gets
    issued/SERIAL.crt    each certificate, written before anybody can use it

There is no index that could be wrong: what was issued is what the files say, and what was superseded or lost with its
directory is still in issued/. Key and certificate cannot be replaced together. The key is replaced first: whoever reads
the two after a crash between them sees that they do not match, and the new certificate is in issued/ already.

Imports cryptography.
"""

from __future__ import annotations

import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from agent_common.errors import InvalidInputError, LvsError
from agent_common.identity import Kind, check_domain, check_name
from cli import pki_disk
from cli.pki import Authority, Pair
from cli.pki_disk import File
from cli.pki_facts import PARSER_ERRORS, describe, domain_of, is_authority
from cli.pki_request import Holder, refused
from cli.typed import suggest

CA_CERTIFICATE, CA_KEY = "ca.crt", "ca.key"
CERTIFICATE, KEY = "tls.crt", "tls.key"
ISSUED = "issued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An identity's directory, as it is found; problem is what is wrong with it, broken that nothing can use it so."""

    directory: Path
    holder: Holder
    certificate: x509.Certificate | None = None
    problem: str = ""
    broken: bool = False
    has_key: bool = True


class Folder:
    """The files of one PKI. Reading raises RefusedError for what is not as it must be."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has_authority(self) -> bool:
        """Whether one of the two files of a CA is there, be it broken."""
        return any(pki_disk.is_there(self.path / name) for name in (CA_CERTIFICATE, CA_KEY))

    def certificate(self) -> x509.Certificate:
        """Return the CA's certificate: the first in its file; hosts trust the others beside it."""
        path = self.path / CA_CERTIFICATE
        if not pki_disk.is_there(path):
            error = refused(f"{self.path} has no CA: there is no {CA_CERTIFICATE} in it")
            raise suggest(error, "to make one", f"lvs pki init {shlex.quote(str(self.path))}")
        found = read_certificates(path)[0]
        if not is_authority(found):
            raise refused(f"{path} is not a CA's certificate")
        return found

    def authority(self) -> Authority:
        """Return the CA with which to sign."""
        certificate, path = self.certificate(), self.path / CA_CERTIFICATE
        key = _read_key(self.path / CA_KEY)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise refused(f"{self.path / CA_KEY} is no P-256 key, and lvs pki signs with no other")
        if not _fits(key, certificate):
            raise refused(f"{self.path / CA_KEY} is not the key of {path}; bring the right one, or make another CA")
        try:
            domain = check_domain(domain_of(certificate), "domain")
        except InvalidInputError as error:
            message = f"{path} names no trust domain, as lvs pki init does: its one URI must be spiffe://DOMAIN"
            raise refused(message) from error
        return Authority(domain=domain, certificate=certificate, key=key, chain=pki_disk.read(path))

    def entries(self) -> list[Entry]:
        """Return the identities that have something here, by name; a directory that has nothing of ours is foreign."""
        with pki_disk.telling("read", self.path):
            names = sorted(each.name for each in self.path.iterdir() if each.is_dir())
        holders = [holder for name in names if (holder := _holder(name)) is not None]
        return [self._entry(holder) for holder in holders if self.holds(holder)]

    def issued(self) -> list[Path]:
        """Return the files of all certificates that were ever issued."""
        directory = self.path / ISSUED
        if not pki_disk.is_there(directory):
            return []
        with pki_disk.telling("read", directory):
            return sorted(each for each in directory.iterdir() if each.suffix == ".crt")

    def holds(self, holder: Holder) -> bool:
        """Whether an identity has a certificate or a key here already."""
        return any(pki_disk.is_there(self.path / holder.directory / name) for name in (CERTIFICATE, KEY))

    def put_authority(self, pair: Pair) -> None:
        """Write a CA; the key first, since a certificate without its key would look like a CA."""
        pki_disk.replace(
            [
                File(path=self.path / CA_KEY, content=_key_text(pair)),
                File(path=self.path / CA_CERTIFICATE, content=_text(pair.certificate)),
            ]
        )

    def put(self, holder: Holder, pair: Pair, authority: Authority) -> Path:
        """Write what an identity gets, and return its directory; what it had before is superseded."""
        directory, issued = self.path / holder.directory, self.path / ISSUED
        with pki_disk.new_directory(issued), pki_disk.new_directory(directory):
            self._keep(directory / CERTIFICATE)
            pki_disk.replace(
                [
                    File(path=self.issued_file(pair.certificate), content=_text(pair.certificate)),
                    File(path=directory / CA_CERTIFICATE, content=authority.chain),
                    File(path=directory / KEY, content=_key_text(pair)),
                    File(path=directory / CERTIFICATE, content=_text(pair.certificate)),
                ]
            )
        return directory

    def issued_file(self, certificate: x509.Certificate) -> Path:
        """Return where an issued certificate is remembered."""
        return self.path / ISSUED / f"{certificate.serial_number:x}.crt"

    def readable_by_others(self) -> bool:
        """Whether more than the owner can read the CA's key."""
        with pki_disk.telling("read", self.path / CA_KEY):
            return bool((self.path / CA_KEY).stat().st_mode & 0o077)

    def _keep(self, path: Path) -> None:
        """Remember a certificate that others brought here, before it is replaced; ours is remembered already."""
        if not pki_disk.is_there(path):
            return
        try:
            old = read_certificates(path)[0]
        except LvsError:
            return  # what cannot be read has let nobody in
        if not pki_disk.is_there(self.issued_file(old)):
            pki_disk.replace([File(path=self.issued_file(old), content=_text(old))])

    def _entry(self, holder: Holder) -> Entry:
        directory = self.path / holder.directory
        try:
            certificate = read_certificates(directory / CERTIFICATE)[0]
            identity = describe(certificate).identity
        except LvsError as error:
            return Entry(directory=directory, holder=holder, problem=error.message, broken=True)
        if identity is None or (identity.kind, identity.name) != (holder.kind, holder.name):
            problem = f"its certificate is that of {identity or 'nobody'}"
            return Entry(directory=directory, holder=holder, certificate=certificate, problem=problem, broken=True)
        has_key = pki_disk.is_there(directory / KEY)
        problem = _mismatch(certificate, directory / KEY) if has_key else ""
        return Entry(
            directory=directory,
            holder=holder,
            certificate=certificate,
            problem=problem,
            broken=bool(problem),
            has_key=has_key,
        )


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a PEM file, at least one."""
    content = pki_disk.read(path)
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise refused(f"{path} holds no certificate (PEM)")
    try:
        with warnings.catch_warnings():  # what cryptography says on stderr we say ourselves
            warnings.simplefilter("ignore")
            found = x509.load_pem_x509_certificates(content)
            for each in found:
                describe(each)  # extensions are parsed when they are asked for: here is where that may fail
    except (*PARSER_ERRORS, InvalidInputError) as error:
        raise refused(f"{path} holds a certificate that cannot be read: {error}") from error
    return found


def signed_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Whether a CA has signed a certificate."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _holder(directory: str) -> Holder | None:
    kind, _, name = directory.partition("-")
    try:
        return Holder(kind=Kind(kind), name=check_name(name, "name"))
    except (ValueError, InvalidInputError):
        return None  # not ours


def _mismatch(certificate: x509.Certificate, path: Path) -> str:
    """Return what is wrong with a certificate's key, if anything is."""
    try:
        key = _read_key(path)
    except LvsError as error:
        return error.message
    if _fits(key, certificate):
        return ""
    return f"{KEY} is not the key of {CERTIFICATE}: a change did not come to its end"


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not pki_disk.is_there(path):
        raise refused(f"cannot sign: {path} is not there")
    try:
        return load_pem_private_key(pki_disk.read(path), password=None)  # type: ignore[return-value]
    except TypeError as error:
        raise refused(f"cannot read {path}: it has a passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise refused(f"cannot read {path}: it holds no key (PEM)") from error


def _fits(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bool:
    """Whether a key, which may be of another kind, is that of a certificate."""
    try:
        return key.public_key() == certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False


def _text(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_text(pair: Pair) -> bytes:
    return pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
