"""Tomcat's ``server.xml`` as far as TLS goes: connectors, their hosts, and the certificates of those. Pure functions.

What counts is what Tomcat itself does with it (Configuration Reference, "The HTTP Connector", "SSL Support"):

- a connector speaks TLS where ``SSLEnabled`` is ``true``;
- it has one ``SSLHostConfig`` a host name; ``defaultSSLHostConfigName`` (``_default_``) is served where no name fits,
  and ``*.`` stands for one label;
- a host has one ``Certificate`` a key type: PEM files (``certificateFile``), or an entry of a keystore;
- Tomcat up to 9 also takes the attributes of the only certificate from the host's or the connector's element;
- ``${name}`` is a system property, ``${name:-value}`` one with a default. ``conf/catalina.properties`` sets some.

Entities and includes are refused: which files they would bring in is for an XML parser on Tomcat's own host to find.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from connectors.errors import Permanent

DEFAULT_HOST = "_default_"
DEFAULT_PASSWORD = "changeit"  # noqa: S105  (Tomcat's own default, for everybody to read in its documentation)
_DEEPEST_PROPERTY = 20
_PROPERTY = re.compile(r"\$\{([^${}]*)\}")
_PEM_KEYS = ("certificateFile", "certificateKeyFile", "certificateChainFile")
# The names that attributes of the only certificate have on a connector, up to Tomcat 9.
_OLD_NAMES = {
    "keystoreFile": "certificateKeystoreFile",
    "keystorePass": "certificateKeystorePassword",
    "keystorePassFile": "certificateKeystorePasswordFile",
    "keystoreType": "certificateKeystoreType",
    "keystoreProvider": "certificateKeystoreProvider",
    "keyAlias": "certificateKeyAlias",
    "keyPass": "certificateKeyPassword",
    "keyPassFile": "certificateKeyPasswordFile",
    "SSLCertificateFile": "certificateFile",
    "SSLCertificateKeyFile": "certificateKeyFile",
    "SSLCertificateChainFile": "certificateChainFile",
    "SSLPassword": "certificateKeyPassword",
    "SSLPasswordFile": "certificateKeyPasswordFile",
}
_FORMS = {"pkcs12": "pkcs12", "p12": "pkcs12", "pfx": "pkcs12", "jks": "jks"}


@dataclass(frozen=True)
class CertificateElement:
    """Where one certificate is. `store` is the keystore of form `form` (``pkcs12`` or ``jks``), or None for PEM files.
    Passphrases are as configured, None where there is none; `…_file` has it in its first line."""

    certificate: str
    key: str
    chain: str | None = None
    form: str = "pem"
    alias: str = ""
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    key_password_file: str | None = None


@dataclass(frozen=True)
class TlsHost:
    """An ``SSLHostConfig``: `name` is lower-case, ``_default_`` where none is given."""

    name: str
    certificates: Sequence[CertificateElement]
    obstacle: str | None


@dataclass(frozen=True)
class TlsConnector:
    """A connector with TLS: `address` is empty where it listens on all."""

    address: str
    port: int
    default: str
    hosts: Sequence[TlsHost]


def connectors_of(content: bytes, properties: Mapping[str, str], base: str, path: str) -> list[TlsConnector]:
    """All connectors with TLS, in the order of the file. `properties` are the system properties, `base` is where
    relative paths start, `path` is how the file is called in sentences. Raises `Permanent`."""
    root = _parsed(content, path)
    reader = _Reader(properties, base)
    shift = reader.number(root.get("portOffset"), "0")
    return [
        found
        for service in root.findall("Service")
        for element in service.findall("Connector")
        if (found := _connector(element, reader, shift)) is not None
    ]


def properties_of(content: bytes) -> dict[str, str]:
    """``conf/catalina.properties`` (``java.util.Properties``): names and values, escapes resolved."""
    text = re.sub(r"(?m)^[ \t\f]*[#!].*$", "", content.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n"))
    # A line that ends in an odd number of backslashes goes on in the next one.
    text = re.sub(r"(?<!\\)((?:\\\\)*)\\\n[ \t\f]*", r"\1", text)
    found: dict[str, str] = {}
    for line in text.split("\n"):
        parts = re.fullmatch(r"[ \t\f]*((?:\\.|[^\\=: \t\f])+)[ \t\f]*[=:]?[ \t\f]*(.*)", line)
        if parts:
            found[_unescaped(parts[1])] = _unescaped(parts[2])
    return found


def _unescaped(text: str) -> str:
    letters = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}

    def one(match: re.Match[str]) -> str:
        word = match[1]
        return chr(int(word[1:], 16)) if len(word) == 5 else letters.get(word, word)

    return re.sub(r"\\(u[0-9A-Fa-f]{4}|.)", one, text)


class _Unresolved(Exception):
    """A value that only Tomcat knows; `why` goes on after "Can't install at …:"."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class _Reader:
    """Attributes with their properties resolved."""

    properties: Mapping[str, str]
    base: str

    def text(self, value: str | None) -> str | None:
        """The value; raises `_Unresolved` for a property that nobody knows."""
        if value is None:
            return None
        for _ in range(_DEEPEST_PROPERTY):
            found = _PROPERTY.search(value)
            if found is None:
                return value
            name, _, default = found[1].partition(":-")
            known = self.properties.get(name, default if ":-" in found[1] else None)
            if known is None:
                raise _Unresolved(
                    f"its configuration uses the property ${{{name}}}, which is not in conf/catalina.properties: add "
                    "it to the endpoint's setting properties."
                )
            value = value[: found.start()] + known + value[found.end() :]
        raise _Unresolved("its configuration has properties that are made of each other without an end.")

    def number(self, value: str | None, default: str) -> int | None:
        """A port; None for what is none."""
        try:
            return int(self.text(value) or default)
        except (_Unresolved, ValueError):
            return None

    def path(self, value: str | None) -> str | None:
        """A file on Tomcat's host, absolute."""
        found = self.text(value)
        if not found:
            return None
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", found):
            parts = urlsplit(found)
            if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost"):
                raise _Unresolved(f"its certificate or key is read from {parts.scheme}:, not from a file.")
            found = unquote(parts.path)
        return posixpath.normpath(posixpath.join(self.base, found))


def _parsed(content: bytes, path: str) -> Element:
    try:
        root: Element = defusedxml.ElementTree.fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise Permanent(
            f"{path} has a document type or entities, which certgate does not follow, because they may bring in any "
            "file: write what they stand for into the file itself."
        ) from None
    except ParseError as error:
        raise Permanent(f"{path} can't be parsed: {error}.") from None
    except (ValueError, LookupError):
        raise Permanent(f"{path} can't be parsed: its encoding is not known or is not what it says.") from None
    if any(isinstance(one.tag, str) and one.tag.endswith("XInclude}include") for one in root.iter()):
        raise Permanent(f"{path} includes other files (XInclude), which Tomcat does not follow, and certgate neither.")
    if root.tag != "Server":
        raise Permanent(f"{path} is no configuration of Tomcat: its root element is not Server.")
    return root


def _connector(element: Element, reader: _Reader, shift: int | None) -> TlsConnector | None:
    try:
        if (reader.text(element.get("SSLEnabled")) or "").lower() != "true":
            return None
        address = reader.text(element.get("address")) or ""
        default = (reader.text(element.get("defaultSSLHostConfigName")) or DEFAULT_HOST).lower()
        trouble = None
    except _Unresolved as error:
        address, default, trouble = "", DEFAULT_HOST, error.why
    port = reader.number(element.get("port"), "-1")
    if port is None:
        port, trouble = 0, trouble or "the port of its connector is not a number that certgate can tell."
    elif port == 0:
        trouble = trouble or "its connector listens on a port that is another one after each start (port 0)."
    elif port < 0:
        return None  # switched off
    else:
        port += shift or 0
    hosts = [_host(one, reader, trouble) for one in element.findall("SSLHostConfig")]
    old = {new: value for name, new in _OLD_NAMES.items() if (value := element.get(name)) is not None}
    if old and not any(host.name == DEFAULT_HOST for host in hosts):
        # What stands on the connector is the host _default_ of Tomcat 9 and before.
        hosts.insert(0, _made(DEFAULT_HOST, [old], reader, trouble))
    return TlsConnector("" if address in ("0.0.0.0", "::", "*") else address, port, default, hosts)  # noqa: S104


def _host(element: Element, reader: _Reader, trouble: str | None) -> TlsHost:
    try:
        name = (reader.text(element.get("hostName")) or DEFAULT_HOST).lower()
    except _Unresolved as error:
        name, trouble = DEFAULT_HOST, trouble or error.why
    given = [dict(one.attrib) for one in element.findall("Certificate")]
    own = {key: value for key, value in element.attrib.items() if key in _OLD_NAMES.values()}
    return _made(name, given or ([own] if own else []), reader, trouble)


def _made(name: str, given: Sequence[Mapping[str, str]], reader: _Reader, trouble: str | None) -> TlsHost:
    if not given:
        return TlsHost(name, (), trouble or "no Certificate is configured for it; add a Certificate element.")
    try:
        return TlsHost(name, tuple(_certificate(one, reader) for one in given), trouble)
    except _Unresolved as error:
        return TlsHost(name, (), trouble or error.why)


def _certificate(given: Mapping[str, str], reader: _Reader) -> CertificateElement:
    key_password = reader.text(given.get("certificateKeyPassword"))
    key_password_file = reader.path(given.get("certificateKeyPasswordFile"))
    certificate, key, chain = (reader.path(given.get(name)) for name in _PEM_KEYS)
    if certificate is not None:
        locked = key_password is not None or key_password_file is not None
        return CertificateElement(
            certificate,
            key or certificate,
            chain,
            form="pem-encrypted" if locked else "pem",
            key_password=key_password,
            key_password_file=key_password_file,
        )
    store = reader.path(given.get("certificateKeystoreFile"))
    if store is None:
        raise _Unresolved("its Certificate names neither a certificateFile nor a certificateKeystoreFile.")
    kind = reader.text(given.get("certificateKeystoreType")) or "jks"
    if kind.lower() not in _FORMS:
        raise _Unresolved(
            f"its keystore is of the type {kind}, which certgate does not write (PKCS12 and JKS it does)."
        )
    return CertificateElement(
        store,
        store,
        form=_FORMS[kind.lower()],
        alias=reader.text(given.get("certificateKeyAlias")) or "",
        password=reader.text(given.get("certificateKeystorePassword")),
        password_file=reader.path(given.get("certificateKeystorePasswordFile")),
        key_password=key_password,
        key_password_file=key_password_file,
    )
