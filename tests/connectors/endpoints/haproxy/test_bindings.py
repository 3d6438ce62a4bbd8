"""Discovery: configurations as they are found in the world, read from real files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from connectors.endpoints.contract import Binding, Listener, Place, Probe
from connectors.endpoints.haproxy import CONNECTOR
from connectors.endpoints.haproxy.configuration import words_of
from connectors.errors import Permanent
from connectors.registry import Surroundings
from tests.support.installing import ThrowawayAuthority, local_host, no_secrets
from worker.playground import self_signed

RSA_KEY, EC_KEY = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())


async def discover(folder: Path, text: str, **settings: Any) -> Sequence[Binding]:
    """Write a configuration and discover it."""
    path = folder / "haproxy.cfg"
    path.write_text(text)
    surroundings = Surroundings(home=folder, secret=no_secrets, host=local_host())
    chosen = CONNECTOR.configure({"configuration": [str(path)], **settings})
    return await CONNECTOR.open(chosen, surroundings).discover()


def frontend(*binds: str, name: str = "web", kind: str = "frontend") -> str:
    return f"{kind} {name}\n" + "".join(f"    bind {one}\n" for one in binds)


def fill(path: Path, authority: ThrowawayAuthority, *names: str, key: Any = EC_KEY, beside: bool = False) -> Path:
    material = authority.issue(*names, key=key)
    assert material.private_key_pem is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(material.certificate_pem + ("" if beside else material.private_key_pem.decode()))
    if beside:
        Path(f"{path}.key").write_bytes(material.private_key_pem)
    return path


async def test_a_plain_bind(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    path = fill(tmp_path / "a.pem", authority, "a.example", "www.A.example")
    (binding,) = await discover(tmp_path, frontend(f"*:443 ssl crt {path} alpn h2,http/1.1", ":80"))
    listener = Listener("127.0.0.1", 443)
    assert binding == Binding(
        id="a.pem:443",
        names=("a.example", "www.a.example"),
        listeners=(listener,),
        probes=(Probe(listener, "a.example"), Probe(listener, "www.a.example")),
        places=(Place(str(path), str(path)),),
    )


async def test_what_a_renewal_changes_is_not_in_its_id(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    path = fill(tmp_path / "a.pem", authority, "a.example")
    text = frontend(f":443 ssl crt {path}")
    before = await discover(tmp_path, text)
    fill(path, authority, "b.example")
    after = await discover(tmp_path, text)
    assert [one.id for one in before] == [one.id for one in after] == ["a.pem:443"]
    assert after[0].names == ("b.example",)


async def test_a_placeholder_promises_no_names(tmp_path: Path) -> None:
    """It is the first of its bind line, so that a handshake without a name shows it; the second needs its own."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.pem").write_bytes(b"".join(self_signed([f"{name}.example"])))
    first, second = await discover(tmp_path, frontend(f":443 ssl crt {tmp_path}/a.pem crt {tmp_path}/b.pem"))
    assert (first.names, [probe.server_name for probe in first.probes]) == ((), [None])
    assert (second.names, [probe.server_name for probe in second.probes]) == (("b.example",), ["b.example"])
    (strict, _) = await discover(tmp_path, frontend(f":443 ssl strict-sni crt {tmp_path}/a.pem crt {tmp_path}/b.pem"))
    assert [probe.server_name for probe in strict.probes] == ["a.example"]


async def test_a_folder(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    folder = tmp_path / "my certs"
    for name in ("b", "a"):
        fill(folder / f"{name}.pem", authority, f"{name}.example", beside=name == "b")
    fill(folder / ".hidden.pem", authority, "x.example")
    (folder / "a.pem.ocsp").touch()
    a, b = await discover(tmp_path, frontend(f':443 ssl crt "{folder}/"'))
    assert (a.id, b.id) == ("a.pem:443", "b.pem:443")
    assert a.places == (Place(f"{folder}/a.pem", f"{folder}/a.pem"),)
    assert b.places == (Place(f"{folder}/b.pem", f"{folder}/b.pem.key"),)


async def test_a_list(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    fill(tmp_path / "certs" / "a.pem", authority, "a.example")
    path = fill(tmp_path / "b.pem", authority, "b.example")
    listed = tmp_path / "list"
    listed.write_text(f"# all\na.pem\n{path} [alpn h2 verify none] *.B.example !x.b.example  b.example\n\n")
    a, b = await discover(tmp_path, f"global\n crt-base {tmp_path}/certs\n" + frontend(f":443 ssl crt-list {listed}"))
    assert (a.id, a.names) == ("a.pem:443", ("a.example",))
    assert (b.id, b.names) == ("b.pem:443", ("*.b.example", "b.example"))
    assert [probe.server_name for probe in b.probes] == ["certgate-probe.b.example", "b.example"]
    with pytest.raises(Permanent, match="/nowhere"):
        await discover(tmp_path, frontend(":443 ssl crt-list /nowhere"))


async def test_of_two_certificates_with_a_name_the_first_answers(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    first = fill(tmp_path / "a.pem", authority, "a.example", "b.example")
    second, third = fill(tmp_path / "b.pem", authority, "b.example"), fill(tmp_path / "c.pem", authority, "c.example")
    a, b, c = await discover(tmp_path, frontend(f":443 ssl crt {first} crt {second} crt {third}"))
    assert "no handshake reaches it" in (b.obstacle or "")
    assert (a.obstacle, c.obstacle) == (None, None)


async def test_rsa_and_ecdsa(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    """Under one name with endings, or as two files with the same names."""
    fill(tmp_path / "both.pem.rsa", authority, "a.example", key=RSA_KEY)
    fill(tmp_path / "both.pem.ecdsa", authority, "a.example", beside=True)
    (bundle,) = await discover(tmp_path, frontend(f":443 ssl crt {tmp_path}/both.pem"))
    assert bundle.id == "both.pem:443"
    assert [(place.certificate, place.key) for place in bundle.places] == [
        (f"{tmp_path}/both.pem.rsa", f"{tmp_path}/both.pem.rsa"),
        (f"{tmp_path}/both.pem.ecdsa", f"{tmp_path}/both.pem.ecdsa.key"),
    ]
    keys = {"1.pem": RSA_KEY, "2.pem": EC_KEY}
    two = [fill(tmp_path / name, authority, "a.example", key=key) for name, key in keys.items()]
    (binding,) = await discover(tmp_path, frontend(f":443 ssl crt {two[0]} crt {two[1]}"))
    assert [place.certificate for place in binding.places] == [str(path) for path in two]
    assert binding.obstacle is None


async def test_where_the_key_is(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    path = fill(tmp_path / "a.crt", authority, "a.example", beside=True)
    (tmp_path / "a.crt.key").rename(tmp_path / "a.key")
    for settings, key in (
        ("ssl-load-extra-del-ext", f"{tmp_path}/a.key"),
        ("ssl-load-extra-files none", str(path)),
        ("ssl-load-extra-files ocsp key\n ssl-load-extra-del-ext", f"{tmp_path}/a.key"),
        ("ssl-load-extra-files bundle\n ssl-load-extra-del-ext", str(path)),
    ):
        (binding,) = await discover(tmp_path, f"global\n {settings}\n" + frontend(f":443 ssl crt {path}"))
        assert binding.places == (Place(str(path), key),)


async def test_addresses(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    path = fill(tmp_path / "a.pem", authority, "a.example")
    binds = "0.0.0.0:443,:::443", "ipv6@:444", "[2001:db8::1]:8000-8001", "name:445 accept-proxy", "ipv4@192.0.2.1:1"
    (binding,) = await discover(tmp_path, frontend(*(f"{address} ssl crt {path}" for address in binds)))
    assert [str(one) for one in binding.listeners] == [
        "127.0.0.1:443",
        "[::1]:443",
        "[::1]:444",
        "[2001:db8::1]:8000",
        "[2001:db8::1]:8001",
        "name:445",
        "192.0.2.1:1",
    ]
    assert [one.proxy_protocol for one in binding.listeners] == [False] * 5 + [True, False]
    text = frontend(f"/run/x ssl crt {path}", f"unix@x ssl crt {path}", f"quic4@:443 ssl crt {path}")
    (binding,) = await discover(tmp_path, text)
    assert "Unix sockets" in (binding.obstacle or "")
    (binding,) = await discover(tmp_path, frontend(f"/run/x ssl crt {path}", f":443 ssl crt {path}"))
    assert (binding.obstacle, binding.listeners) == (None, (Listener("127.0.0.1", 443),))
    (binding,) = await discover(tmp_path, frontend(f":443 ssl crt {path}"), address="192.0.2.7")
    assert binding.listeners == (Listener("192.0.2.7", 443),)


async def test_one_file_in_two_frontends_is_shared(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    path = fill(tmp_path / "a.pem", authority, "a.example")
    text = frontend(f":443 ssl crt {path}") + frontend(f":8443 ssl crt {path}", name="two", kind="listen")
    a, b = await discover(tmp_path, text)
    assert (a.id, a.shared_with, b.id, b.shared_with) == ("a.pem:443", ("a.pem:8443",), "a.pem:8443", ("a.pem:443",))


async def test_files_with_the_same_name(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    paths = [fill(tmp_path / name / "c.pem", authority, f"{name}.example") for name in ("a", "b")]
    found = await discover(tmp_path, frontend(f":443 ssl crt {paths[0]} crt {paths[1]}"))
    assert [one.id for one in found] == [f"{paths[0]}:443", f"{paths[1]}:443"]


@pytest.mark.parametrize(
    ("path", "words"),
    [("@site/a", "crt-store"), ('"${NOWHERE}/a.pem"', "variable that is not known"), ("a.pem", "relative")],
)
async def test_what_can_not_be_exchanged(tmp_path: Path, path: str, words: str) -> None:
    (binding,) = await discover(tmp_path, frontend(f":443 ssl crt {path}"))
    assert words in (binding.obstacle or "")
    assert binding.places == ()


async def test_several_files_and_a_folder(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    path = fill(tmp_path / "certs" / "a.pem", authority, "a.example")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "2.cfg").write_text(frontend(":443 ssl crt a.pem"))
    (tmp_path / "more" / "1.cfg").write_text(f'global\n    setenv WHERE {tmp_path}\n    crt-base "${{WHERE}}/certs"\n')
    (tmp_path / "more" / "readme").write_text('"')
    found = await discover(tmp_path, "defaults\n", configuration=[f"{tmp_path}/haproxy.cfg", f"{tmp_path}/more"])
    assert [one.places for one in found] == [(Place(str(path), str(path)),)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bind :443 ssl # crt x", ["bind", ":443", "ssl"]),
        (r"a\ b 'it is' \"x a\\b", ["a b", "it is", '"x', r"a\b"]),
        (r'"a b $HOME ${HOME} \$HOME \" $NO \n" $HOME', [r'a b /h /h $HOME " $NO \n', "$HOME"]),
        (r"""'$HOME \' "" ''""", ["$HOME \\", "", ""]),
        ("  ", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text, {"HOME": "/h"}, "here") == words


async def test_what_can_not_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=rf"a quote is not closed in {tmp_path}/haproxy.cfg:2"):
        await discover(tmp_path, "global\n  crt-base 'x")
    with pytest.raises(Permanent, match=r"/nowhere\.cfg"):
        await discover(tmp_path, "", configuration=["/nowhere.cfg"])


async def test_a_thousand_certificates(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    listed = tmp_path / "list"
    path = fill(tmp_path / "0.pem", authority, "a.example")
    for index in range(1, 1000):
        (tmp_path / f"{index}.pem").hardlink_to(path)
    listed.write_text("".join(f"{tmp_path}/{index}.pem h{index}.example\n" for index in range(1000)))
    found = await discover(tmp_path, frontend(f":443 ssl crt-list {listed}"))
    assert len({one.id for one in found}) == 1000
    assert all(one.obstacle is None and not one.shared_with for one in found)


def test_settings() -> None:
    wrongs: tuple[dict[str, object], ...] = (
        {"configuration": ["haproxy.cfg"]},
        {"configuration": []},
        {"command": []},
        {"address": "a:443"},
        {"reload_timeout_seconds": 0},
        {"update": "magic"},
        {"runtime_socket": "192.0.2.1:9999"},
        {"runtime_socket": "admin.sock"},
    )
    for wrong in wrongs:
        with pytest.raises(Permanent, match=f"setting {next(iter(wrong))}"):
            CONNECTOR.configure(wrong)
    for good in ("/run/a.sock", "127.0.0.1:9999", "[::1]:9999", "localhost:9999"):
        assert CONNECTOR.configure({"runtime_socket": good}).runtime_socket == good
    with pytest.raises(Permanent, match="needs a connection to the host"):
        CONNECTOR.open(CONNECTOR.configure({}), Surroundings(home=Path("/"), secret=no_secrets))
