"""TLS 1.3 and nothing older, as far as gRPC for Python can be told."""

from __future__ import annotations

from collections.abc import MutableMapping

CIPHER_SUITES = "GRPC_SSL_CIPHER_SUITES"

RSA_ONLY = "ECDHE-RSA-AES128-GCM-SHA256"
"""A suite of TLS 1.2 that a P-256 certificate cannot serve, which leaves TLS 1.3; its suites are not on that list.

With an RSA certificate TLS 1.2 stays possible, with this suite.
"""


def leave_tls13_alone(environment: MutableMapping[str, str]) -> None:
    """Leave TLS 1.3 as the only version for a P-256 certificate; to be called before grpc is imported.

    gRPC has no setting for a minimum version (1.85). What an operator has set stays.
    """
    environment.setdefault(CIPHER_SUITES, RSA_ONLY)
