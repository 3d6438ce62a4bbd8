"""Discovery: configurations as they are found in the world, read from real files, and Apache's own word on them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.endpoints.apache import CONNECTOR
from connectors.endpoints.contract import Binding, Listener, Place, Probe
from connectors.errors import Permanent
from connectors.registry import Surroundings
from tests.support.installing import local_host, no_secrets
from tests.support.programs import program
from worker.playground import self_signed

PAIR = "SSLCertificateFile c.pem\nSSLCertificateKeyFile k.pem"


async def discovered(path: Path, **settings: Any) -> Sequence[Binding]:
    surroundings = Surroundings(home=path.parent, secret=no_secrets, host=local_host())
    chosen = {"configuration": str(path), "command": [program("apache2")], **settings}
    return await CONNECTOR.open(CONNECTOR.configure(chosen), surroundings).discover()


async def discover(folder: Path, text: str, *, listen: str = "443", **settings: Any) -> Sequence[Binding]:
    """Write a configuration and discover it."""
    path = folder / "httpd.conf"
    listens = "\n".join(f"Listen {one}" for one in listen.split(", "))
    path.write_text(f'ServerRoot "{folder}"\n{listens}\n{text}\n')
    return await discovered(path, **settings)


def host(address: str, name: str = "", rest: str = PAIR, engine: str = "SSLEngine on") -> str:
    named = f"ServerName {name}" if name else ""
    return f"<VirtualHost {address}>\n{named}\n{engine}\n{rest}\n</VirtualHost>\n"


def pair(name: str) -> str:
    return f"SSLCertificateFile {name}.pem\nSSLCertificateKeyFile {name}.key"


async def test_a_plain_host(tmp_path: Path) -> None:
    (binding,) = await discover(tmp_path, host("*:443", "a.example", f"{PAIR}\nServerAlias www.A.example"))
    listener = Listener("127.0.0.1", 443)
    assert binding == Binding(
        id="a.example:443",
        names=("a.example", "www.a.example"),
        listeners=(listener,),
        probes=(Probe(listener, "a.example"), Probe(listener, "www.a.example")),
        places=(Place(f"{tmp_path}/c.pem", f"{tmp_path}/k.pem"),),
    )


async def test_words_lines_and_case(tmp_path: Path) -> None:
    text = (
        "<virtualhost\t*:443 >\n  servername  HTTPS://A.example:8443 \n# sslengine off\n  SSLENGINE On\n"
        'SSLCertificateFile "it\\"s a \\\\ file.pem"\nsslcertificatekeyfile \'its "key".pem\'\n'
        "ServerAlias b.example \\\n   c.example\n</virtualhost>"
    )
    (binding,) = await discover(tmp_path, text)
    assert (binding.id, binding.names) == ("a.example:443", ("a.example", "b.example", "c.example"))
    assert binding.places == (Place(f'{tmp_path}/it"s a \\ file.pem', f'{tmp_path}/its "key".pem'),)


async def test_the_layout_of_debian(tmp_path: Path) -> None:
    for name in ("mods-enabled", "sites-available", "sites-enabled", "conf-enabled"):
        (tmp_path / name).mkdir()
    (tmp_path / "envvars").write_text(
        'unset HOME\nif [ x ] ; then\n\tSUFFIX="-${APACHE_CONFDIR##/etc/apache2-}"\nelse\n\tSUFFIX=\nfi\n'
        f"export APACHE_RUN_DIR={tmp_path}/run$SUFFIX\n: ${{KEYS:={tmp_path}/keys}}\nexport LANG=C\n"
    )
    (tmp_path / "apache2.conf").write_text(
        f'ServerRoot "{tmp_path}"\nDefaultRuntimeDir ${{APACHE_RUN_DIR}}\nIncludeOptional mods-enabled/*.load\n'
        "Include ports.conf\nIncludeOptional conf-enabled/*.conf\nIncludeOptional sites-enabled/*.conf\n"
    )
    (tmp_path / "mods-enabled" / "ssl.load").write_text("# Depends: mime\nLoadModule ssl_module /x/mod_ssl.so\n")
    (tmp_path / "ports.conf").write_text(
        "Listen 80\n<IfModule ssl_module>\n\tListen 443\n</IfModule>\n<IfModule mod_gnutls.c>\n\tListen 444\n"
        "</IfModule>"
    )
    site = tmp_path / "sites-available" / "default-ssl.conf"
    site.write_text(
        "<IfModule mod_ssl.c>\n<VirtualHost _default_:443 _default_:444>\nSSLEngine on\n"
        "SSLCertificateFile /etc/ssl/c.pem\n"
        'SSLCertificateKeyFile ${KEYS}/k.key\n<FilesMatch "\\.(cgi)$">\nSSLOptions +StdEnvVars\n</FilesMatch>\n'
        "</VirtualHost>\n</IfModule>"
    )
    (tmp_path / "sites-enabled" / "default-ssl.conf").symlink_to("../sites-available/default-ssl.conf")
    (binding,) = await discovered(tmp_path / "apache2.conf")
    assert (binding.id, binding.names, binding.obstacle) == ("_:443", (), None)
    assert binding.places == (Place("/etc/ssl/c.pem", f"{tmp_path}/keys/k.key"),)
    assert [str(probe) for probe in binding.probes] == ["127.0.0.1:443 (no SNI)"]


async def test_the_layout_of_red_hat(tmp_path: Path) -> None:
    for name in ("conf", "conf.d", "conf.modules.d"):
        (tmp_path / name).mkdir()
    (tmp_path / "conf" / "httpd.conf").write_text(
        f'ServerRoot "{tmp_path}"\nListen 80\nInclude conf.modules.d/*.conf\nServerName main.example\n'
        "<Directory />\nAllowOverride none\n</Directory>\nIncludeOptional conf.d/*.conf\n"
    )
    (tmp_path / "conf.modules.d" / "00-ssl.conf").write_text("LoadModule ssl_module modules/mod_ssl.so\n")
    (tmp_path / "conf.d" / "ssl.conf").write_text(
        "Listen 443 https\nSSLSessionCache shmcb:/run/x(512000)\n<VirtualHost _default_:443>\nErrorLog logs/ssl_error\n"
        "SSLEngine on\nSSLCertificateFile /etc/pki/tls/certs/localhost.crt\n"
        "SSLCertificateKeyFile /etc/pki/tls/private/localhost.key\n"
        "SSLCertificateChainFile /etc/pki/tls/certs/server-chain.crt\n</VirtualHost>\n"
    )
    (binding,) = await discovered(tmp_path / "conf" / "httpd.conf")
    assert (binding.id, binding.obstacle) == ("_:443", None)
    assert binding.places == (
        Place(
            "/etc/pki/tls/certs/localhost.crt",
            "/etc/pki/tls/private/localhost.key",
            "/etc/pki/tls/certs/server-chain.crt",
        ),
    )


async def test_includes(tmp_path: Path) -> None:
    sites = tmp_path / "my sites"
    (sites / "below").mkdir(parents=True)
    (sites / "b.conf").write_text(host("*:443", "b.example", pair("b")))
    (sites / "below" / "c.conf").write_text(host("*:443", "c.example", "Include snippets/tls"))
    (sites / ".a.conf").write_text(host("*:443", "a.example", pair("a")))
    (tmp_path / "snippets").mkdir()
    (tmp_path / "snippets" / "tls").write_text(PAIR)
    everything = 'Include "my sites"\nIncludeOptional nowhere.conf\nIncludeOptional no/*.conf\nInclude snippets/[u]*'
    found = await discover(tmp_path, everything)
    assert [one.id for one in found] == ["a.example:443", "b.example:443", "c.example:443"]
    assert [one.id for one in await discover(tmp_path, 'Include "my sites/*.conf"')] == ["b.example:443"]
    assert [one.id for one in await discover(tmp_path, 'Include "my */be*"')] == ["c.example:443"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Include missing.conf", "missing.conf"),
        ("Include httpd.conf", "again and again"),
        ("<VirtualHost *:443>\nSSLEngine on", r"<virtualhost> is never closed in .*httpd\.conf:3"),
        ("</VirtualHost>", r"closes what is not open in .*httpd\.conf:3"),
        ("<VirtualHost *:443\n</VirtualHost>", r"ends without > in .*httpd\.conf:3"),
        ("<IfModule nothing>\n", r"<ifmodule> is never closed in .*httpd\.conf:3"),
        ("<Macro m>\nUse m\n</Macro>\nUse m", "uses itself again and again"),
    ],
)
async def test_what_can_not_be_read_is_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(Permanent, match=words):
        await discover(tmp_path, text)


async def test_conditions_variables_and_macros(tmp_path: Path) -> None:
    (tmp_path / "flag").touch()
    text = (
        "Define WHERE keys\nDefine BOTH ${WHERE}/both\nDefine GONE\nUndefine GONE\n"
        "LoadModule macro_module /x/mod_macro.so\n<Macro Site $name $dir>\n"
        + host("*:443", "$name", "SSLCertificateFile ${WHERE}/$dir/c\nSSLCertificateKeyFile ${BOTH}")
        + "</Macro>\nUse Site a.example one\n"
        "<IfDefine GONE>\nUse Site b.example x\n</IfDefine>\n<IfDefine !GONE>\nUse SITE c.example two\n</IfDefine>\n"
        "<IfDefine GIVEN>\nUse Site d.example three\n</IfDefine>\n<IfModule !mod_macro.c>\nUse Site e.example x\n"
        "<IfModule nested>\n</IfModule>\n</IfModule>\n<IfFile flag>\nUse Site f.example four\n</IfFile>\n"
    )
    found = await discover(tmp_path, text, defines=["GIVEN"])
    assert [one.id for one in found] == [f"{name}.example:443" for name in "acdf"]
    assert [one.places[0].certificate for one in found] == [
        f"{tmp_path}/keys/{name}/c" for name in ("one", "two", "three", "four")
    ]
    assert found[0].places[0].key == f"{tmp_path}/keys/both"


async def test_only_tls_counts(tmp_path: Path) -> None:
    text = host("*:443", "a.example") + host("*:80", "b.example", engine="")
    text += host("*:443", "c.example", engine="SSLEngine off") + host("*:443", "d.example", engine="")
    assert [one.id for one in await discover(tmp_path, text, listen="443, 80")] == ["a.example:443"]


async def test_where_a_host_is_reached(tmp_path: Path) -> None:
    text = host("192.0.2.1:443 *:8443 [2001:db8::1]:443 name:444 203.0.113.9", "a.example")
    (binding,) = await discover(tmp_path, text, listen="443, 127.0.0.1:8443 https, [::]:444, 203.0.113.9:9")
    assert [str(one) for one in binding.listeners] == [
        "192.0.2.1:443",
        "127.0.0.1:8443",
        "[2001:db8::1]:443",
        "name:444",
        "203.0.113.9:443",
        "203.0.113.9:444",
        "203.0.113.9:9",
    ]
    (binding,) = await discover(tmp_path, host("*:443", "a.example"), address="192.0.2.7")
    assert binding.listeners == (Listener("192.0.2.7", 443),)


async def test_the_first_host_decides_whether_there_is_tls(tmp_path: Path) -> None:
    text = host("*:443", "a.example", engine="") + host("*:443", "b.example")
    (binding,) = await discover(tmp_path, text)
    assert "no SSLEngine on" in (binding.obstacle or "")


async def test_a_host_with_the_address_comes_before_those_for_all(tmp_path: Path) -> None:
    text = host("*:443", "a.example", pair("a")) + host("127.0.0.1:443", "b.example", pair("b"))
    everywhere, own = await discover(tmp_path, text)
    assert "answer in its place" in (everywhere.obstacle or "")
    assert [str(probe) for probe in own.probes] == ["127.0.0.1:443 (b.example)"]


async def test_of_two_hosts_with_a_name_the_first_answers(tmp_path: Path) -> None:
    text = host("*:443", "a.example", f"ServerAlias *.b.example\n{pair('a')}")
    text += host("*:443", "x.b.example", f"ServerAlias x.example\n{pair('b')}") + host("*:443", "x.example", pair("c"))
    first, second, third = await discover(tmp_path, text)
    assert [probe.server_name for probe in first.probes] == ["a.example", "certgate-probe.b.example"]
    assert [probe.server_name for probe in second.probes] == ["x.example"]
    assert "no handshake reaches it" in (third.obstacle or "")


async def test_the_main_server_answers_where_no_host_does(tmp_path: Path) -> None:
    text = f"ServerName main.example\nSSLEngine on\n{PAIR}\n" + host("*:443", "a.example", "", "")
    of_host, main = await discover(tmp_path, text, listen="443, 8443")
    assert (of_host.id, main.id) == ("a.example:443", "main.example:8443")
    assert of_host.places == main.places
    assert of_host.shared_with == ("main.example:8443",)


async def test_no_listen(tmp_path: Path) -> None:
    (binding,) = await discover(tmp_path, host("*:444", "a.example"))
    assert (binding.id, binding.listeners) == ("a.example:-", ())
    assert "no Listen" in (binding.obstacle or "")


async def test_proxy_protocol(tmp_path: Path) -> None:
    (binding,) = await discover(tmp_path, f"RemoteIPProxyProtocol On\n{host('*:443', 'a.example')}")
    assert binding.listeners == (Listener("127.0.0.1", 443, proxy_protocol=True),)


async def test_pairs(tmp_path: Path) -> None:
    text = pair("main") + "\n" + host("*:443", "a.example", "SSLCertificateFile rsa.pem\nSSLCertificateFile ec.pem")
    text += host("*:443", "b.example", pair("b")) + host("*:443", "c.example", "")
    one, two, three = await discover(tmp_path, text)
    assert [(place.certificate, place.key) for place in one.places] == [
        (f"{tmp_path}/rsa.pem", f"{tmp_path}/main.key"),
        (f"{tmp_path}/ec.pem", f"{tmp_path}/ec.pem"),
    ]
    assert (two.obstacle, two.places) == (None, (Place(f"{tmp_path}/b.pem", f"{tmp_path}/b.key"),))
    # The key of the main server's certificate stands beside another certificate too.
    assert "is also used by" in (three.obstacle or "")
    assert "is also used by" in (one.obstacle or "")


async def test_shared_files(tmp_path: Path) -> None:
    a, b = await discover(tmp_path, host("*:443", "a.example") + host("*:443", "b.example"))
    assert (a.shared_with, b.shared_with) == (("b.example:443",), ("a.example:443",))


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("", "no SSLCertificateFile"),
        ("SSLCertificateFile pkcs11:object=a", "PKCS#11"),
        ("SSLCertificateFile a\nSSLCertificateKeyFile pkcs11:object=a", "PKCS#11"),
        ("SSLCertificateFile ${NOWHERE}/a", r"variable that is not known here \(\$\{NOWHERE\}/a\)"),
        ("SSLCertificateFile a\nSSLCertificateFile b\nSSLCertificateChainFile c", "for several certificates"),
    ],
)
async def test_what_can_not_be_exchanged(tmp_path: Path, rest: str, words: str) -> None:
    (binding,) = await discover(tmp_path, host("*:443", "a.example", rest))
    assert re.search(words, binding.obstacle or "")
    assert binding.places == ()


@pytest.mark.parametrize(
    "mdomain", ["MDomain b.example A.example", "<MDomainSet b.example>\nMDMember a.example\n</MDomainSet>"]
)
async def test_what_mod_md_manages(tmp_path: Path, mdomain: str) -> None:
    (binding,) = await discover(tmp_path, f"{mdomain}\n" + host("*:443", "a.example"))
    assert "mod_md" in (binding.obstacle or "")


async def test_a_thousand_hosts(tmp_path: Path) -> None:
    text = "".join(host("*:443", f"h{index}.example", pair(str(index))) for index in range(1000))
    found = await discover(tmp_path, text)
    assert len({one.id for one in found}) == 1000
    assert all(one.obstacle is None and not one.shared_with for one in found)


@pytest.mark.parametrize(
    "text",
    [
        host("*:8443", "a.example", "ServerAlias b.example *.c.example") + host("*:8443", "d.example", ""),
        host("127.0.0.1:8443 [::1]:8443", "a.example", "") + host("_default_:8443", "b.example", ""),
        "Define P 8443\n<Macro V $n>\n" + host("*:${P}", "$n", "") + "</Macro>\nUse V a.example\nUse V b.example",
        "<IfDefine !NO>\n"
        + host("*:8443", "a.example", "")
        + "</IfDefine>\n<IfModule mod_ssl.c>\n"
        + host("*:8443", "b.example", "")
        + "</IfModule>\n<IfModule mod_no.c>\n"
        + host("*:8443", "x.example", "")
        + "</IfModule>\n"
        + host("127.0.0.1", "c.example", ""),
        'Include "more/*.conf"\n' + host("*:8443", "https://a.example:99", ""),
    ],
)
async def test_apache_says_the_same(tmp_path: Path, text: str) -> None:
    """Which hosts there are, in which order they are asked, and what else they answer to, as ``DUMP_VHOSTS`` has it."""
    modules = "/usr/lib/apache2/modules"
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "one.conf").write_text(host("*:8443", "m.example", ""))
    certificate, key = self_signed(["a.example"])
    (tmp_path / "c.pem").write_bytes(certificate + key)
    loads = "".join(f"LoadModule {one}_module {modules}/mod_{one}.so\n" for one in ("mpm_event", "ssl", "macro"))
    main = f"ServerName main.example\nErrorLog error.log\n{loads}SSLCertificateFile c.pem\n"
    found = await discover(tmp_path, main + text, listen="8443")
    said = subprocess.run(  # noqa: ASYNC221 (the loop has nothing else to do)
        [program("apache2"), "-f", str(tmp_path / "httpd.conf"), "-t", "-D", "DUMP_VHOSTS"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = set(re.findall(r"namevhost (\S+) ", said)) | set(re.findall(r"^\S+:\S+ +(\S+) \(", said, re.MULTILINE))
    aliases = set(re.findall(r"alias (\S+)$", said, re.MULTILINE))
    assert {name for one in found for name in one.names} == names | aliases
    default = re.search(r"\*:8443 +(?:is a NameVirtualHost\s+default server )?(\S+) \(", said)
    reached = [one for one in found if any(probe.listener.address == "127.0.0.1" for probe in one.probes)]
    assert default is not None
    if "127.0.0.1" not in text:
        assert reached[0].names[0] == default[1]


def test_settings() -> None:
    wrongs: tuple[dict[str, object], ...] = (
        {"configuration": "apache2.conf"},
        {"command": []},
        {"address": "a:443"},
        {"reload_timeout_seconds": 0},
        {"defines": ["A B"]},
        {"environment": "envvars"},
    )
    for wrong in wrongs:
        with pytest.raises(Permanent, match=f"setting {next(iter(wrong))}"):
            CONNECTOR.configure(wrong)
    assert CONNECTOR.configure({}).program == ["apache2ctl"]
    assert CONNECTOR.configure({"configuration": "/etc/httpd/conf/httpd.conf"}).program == ["httpd"]
    with pytest.raises(Permanent, match="needs a connection to the host"):
        CONNECTOR.open(CONNECTOR.configure({}), Surroundings(home=Path("/"), secret=no_secrets))
