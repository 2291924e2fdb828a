"""An agent's own certificate, key and CA, read again for new connections when the files have changed."""

from __future__ import annotations

import datetime
import logging

import grpc

from agent_common.certificate import Certificate, check_authorities, check_key_fits, expiry_warning, read_certificate
from agent_common.endpoint import TlsFiles
from agent_common.errors import InvalidInputError
from agent_common.identity import Identity, Kind

_log = logging.getLogger(__name__)


def expires(files: TlsFiles | None) -> datetime.datetime | None:
    """Return until when the certificate of an agent with these files is valid, if it has any that can be read."""
    try:
        return None if files is None else read_certificate(files.cert.read_bytes()).not_after
    except (InvalidInputError, OSError):
        return None


class ServerCertificates:
    """What an agent of a kind proves itself with; raises InvalidInputError if the files are not what it needs.

    Files that change while it runs are taken if they fit together, and if not, those from before go on: whoever copies
    three files is done with one before the other. Connections that are open stay as they are.
    """

    def __init__(self, files: TlsFiles, kind: Kind) -> None:
        self._files = files
        self._kind = kind
        self._mark = files.mark()
        self.certificate, self.identity, self._configuration = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that ask every client for a certificate of the CA."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            self._fetch,  # type: ignore[arg-type]  # None is allowed: no change
            require_client_authentication=True,
        )

    def expiry(self, now: datetime.datetime) -> str:
        """Return what an operator should know of the end of the certificate, or nothing."""
        return expiry_warning(f"the agent's certificate {self._files.cert}", self.certificate.not_after, now)

    def _read(self) -> tuple[Certificate, Identity, grpc.ServerCertificateConfiguration]:
        ca, cert, key = self._files.read()
        certificate = read_certificate(cert)
        identity = certificate.identity("tls_cert")
        if identity.kind is not self._kind:
            raise InvalidInputError(
                "tls_cert", f"tls_cert: {identity} cannot serve as a {self._kind}: it must have /lvs/{self._kind}/"
            )
        check_key_fits(cert, key, "tls_key")
        check_authorities(ca, "tls_ca")
        return certificate, identity, grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=ca)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what a new connection gets; gRPC asks in a thread of its own. Nothing: as before."""
        mark = self._files.mark()
        if mark == self._mark:
            return None
        self._mark = mark
        try:
            certificate, identity, configuration = self._read()
            _check_same_domain(identity, self.identity)
        except InvalidInputError as error:
            _log.error("the certificate stays the one that was read before: %s", error.message)
            return None
        self.certificate, self.identity, self._configuration = certificate, identity, configuration
        _log.info("new connections get certificate %s, valid until %s", certificate.serial, certificate.not_after)
        return configuration


def _check_same_domain(new: Identity, old: Identity) -> None:
    """Raise InvalidInputError for a certificate of another trust domain: who may call would change with it."""
    if new.domain != old.domain:
        raise InvalidInputError(
            "tls_cert",
            f"tls_cert: its trust domain is {new.domain}, not {old.domain}; to change it restart the agent",
        )
