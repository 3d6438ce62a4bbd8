"""Tomcat as an endpoint: its keystores and PEM files, its manager, or a restart."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Sequence
from dataclasses import replace

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from connectors.archives.contract import Passphrases
from connectors.endpoints import certificates
from connectors.endpoints.contract import Activated, Activation, Binding, InPlace, Material, Place
from connectors.endpoints.files import Archive, FileEndpoint
from connectors.endpoints.hook import run_hook
from connectors.endpoints.keystores import KeystoreEntry, form_of
from connectors.endpoints.tomcat.bindings import Found, bindings_of
from connectors.endpoints.tomcat.configuration import (
    DEFAULT_PASSWORD,
    CertificateElement,
    TlsConnector,
    TlsHost,
    connectors_of,
    properties_of,
)
from connectors.endpoints.tomcat.manager import Manager
from connectors.endpoints.tomcat.settings import TomcatSettings
from connectors.errors import Permanent
from connectors.registry import ConnectorType, Surroundings

CONNECT_SECONDS = 3.0
POLL_SECONDS = 0.1
ENCRYPTED = "pem-encrypted"


class TomcatEndpoint(FileEndpoint):
    """`connectors.endpoints.contract.Endpoint` for one Tomcat on one host.

    Passphrases of keystores are read where Tomcat reads them, each time they are needed, and go nowhere else.
    """

    def __init__(self, settings: TomcatSettings, surroundings: Surroundings) -> None:
        super().__init__(surroundings.require_host("Tomcat"))
        self._settings = settings
        self._surroundings = surroundings

    @property
    def identity(self) -> str:
        """Host and CATALINA_BASE."""
        return f"tomcat {self._host.address} {self._settings.base}"

    @property
    def title(self) -> str:
        """``Tomcat``, with its base where that is not the usual one."""
        usual = TomcatSettings.model_fields["base"].default
        return "Tomcat" if self._settings.base == usual else f"Tomcat ({self._settings.base})"

    # Looking.

    async def discover(self) -> Sequence[Binding]:
        """All TLS hosts of all connectors, in the order of ``server.xml``."""
        return bindings_of(await self._found(), self._host.address, self._settings.address)

    async def check(self, place: Place | None = None, /) -> None:
        """Whether ``server.xml`` can be read; with a place, that its key belongs to its certificate, which Tomcat does
        not ask before it serves them."""
        if place is None:
            await self._connectors()
        else:
            await self.require_match(place)

    async def running(self) -> bool:
        """Whether any connector with TLS accepts connections."""
        return any(await asyncio.gather(*(self._accepts(*address) for address in await self._addresses())))

    # Changing.

    async def activate(self, place: Place, /) -> Activated:
        """Make Tomcat load the place anew, for every host that uses it; then the hook, if one is set. A restart is
        waited for until the connectors accept connections again."""
        users = [one for one in await self._found() if any(_is(place, other) for other in one.places)]
        told = []
        if self._settings.reload != "hook":
            manager = await asyncio.to_thread(Manager, self._settings, self._surroundings.secret)
            async with manager:
                if self._settings.reload == "manager":
                    for name in dict.fromkeys(one.host.name for one in users):
                        told.append(await manager.reload_host(name))
                else:
                    for port in dict.fromkeys(one.connector.port for one in users):
                        told.append(await manager.reload_port(port))
        if self._settings.hook is not None:
            told.append(
                await run_hook(
                    self._host, self._settings, certificate=place.certificate, key=place.key, chain=place.chain
                )
            )
            await self._await_start(users)
        # The manager answers when the connector has the new certificate; of a hook nobody knows what it does.
        proof = Activation.REQUESTED if self._settings.reload == "hook" else Activation.IN_EFFECT
        return Activated(proof, "\n".join(told))

    async def _await_start(self, users: Sequence[Found]) -> None:
        addresses = dict.fromkeys(self._address(one.connector) for one in users)
        seconds = self._settings.start_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                for address in addresses:
                    while not await self._accepts(*address):
                        await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise Permanent(
                f"{self.title} did not accept connections within {seconds:g} s after {self._settings.hook_title}."
            ) from None

    # The files.

    async def archive(self, place: Place, /) -> Archive | None:
        """Keystores, with the passphrases that ``server.xml`` has for them."""
        if place.form == ENCRYPTED:
            return None
        if place.form not in ("pkcs12", "jks"):
            return await super().archive(place)
        return await self._entry(await self._element(place))

    async def in_place(self, place: Place) -> InPlace:
        """Of a PEM key with a passphrase too."""
        found = await super().in_place(place)
        if place.form != ENCRYPTED:
            return found
        content = await self.read(place.key)
        word = await self._key_password(await self._element(place))
        return replace(found, public_key=await asyncio.to_thread(_public_key, content, word) if content else None)

    async def _key_parts(self, place: Place, material: Material, contents: certificates.Contents) -> list[bytes | str]:
        """A key that has a passphrase in its file gets it again."""
        if place.form != ENCRYPTED or material.private_key_pem is None:
            return await super()._key_parts(place, material, contents)
        word = await self._key_password(await self._element(place))
        key = load_pem_private_key(material.private_key_pem, password=None)
        return [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(word.encode()))]

    async def _entry(self, element: CertificateElement) -> KeystoreEntry:
        if self._settings.keystore_password is not None:
            store = await self._secret(self._settings.keystore_password)
        else:
            store = await self._first_line(element.password_file) or element.password or DEFAULT_PASSWORD
        key = await self._key_password(element, store)
        return KeystoreEntry(Passphrases(store, key), self._surroundings.clock)

    async def _key_password(self, element: CertificateElement, default: str = "") -> str:
        if self._settings.key_password is not None:
            return await self._secret(self._settings.key_password)
        # A file has precedence over an attribute, the keystore's own too (`SSLUtilBase.getKeyManagers`).
        path = element.key_password_file or element.password_file
        return await self._first_line(path) or element.key_password or default

    async def _secret(self, reference: str) -> str:
        word = await asyncio.to_thread(self._surroundings.secret, reference)
        try:
            return word.decode()
        except UnicodeDecodeError:
            raise Permanent(f"The passphrase {reference} is not text in UTF-8, as Tomcat needs it.") from None

    async def _first_line(self, path: str | None) -> str:
        """As Tomcat reads a passphrase from a file."""
        content = await self.read(path) if path is not None else None
        return content.decode("utf-8", "replace").split("\n", 1)[0].rstrip("\r") if content else ""

    # The configuration.

    async def _connectors(self) -> list[TlsConnector]:
        path = self._settings.server_xml
        given = await self.read(posixpath.join(posixpath.dirname(path), "catalina.properties"))
        # Tomcat makes system properties of these, over what stood on its command line.
        properties = {**self._settings.own_properties, **(properties_of(given) if given else {})}
        return connectors_of(await self._host.read(path), properties, self._settings.base, path)

    async def _found(self) -> list[Found]:
        return [await self._look(connector, host) for connector in await self._connectors() for host in connector.hosts]

    async def _look(self, connector: TlsConnector, host: TlsHost) -> Found:
        """Follow links, open keystores, and tell what is in the way."""
        places = []
        obstacle = host.obstacle
        for element in host.certificates:
            place = await self._place(element)
            if place.form in ("pkcs12", "jks"):
                place, why = await self._in_keystore(element, place)
                obstacle = obstacle or why
            places.append(place)
        return Found(connector, host, places, obstacle)

    async def _place(self, element: CertificateElement) -> Place:
        chain = await self.resolve(element.chain) if element.chain is not None else None
        certificate, key = await self.resolve(element.certificate), await self.resolve(element.key)
        return Place(certificate, key, chain, element.form, element.alias)

    async def _in_keystore(self, element: CertificateElement, place: Place) -> tuple[Place, str | None]:
        """The place with the form that the file really has and the alias of the key that Tomcat takes, and what stands
        in the way."""
        try:
            content = await self.read(place.certificate)
            place = replace(place, form=form_of(content, place.form))
            entry = await self._entry(element)
        except Permanent as error:
            return place, f"{error.message[0].lower()}{error.message[1:]}"
        survey = await asyncio.to_thread(entry.look, content, place)
        if not place.alias and len(survey.aliases) == 1:
            place = replace(place, alias=survey.aliases[0])
        return place, survey.obstacle

    async def _element(self, place: Place) -> CertificateElement:
        """The element that a place was made of."""
        for connector in await self._connectors():
            for host in connector.hosts:
                for element in host.certificates:
                    found = await self._place(element)
                    alike = found.alias.lower() in ("", place.alias.lower())
                    if (found.certificate, found.key) == (place.certificate, place.key) and alike:
                        return element
        raise Permanent(f"{self._settings.server_xml} does not name {place.certificate} any more: discover it again.")

    def _address(self, connector: TlsConnector) -> tuple[str, int]:
        return self._settings.address or connector.address or self._host.address, connector.port

    async def _addresses(self) -> list[tuple[str, int]]:
        return list(dict.fromkeys(self._address(one) for one in await self._connectors() if one.port))

    async def _accepts(self, address: str, port: int) -> bool:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(address, port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True


def _is(place: Place, other: Place) -> bool:
    """An entry that was without an alias has one by now."""
    same = (place.certificate, place.key) == (other.certificate, other.key)
    return same and place.alias.lower() in ("", other.alias.lower())


def _public_key(content: bytes, passphrase: str) -> str | None:
    """Of a PEM key with a passphrase, or, where somebody took that away, without."""
    for word in (passphrase.encode() or None, None):
        try:
            return certificates.public_key_of_key(load_pem_private_key(content, word))
        except (ValueError, TypeError):
            continue
    return None


def _open(settings: TomcatSettings, surroundings: Surroundings) -> TomcatEndpoint:
    return TomcatEndpoint(settings, surroundings)


CONNECTOR: ConnectorType[TomcatSettings, TomcatEndpoint] = ConnectorType(
    name="tomcat", title="Tomcat", settings=TomcatSettings, open=_open
)
