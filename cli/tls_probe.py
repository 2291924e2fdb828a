"""Why a connection to an agent fails: gRPC says UNAVAILABLE and no more, so the handshake is made by hand."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl

from agent_common.certificate import read_certificate
from agent_common.endpoint import Endpoint, TlsFiles
from agent_common.errors import InvalidInputError

SECONDS = 1.0
"""For a connection: whoever waited for the agent already waits so much longer for the reason."""

_AFTER_HANDSHAKE_SECONDS = 0.5
"""In TLS 1.3 the server looks at the client's certificate after the client is done: its refusal comes with a read."""

_UNKNOWN_CA = (2, 18, 19, 20, 21)
"""X509_V_ERR_...: no issuer, or a self-signed one that is not in --tls-ca (openssl/x509_vfy.h)."""
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = (62, 64)

_ALERTS = {
    "CERTIFICATE_REQUIRED": "it wants a certificate of the client; give --tls-cert and --tls-key",
    "UNKNOWN_CA": "it does not know the CA of your certificate (--tls-cert)",
    "CERTIFICATE_EXPIRED": "your certificate (--tls-cert) has expired; renew it",
    "CERTIFICATE_REVOKED": "your certificate (--tls-cert) has been revoked",
    "BAD_CERTIFICATE": "it does not accept your certificate (--tls-cert)",
    "CERTIFICATE_UNKNOWN": "it does not accept your certificate (--tls-cert)",
    "PROTOCOL_VERSION": "it speaks another version of TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS: it was started without TLS files, or is another program",
    "HTTP_REQUEST": "it does not speak TLS: it was started without TLS files, or is another program",
}
"""What the other side has said, or said instead, by the names that openssl has for it."""


async def explain(endpoint: Endpoint, tls: TlsFiles | None) -> str:
    """Return why an agent cannot be connected to, as far as one more try shows it; else nothing."""
    if endpoint.path:
        return ""
    return await asyncio.to_thread(_explain, endpoint, tls)


def _explain(endpoint: Endpoint, tls: TlsFiles | None) -> str:
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=SECONDS) as connection:
            if tls is None:
                return _explain_plaintext(connection)
            return _explain_tls(connection, endpoint, tls)
    except socket.gaierror as error:
        return f"the name {endpoint.host} is not known ({error.strerror})"
    except TimeoutError:
        return f"nothing answers within {SECONDS:g} s: the host is down, or a firewall drops the packets"
    except ConnectionRefusedError:
        return "nothing listens there"
    except ssl.SSLError as error:
        return _own_files(error)
    except OSError as error:
        return error.strerror or str(error)


def _context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(str(tls.cert), str(tls.key))
    context.set_alpn_protocols(["h2"])
    return context


def _explain_tls(connection: socket.socket, endpoint: Endpoint, tls: TlsFiles) -> str:
    context = _context(tls)
    try:
        with context.wrap_socket(connection, server_hostname=endpoint.host) as wrapped:
            wrapped.settimeout(_AFTER_HANDSHAKE_SECONDS)
            return "" if wrapped.recv(1) else _of_end(tls)
    except ssl.SSLCertVerificationError as error:
        return _of_verification(error, endpoint)
    except (ssl.SSLEOFError, ConnectionError):
        return _of_end(tls)
    except ssl.SSLError as error:
        return _of_alert(error)
    except TimeoutError:
        return ""


def _explain_plaintext(connection: socket.socket) -> str:
    """Say whether the other side speaks TLS, which a client without TLS cannot."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with context.wrap_socket(connection):
            return "it speaks TLS; give --tls-ca, --tls-cert and --tls-key"
    except (ssl.SSLError, TimeoutError, OSError):
        return ""


def _of_verification(error: ssl.SSLCertVerificationError, endpoint: Endpoint) -> str:
    match error.verify_code:
        case code if code in _UNKNOWN_CA:
            return "its certificate is of a CA that is not in --tls-ca"
        case code if code == _EXPIRED:
            return "its certificate has expired; renew it on that host"
        case code if code == _NOT_YET_VALID:
            return "its certificate is not valid yet; look at the clocks of both hosts"
        case code if code in _WRONG_NAME:
            return f"its certificate is not for {endpoint.host}; connect by a name or address that is in it"
    return f"its certificate is not accepted: {error.verify_message}"


def _of_end(tls: TlsFiles) -> str:
    """Say why it ends the connection when it has seen the client's certificate: gRPC sends no alert with that."""
    expired = _expired(tls)
    if expired:
        return f"your certificate (--tls-cert) has expired ({expired}); renew it"
    return "it does not accept your certificate (--tls-cert): it knows another CA, or another clock"


def _expired(tls: TlsFiles) -> str:
    """Return when the client's own certificate has expired, if it has."""
    try:
        certificate = read_certificate(tls.read()[1])
    except InvalidInputError:
        return ""
    now = datetime.datetime.now(datetime.UTC)
    return f"{certificate.not_after:%Y-%m-%d %H:%M} UTC" if certificate.not_after < now else ""


def _of_alert(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    said = next((text for name, text in _ALERTS.items() if reason.endswith(name)), "")
    return said or f"the TLS handshake fails: {reason.replace('_', ' ').lower() or error}"


def _own_files(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "--tls-key is not the key of --tls-cert"
    return f"--tls-ca, --tls-cert or --tls-key cannot be used: {(error.reason or str(error)).replace('_', ' ').lower()}"
