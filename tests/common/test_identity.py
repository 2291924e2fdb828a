"""Who somebody is: the URI of a certificate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_common.errors import InvalidInputError
from agent_common.identity import Identity, Kind, parse_identity

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", fullmatch=True)
DOMAINS = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?", fullmatch=True)


@given(domain=DOMAINS, kind=st.sampled_from(Kind), name=NAMES)
def test_an_identity_is_read_as_it_is_written(domain: str, kind: Kind, name: str) -> None:
    """Both ways, for every one that can be made."""
    identity = Identity(domain=domain, kind=kind, name=name)
    assert parse_identity(str(identity), "uri") == identity


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://",
        "https://example.org/lvs/admin/ada",
        "SPIFFE://example.org/lvs/admin/ada",
        "spiffe://example.org/lvs/admin",
        "spiffe://example.org/lvs/admin/ada/",
        "spiffe://example.org/lvs/admin/ada/more",
        "spiffe://example.org//lvs/admin/ada",
        "spiffe://example.org/other/admin/ada",
        "spiffe://example.org/lvs/Admin/ada",
        "spiffe://example.org/lvs/root/ada",
        "spiffe://example.org/lvs/admin/..",
        "spiffe://example.org/lvs/admin/ada\n",
        "spiffe://example.org/lvs/admin/ada\nspiffe://example.org/lvs/viewer/ada",
        "spiffe://example.org/lvs/admin/a%64a",
        "spiffe://example.org/lvs/admin/" + "a" * 65,
        "spiffe://Example.org/lvs/admin/ada",
        "spiffe://example.org:443/lvs/admin/ada",
        "spiffe://user@example.org/lvs/admin/ada",
        "spiffe:///lvs/admin/ada",
    ],
)
def test_what_is_not_exactly_of_the_form_is_nobody(uri: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidInputError) as caught:
        parse_identity(uri, "uri")
    assert caught.value.field == "uri"
