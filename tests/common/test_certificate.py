"""Reading certificates: whatever is in the file, what comes out is a certificate or an error with a name."""

from __future__ import annotations

import base64
import contextlib
import random
from pathlib import Path

from agent_common.certificate import check_key_fits, read_certificate
from agent_common.errors import InvalidInputError
from tests.certificates import Authority, uri

FLIPS = 2000


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def test_a_flipped_bit_is_an_error_with_a_name_or_another_certificate(tmp_path: Path) -> None:
    """Never anything else: an agent whose own file is damaged says so, in one line."""
    issued = Authority(tmp_path).issue("server", uri("director"), addresses=["192.0.2.1"])
    text, key = issued.files.cert.read_bytes(), issued.files.key.read_bytes()
    der = base64.decodebytes(b"".join(text.splitlines()[1:-1]))
    choose = random.Random(5)  # noqa: S311  # the same bits each time
    refused = 0
    for bit in choose.sample(range(len(der) * 8), min(FLIPS, len(der) * 8)):
        damaged = bytearray(der)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            certificate = read_certificate(pem(bytes(damaged)))
        except InvalidInputError:
            refused += 1
            continue
        with contextlib.suppress(InvalidInputError):
            certificate.identity("tls_cert")
            check_key_fits(pem(bytes(damaged)), key, "tls_key")
    assert refused > FLIPS // 20
