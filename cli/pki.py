"""Certificates of a CA of one's own: what is put into them, and what any certificate says. No I/O, no clock.

Imports cryptography, which takes 60 ms: only the commands that need it import this.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cli.pki_request import Address, Holder, refused

CLOCK_SKEW = datetime.timedelta(minutes=5)
"""A certificate begins so long before it is made: a host's clock may be behind this one's."""

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA that can sign. chain is the PEM text by which hosts know it: its certificate, maybe others beside it."""

    domain: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_authority(domain: str, now: datetime.datetime, valid: datetime.timedelta) -> Pair:
    """Make a CA that signs holders' certificates and no further CA. The domain is the URI that SPIFFE wants in it."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # Names of two CAs differ: where hosts trust the next one beside this one, a chain is looked for by name.
    name = _name(f"lvs-agents CA {public.digest.hex()[:8]}")
    certificate = (
        _builder(name, name, key.public_key(), now, valid)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{domain}")]), False)
        .add_extension(public, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate=certificate, key=key)


def make_pair(authority: Authority, holder: Holder, now: datetime.datetime, valid: datetime.timedelta) -> Pair:
    """Make a key and its certificate; raises RefusedError if it would outlive the CA, or the CA is not valid now."""
    check_validity(authority, now, valid)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(holder.name), authority.certificate.subject, key.public_key(), now, valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(_purposes(holder), critical=False)
        .add_extension(_names(holder, authority.domain), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_issuer_key(authority), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Pair(certificate=certificate, key=key)


def check_validity(authority: Authority, now: datetime.datetime, valid: datetime.timedelta) -> None:
    """Raise RefusedError unless the CA is valid now, and for that long."""
    first, last = authority.certificate.not_valid_before_utc, authority.certificate.not_valid_after_utc
    if last <= now:
        raise refused(f"cannot sign: the CA has expired on {last:%Y-%m-%d}; make another (lvs pki init)")
    if now < first:
        raise refused(f"cannot sign: the CA is valid from {first:%Y-%m-%d %H:%M} UTC on; is this host's clock right?")
    if last < now + valid:
        left = (last - now) // _DAY
        rule = f"give at most {left}, or make another CA" if left else "make another CA"
        raise refused(f"days: {valid // _DAY} are more than the CA has left (it expires on {last:%Y-%m-%d}); {rule}")


def lifetime(certificate: x509.Certificate) -> datetime.timedelta:
    """Return for how many days a certificate was made, one at least."""
    made = certificate.not_valid_before_utc + CLOCK_SKEW
    return max(round((certificate.not_valid_after_utc - made) / _DAY), 1) * _DAY


def _issuer_key(authority: Authority) -> x509.AuthorityKeyIdentifier:
    """Return how a CA names its key; one that was made by other means may not do so."""
    try:
        named = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    valid: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(_serial())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + valid)
    )


def _serial() -> int:
    """Return a serial with 126 random bits that every program prints as the same 32 digits: none is a leading zero."""
    return secrets.randbits(126) | 1 << 126


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _names(holder: Holder, domain: str) -> x509.SubjectAlternativeName:
    uri = x509.UniformResourceIdentifier(str(holder.identity(domain)))
    return x509.SubjectAlternativeName([*(_general_name(each) for each in holder.addresses), uri])


def _general_name(address: Address) -> x509.GeneralName:
    if isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return x509.IPAddress(address)
    return x509.DNSName(address)


def _purposes(holder: Holder) -> x509.ExtendedKeyUsage:
    """An agent also calls others; a user never serves: no stolen key of a user can pose as an agent."""
    serves = [ExtendedKeyUsageOID.SERVER_AUTH] if holder.kind.is_agent else []
    return x509.ExtendedKeyUsage([*serves, ExtendedKeyUsageOID.CLIENT_AUTH])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
