"""What is written down of certificates that were seen: what they say, and where they were.

Certificates of strangers break rules; what can't be read of one is left out, and one whose dates can't be read is not
kept at all. Everything is bounded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TypeVar

from cryptography import x509 as crypto
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from sqlalchemy import ColumnElement, update
from sqlmodel import Session, col, select

from model import x509
from model.errors import CertgateError
from model.states import SightingWay
from model.tables import SeenCertificate, Sighting

MOST_NAMES = 100
# OpenSSL takes no more than 100 KiB of certificates in a handshake; as PEM that is a third more.
LARGEST_PEM = 140_000
_LONGEST_NAME, _LONGEST_TEXT, _LONGEST_SERIAL = 253, 1024, 80
_AT_ONCE = 500
ReadT = TypeVar("ReadT")


@dataclass(frozen=True)
class Spot:
    """Where a certificate was seen. Fields are as in `Sighting`."""

    gateway_id: int
    way: SightingWay
    endpoint_id: int | None = None
    binding: str = ""
    keystore_id: int | None = None
    alias: str = ""
    address: str = ""
    port: int = 0
    server_name: str = ""
    starttls: str = ""

    @property
    def key(self) -> str:
        """One word for it, the same whenever it is seen."""
        words = [str(getattr(self, one.name)) for one in fields(self)]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def described(pem: str) -> SeenCertificate | None:
    """What a certificate says, as a row without its times of being seen; None for one that can't be kept."""
    if len(pem) > LARGEST_PEM:
        return None
    try:
        certificate = x509.load_certificate(pem)
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        serial = x509.serial_hex(certificate)
    except (CertgateError, ValueError, crypto.InvalidVersion):
        return None
    names = _names(certificate)
    subject = _read(lambda: x509.distinguished_name(certificate.subject)) or "(unreadable)"
    issuer = _read(lambda: x509.distinguished_name(certificate.issuer)) or "(unreadable)"
    common = _read(lambda: x509.common_name(certificate)) or (names[0] if names else "(no name)")
    return SeenCertificate(
        fingerprint=x509.fingerprint(certificate),
        pem=x509.to_pem(certificate),
        common_name=_text(common, _LONGEST_NAME),
        subject=_text(subject, _LONGEST_TEXT),
        issuer=_text(issuer, _LONGEST_TEXT),
        names=[_text(name, _LONGEST_NAME) for name in names[:MOST_NAMES]],
        names_total=len(names),
        serial_number=serial[:_LONGEST_SERIAL],
        key_algorithm=_read(lambda: _algorithm(certificate.public_key())) or "unknown",
        not_before=first,
        not_after=last,
        authority=bool(_read(lambda: x509.is_authority(certificate))),
        self_signed=subject == issuer,
    )


def known(session: Session, fingerprints: Iterable[str]) -> dict[str, int]:
    """Those of the fingerprints that were seen before, with the numbers of their rows."""
    found: dict[str, int] = {}
    for some in _portions(sorted(set(fingerprints))):
        statement = select(SeenCertificate.fingerprint, SeenCertificate.id)
        found.update(session.exec(statement.where(col(SeenCertificate.fingerprint).in_(some))).all())  # type: ignore[arg-type]
    return found


def keep(session: Session, found: Mapping[Spot, str], pems: Iterable[str], now: datetime) -> tuple[int, int]:
    """Write down what was seen: the fingerprint at each place. What was at the place before is gone. `pems` are the
    certificates that may not be known yet; of one that is neither known nor among them only that is written down.

    Gives how many certificates were never seen before, and how many places have one that could not be kept.
    """
    numbers = known(session, found.values())
    fresh: dict[str, SeenCertificate] = {}
    for pem in pems:
        row = described(pem)
        if row is not None and row.fingerprint not in numbers and row.fingerprint not in fresh:
            row.first_seen = row.last_seen = now
            fresh[row.fingerprint] = row
    wanted = set(found.values())
    session.add_all(row for name, row in fresh.items() if name in wanted)
    session.flush()
    numbers.update({name: row.id for name, row in fresh.items() if row.id is not None})
    for some in _portions(sorted(set(numbers.values()))):
        session.execute(update(SeenCertificate).where(col(SeenCertificate.id).in_(some)).values(last_seen=now))
    spots = {spot.key: spot for spot in found}
    rows: dict[str, list[Sighting]] = {}
    for places in _portions(sorted(spots)):
        for sighting in session.exec(select(Sighting).where(col(Sighting.place).in_(places))).all():
            rows.setdefault(sighting.place, []).append(sighting)
    unkept = 0
    for place, spot in spots.items():
        number = numbers.get(found[spot])
        unkept += number is None
        here = False
        for sighting in rows.get(place, ()):
            if sighting.certificate_id == number:
                sighting.last_seen, sighting.gone_at, here = now, None, True
            elif sighting.gone_at is None:
                sighting.gone_at = now
            session.add(sighting)
        if number is not None and not here:
            values = {one.name: getattr(spot, one.name) for one in fields(spot)}
            session.add(Sighting(certificate_id=number, place=place, first_seen=now, last_seen=now, **values))
    session.flush()
    return len(fresh), unkept


def vanish(session: Session, among: ColumnElement[bool], there: Collection[str], now: datetime) -> None:
    """What was seen before at one of the places `among` and is not at any place of `there` (`Spot.key`) is gone."""
    statement = select(Sighting.id, Sighting.place).where(among, col(Sighting.gone_at).is_(None))
    gone = [number for number, place in session.exec(statement).all() if place not in there and number is not None]
    for some in _portions(gone):
        session.execute(update(Sighting).where(col(Sighting.id).in_(some)).values(gone_at=now))


def _names(certificate: crypto.Certificate) -> list[str]:
    extension = _read(lambda: x509.extension(certificate, crypto.SubjectAlternativeName))
    if extension is None:
        return []
    dns = _read(lambda: extension.get_values_for_type(crypto.DNSName)) or []
    addresses = _read(lambda: extension.get_values_for_type(crypto.IPAddress)) or []
    return list(dict.fromkeys([*(name.lower() for name in dns), *(str(address) for address in addresses)]))


def _algorithm(key: object) -> str:
    ours = x509.key_algorithm(key)  # type: ignore[arg-type]
    if ours is not None:
        return str(ours)
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    if isinstance(key, dsa.DSAPublicKey):
        return f"dsa-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ec-{key.curve.name}"[:32]
    return "ed448" if isinstance(key, ed448.Ed448PublicKey) else "unknown"


def _read(what: Callable[[], ReadT]) -> ReadT | None:
    try:
        return what()
    except (CertgateError, ValueError, TypeError, UnsupportedAlgorithm, crypto.DuplicateExtension):
        return None


def _text(given: str, most: int) -> str:
    """Whatever a stranger wrote, in one bounded line; PostgreSQL takes no NUL."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in given[:most])


def _portions(values: list[ReadT]) -> list[list[ReadT]]:
    return [values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE)]
