"""Trusted CA certificates: roots that chains must end at, and intermediates that complete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509 as crypto
from cryptography.x509 import BasicConstraints, ExtensionNotFound
from sqlmodel import Session, col, select

from model import x509
from model.errors import InvalidInput, NotFound
from model.tables import Certificate, CertificateAuthority, CertificateRequest, TrustedCertificate
from operations.bootstrap import trusted
from operations.context import Context
from operations.lookup import identity

_SHORTEST_PREFIX = 8
_MOST_AT_ONCE = 100


@dataclass(frozen=True)
class TrustRow:
    """A line of the list. Fingerprint: SHA-256, lower-case hex."""

    id: int
    subject: str
    fingerprint: str
    is_root: bool
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True)
class TrustUses:
    """What would miss it: the CAs whose newest certificate leads through it to a trust anchor, and the subjects of the
    trusted CA certificates that it signed."""

    authorities: list[str] = field(default_factory=list)
    signed: list[str] = field(default_factory=list)


def listing(context: Context) -> list[TrustRow]:
    """All trusted CA certificates, roots first; they are public."""
    statement = select(TrustedCertificate).order_by(col(TrustedCertificate.is_root).desc(), col(TrustedCertificate.id))
    with context.database.read() as session:
        return [_row(row) for row in session.exec(statement).all()]


def uses(context: Context) -> dict[int, TrustUses]:
    """What each trusted CA certificate is used for, by its id."""
    with context.database.read() as session:
        rows = session.exec(select(TrustedCertificate)).all()
        there = {identity(row): x509.load_certificate(row.pem) for row in rows}
        found = {number: TrustUses() for number in there}
        for authority in session.exec(select(CertificateAuthority).order_by(col(CertificateAuthority.name))).all():
            newest = session.exec(
                select(Certificate)
                .join(CertificateRequest, col(CertificateRequest.id) == col(Certificate.request_id))
                .where(CertificateRequest.authority_id == authority.id)
                .order_by(col(Certificate.id).desc())
            ).first()
            for number in _path(newest, there) if newest is not None else ():
                found[number].authorities.append(authority.name)
    for number, issuer in there.items():
        for other, certificate in there.items():
            if other != number and x509.is_signed_by(certificate, issuer):
                found[number].signed.append(x509.distinguished_name(certificate.subject))
    return found


def show(context: Context, fingerprint: str) -> tuple[TrustRow, str]:
    """One, with its PEM, by fingerprint or its beginning. Raises `NotFound`, `InvalidInput`."""
    with context.database.read() as session:
        row = _known(session, fingerprint)
        return _row(row), row.pem


def add(context: Context, *contents: str | bytes) -> list[TrustRow]:
    """Trust the CA certificates of PEM texts or files (PEM or DER), all or none: self-signed ones as roots, others as
    intermediates; those that are known are left as they are. Raises `InvalidInput` (unreadable, too many, not a CA's,
    ended), `NotPermitted`."""
    certificates = [
        certificate
        for content in contents
        for certificate in x509.read_certificates(content.encode() if isinstance(content, str) else content)
    ]
    if len(certificates) > _MOST_AT_ONCE:
        raise InvalidInput(f"There are {len(certificates)} certificates in it; add at most {_MOST_AT_ONCE} at once.")
    for certificate in certificates:
        if not _is_authority(certificate):
            name = x509.distinguished_name(certificate.subject)
            raise InvalidInput(
                f"The certificate of {name} is not one of a CA (basicConstraints), so nothing was added."
            )
        if certificate.not_valid_after_utc <= context.clock():
            name = x509.distinguished_name(certificate.subject)
            raise InvalidInput(
                f"The certificate of {name} ended on {certificate.not_valid_after_utc:%Y-%m-%d}, so nothing was added."
            )
    rows = [trusted(x509.to_pem(one), is_root=x509.is_self_signed(one)) for one in certificates]
    with context.acting("trust.added", "trust") as session:
        context.require_owner("add trusted CA certificates")
        return keep(context, session, rows)


def keep(context: Context, session: Session, rows: Sequence[TrustedCertificate]) -> list[TrustRow]:
    """Add those that are not there yet, in the session's transaction, and tell it."""
    kept = []
    for row in rows:
        statement = select(TrustedCertificate).where(TrustedCertificate.fingerprint == row.fingerprint)
        there = session.exec(statement).one_or_none()
        if there is None:
            session.add(row)
            session.flush()
            kind = "root" if row.is_root else "intermediate"
            told = f"The {kind} {row.subject} is trusted now."
            context.tell(session, "trust.added", "trust", told, object_id=row.id)
        kept.append(_row(there or row))
    return kept


def remove(context: Context, fingerprint: str) -> TrustRow:
    """Trust it no longer; certificates that are in use stay where they are. Raises `NotFound`, `InvalidInput`,
    `NotPermitted`."""
    with context.acting("trust.removed", "trust") as session:
        context.require_owner("remove trusted CA certificates")
        row = _known(session, fingerprint)
        gone = _row(row)
        session.delete(row)
        context.tell(session, "trust.removed", "trust", f"{row.subject} is trusted no longer.", object_id=row.id)
        return gone


def _path(leaf: Certificate, there: Mapping[int, crypto.Certificate]) -> set[int]:
    """Those of `there` that the path of a certificate leads through, by what was kept with it and by who signed."""
    known = {x509.fingerprint(certificate): number for number, certificate in there.items()}
    chain = [x509.load_certificate(pem) for pem in (leaf.pem, *leaf.chain_pem)]
    through = {known[print_] for one in chain if (print_ := x509.fingerprint(one)) in known}
    last = chain[-1]
    while issuer := next((n for n, one in there.items() if n not in through and x509.is_signed_by(last, one)), None):
        through.add(issuer)
        last = there[issuer]
    return through


def _is_authority(certificate: crypto.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(BasicConstraints).value.ca)
    except (ExtensionNotFound, ValueError):
        return False


def _known(session: Session, fingerprint: str) -> TrustedCertificate:
    wanted = fingerprint.replace(":", "").strip().lower()
    if len(wanted) < _SHORTEST_PREFIX:
        raise InvalidInput(f"Name at least the first {_SHORTEST_PREFIX} digits of the fingerprint.")
    rows = session.exec(
        select(TrustedCertificate).where(col(TrustedCertificate.fingerprint).startswith(wanted, autoescape=True))
    ).all()
    if len(rows) != 1:
        found = "no" if not rows else "more than one"
        raise NotFound(f"There is {found} trusted CA certificate {wanted[:64]!a}: `certgate trust list` shows them.")
    return rows[0]


def _row(row: TrustedCertificate) -> TrustRow:
    return TrustRow(
        id=identity(row),
        subject=row.subject,
        fingerprint=row.fingerprint,
        is_root=row.is_root,
        not_before=row.not_before,
        not_after=row.not_after,
    )
