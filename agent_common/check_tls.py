"""TLS of checks: what a server is verified with, and what is wrong with its certificate, in words."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from agent_common.check import Tls
from agent_common.check_socket import CheckSocket, FailedError
from agent_common.endpoint import file_mark

# X509_V_ERR_... of openssl/x509_vfy.h
_SELF_SIGNED, _SELF_SIGNED_IN_CHAIN = 18, 19
_UNKNOWN_CA = (2, 7, 20, 21)  # 7: the signature is that of another CA with the same name
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = (62, 64)

Mark = tuple[tuple[int, ...], ...]


class TlsContexts:
    """What servers are verified with: read once, and again when the CA's file has changed."""

    def __init__(self, protocols: tuple[str, ...] = ("http/1.1",)) -> None:
        self._protocols = protocols
        self._made: dict[tuple[bool, str], tuple[Mark, ssl.SSLContext]] = {}

    def of(self, tls: Tls) -> ssl.SSLContext:
        """Return the context for such a server; raises FailedError for a file of CAs that cannot be used."""
        key = (tls.verify, tls.ca_file)
        mark = _mark(tls)
        found = self._made.get(key)
        if found is None or found[0] != mark:
            found = self._made[key] = (mark, self._make(tls))
        return found[1]

    def _make(self, tls: Tls) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(list(self._protocols))
        if not tls.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return context
        try:
            if tls.ca_file:
                context.load_verify_locations(cafile=tls.ca_file)
            else:
                context.load_default_certs()
        except ssl.SSLError as error:
            raise FailedError(f"cannot use the CA file {tls.ca_file}: it has no certificates (PEM)") from error
        except OSError as error:
            raise FailedError(f"cannot read the CA file {tls.ca_file}: {os.strerror(error.errno or 0)}") from error
        return context


async def start_tls(connection: CheckSocket, tls: Tls, contexts: TlsContexts) -> None:
    """Speak TLS on a connection; raises FailedError that says what is wrong with the certificate."""
    connection.awaits = "TLS handshake"
    try:
        await connection.start_tls(contexts.of(tls), tls.server_name or None)
    except ssl.SSLCertVerificationError as error:
        raise FailedError(certificate_problem(error, tls.server_name)) from error
    except ssl.SSLError as error:
        raise FailedError(tls_problem(error)) from error


def certificate_problem(error: ssl.SSLCertVerificationError, server_name: str) -> str:
    """Say why a server's certificate does not do."""
    match error.verify_code:
        case code if code == _EXPIRED:
            return "certificate has expired"
        case code if code == _NOT_YET_VALID:
            return "certificate is not valid yet; look at the clocks of both hosts"
        case code if code == _SELF_SIGNED:
            return "certificate is self-signed, and not one that is trusted"
        case code if code in (*_UNKNOWN_CA, _SELF_SIGNED_IN_CHAIN):
            return "certificate is of a CA that is not trusted"
        case code if code in _WRONG_NAME:
            return f"certificate is for other names than {server_name}"
    return f"certificate is not accepted: {error.verify_message}"


def tls_problem(error: ssl.SSLError) -> str:
    """Say why there is no TLS, by the name that OpenSSL has for it."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):  # the one or the other, as the packets come
        return "connected, but no TLS handshake: connection closed"
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "connected, but no TLS handshake: it does not speak TLS"
    return f"connected, but no TLS handshake: {reason.replace('_', ' ').lower() or error}"


def _mark(tls: Tls) -> Mark:
    """Return what changes with the file that is read, or with that of the host's own CAs."""
    if not tls.verify:
        return ()
    if tls.ca_file:
        return (file_mark(Path(tls.ca_file)),)
    paths = ssl.get_default_verify_paths()
    return tuple(file_mark(Path(each)) for each in (paths.cafile, paths.capath) if each)
