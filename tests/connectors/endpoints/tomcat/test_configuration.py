"""What certgate reads in a server.xml, and what it says where it can't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.endpoints.contract import Binding, Place
from connectors.endpoints.tomcat import CONNECTOR
from connectors.endpoints.tomcat.configuration import properties_of
from connectors.errors import Permanent
from connectors.registry import Surroundings
from connectors.secrets import resolve
from tests.support.installing import ThrowawayAuthority, local_host
from tests.support.keystore_files import STORE_WORD, with_entry

HOOK = {"reload": "hook", "hook": ["/bin/true"]}
ONE = '<Certificate certificateFile="tls/a.pem" certificateKeyFile="tls/a.key"/>'


def server(connectors: str, engine: str = "") -> str:
    return f'<Server port="-1"><Service name="Catalina">{connectors}{engine}</Service></Server>'


def connector(inner: str, attributes: str = "") -> str:
    return server(f'<Connector port="8443" SSLEnabled="true" {attributes}>{inner}</Connector>')


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("conf", "tls"):
        (tmp_path / name).mkdir()
    return tmp_path.resolve()


async def bindings(base: Path, text: str | bytes, **settings: Any) -> list[Binding]:
    content = text.encode() if isinstance(text, str) else text
    (base / "conf/server.xml").write_bytes(content)
    return list(await opened(base, **settings).discover())


def opened(base: Path, **settings: Any) -> Any:
    configured = CONNECTOR.configure({"base": str(base), **HOOK, **settings})
    return CONNECTOR.open(configured, Surroundings(base, resolve, local_host()))


async def test_connectors_and_hosts_as_tomcat_sees_them(base: Path) -> None:
    found = await bindings(
        base,
        server(
            '<Connector port="8080"/><Connector protocol="AJP/1.3" port="8009"/>'
            '<Connector port="8443" SSLEnabled="TRUE" defaultSSLHostConfigName="WWW.example.org">'
            f'<SSLHostConfig hostName="www.Example.org">{ONE}</SSLHostConfig>'
            '<SSLHostConfig hostName="*.example.org"><Certificate certificateFile="/srv/w.pem"/></SSLHostConfig>'
            "</Connector>"
            '<Connector port="9443" address="::1" SSLEnabled="true"><SSLHostConfig>'
            '<Certificate certificateFile="tls/d.pem" certificateKeyFile="tls/d.key" certificateChainFile="c.pem"/>'
            "</SSLHostConfig></Connector>"
            f'<Connector port="-1" SSLEnabled="true"><SSLHostConfig>{ONE}</SSLHostConfig></Connector>'
        ),
    )
    assert [one.id for one in found] == ["www.example.org:8443", "*.example.org:8443", "_default_:9443"]
    assert [[str(probe) for probe in one.probes] for one in found] == [
        ["127.0.0.1:8443 (www.example.org)", "127.0.0.1:8443 (no SNI)"],
        ["127.0.0.1:8443 (certgate-probe.example.org)"],
        ["[::1]:9443 (no SNI)"],
    ]
    assert [one.names for one in found] == [("www.example.org",), ("*.example.org",), ()]
    assert found[0].places == (Place(f"{base}/tls/a.pem", f"{base}/tls/a.key"),)
    assert found[1].places == (Place("/srv/w.pem", "/srv/w.pem"),)
    assert found[2].places == (Place(f"{base}/tls/d.pem", f"{base}/tls/d.key", f"{base}/c.pem"),)
    assert [one.obstacle for one in found] == [None, None, None]


async def test_a_shifted_port_and_an_address_from_outside(base: Path) -> None:
    text = connector(f"<SSLHostConfig>{ONE}</SSLHostConfig>").replace("<Server ", '<Server portOffset="100" ')
    (found,) = await bindings(base, text, address="tomcat.example.org")
    assert (found.id, str(found.listeners[0])) == ("_default_:8543", "tomcat.example.org:8543")


async def test_the_attributes_of_older_tomcats(base: Path) -> None:
    """The only certificate on the connector itself, or on its host."""
    (base / "tls/keys").write_bytes(with_entry(None, "jks", "k", "a.example"))
    old = f'keystoreFile="tls/keys" keystorePass="{STORE_WORD}" keyAlias="K"'
    (found,) = await bindings(base, connector("", old))
    place = Place(f"{base}/tls/keys", f"{base}/tls/keys", form="jks", alias="K")
    assert (found.id, found.places, found.obstacle) == ("_default_:8443", (place,), None)
    (found,) = await bindings(base, connector("", 'SSLCertificateFile="tls/a.pem" SSLCertificateKeyFile="tls/a.key"'))
    assert found.places == (Place(f"{base}/tls/a.pem", f"{base}/tls/a.key"),)
    host = '<SSLHostConfig hostName="a.example" certificateFile="tls/a.pem" certificateKeyFile="tls/a.key"/>'
    (found,) = await bindings(base, connector(host))
    assert (found.id, found.obstacle) == ("a.example:8443", None)


async def test_properties_come_from_tomcats_own_file_and_from_the_settings(base: Path) -> None:
    (base / "conf/catalina.properties").write_text("# tls.dir=no\ntls.dir : ${catalina.base}/\\\n   tls\n")
    host = '<SSLHostConfig><Certificate certificateFile="${tls.dir}/${name:-a}.pem" certificateKeyFile="${key}"/>'
    (found,) = await bindings(base, connector(f"{host}</SSLHostConfig>"), properties=["key=${catalina.home}/k"])
    assert found.places == (Place(f"{base}/tls/a.pem", f"{base}/k"),)
    (found,) = await bindings(base, connector(f"{host}</SSLHostConfig>"))
    assert found.obstacle is not None
    assert "uses the property ${key}, which is not in conf/catalina.properties" in found.obstacle
    (found,) = await bindings(base, connector(f"{host}</SSLHostConfig>"), properties=["key=${key}"])
    assert found.obstacle == "its configuration has properties that are made of each other without an end."


def test_properties_are_read_as_java_reads_them() -> None:
    text = rb"""
! a comment
 a = 1
b:2\
   3
c\ d  e f
path=C:\\tls\tx
\u00e9\==\u20ac
empty
"""
    assert properties_of(text) == {"a": "1", "b": "23", "c d": "e f", "path": "C:\\tls\tx", "é=": "€", "empty": ""}


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        ("", "no Certificate is configured for it; add a Certificate element."),
        ("<Certificate/>", "its Certificate names neither a certificateFile nor a certificateKeystoreFile."),
        (
            '<Certificate certificateKeystoreFile="x" certificateKeystoreType="PKCS11"/>',
            "its keystore is of the type PKCS11, which certgate does not write (PKCS12 and JKS it does).",
        ),
        (
            '<Certificate certificateKeystoreFile="https://x/y"/>',
            "its certificate or key is read from https:, not from a file.",
        ),
    ],
)
async def test_what_can_not_be_installed_on_is_an_obstacle(base: Path, certificate: str, why: str) -> None:
    (found,) = await bindings(base, connector(f"<SSLHostConfig>{certificate}</SSLHostConfig>"))
    assert found.obstacle == why


async def test_a_port_that_nobody_can_tell(base: Path) -> None:
    host = f"<SSLHostConfig>{ONE}</SSLHostConfig>"
    (found,) = await bindings(base, server(f'<Connector port="0" SSLEnabled="true">{host}</Connector>'))
    assert "another one after each start" in str(found.obstacle)
    (found,) = await bindings(base, server(f'<Connector port="${{p}}" SSLEnabled="true">{host}</Connector>'))
    assert "is not a number that certgate can tell" in str(found.obstacle)


async def test_keystores_that_can_not_be_opened_are_obstacles(base: Path) -> None:
    keys = base / "tls/keys"
    two = with_entry(with_entry(None, "pkcs12", "one", "a.example"), "pkcs12", "two", "b.example")

    async def told(content: bytes, attributes: str = f'certificateKeystorePassword="{STORE_WORD}"') -> str:
        keys.write_bytes(content)
        element = f'<Certificate certificateKeystoreFile="tls/keys" {attributes}/>'
        (found,) = await bindings(base, connector(f"<SSLHostConfig>{element}</SSLHostConfig>"))
        return str(found.obstacle)

    assert await told(two, f'certificateKeystorePassword="{STORE_WORD}" certificateKeyAlias="TWO"') == "None"
    assert "has several keys (one, two), and nothing says which of them is used" in await told(two)
    # Tomcat's own default is tried where nothing is set, and passphrases are in no sentence.
    for wrong in ("", 'certificateKeystorePassword="a wrong word"'):
        assert "the passphrase is wrong or the file is damaged" in await told(two, wrong)
        assert "a wrong word" not in await told(two, wrong)
    assert "the file is damaged" in await told(two[:300])
    assert "it is empty (0 bytes)" in await told(b"")
    own = with_entry(None, "jks", "one", "a.example", "a key's own")
    assert "the key under one has another passphrase than the one that is set" in await told(own)
    assert (
        await told(own, f'certificateKeystorePassword="{STORE_WORD}" certificateKeyPassword="a key\'s own"') == "None"
    )


async def test_the_keystores_passphrase_may_be_a_reference(base: Path) -> None:
    (base / "tls/keys").write_bytes(with_entry(None, "pkcs12", "one", "a.example"))
    word = base / "word"
    word.touch(0o600)
    word.write_text(STORE_WORD)
    element = '<Certificate certificateKeystoreFile="tls/keys" certificateKeystorePassword="${vault::x}"/>'
    text = connector(f"<SSLHostConfig>{element}</SSLHostConfig>")
    (found,) = await bindings(base, text, keystore_password=f"file:{word}", properties=["vault::x=unused"])
    assert (found.obstacle, found.places[0].alias) == (None, "one")
    word.unlink()
    (found,) = await bindings(base, text, keystore_password=f"file:{word}", properties=["vault::x=unused"])
    assert "can't be read" in str(found.obstacle)


async def test_hosts_that_share_a_certificate_know_of_each_other(base: Path, authority: ThrowawayAuthority) -> None:
    two = with_entry(with_entry(None, "pkcs12", "one", "a.example"), "pkcs12", "two", "b.example")
    (base / "tls/keys").write_bytes(two)
    (base / "tls/link").symlink_to("keys")

    def host(name: str, file: str, alias: str) -> str:
        attributes = f'certificateKeystorePassword="{STORE_WORD}" certificateKeyAlias="{alias}"'
        element = f'<Certificate certificateKeystoreFile="tls/{file}" {attributes}/>'
        return f'<SSLHostConfig hostName="{name}">{element}</SSLHostConfig>'

    text = connector(
        host("a.example", "keys", "one") + host("b.example", "link", "ONE") + host("c.example", "keys", "two")
    )
    first, second, third = await bindings(base, text)
    assert (first.shared_with, second.shared_with, third.shared_with) == (
        ("b.example:8443",),
        ("a.example:8443",),
        (),
    )
    assert [one.obstacle for one in (first, second, third)] == [None, None, None]
    # One PEM key in two pairs can't be exchanged in one of them.
    pair = '<Certificate certificateFile="tls/{}.pem" certificateKeyFile="tls/a.key"/>'
    hosts = "".join(
        f'<SSLHostConfig hostName="{name}.example">{pair.format(name)}</SSLHostConfig>' for name in ("a", "b")
    )
    for one in await bindings(base, connector(hosts)):
        assert "tls/a.key is also used by" in str(one.obstacle)
        assert "in another pair; give each a key of its own." in str(one.obstacle)


async def test_names_that_several_have_get_their_address(base: Path) -> None:
    host = f'<SSLHostConfig hostName="a.example">{ONE}</SSLHostConfig>'
    one, other = (f'<Connector port="8443" address="127.0.0.{n}" SSLEnabled="true">{host}</Connector>' for n in (1, 2))
    found = await bindings(base, server(one + other))
    assert [binding.id for binding in found] == ["a.example:8443@127.0.0.1", "a.example:8443@127.0.0.2"]
    assert found[0].shared_with == (found[1].id,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<Server><Service></Server>", r"server\.xml can't be parsed: mismatched tag: line 1, column 19\.$"),
        ("", r"server\.xml can't be parsed: no element found"),
        ("<web-app/>", "is no configuration of Tomcat: its root element is not Server"),
        (
            '<!DOCTYPE Server [<!ENTITY more SYSTEM "file:///etc/passwd">]><Server>&more;</Server>',
            "has a document type or entities, which certgate does not follow",
        ),
        (
            '<!DOCTYPE Server [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Server>&b;</Server>',
            "has a document type or entities, which certgate does not follow",
        ),
        (
            '<Server xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="more.xml"/></Server>',
            r"includes other files \(XInclude\)",
        ),
        ('<?xml version="1.0" encoding="no-such-code"?><Server/>', "can't be parsed"),
        (b"\xff\xfe\x00<Server/>", "can't be parsed"),
    ],
)
async def test_a_server_xml_that_is_none(base: Path, text: str | bytes, why: str) -> None:
    with pytest.raises(Permanent, match=why):
        await bindings(base, text)
    with pytest.raises(Permanent, match=why):
        await opened(base).check()


async def test_no_server_xml_at_all(base: Path) -> None:
    with pytest.raises(Permanent, match=r"conf/server\.xml on this host: it does not exist"):
        await opened(base).discover()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"reload": "manager"}, "reload by manager needs manager_user and manager_password"),
        ({"reload": "hook", "hook": None}, "reload by hook needs a hook"),
        ({"manager_url": "http://tomcat.example.org/manager"}, "would send the password in the clear"),
        ({"manager_url": "https://u:p@tomcat.example.org/manager"}, "holds a credential"),
        ({"manager_url": "ftp://x"}, "must begin with http:// or https://"),
        ({"manager_password": "secret"}, "must be a reference"),
        ({"properties": ["novalue"]}, "must look like NAME=VALUE"),
        ({"address": "a:1"}, "an address or a name without a port"),
        ({"manager_user": "a:b"}, "should match pattern"),
    ],
)
def test_settings_that_can_not_be(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(Permanent, match=why) as caught:
        CONNECTOR.configure({**HOOK, **settings})
    assert "'secret'" not in caught.value.message
