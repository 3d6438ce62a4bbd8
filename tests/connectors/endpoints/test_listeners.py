"""Where handshakes look for endpoints that can't say it themselves."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from connectors.endpoints.contract import Listener, Probe
from connectors.endpoints.listeners import ListenerSettings
from connectors.endpoints.starttls import StartTls


def test_each_name_is_asked_for_at_each_listener() -> None:
    settings = ListenerSettings(
        names=["www.example.org", "*.example.org"], listeners=[":993", "smtp://mail.example.org:25", "tls://[::1]:465"]
    )
    listeners, probes = settings.found_at("10.0.0.7")
    assert listeners == (
        Listener("10.0.0.7", 993),
        Listener("mail.example.org", 25, starttls=StartTls.SMTP),
        Listener("::1", 465),
    )
    assert len(probes) == 6
    assert probes[:2] == (
        Probe(listeners[0], "www.example.org"),
        Probe(listeners[0], "certgate-probe.example.org"),
    )


def test_without_names_a_handshake_asks_for_none() -> None:
    listeners, probes = ListenerSettings(listeners=["127.0.0.1:443", "127.0.0.1:443"]).found_at("h")
    assert probes == (Probe(listeners[0], None),)
    assert ListenerSettings().found_at("h") == ((), ())


@pytest.mark.parametrize(
    "wrong",
    [
        "www.example.org",
        "a:0",
        "a:65536",
        "a b:1",
        "gopher://a:1",
        "https://a:1/x",
        "a:1\n",
        "u@a:1",
        "[::1:1",
        "a:b:1",
        "",
    ],
)
def test_what_is_no_listener_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match=r"must look like host:port|is not known; there is: tls, smtp"):
        ListenerSettings(listeners=[wrong])


@pytest.mark.parametrize("wrong", ["", "a b", "a.*.example", "$(id).example", "../x", "a;b", "x" * 260, "*", "a..b"])
def test_what_is_no_name_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="is no host name"):
        ListenerSettings(names=[wrong])
