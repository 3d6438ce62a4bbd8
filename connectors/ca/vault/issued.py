"""What a PKI mount has issued, as far as we need to know it: whose key, which names, since when.

The engine knows neither order numbers nor references of ours. What it signed for us is found by its public key: the
mount's list of serial numbers is compared with those that we know, and the rest is read, each once in the life of this
object. Where the server lists names too (OpenBao's ``certs/detailed``), only certificates that bear one of our names
are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from cryptography import x509 as crypto

from connectors.errors import Permanent
from connectors.vault import Vault
from model import x509
from model.errors import CertgateError

ResultT = TypeVar("ResultT")

# A page of the list, where the server gives pages; and how many certificates are read at once.
_PAGE = 2_000
_AT_ONCE = 16
# So many unknown ones are read without asking for their names first.
_FEW = 32


@dataclass(frozen=True)
class Facts:
    """A certificate that the mount has issued."""

    serial: str
    public_key_sha256: str
    names: frozenset[str]
    not_before: datetime
    not_after: datetime


def colons(serial_hex: str) -> str:
    """A serial number (hex) as the engine writes it: ``0a:1b``."""
    whole = serial_hex.lower().replace(":", "").replace("-", "")
    whole = whole.zfill(len(whole) + len(whole) % 2)
    return ":".join(whole[at : at + 2] for at in range(0, len(whole), 2))


def names_of(certificate: crypto.Certificate) -> frozenset[str]:
    """All names of a certificate, the common name among them; other kinds of names are left out."""
    try:
        names = set(x509.subject_names(certificate))
    except CertgateError:
        names = set()
    common = x509.common_name(certificate)
    return frozenset(names | {common.lower()} if common else names)


async def together(work: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """The results of all of it, done at once; where one fails, nothing of the rest goes on behind our back."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Issued:
    """The certificates of one mount. Its methods may run at once; each certificate is read once all the same."""

    def __init__(self, vault: Vault, mount: str) -> None:
        self._vault, self._mount = vault, mount
        # By serial number. A set of names: listed and not read; None: not to be had, or not a certificate of anybody.
        self._known: dict[str, Facts | frozenset[str] | None] = {}
        self._by_key: dict[str, list[Facts]] = {}
        self._names_listed: bool | None = None
        self._looking = asyncio.Lock()

    def add(self, certificate: crypto.Certificate) -> Facts:
        """Take note of a certificate that came another way."""
        facts = Facts(
            colons(x509.serial_hex(certificate)),
            x509.public_key_sha256(certificate),
            names_of(certificate),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )
        if not isinstance(self._known.get(facts.serial), Facts):
            self._known[facts.serial] = facts
            self._by_key.setdefault(facts.public_key_sha256, []).append(facts)
        return facts

    def known(self, serial: str) -> Facts | None:
        """What is known of a certificate without asking."""
        found = self._known.get(serial)
        return found if isinstance(found, Facts) else None

    async def for_key(self, public_key_sha256: str, names: Collection[str]) -> list[Facts]:
        """Every certificate for this key that bears some of these names and no other, the newest first."""
        async with self._looking:
            await self._refresh(names)
        found = [one for one in self._by_key.get(public_key_sha256, ()) if one.names <= set(names)]
        return sorted(found, key=lambda one: one.not_before, reverse=True)

    async def serials(self, after: str = "", limit: int = _PAGE) -> list[str]:
        """A page of the mount's list, in the server's order; all of it from a server that knows no pages."""
        found = await self._list("certs", after, limit)
        return _texts(found.get("keys"))

    async def _refresh(self, names: Collection[str]) -> None:
        unknown = [one for one in await self._all() if one not in self._known]
        if len(unknown) > _FEW and self._names_listed is not False:
            await self._list_names()
            unknown = [one for one in unknown if one not in self._known]
        wanted = set(names)
        ours = [
            serial
            for serial, there in self._known.items()
            # One without any name that is listed may have addresses, which the list leaves out.
            if isinstance(there, frozenset) and (not there or there & wanted)
        ]
        await self._read([*unknown, *ours])

    async def _all(self) -> list[str]:
        found: dict[str, None] = {}
        after = ""
        while True:
            page = await self.serials(after)
            found |= dict.fromkeys(page)
            # Fewer: the last page. More, or the same once more: the server knows no pages and gave everything.
            if len(page) != _PAGE or page[-1] == after:
                return list(found)
            after = page[-1]

    async def _list_names(self) -> None:
        after = ""
        while True:
            try:
                found = await self._list("certs/detailed", after, _PAGE)
            except Permanent:
                # No right to it, which is no reason not to go the long way.
                found = {}
            keys, details = _texts(found.get("keys")), found.get("key_info")
            if not isinstance(details, Mapping):
                self._names_listed = bool(after)
                return
            for serial in keys:
                if serial not in self._known:
                    self._known[serial] = _listed_names(details.get(serial))
            self._names_listed = True
            if len(keys) != _PAGE or keys[-1] == after:
                return
            after = keys[-1]

    async def _list(self, path: str, after: str, limit: int) -> Mapping[str, Any]:
        query: dict[str, str | int] = {"limit": limit}
        if after:
            query["after"] = after
        # An empty list is answered with 404, and so is a path that the server does not have.
        return (await self._vault.ask("LIST", f"{self._mount}/{path}", query=query)).data

    async def _read(self, serials: Sequence[str]) -> None:
        for start in range(0, len(serials), _AT_ONCE):
            part = serials[start : start + _AT_ONCE]
            for serial, pem in zip(part, await together(map(self._pem, part)), strict=True):
                try:
                    self.add(x509.load_certificate(pem))
                except (CertgateError, ValueError):
                    self._known[serial] = None

    async def _pem(self, serial: str) -> str:
        pem = (await self._vault.ask("GET", f"{self._mount}/cert/{serial}")).data.get("certificate")
        return pem if isinstance(pem, str) else ""


def _texts(given: object) -> list[str]:
    return [one for one in given if isinstance(one, str)] if isinstance(given, Iterable) else []


def _listed_names(details: object) -> frozenset[str]:
    if not isinstance(details, Mapping):
        return frozenset()
    names = _texts(details.get("dns_names") or ())
    common = details.get("common_name")
    return frozenset(one.lower() for one in [*names, *([common] if isinstance(common, str) and common else [])])
