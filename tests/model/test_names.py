"""Names on entry, and what profiles allow."""

from __future__ import annotations

import ipaddress
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import InvalidInput
from model.rules.names import MAX_NAMES, allowed_by, check_allowed, normalize_name, normalize_names

LABELS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=12)
HOSTS = st.lists(LABELS, min_size=2, max_size=5).map(".".join).filter(lambda name: not name[-1].isdigit())


@pytest.mark.parametrize(
    ("given_name", "normalized"),
    [
        ("WWW.Example.COM", "www.example.com"),
        ("example.com.", "example.com"),
        ("MÜNCHEN.example", "xn--mnchen-3ya.example"),
        ("mu\u0308nchen.example", "xn--mnchen-3ya.example"),
        ("XN--MNCHEN-3YA.example", "xn--mnchen-3ya.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("*.Example.com", "*.example.com"),
        ("*.münchen.example", "*.xn--mnchen-3ya.example"),
        ("日本語.jp", "xn--wgv71a119e.jp"),
        ("localhost", "localhost"),
        ("10.0.0.1", "10.0.0.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("7.example.com", "7.example.com"),
        ("a" * 63 + ".com", "a" * 63 + ".com"),
    ],
)
def test_well_formed_names(given_name: str, normalized: str) -> None:
    assert normalize_name(given_name) == normalized


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "empty"),
        (".", "empty label"),
        ("a..b", "empty label"),
        (".example.com", "empty label"),
        ("example.com..", "empty label"),
        ("a_b.example.com", "underscore"),
        ("ex ample.com", "space"),
        ("example.com\n", "space"),
        ("exa\x00mple.com", "control"),
        ("\u202eexample.com", "invisible"),
        ("exa\u200bmple.com", "invisible"),
        ("-a.example.com", "inner hyphens"),
        ("a-.example.com", "inner hyphens"),
        ("a/b.example.com", "inner hyphens"),
        ("a" * 64 + ".com", "1 to 63"),
        (".".join(["a" * 60] * 5), "longer than 253"),
        ("x" * 5000, "longer than 253"),
        ("ab--cd.example.com", "IDNA2008"),
        ("xn--a.example.com", "IDNA2008"),
        ("☃.example.com", "IDNA2008"),
        ("ＥＸ.example.com", "IDNA2008"),
        ("ex\u0430mple.com", "mixes scripts"),
        ("*", "two labels"),
        ("*.com", "two labels"),
        ("*.*.example.com", "leftmost"),
        ("a.*.example.com", "leftmost"),
        ("w*.example.com", "leftmost"),
        ("*.10.0.0.1", "neither"),
        ("256.1.1.1", "neither"),
        ("1.2.3", "neither"),
        ("010.0.0.1", "neither"),
        ("[::1]", "neither"),
        ("example.com:443", "neither"),
        ("fe80::1%eth0", "zone"),
        ("0.0.0.0", "one host"),
        ("ff02::1", "one host"),
        ("https://example.com", "neither"),
        ("me@example.com", "inner hyphens"),
    ],
)
def test_malformed_names_get_one_printable_sentence(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        normalize_name(name)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


def test_the_common_name_is_among_the_names() -> None:
    assert normalize_names("a.example", ["b.example"]) == ["a.example", "b.example"]
    assert normalize_names("A.example", ["b.example", "a.example."]) == ["b.example", "a.example"]
    assert normalize_names("a.example", []) == ["a.example"]


def test_duplicates_are_found_in_every_spelling() -> None:
    for twice in (["b.example", "B.example."], ["münchen.example", "xn--mnchen-3ya.example"], ["::1", "0::1"]):
        with pytest.raises(InvalidInput, match="given twice"):
            normalize_names("a.example", twice)


def test_at_most_a_hundred_names() -> None:
    names = [f"h{number}.example" for number in range(MAX_NAMES)]
    assert len(normalize_names(names[0], names)) == MAX_NAMES
    for common, sans in [("other.example", names), (names[0], [*names, "one.more.example"])]:
        with pytest.raises(InvalidInput, match="at most 100 names"):
            normalize_names(common, sans)


@pytest.mark.parametrize(
    ("name", "patterns", "allowed"),
    [
        ("example.com", ["example.com"], True),
        ("www.example.com", ["example.com"], False),
        ("www.example.com", ["*.example.com"], True),
        ("a.b.example.com", ["*.example.com"], True),
        ("*.b.example.com", ["*.example.com"], True),
        ("*.example.com", ["*.example.com"], True),
        ("*.example.com", ["example.com"], False),
        ("example.com", ["*.example.com"], False),
        ("notexample.com", ["*.example.com"], False),
        ("xn--mnchen-3ya.example", ["*.EXAMPLE", "10.0.0.0/8"], True),
        ("localhost", ["*"], False),
        ("localhost", [], False),
        ("localhost", ["localhost"], True),
        ("www.example.com", [], True),
        ("10.1.2.3", [], True),
        ("10.1.2.3", ["*"], False),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("10.1.2.3", ["10.1.2.3"], True),
        ("fd00::1", ["10.0.0.0/8", "fd00::/8"], True),
    ],
)
def test_profiles(name: str, patterns: list[str], allowed: bool) -> None:
    assert allowed_by([name], patterns) is allowed


def test_the_refusal_lists_names_and_patterns() -> None:
    with pytest.raises(InvalidInput, match=r"does not allow b\.example, c\.example \(allowed: a\.example\)"):
        check_allowed(["a.example", "b.example", "c.example"], ["a.example"])
    with pytest.raises(InvalidInput, match="not an address range"):
        check_allowed(["a.example"], ["10.0.0.1/8"])


@settings(max_examples=100, deadline=None)
@given(HOSTS)
def test_normalizing_is_idempotent_and_case_free(name: str) -> None:
    try:
        normalized = normalize_name(name)
    except InvalidInput:
        return
    assert normalized == normalized.lower() == normalize_name(normalized) == normalize_name(name.upper())
    assert allowed_by([normalized], [normalized])
    assert allowed_by(["sub." + normalized], ["*." + normalized])
    assert not allowed_by([normalized], ["*." + normalized])


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.text("a1.*-:_xnü/", max_size=20))
def test_any_text_is_a_clean_name_or_a_sentence(text: str) -> None:
    try:
        name = normalize_name(text)
    except InvalidInput as error:
        problem = error.message
    else:
        problem = ""
    if problem:
        assert problem.isprintable()
        return
    assert name.isascii()
    assert set(name) <= set(string.ascii_lowercase + string.digits + ".-:*")
    assert normalize_name(name) == name


@settings(max_examples=50, deadline=None)
@given(st.ip_addresses().filter(lambda a: not (a.is_unspecified or a.is_multicast or getattr(a, "scope_id", None))))
def test_addresses(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert normalize_name(address.exploded) == str(address)
    assert allowed_by([str(address)], [])
