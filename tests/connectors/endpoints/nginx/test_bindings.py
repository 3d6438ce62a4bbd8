"""Discovery: configurations as they are found in the world, read from real files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.endpoints.contract import Binding, Listener, Place, Probe
from connectors.endpoints.nginx import CONNECTOR
from connectors.errors import Permanent
from connectors.registry import Surroundings
from tests.support.installing import local_host, no_secrets


async def discover(folder: Path, http: str = "", *, main: str = "", **settings: Any) -> Sequence[Binding]:
    """Write a configuration and discover it."""
    path = folder / "nginx.conf"
    path.write_text(f"{main}\nevents {{}}\nhttp {{\n{http}\n}}\n")
    surroundings = Surroundings(home=folder, secret=no_secrets, host=local_host())
    return await CONNECTOR.open(CONNECTOR.configure({"configuration": str(path), **settings}), surroundings).discover()


PAIR = "ssl_certificate c.pem; ssl_certificate_key k.pem;"


def server(listen: str, name: str = "", rest: str = PAIR) -> str:
    listens = "".join(f"listen {one.strip()};" for one in listen.split(","))
    return f"server {{ {listens} {f'server_name {name};' if name else ''} {rest} }}\n"


def pair(name: str) -> str:
    return f"ssl_certificate {name}.pem; ssl_certificate_key {name}.key;"


async def test_a_plain_server(tmp_path: Path) -> None:
    (binding,) = await discover(tmp_path, server("8443 ssl", "a.example www.A.example"))
    listener = Listener("127.0.0.1", 8443)
    assert binding == Binding(
        id="a.example:8443",
        names=("a.example", "www.a.example"),
        listeners=(listener,),
        probes=(Probe(listener, "a.example"), Probe(listener, "www.a.example")),
        places=(Place(f"{tmp_path}/c.pem", f"{tmp_path}/k.pem"),),
    )
    assert binding.certificate_path == f"{tmp_path}/c.pem"
    assert binding.key_path == f"{tmp_path}/k.pem"


async def test_includes_globs_and_comments(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "b.conf").write_text(server("443 ssl", "b.example", "include snippets/tls;"))
    (tmp_path / "sites" / "a.conf").write_text(
        "# server { listen 1 ssl; }\n" + server("443 ssl", "a.example", pair("a"))
    )
    (tmp_path / "sites" / ".hidden.conf").write_text("nonsense {")
    (tmp_path / "snippets").mkdir()
    (tmp_path / "snippets" / "tls").write_text("ssl_certificate 'b pem'; # here\nssl_certificate_key \"b.key\";")
    bindings = await discover(tmp_path, f"include sites/*.conf;\ninclude {tmp_path}/none/*.conf;")
    assert [binding.id for binding in bindings] == ["a.example:443", "b.example:443"]
    assert bindings[1].places == (Place(f"{tmp_path}/b pem", f"{tmp_path}/b.key"),)


async def test_an_include_that_is_missing_or_broken_is_told(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=f"{tmp_path}/none"):
        await discover(tmp_path, "include none;")
    (tmp_path / "broken").write_text("server {\n\n")
    with pytest.raises(Permanent, match=rf"{tmp_path}/broken:\d"):
        await discover(tmp_path, "include broken;")
    (tmp_path / "loop").write_text("include loop;")
    with pytest.raises(Permanent, match="again and again"):
        await discover(tmp_path, "include loop;")


async def test_only_tls_counts(tmp_path: Path) -> None:
    http = server("80", "a.example") + server("443 ssl", "b.example", pair("b")) + "server { server_name c.example; }"
    http += server("443 ssl", "d.example", "ssl_reject_handshake on;")
    assert [binding.id for binding in await discover(tmp_path, http)] == ["b.example:443"]


async def test_one_server_with_several_sockets(tmp_path: Path) -> None:
    (binding,) = await discover(
        tmp_path, server("80, 443 ssl, [::]:443 ssl, 192.0.2.1:8443 ssl, name:44 ssl", "a.example")
    )
    assert binding.id == "a.example:443"
    assert [str(one) for one in binding.listeners] == ["127.0.0.1:443", "[::1]:443", "192.0.2.1:8443", "name:44"]


async def test_the_address_can_be_set(tmp_path: Path) -> None:
    (binding,) = await discover(tmp_path, server("443 ssl, 10.0.0.1:443 ssl", "a.example"), address="192.0.2.7")
    assert binding.listeners == (Listener("192.0.2.7", 443),)


async def test_tls_and_proxy_protocol_belong_to_the_socket(tmp_path: Path) -> None:
    http = server("443 ssl proxy_protocol", "a.example", pair("a")) + server("*:443", "b.example", pair("b"))
    bindings = await discover(tmp_path, http)
    assert [binding.listeners for binding in bindings] == [(Listener("127.0.0.1", 443, proxy_protocol=True),)] * 2


async def test_legacy_ssl_on(tmp_path: Path) -> None:
    (binding,) = await discover(tmp_path, server("443", "a.example", f"ssl on; {PAIR}"))
    assert binding.id == "a.example:443"


async def test_port_ranges(tmp_path: Path) -> None:
    (binding,) = await discover(tmp_path, server("127.0.0.1:8001-8003 ssl", "a.example"))
    assert [one.port for one in binding.listeners] == [8001, 8002, 8003]


async def test_unix_sockets_and_quic_are_not_looked_at(tmp_path: Path) -> None:
    http = server("unix:/run/x ssl", "a.example", pair("a")) + server("443 ssl, 443 quic", "b.example", pair("b"))
    http += server("444 quic", "c.example", pair("c"))
    a, b, c = await discover(tmp_path, http)
    assert (a.id, a.listeners) == ("a.example:-", ())
    assert "Unix sockets" in (a.obstacle or "")
    assert (b.obstacle, len(b.listeners)) == (None, 1)
    assert "QUIC" in (c.obstacle or "")


async def test_names_of_every_kind(tmp_path: Path) -> None:
    (binding,) = await discover(
        tmp_path, server("443 ssl", '.c.example *.b.example "" _ www.* ~^x\\d+\\.example$ $hostname 127.0.0.1')
    )
    assert binding.names == ("c.example", "*.c.example", "*.b.example", "127.0.0.1")
    assert [probe.server_name for probe in binding.probes] == [
        "c.example",
        "certgate-probe.c.example",
        "certgate-probe.b.example",
    ]


async def test_without_a_name_the_default_server_is_looked_at_without_sni(tmp_path: Path) -> None:
    http = server("443 ssl", "a.example", pair("a")) + server("443 ssl default_server", "_", pair("b"))
    http += server("443 ssl", "~x", pair("c"))
    _, default, unreachable = await discover(tmp_path, http)
    assert (default.id, default.names, default.obstacle) == ("_:443@*", (), None)
    assert [probe.server_name for probe in default.probes] == [None]
    assert unreachable.id == "_:443@*#2"
    assert "no handshake reaches it" in (unreachable.obstacle or "")


async def test_the_first_server_is_the_default(tmp_path: Path) -> None:
    (first, _) = await discover(tmp_path, server("443 ssl", "", pair("a")) + server("443 ssl", "b.example", pair("b")))
    assert [probe.server_name for probe in first.probes] == [None]


async def test_a_name_that_another_server_has_first(tmp_path: Path) -> None:
    http = server("443 ssl", "a.example", pair("a")) + server("443 ssl", "a.example b.example", pair("b"))
    http += server("443 ssl", "b.example", pair("c"))
    first, second, third = await discover(tmp_path, http)
    assert [probe.server_name for probe in second.probes] == ["b.example"]
    assert (first.id, second.id) == ("a.example:443@*", "a.example:443@*#2")
    assert third.id == "b.example:443"
    assert third.obstacle is not None


async def test_the_same_name_on_two_addresses(tmp_path: Path) -> None:
    http = server("192.0.2.1:443 ssl", "a.example", pair("a")) + server(
        "[2001:db8:0::1]:443 ssl", "a.example", pair("b")
    )
    bindings = await discover(tmp_path, http)
    assert [binding.id for binding in bindings] == ["a.example:443@192.0.2.1", "a.example:443@[2001:db8::1]"]
    assert [binding.obstacle for binding in bindings] == [None, None]


async def test_certificates_are_inherited_and_shared(tmp_path: Path) -> None:
    http = PAIR + server("443 ssl", "a.example", "") + server("443 ssl", "b.example", "")
    http += server("443 ssl", "c.example", pair("c"))
    a, b, c = await discover(tmp_path, http)
    assert (a.shared_with, b.shared_with, c.shared_with) == (("b.example:443",), ("a.example:443",), ())


async def test_a_link_to_the_same_file_is_shared(tmp_path: Path) -> None:
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).touch()
        (tmp_path / f"link-{name}").symlink_to(name)
    http = server("443 ssl", "a.example")
    http += server("443 ssl", "b.example", "ssl_certificate link-c.pem; ssl_certificate_key link-k.pem;")
    a, b = await discover(tmp_path, http)
    assert (a.shared_with, a.obstacle) == (("b.example:443",), None)
    assert b.places == (Place(f"{tmp_path}/link-c.pem", f"{tmp_path}/link-k.pem"),)


async def test_a_key_that_two_certificates_use_is_an_obstacle(tmp_path: Path) -> None:
    http = server("443 ssl", "a.example", "ssl_certificate a.pem; ssl_certificate_key k.pem;")
    http += server("443 ssl", "b.example", "ssl_certificate b.pem; ssl_certificate_key k.pem;")
    a, b = await discover(tmp_path, http)
    assert "k.pem is also used by b.example:443" in (a.obstacle or "")
    assert "k.pem is also used by a.example:443" in (b.obstacle or "")


async def test_stream_and_mail_servers_count(tmp_path: Path) -> None:
    main = f"stream {{ server {{ listen 853 ssl; {PAIR} }} }}\n"
    imap = "server { listen 993 ssl; protocol imap; server_name m; } server { listen 143; starttls on; }"
    main += f"mail {{ {PAIR} {imap} }}"
    http, stream, mail = await discover(tmp_path, server("443 ssl", "a.example"), main=main)
    assert (stream.id, mail.id) == ("_:853", "_:993")
    assert http.shared_with == ("_:853", "_:993")


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("", "no ssl_certificate is configured"),
        ("ssl_certificate a.pem;", "must be pairs"),
        ("ssl_certificate $ssl_server_name.pem; ssl_certificate_key k;", "by a variable"),
        ("ssl_certificate a.pem; ssl_certificate_key data:$key;", "by a variable"),
        ("ssl_certificate a.pem; ssl_certificate_key engine:pkcs11:x;", "loaded by engine:"),
        ('ssl_certificate "data:-----BEGIN"; ssl_certificate_key k;', "loaded by data:"),
        ('ssl_certificate "store:pkcs11:a"; ssl_certificate_key k;', "loaded by store:"),
    ],
)
async def test_what_can_not_be_exchanged(tmp_path: Path, rest: str, words: str) -> None:
    (binding,) = await discover(tmp_path, server("443 ssl", "a.example", rest))
    assert words in (binding.obstacle or "")
    assert binding.places == ()


@pytest.mark.parametrize("form", ["engine:pkcs11:", "store:"])
async def test_a_key_in_a_token_is_named_without_its_pin(tmp_path: Path, form: str) -> None:
    pair = f'ssl_certificate a.pem; ssl_certificate_key "{form}pkcs11:token=web;object=k?pin-value=1234&x=y";'
    (binding,) = await discover(tmp_path, server("443 ssl", "a.example", pair))
    assert binding.obstacle is None
    assert binding.places == (Place(f"{tmp_path}/a.pem", f"{form}pkcs11:token=web;object=k?pin-value=…&x=y"),)


async def test_several_certificates_in_one_server(tmp_path: Path) -> None:
    (binding,) = await discover(tmp_path, server("443 ssl", "a.example", pair("rsa") + pair("ec")))
    assert [place.key for place in binding.places] == [f"{tmp_path}/rsa.key", f"{tmp_path}/ec.key"]
    assert binding.obstacle is None


async def test_a_thousand_servers_with_lua(tmp_path: Path) -> None:
    lua = 'content_by_lua_block { if x then ngx.say("}") end }'
    http = "".join(server("443 ssl", f"h{index}.example", f"{pair(str(index))} {lua}") for index in range(1000))
    bindings = await discover(tmp_path, http)
    assert len({binding.id for binding in bindings}) == 1000
    assert all(binding.obstacle is None and not binding.shared_with for binding in bindings)


def test_settings() -> None:
    wrongs: tuple[dict[str, object], ...] = (
        {"configuration": "nginx.conf"},
        {"command": []},
        {"address": "a:443"},
        {"reload_timeout_seconds": 0},
    )
    for wrong in wrongs:
        with pytest.raises(Permanent, match=f"setting {next(iter(wrong))}"):
            CONNECTOR.configure(wrong)
    with pytest.raises(Permanent, match="needs a connection to the host"):
        CONNECTOR.open(CONNECTOR.configure({}), Surroundings(home=Path("/"), secret=no_secrets))
