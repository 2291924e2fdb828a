"""What a certificate says, ours or a stranger's, and whether an agent would take it. No I/O, no clock.

Imports cryptography.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent_common.certificate import read_certificate
from agent_common.errors import InvalidInputError
from agent_common.identity import Identity
from cli.pki_request import Address, HostName

PARSER_ERRORS = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What cryptography raises for texts that only resemble certificates."""

P256 = "P-256"

_T = TypeVar("_T", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a certificate says; identity is None where an agent would accept nobody, and refused says why not.

    serial is in lower case hex, as a deny-list takes it. domain is that of a CA made by lvs pki, or empty. warnings are
    what does not fit its identity.
    """

    serial: str
    subject: str
    issuer: str
    identity: Identity | None
    refused: str
    domain: str
    addresses: tuple[Address, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime
    key: str
    is_ca: bool
    warnings: tuple[str, ...]

    def days_left(self, now: datetime.datetime) -> int:
        """Return the whole days until it expires; since then, as a negative number, once it has."""
        return int((self.not_after - now) / datetime.timedelta(days=1))

    def expired(self, now: datetime.datetime) -> bool:
        """Whether it is not valid any more."""
        return self.not_after < now


def describe(certificate: x509.Certificate) -> Facts:
    """Read a certificate; raises InvalidInputError if it is malformed within."""
    try:
        return _describe(certificate)
    except PARSER_ERRORS as error:
        raise InvalidInputError("certificate", f"certificate: cannot be read: {error}") from error


def uris_of(certificate: x509.Certificate) -> list[str]:
    """Return the URIs among its names."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    return [] if names is None else names.get_values_for_type(x509.UniformResourceIdentifier)


def domain_of(certificate: x509.Certificate) -> str:
    """Return the trust domain of a CA that lvs pki made: its one URI has nothing else; or an empty text."""
    uris = uris_of(certificate)
    scheme, _, domain = uris[0].partition("://") if len(uris) == 1 else ("", "", "")
    return domain if scheme == "spiffe" and domain and "/" not in domain else ""


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def key_name(key: object) -> str:
    """Return what kind of key that is."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": P256, "secp384r1": "P-384", "secp521r1": "P-521"}.get(key.curve.name, key.curve.name)
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return type(key).__name__.removesuffix("PublicKey").lstrip("_")


def _describe(certificate: x509.Certificate) -> Facts:
    if certificate.serial_number <= 0:
        raise ValueError("its serial number is not above 0, as RFC 5280 wants it, and no deny-list can name it")
    identity, refused = _identity(certificate)
    names = _extension(certificate, x509.SubjectAlternativeName)
    addresses = () if names is None else tuple(_addresses(names))
    key = _key_of(certificate)
    return Facts(
        serial=format(certificate.serial_number, "x"),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        identity=identity,
        refused=refused,
        domain=domain_of(certificate) if is_authority(certificate) else "",
        addresses=addresses,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=key,
        is_ca=is_authority(certificate),
        warnings=tuple(_warnings(certificate, identity, key, addresses)),
    )


def _identity(certificate: x509.Certificate) -> tuple[Identity | None, str]:
    """Return whose it is to an agent, or why nobody's."""
    if is_authority(certificate):
        return None, "it is a CA's certificate, which is nobody's identity"
    try:
        return read_certificate(certificate.public_bytes(Encoding.PEM)).identity("URI"), ""  # by the agents' own rule
    except InvalidInputError as error:
        why = error.message.removeprefix("URI: ")
        return None, why


def _warnings(
    certificate: x509.Certificate, identity: Identity | None, key: str, addresses: tuple[Address, ...]
) -> Iterator[str]:
    if key in ("Ed25519", "Ed448"):
        yield f"its key is {key}, which gRPC refuses; use {P256}"
    elif key != P256:
        yield f"its key is {key}; {P256} is what lvs-agents is tested with"
    if identity is None:
        return
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if purposes is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        yield "its extended key usage does not have clientAuth: no agent takes it from a caller"
    if not identity.kind.is_agent:
        return
    if purposes is not None and ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
        yield "its extended key usage does not have serverAuth: nobody takes it from an agent"
    if not addresses:
        yield "it has neither address nor host's name: nobody takes it from an agent"


def _addresses(names: x509.SubjectAlternativeName) -> Iterator[Address]:
    """Addresses and names of hosts, in the order of the certificate."""
    for each in names:
        if isinstance(each, x509.DNSName):
            yield HostName(each.value)
        elif isinstance(each, x509.IPAddress) and isinstance(each.value, IPv4Address | IPv6Address):
            yield each.value


def _key_of(certificate: x509.Certificate) -> str:
    try:
        return key_name(certificate.public_key())
    except (UnsupportedAlgorithm, ValueError):
        return "of an unknown kind"


def _extension(certificate: x509.Certificate, kind: type[_T]) -> _T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
