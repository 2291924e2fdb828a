"""Certificates for tests, good and bad ones: what a CA of any kind could have issued."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from agent_common.endpoint import TlsFiles

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

DAY = datetime.timedelta(days=1)
DOMAIN = "example.org"


def uri(role: str, name: str = "ada", domain: str = DOMAIN) -> str:
    """Return the URI of an identity."""
    return f"spiffe://{domain}/lvs/{role}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """Files of a certificate, and its serial as a deny-list has it."""

    files: TlsFiles
    serial: str

    @property
    def options(self) -> list[str]:
        """The command line's options that name them."""
        return ["--tls-ca", str(self.files.ca), "--tls-cert", str(self.files.cert), "--tls-key", str(self.files.key)]


class Authority:
    """A CA with its files in a folder."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * DAY)
            .not_valid_after(now + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "ca.crt"
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def write_key(self, file: Path) -> None:
        """Write the CA's own key, for a server that proves itself with what is no server's certificate."""
        file.write_bytes(self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def issue(
        self,
        name: str,
        *uris: str,
        addresses: Sequence[str] = (),
        hosts: Sequence[str] = (),
        days: tuple[float, float] = (-1, 1),
        key: Key | None = None,
    ) -> Issued:
        """Issue a certificate with any URIs, valid from days to days from now; P-256 unless a key is given."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(each) for each in uris]
        names.extend(x509.DNSName(each) for each in hosts)
        names.extend(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses)
        serial = x509.random_serial_number()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        files = TlsFiles(ca=self.file, cert=self._folder / f"{name}.crt", key=self._folder / f"{name}.key")
        files.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Issued(files=files, serial=format(serial, "x"))
