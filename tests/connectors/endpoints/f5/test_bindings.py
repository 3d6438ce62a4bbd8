"""From what iControl REST tells to bindings: destinations, SNI, names of every kind. Pure functions, no device."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.endpoints.f5 import names, objects
from connectors.endpoints.f5.bindings import Profile, Virtual, bindings_of, destination

ADDRESSES = {"/Shop/web": "192.0.2.9%4", "/Common/old.name": "2001:db8::9"}


@pytest.mark.parametrize(
    ("given_", "address", "port"),
    [
        ("/Common/192.0.2.1:443", "192.0.2.1", 443),
        ("/Common/192.0.2.1%4:8443", "192.0.2.1", 8443),
        ("/Common/2001:db8::1.443", "2001:db8::1", 443),
        ("/Common/2001:db8::1%7.443", "2001:db8::1", 443),
        ("/Shop/web:443", "192.0.2.9", 443),
        ("/Common/old.name.443", "2001:db8::9", 443),
        ("/Common/0.0.0.0:443", None, 443),
        ("/Common/any6.443", None, 443),
        ("/Common/192.0.2.1:0", None, 0),
        ("/Common/192.0.2.1:any", None, 0),
        ("/Common/unknown:443", None, 443),
        ("nonsense", None, 0),
        ("", None, 0),
    ],
)
def test_destinations(given_: str, address: str | None, port: int) -> None:
    assert destination(given_, ADDRESSES) == (address, port)


def profile(name: str, **told: Any) -> Profile:
    chain = [{"name": "one", "cert": f"/Common/{name}.crt", "key": f"{name}.key"}]
    return Profile.of({"fullPath": f"/Common/{name}", "certKeyChain": chain, **told})


def virtual(address: str, *profiles: str, **told: Any) -> Virtual:
    items = [{"fullPath": f"/Common/{one}", "context": "clientside"} for one in profiles]
    about = {"fullPath": "/Common/vs", "destination": f"/Common/{address}", "profilesReference": {"items": items}}
    return Virtual.of({**about, **told}, {})


def probes(profiles: list[Profile], virtuals: list[Virtual], **more: Any) -> dict[str, list[str]]:
    more.setdefault("certificate_names", {})
    found = bindings_of(profiles, virtuals, partition="Common", **more)
    return {one.id: [str(probe) for probe in one.probes] for one in found}


def test_sni_chooses_among_several_profiles() -> None:
    profiles = [
        profile("default", serverName="www.example.com", sniDefault="true"),
        profile("wild", serverName="*.Example.NET."),
        profile("nameless"),
        profile("taken"),
    ]
    shared = virtual("192.0.2.1:443", "default", "wild", "nameless", "taken")
    inside = {"/Common/nameless.crt": ["a.example.org", "www.example.com"], "/Common/taken.crt": ["www.example.com"]}
    assert probes(profiles, [shared], certificate_names=inside) == {
        "/Common/default": ["192.0.2.1:443 (www.example.com)", "192.0.2.1:443 (no SNI)"],
        "/Common/wild": ["192.0.2.1:443 (certgate-probe.example.net)"],
        "/Common/nameless": ["192.0.2.1:443 (a.example.org)"],
        "/Common/taken": [],
    }


def test_where_nothing_can_be_looked_at() -> None:
    one = [profile("one")]
    assert probes(one, [virtual("192.0.2.1:443", "one", disabled=True)]) == {"/Common/one": []}
    assert probes(one, [virtual("0.0.0.0:443", "one")]) == {"/Common/one": []}
    both = [virtual("192.0.2.1:443", "one"), virtual("198.51.100.1:443", "one")]
    assert probes(one, both, networks=["198.51.100.0/24", "2001:db8::/32"]) == {
        "/Common/one": ["198.51.100.1:443 (no SNI)"]
    }
    serverside = Virtual("/Common/vs", "192.0.2.1", 443, True, (("/Common/one", "serverside"),))
    assert probes(one, [serverside]) == {"/Common/one": []}


def test_what_stands_in_the_way() -> None:
    proxy = profile("proxy", sslForwardProxy="enabled")
    tilde = profile("a~b")
    found = bindings_of([proxy, tilde], [], partition="Common", certificate_names={})
    assert "forward proxy" in (found[0].obstacle or "")
    assert "~ in it" in (found[1].obstacle or "")


def test_inheritance_in_a_circle_ends() -> None:
    one = profile("one", defaultsFrom="/Common/two", inheritCertkeychain="true")
    two = profile("two", defaultsFrom="/Common/one", inheritCertkeychain="true")
    found = bindings_of([one, two], [], partition="Common", certificate_names={})
    assert [binding.shared_with for binding in found] == [["/Common/two"], ["/Common/one"]]


@settings(max_examples=30)
@given(st.dictionaries(st.text(), st.one_of(st.none(), st.text(), st.integers(), st.lists(st.none()), st.booleans())))
def test_whatever_is_told_it_is_read(told: dict[str, Any]) -> None:
    for strange in (told, {**told, "fullPath": "/Common/x", "certKeyChain": [told], "destination": str(told)}):
        bindings_of([Profile.of(strange)], [Virtual.of(strange, {})], partition="Common", certificate_names={})
        objects.fingerprint(strange)
        objects.dns_names(strange)


def test_paths_in_an_address() -> None:
    assert names.segment("/Common/app/www") == "~Common~app~www"
    assert names.segment("/Common/idle; $(reboot)?x=../y%2f") == "~Common~idle%3B%20%24%28reboot%29%3Fx%3D..~y%252f"
    assert not names.addressable("/Common/a~b")
    assert not names.addressable("/Common/../x")


def test_names_of_generations_are_read_again() -> None:
    uploaded = names.generation("Common", "/Common/www", "ab" * 32, None)
    made = names.generation("Common", "/Common/www", "ab" * 32, "request-42")
    for one in (uploaded, made):
        assert names.of_certificate(one.certificate) == one
        assert names.of_certificate(one.chain) is None
        assert names.of_certificate(one.key) is None
    for other in ("/Common/www.crt", "/Common/certgate-x.crt", "/Common/certgate-12345678-short.crt"):
        assert names.of_certificate(other) is None
    assert names.tag("/Common/www") != names.tag("/Common/api")
