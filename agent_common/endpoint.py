"""Where an agent is, and with which files each side proves itself: rules shared by agents and command line."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from agent_common.errors import InvalidInputError
from agent_common.virtual_server import check_port, parse_port


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A unix socket (path) or an address and port, as text that gRPC takes."""

    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_local(self) -> bool:
        """Whether only programs of the same host can reach it."""
        return bool(self.path) or self.host == "localhost" or _is_loopback(self.host)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: the CA that signs the other side, and this side's certificate and key."""

    ca: Path
    cert: Path
    key: Path

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Return the contents of CA, certificate and key; raises InvalidInputError naming the file."""
        return _read("tls_ca", self.ca), _read("tls_cert", self.cert), _read("tls_key", self.key)

    def mark(self) -> tuple[tuple[int, ...], ...]:
        """Return what changes when one of them is written or replaced."""
        return tuple(file_mark(each) for each in (self.ca, self.cert, self.key))


def file_mark(file: Path) -> tuple[int, ...]:
    """Return what changes when a file is written or replaced; nothing while there is none."""
    try:
        stat = file.stat()
    except OSError:
        return ()
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def parse_endpoint(text: str, field: str, default_port: int) -> Endpoint:
    """Read unix:PATH, HOST, HOST:PORT, [IPV6] or [IPV6]:PORT."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise InvalidInputError(
                field, f"{field}: {text!r}: a unix socket needs an absolute path, as unix:/run/x.sock"
            )
        return Endpoint(path=path)
    if text.startswith("[") and "]" in text:
        host, _, rest = text[1:].partition("]")
    elif text.count(":") > 1:
        host, rest = text, ""
    else:
        host, colon, port = text.partition(":")
        rest = colon + port
    if not _is_host(host) or (":" not in host and text.startswith("[")) or (rest and not rest.startswith(":")):
        raise InvalidInputError(field, f"{field}: cannot read {text!r}; write HOST:PORT, [IPV6]:PORT or unix:PATH")
    port_number = parse_port(rest[1:], field) if rest else default_port
    return Endpoint(host=host, port=check_port(port_number, field, zero=False))


def tls_files(ca: str, cert: str, key: str) -> TlsFiles | None:
    """Return the three files, or None if none is given; one or two are an error."""
    given = {"tls_ca": ca, "tls_cert": cert, "tls_key": key}
    if not any(given.values()):
        return None
    for field, value in given.items():
        if not value:
            raise InvalidInputError(field, f"{field}: must be given too: TLS needs CA, certificate and key")
    return TlsFiles(ca=Path(ca), cert=Path(cert), key=Path(key))


def check_plaintext(endpoints: list[Endpoint], field: str, *, insecure: bool) -> None:
    """Raise InvalidInputError if an endpoint beyond this host would be used without TLS and without --insecure."""
    for endpoint in endpoints:
        if not endpoint.is_local and not insecure:
            raise InvalidInputError(
                field,
                f"{field}: {endpoint} needs --tls-ca, --tls-cert and --tls-key; or --insecure, which all can read",
            )


def _is_host(text: str) -> bool:
    """Whether a text can be an address or a host's name; numbers and dots alone are an address or a mistake."""
    if ":" in text or re.fullmatch(r"[0-9.]+", text):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            return False
        return True
    return re.fullmatch(r"[A-Za-z0-9._-]+", text) is not None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(field, f"{field}: cannot read {path}: {error.strerror}") from error
