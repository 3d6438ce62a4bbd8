"""Which names a certificate is good for, and whether a key belongs to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connectors.endpoints import certificates
from connectors.endpoints.contract import Binding, Place
from connectors.errors import Permanent
from tests.support.installing import ThrowawayAuthority


@pytest.mark.parametrize(
    ("presented", "name", "good"),
    [
        ("a.example", "a.example", True),
        ("A.Example", "a.eXample.", True),
        ("a.example", "b.example", False),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "a.b.example.org", False),
        ("*.example.org", "*.example.org", True),
        ("a.example.org", "*.example.org", False),
        ("*.b.example.org", "*.example.org", False),
        ("a*.example.org", "ab.example.org", False),
        ("a.*.org", "a.example.org", False),
        ("*", "example", False),
    ],
)
def test_names_match_as_rfc_9525_says(presented: str, name: str, good: bool) -> None:
    assert certificates.matches(presented, name) is good


def test_addresses_and_missing_names(authority: ThrowawayAuthority) -> None:
    leaf = certificates.read(authority.issue("a.example", "127.0.0.1", "::1")).leaf
    assert certificates.uncovered(leaf, ["a.example", "127.0.0.1", "0:0::1"]) == []
    assert certificates.uncovered(leaf, ["b.example", "127.0.0.2"]) == ["b.example", "127.0.0.2"]


def test_a_key_of_another_certificate_is_refused(authority: ThrowawayAuthority) -> None:
    material, other = authority.issue("a.example"), authority.issue("a.example")
    with pytest.raises(Permanent, match="does not belong"):
        certificates.read(replace(material, private_key_pem=other.private_key_pem))
    with pytest.raises(Permanent, match="unencrypted PEM"):
        certificates.read(replace(material, private_key_pem=b"nonsense"))
    with pytest.raises(Permanent, match="can't be read"):
        certificates.read(replace(material, certificate_pem="nonsense"))


def test_the_root_is_not_sent(authority: ThrowawayAuthority) -> None:
    contents = certificates.read(authority.issue("a.example"))
    assert contents.pem().count(b"BEGIN CERTIFICATE") == 2
    assert contents.wanted().public_key == certificates.public_key_of(contents.leaf)


def test_the_host_that_would_break_is_named(authority: ThrowawayAuthority) -> None:
    contents = certificates.read(authority.issue("a.example"))
    first = Binding("a.example:443", ["a.example"], [])
    second = Binding("b.example:443", ["b.example"], [])
    certificates.require_coverage(contents, [first], Place("/c", "/k"))
    with pytest.raises(Permanent, match=r"b\.example:443 uses the same certificate /c and would be broken"):
        certificates.require_coverage(contents, [first, second], Place("/c", "/k"))
    with pytest.raises(Permanent, match=r"does not cover b\.example, which b\.example:443 answers to"):
        certificates.require_coverage(contents, [second], Place("/c", "/k"))
