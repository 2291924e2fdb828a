"""Who somebody is: the one URI in a certificate, spiffe://DOMAIN/lvs/ROLE/NAME, and what each role may do. No I/O."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from agent_common.errors import InvalidInputError

URI_FORM = "spiffe://DOMAIN/lvs/ROLE/NAME"

_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?")
"""Lower case as in the SPIFFE ID standard, section 2.1."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
"""One segment of a path, which is also the name of a file: it begins and ends with a letter or digit."""


class Role(enum.IntEnum):
    """What somebody may do at an agent; each may do all that a smaller one may."""

    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()


class Kind(enum.StrEnum):
    """The ROLE of a certificate: an agent of either kind, or a user with a role."""

    DIRECTOR = "director"
    REALSERVER = "realserver"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def is_agent(self) -> bool:
        """Whether it is an agent's, which serves with it."""
        return self in (Kind.DIRECTOR, Kind.REALSERVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A user or an agent; domain is the site's trust domain, such as example.org."""

    domain: str
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"spiffe://{self.domain}/lvs/{self.kind}/{self.name}"


def parse_identity(uri: str, field: str) -> Identity:
    """Read an identity; raises InvalidInputError for anything that is not exactly of that form."""
    scheme, _, rest = uri.partition("://")
    parts = rest.split("/")
    if scheme != "spiffe" or len(parts) != 4 or parts[1] != "lvs":
        raise InvalidInputError(field, f"{field}: {uri!r} is not of the form {URI_FORM}")
    domain, _, kind, name = parts
    return Identity(domain=check_domain(domain, field), kind=parse_kind(kind, field), name=check_name(name, field))


def check_domain(text: str, field: str) -> str:
    """Return a trust domain: 1 to 255 of a-z, 0-9, dot, hyphen, underscore. Raises InvalidInputError."""
    if _DOMAIN.fullmatch(text) is None:
        raise InvalidInputError(
            field, f"{field}: {text!r} is no trust domain: a-z, 0-9, '.', '-' and '_', as in example.org"
        )
    return text


def check_name(text: str, field: str) -> str:
    """Return a name: 1 to 64 of letters, digits, dot, hyphen, underscore. Raises InvalidInputError."""
    if _NAME.fullmatch(text) is None:
        raise InvalidInputError(
            field,
            f"{field}: {text!r} is no name: 1 to 64 letters, digits, '.', '-' and '_', a letter or digit at both ends",
        )
    return text


def parse_kind(text: str, field: str) -> Kind:
    """Read the role of a certificate. Raises InvalidInputError."""
    try:
        return Kind(text)
    except ValueError:
        known = ", ".join(Kind)
        raise InvalidInputError(field, f"{field}: role {text!r} is unknown; known are {known}") from None
