"""Trusted CA certificates: roots that chains must end at, and intermediates that complete them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import sqlalchemy
from cryptography import x509 as crypto
from sqlmodel import Session, col, select

from connectors import issuers
from connectors.errors import ConnectorError, Retryable
from model import x509
from model.errors import InvalidInput, NotFound, Unavailable
from model.tables import Certificate, CertificateAuthority, CertificateRequest, TrustedCertificate
from operations import lookup, trust_expiry
from operations.bootstrap import trusted
from operations.context import Context
from operations.lookup import identity

_SHORTEST_PREFIX = 8
_MOST_AT_ONCE = 100
_LONGEST_SUBJECT = 1024


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
    """What would miss it: the CAs whose newest certificate leads through it to a trust anchor, the subjects of the
    trusted CA certificates that it signed, and how many certificates in use have it in their chain or end at it."""

    authorities: list[str] = field(default_factory=list)
    signed: list[str] = field(default_factory=list)
    in_use: int = 0


@dataclass(frozen=True)
class Candidate:
    """A certificate that might be trusted, as people have to see it first. `problem` says why it can't be, `remark`
    what is to be known about it. `signed_by` is the trusted CA certificate that signed it, if one did."""

    subject: str
    issuer: str
    fingerprint: str
    serial_number: str
    key: str
    not_before: datetime
    not_after: datetime
    is_root: bool
    known: bool
    signed_by: str | None
    problem: str | None
    remark: str | None
    pem: str


@dataclass(frozen=True)
class WaitingRequest:
    """A request whose certificate waits for an issuer."""

    id: int
    common_name: str


@dataclass(frozen=True)
class Waiting:
    """The requests that can't go on before the certificate of `missing_issuer` (RFC 4514) is trusted."""

    missing_issuer: str
    requests: list[WaitingRequest]


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
        counted = trust_expiry.in_use(session, context.clock())
    for number, issuer in there.items():
        for other, certificate in there.items():
            if other != number and x509.is_signed_by(certificate, issuer):
                found[number].signed.append(x509.distinguished_name(certificate.subject))
        found[number] = replace(found[number], in_use=trust_expiry.count(issuer, counted))
    return found


def show(context: Context, fingerprint: str) -> tuple[TrustRow, str]:
    """One, with its PEM, by fingerprint or its beginning. Raises `NotFound`, `InvalidInput`."""
    with context.database.read() as session:
        row = _known(session, fingerprint)
        return _row(row), row.pem


def inspect(context: Context, *contents: str | bytes) -> list[Candidate]:
    """What is in PEM texts or files (PEM, DER, PKCS#7), each certificate once; nothing is trusted for that. Raises
    `InvalidInput` (unreadable, a private key, too many)."""
    with context.database.read() as session:
        rows = session.exec(select(TrustedCertificate).order_by(col(TrustedCertificate.id))).all()
    there = [x509.load_certificate(row.pem) for row in rows]
    return [_candidate(one, there, context.clock()) for one in _read(contents)]


async def fetch(context: Context, url: str, networks: Sequence[str]) -> list[Candidate]:
    """What an issuer's URL gives, for a person to look at; nothing is trusted for that. Only public addresses and those
    in `networks` are asked. Raises `InvalidInput` (the address, what it gave), `Unavailable`, `NotPermitted`."""
    if not context.actor.owns_everything:
        with context.acting("trust.fetched", "trust"):
            context.require_owner("fetch CA certificates")
    try:
        found = await issuers.fetch(url.strip(), issuers.reachable(networks))
    except Retryable as error:
        raise Unavailable(error.message) from None
    except ConnectorError as error:
        raise InvalidInput(error.message) from None
    return inspect(context, "".join(x509.to_pem(one) for one in found))


def add(context: Context, *contents: str | bytes, only: Collection[str] | None = None) -> list[TrustRow]:
    """Trust the CA certificates of PEM texts or files (PEM, DER, PKCS#7), all or none: self-signed ones as roots, the
    others as intermediates; those that are known are left as they are. `only` are the fingerprints of those meant.
    Requests that wait for one of them go on by themselves. Raises `InvalidInput` (unreadable, too many, not a CA's,
    ended, a fingerprint that is not there), `NotPermitted`."""
    certificates = _read(contents)
    if only is not None:
        wanted = {_digits(one) for one in only}
        prints = {x509.fingerprint(one) for one in certificates}
        if missing := sorted(wanted - prints):
            raise InvalidInput(
                f"There is no certificate with the fingerprint {missing[0][:64]!a} in it, so nothing was added."
            )
        certificates = [one for one in certificates if x509.fingerprint(one) in wanted]
    for certificate in certificates:
        problem = _problem(certificate, context.clock())
        if problem is not None:
            raise InvalidInput(f"{problem}, so nothing was added.")
    rows = [trusted(x509.to_pem(one), is_root=x509.is_self_signed(one)) for one in certificates]
    with context.acting("trust.added", "trust") as session:
        context.require_owner("add trusted CA certificates")
        return keep(context, session, rows)


def waiting(context: Context) -> list[Waiting]:
    """Which open requests of the actor's organizations and departments wait for which issuer, by its name."""
    with context.database.read() as session:
        found = session.execute(
            sqlalchemy.select(
                col(CertificateRequest.missing_issuer), col(CertificateRequest.id), col(CertificateRequest.common_name)
            )
            .where(
                col(CertificateRequest.missing_issuer).is_not(None),
                col(CertificateRequest.closed).is_(False),
                lookup.seen_by(context.actor, CertificateRequest.organization_id, CertificateRequest.department_id),
            )
            .order_by(col(CertificateRequest.id))
        ).all()
    grouped: dict[str, list[WaitingRequest]] = {}
    for issuer, number, name in found:
        grouped.setdefault(issuer, []).append(WaitingRequest(number, name))
    return [Waiting(issuer, grouped[issuer]) for issuer in sorted(grouped)]


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


def _read(contents: Sequence[str | bytes]) -> list[crypto.Certificate]:
    found = [
        certificate
        for content in contents
        for certificate in x509.read_certificates(content.encode() if isinstance(content, str) else content)
    ]
    if len(found) > _MOST_AT_ONCE:
        raise InvalidInput(f"There are {len(found)} certificates in it; add at most {_MOST_AT_ONCE} at once.")
    return list(dict.fromkeys(found))


def _problem(certificate: crypto.Certificate, now: datetime) -> str | None:
    """Why it can't be trusted, as the beginning of a sentence."""
    name = x509.called(certificate)
    if not x509.is_authority(certificate):
        return f"The certificate of {name} is not one of a CA (basicConstraints)"
    if certificate.not_valid_after_utc <= now:
        return f"The certificate of {name} ended on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if len(name) > _LONGEST_SUBJECT:
        return f"The certificate of {name[:60]}… has a name of more than {_LONGEST_SUBJECT} characters"
    weak = x509.weak_hash(certificate)
    if weak is not None and not x509.is_self_signed(certificate):
        return f"The certificate of {name} is signed with {weak}, which can be forged"
    return None


def _candidate(one: crypto.Certificate, there: Sequence[crypto.Certificate], now: datetime) -> Candidate:
    algorithm = x509.key_algorithm(one.public_key())
    is_root = x509.is_self_signed(one)
    signer = next((other for other in there if other != one and x509.is_signed_by(one, other)), None)
    remark = None
    if one.not_valid_before_utc > now:
        remark = f"Its life begins only on {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC."
    elif is_root:
        remark = "A root: whatever it signs is accepted once it is trusted."
    elif signer is None:
        remark = "No trusted CA certificate signed it: it completes chains, and they still need its issuer."
    return Candidate(
        subject=x509.distinguished_name(one.subject),
        issuer=x509.distinguished_name(one.issuer),
        fingerprint=x509.fingerprint(one),
        serial_number=x509.serial_hex(one),
        key=str(algorithm) if algorithm else "other",
        not_before=one.not_valid_before_utc,
        not_after=one.not_valid_after_utc,
        is_root=is_root,
        known=one in there,
        signed_by=x509.distinguished_name(signer.subject) if signer is not None else None,
        problem=_problem(one, now),
        remark=remark,
        pem=x509.to_pem(one),
    )


def _digits(fingerprint: str) -> str:
    return fingerprint.replace(":", "").replace(" ", "").lower()


def _known(session: Session, fingerprint: str) -> TrustedCertificate:
    wanted = _digits(fingerprint)
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
