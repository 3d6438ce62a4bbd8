"""What IIS's configuration says of https bindings, as bindings of ours. Pure functions, no server."""

from __future__ import annotations

import re
from typing import Any

import pytest

from connectors.endpoints.contract import Binding
from connectors.endpoints.iis.bindings import bindings_of, read
from connectors.errors import Permanent


def row(information: str, flags: int = 1, site: str = "Shop", **changes: Any) -> dict[str, Any]:
    return {
        "Site": site,
        "Stopped": False,
        "Information": information,
        "SslFlags": flags,
        "Thumbprint": "A" * 40,
        "Store": "My",
        **changes,
    }


def found(*rows: dict[str, Any]) -> list[Binding]:
    return bindings_of(read(rows), "My", "192.0.2.9")


def test_a_binding_with_server_name_indication() -> None:
    [binding] = found(row("*:443:www.Shop.example"))
    assert binding.id == "Shop/*:443:www.Shop.example"
    assert list(binding.names) == ["www.shop.example"]
    assert [str(probe) for probe in binding.probes] == ["192.0.2.9:443 (www.shop.example)"]
    assert [place.certificate for place in binding.places] == ["www.shop.example:443"]
    assert binding.places[0].key == r"Cert:\LocalMachine\My"
    assert binding.shared_with == ()
    assert binding.obstacle is None


@pytest.mark.parametrize(
    ("information", "flags", "names", "probe", "record"),
    [
        ("*:443:", 0, [], "192.0.2.9:443 (no SNI)", "0.0.0.0:443"),
        ("*:8443:a.example", 0, ["a.example"], "192.0.2.9:8443 (a.example)", "0.0.0.0:8443"),
        ("198.51.100.7:443:a.example", 1, ["a.example"], "198.51.100.7:443 (a.example)", "a.example:443"),
        ("[2001:db8::1]:443:", 0, [], "[2001:db8::1]:443 (no SNI)", "[2001:db8::1]:443"),
        ("*:443:*.a.example", 1, ["*.a.example"], "192.0.2.9:443 (certgate-probe.a.example)", "*.a.example:443"),
        ("*:443:bücher.example", 1, ["xn--bcher-kva.example"], "192.0.2.9:443 (xn--bcher-kva.example)", None),
        ("*:443:a.example.", 1, ["a.example"], "192.0.2.9:443 (a.example)", None),
        ("*:443:a.example", 1 | 32 | 4, ["a.example"], "192.0.2.9:443 (a.example)", "a.example:443"),
    ],
)
def test_addresses_and_names(information: str, flags: int, names: list[str], probe: str, record: str | None) -> None:
    [binding] = found(row(information, flags))
    assert list(binding.names) == names
    assert [str(one) for one in binding.probes] == [probe]
    assert binding.obstacle is None
    if record is not None:
        assert binding.places[0].certificate == record


def test_without_server_name_indication_an_address_has_one_certificate() -> None:
    first, second, sni, other = found(
        row("*:443:a.example", 0), row("*:443:b.example", 0, "B"), row("*:443:c.example", 1), row("*:444:", 0)
    )
    assert first.shared_with == ("B/*:443:b.example",)
    assert second.shared_with == ("Shop/*:443:a.example",)
    assert sni.shared_with == other.shared_with == ()


def test_one_host_name_on_two_addresses_has_one_certificate() -> None:
    first, second = found(row("192.0.2.1:443:a.example"), row("192.0.2.2:443:A.example", site="B"))
    assert first.shared_with == (second.id,)
    assert second.shared_with == (first.id,)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([row("*:443:a.example", 1 | 2)], "centralized certificate store"),
        ([row("*:443:", 1)], "has no host name"),
        ([row("*:443:a.example", Stopped=True)], "its site is stopped"),
        ([row("192.0.2.1:443:a.example"), row("192.0.2.1:443:", 0, "B")], "no handshake reaches it"),
        ([row("*:443:a.example", site="A\nB")], "a name that IIS does not take"),
        ([row("*:443:a.example", site="A/B")], "a name that IIS does not take"),
        ([row("*:443:$(calc.exe)")], r"its host name '\$\(calc.exe\)' is no DNS name"),
        ([row("*:443:a.example;b")], "is no DNS name"),
        ([row("*:443:a'.example")], "is no DNS name"),
        ([row('*:443:"a".example')], "is no DNS name"),
        ([row("*:443:a.example\nb.example")], "is no DNS name"),
        ([row("*:443:a..example")], "is no DNS name"),
        ([row("*:443:ü..example")], "is no DNS name"),
    ],
)
def test_what_stands_in_the_way(rows: list[dict[str, Any]], told: str) -> None:
    binding = found(*rows)[0]
    assert binding.obstacle is not None
    assert re.search(told, binding.obstacle)
    assert "\n" not in binding.obstacle


def test_a_wildcard_address_does_not_hide_a_host_name() -> None:
    """http.sys looks at the host name before it looks at "all addresses"."""
    assert [binding.obstacle for binding in found(row("*:443:a.example"), row("*:443:", 0, "B"))] == [None, None]


@pytest.mark.parametrize(
    "output",
    [{}, row("nonsense"), row("*:x:"), {**row("*:443:"), "SslFlags": "many"}, {**row("*:443:"), "Information": None}],
)
def test_what_is_no_binding_is_told(output: dict[str, Any]) -> None:
    with pytest.raises(Permanent, match="IIS's configuration can't be read"):
        found(output)
