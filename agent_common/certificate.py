"""What a certificate says: whose it is, its serial number, until when it is valid. The one place that reads X.509.

The chain has been checked by TLS before; here it is only read.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import lru_cache

from agent_common.errors import InvalidInputError
from agent_common.identity import URI_FORM, Identity, parse_identity

WARN_DAYS = 30
"""So long before the end of a certificate it is time to renew it: that of a year has a twelfth left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """uris are those of its subject alternative name; serial is in lower case hex, as lvs pki prints it."""

    serial: str
    uris: tuple[str, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime

    def identity(self, field: str) -> Identity:
        """Return whose it is; raises InvalidInputError unless it has exactly one URI, and that one is an identity."""
        if len(self.uris) != 1:
            has = f"{len(self.uris)} URIs" if self.uris else "no URI"
            raise InvalidInputError(
                field, f"{field}: the certificate has {has} among its names, and must have one, of the form {URI_FORM}"
            )
        return parse_identity(self.uris[0], field)

    def is_valid_at(self, now: datetime.datetime) -> bool:
        """Whether the time is one of its own: a connection may be older than the end of its certificate."""
        return self.not_before <= now <= self.not_after


@lru_cache(maxsize=1024)
def read_certificate(pem: bytes) -> Certificate:
    """Read the first certificate of a PEM text; raises InvalidInputError. Remembered: it is asked at every call."""
    from cryptography import x509  # 10 MB and 60 ms, for those who use TLS
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        found = x509.load_pem_x509_certificate(pem)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
    except x509.ExtensionNotFound:
        uris = ()
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise InvalidInputError("certificate", f"certificate: cannot be read: {error}") from error
    if found.serial_number <= 0:  # RFC 5280, 4.1.2.2; and nobody could deny it
        raise InvalidInputError("certificate", "certificate: its serial number is not above 0")
    return Certificate(
        serial=format(found.serial_number, "x"),
        uris=uris,
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
    )


def check_key_fits(cert: bytes, key: bytes, field: str) -> None:
    """Raise InvalidInputError unless the private key (PEM, without a passphrase) is that of the certificate."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        wanted = x509.load_pem_x509_certificate(cert).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInputError("certificate", f"certificate: its key cannot be read: {error}") from error
    try:
        public = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInputError(field, f"{field}: cannot be read as a private key in PEM: {error}") from error
    if public != wanted:
        raise InvalidInputError(field, f"{field}: is not the key of the certificate")


def expiry_warning(whose: str, until: datetime.datetime, now: datetime.datetime) -> str:
    """Return what somebody should know of the end of a certificate; nothing while it is more than WARN_DAYS away."""
    left = until - now
    if left > datetime.timedelta(days=WARN_DAYS):
        return ""
    if left <= datetime.timedelta():
        return f"{whose} has expired ({until:%Y-%m-%d %H:%M} UTC); renew it"
    return f"{whose} expires in {left.days} days ({until:%Y-%m-%d %H:%M} UTC); renew it"


def check_authorities(pem: bytes, field: str) -> None:
    """Raise InvalidInputError unless a PEM text has one certificate or more, and all can be read."""
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidInputError(field, f"{field}: has no certificate that can be read: {error}") from error
