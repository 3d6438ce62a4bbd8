"""The account at the CA (RFC 8555 section 7.3): its key, and finding or making it.

The key is made once, in a folder of this process alone (mode 0700, file 0600), or an administrator names one; it is
used here and goes nowhere else. An account is looked for with ``onlyReturnExisting`` before one is made, so that a key
that was seen by the CA is not registered anew, and an External Account Binding is spent only once.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Callable

import josepy as jose
from acme import messages
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from connectors.ca.acme.network import Network, Problematic, Signer
from connectors.ca.acme.settings import Settings
from connectors.errors import Permanent
from connectors.folders import PrivateFolder
from connectors.web import Answer

KEY_NAME = "account.key"
_LARGEST_KEY = 65_536
_CURVES = {"secp256r1": jose.ES256, "secp384r1": jose.ES384, "secp521r1": jose.ES512}
_SMALLEST_RSA = 2048


class Account:
    """The account that signs. Nothing is read or asked before the first request."""

    def __init__(
        self, network: Network, settings: Settings, folder: PrivateFolder, secret: Callable[[str], bytes]
    ) -> None:
        self._network, self._settings, self._folder, self._secret = network, settings, folder, secret
        self._signer: Signer | None = None

    async def post(self, url: str, payload: jose.JSONDeSerializable | None, act: str, accept: str = "*/*") -> Answer:
        """A request signed by the account; see `Network.post`. An account that the CA has lost is made again, once."""
        signer = await self.signer()
        try:
            return await self._network.post(signer, url, payload, act, accept)
        except Problematic as refused:
            if refused.problem.kind != "accountDoesNotExist":
                raise
        self._signer = None
        return await self._network.post(await self.signer(), url, payload, act, accept)

    async def ask(self, url: str, payload: jose.JSONDeSerializable | None, act: str, accept: str = "*/*") -> Answer:
        """The same, with a problem raised as the outcome that it stands for."""
        try:
            return await self.post(url, payload, act, accept)
        except Problematic as refused:
            raise refused.error from None

    async def key(self) -> jose.JWK:
        """The account key; its thumbprint is part of every answer to a challenge."""
        return (await self._unregistered()).key

    async def signer(self) -> Signer:
        """Who signs, with the account's address; finds or makes the account at the first call."""
        if self._signer is None:
            unregistered = await self._unregistered()
            try:
                self._signer = await self._find(unregistered) or await self._make(unregistered)
            except Problematic as refused:
                raise refused.error from None
        return self._signer

    async def _find(self, signer: Signer) -> Signer | None:
        directory = await self._network.directory()
        looking = messages.NewRegistration(only_return_existing=True)
        try:
            answer = await self._network.post(signer, directory["newAccount"], looking, "the account")
        except Problematic as refused:
            if refused.problem.kind == "accountDoesNotExist":
                return None
            raise
        found = Signer(signer.key, signer.algorithm, self._network.location(answer, "the account"))
        account = answer.object()
        status = account.get("status")
        if status not in (None, "valid"):
            raise Permanent(
                f"The account at {self._network.where} is {str(status)[:20]}: name another account_key, or move "
                f"{self._folder.path / KEY_NAME} away so that a new account is made."
            )
        wanted = [f"mailto:{one}" for one in self._settings.contact]
        if wanted and sorted(account.get("contact") or []) != sorted(wanted):
            update = messages.UpdateRegistration(contact=tuple(wanted))
            await self._network.post(found, str(found.account), update, "the contact addresses")
        return found

    async def _make(self, signer: Signer) -> Signer:
        directory, settings = await self._network.directory(), self._settings
        terms = directory["meta"].terms_of_service
        if terms and not settings.terms_agreed:
            raise Permanent(
                f"{self._network.where} makes an account only for who agrees to its terms of service: read {terms}, "
                "then set terms_agreed."
            )
        binding = None
        if settings.eab_key_id is not None:
            binding = self._binding(signer, directory, settings.eab_key_id)
        elif directory["meta"].external_account_required:
            raise Permanent(
                f"{self._network.where} takes only accounts that belong to one of its customers: set eab_key_id and "
                "eab_hmac_key, as the CA gave them to you."
            )
        wanted = messages.NewRegistration(
            contact=tuple(f"mailto:{one}" for one in settings.contact),
            external_account_binding=binding,
            terms_of_service_agreed=True if settings.terms_agreed else None,
        )
        answer = await self._network.post(signer, directory["newAccount"], wanted, "the account")
        return Signer(signer.key, signer.algorithm, self._network.location(answer, "the account"))

    def _binding(self, signer: Signer, directory: messages.Directory, key_id: str) -> dict[str, object]:
        """External Account Binding (RFC 8555 section 7.3.4)."""
        reference = self._settings.eab_hmac_key
        assert reference is not None
        try:
            secret = self._secret(reference).decode("ascii").strip().rstrip("=")
            if not jose.b64.b64decode(secret):
                raise ValueError
            return messages.ExternalAccountBinding.from_data(
                signer.key.public_key(), key_id, secret, directory, self._settings.eab_hmac_algorithm
            )
        except (ValueError, binascii.Error, UnicodeDecodeError):
            raise Permanent(
                f"The credential {reference} is no HMAC key: it must be base64url, as the CA gave it."
            ) from None

    async def _unregistered(self) -> Signer:
        if self._signer is not None:
            return self._signer
        return await asyncio.to_thread(self._load)

    def _load(self) -> Signer:
        reference = self._settings.account_key
        if reference is not None:
            return _signer(self._secret(reference), f"The credential {reference}")
        self._folder.prepare()
        with self._folder.lock():
            pem = self._folder.read(KEY_NAME, _LARGEST_KEY)
            if pem is None:
                made = ec.generate_private_key(ec.SECP256R1())
                pem = made.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
                self._folder.write(KEY_NAME, pem)
        return _signer(pem, f"The file {self._folder.path / KEY_NAME}")


def _signer(pem: bytes, what: str) -> Signer:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Permanent(f"{what} holds no private key in PEM without a passphrase.") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _SMALLEST_RSA:
        return Signer(jose.JWKRSA(key=key), jose.RS256)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return Signer(jose.JWKEC(key=key), _CURVES[key.curve.name])
    raise Permanent(f"{what} holds a key of a kind that ACME accounts don't have: use EC P-256 or RSA of 2048 bits.")
