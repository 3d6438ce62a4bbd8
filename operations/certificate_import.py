"""Certificates that a CA issued elsewhere are taken into the inventory: from the CA's own list, or from a file.

It is for MRAOs: a CA does not say to which organization a certificate belongs, and whoever has taken it may revoke it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy
from cryptography.x509 import Certificate as X509
from sqlalchemy import func
from sqlmodel import Session, col, select
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from activities import inventory
from model import access, naming, x509
from model.errors import Conflict, InvalidInput, NotFound, Unavailable
from model.messages import ImportStart
from model.rules.permissions import Scope
from model.tables import (
    CertificateAuthority,
    CertificateImport,
    CertificateProfile,
    Department,
    Gateway,
    ListedCertificate,
    Organization,
)
from operations import lookup
from operations.certificates import look_again
from operations.context import Context
from operations.lookup import identity
from workflows.certificate_import import CertificateImportWorkflow

STATES = ("new", "known", "chosen", "imported", "refused")
RUNNING = ("listing", "taking")
LARGEST_FILE = 1024 * 1024
_AT_ONCE = 500


@dataclass(frozen=True)
class NewImport:
    """Whose the certificates are to be, and how they are renewed: by which gateway and under which profile (None: the
    one of that CA, if there is just one). `auto_renew`: whether they are renewed by themselves."""

    ca: str | int
    organization: str | int
    gateway: str | int
    department: str | int | None = None
    profile: str | int | None = None
    auto_renew: bool = False


@dataclass(frozen=True)
class ImportView:
    """An import and how far it is. `counts` are its lines by state (`STATES`)."""

    id: int
    ca: str
    organization: str
    department: str | None
    gateway: str
    profile: str
    auto_renew: bool
    state: str
    message: str | None
    total: int | None
    counts: dict[str, int]
    created_at: datetime

    @property
    def running(self) -> bool:
        """Whether it is being worked on."""
        return self.state in RUNNING


@dataclass(frozen=True)
class LineView:
    """A certificate in the CA's list. `state` is one of `STATES`."""

    order_number: str
    serial_number: str
    common_name: str
    names: list[str]
    status: str
    profile: str
    not_after: datetime | None
    state: str
    note: str | None
    certificate_id: int | None


@dataclass(frozen=True)
class Page:
    """Some lines and how many there are in all."""

    rows: list[LineView]
    total: int


async def begin(context: Context, new: NewImport) -> ImportView:
    """Have the CA's list read; nothing is taken yet. Raises `InvalidInput`, `NotFound`, `NotPermitted`,
    `Unavailable`."""
    with context.acting("certificate.import", "import") as session:
        context.require_owner("import certificates")
        row = _row(context, session, new, "listing")
        told = f"The list of CA {_name(session, row)} is read for an import."
        context.tell(session, "certificate.import", "import", told, object_id=row.id, scope=_scope(row))
        number = identity(row)
    await _run(context, number)
    return show(context, number)


def show(context: Context, import_id: int) -> ImportView:
    """How far an import is. Raises `NotFound`, `NotPermitted`."""
    _require_owner(context)
    with context.database.read() as session:
        return _view(session, _found(session, import_id))


def listing(context: Context, limit: int = 50) -> list[ImportView]:
    """Imports, the newest first. Raises `NotPermitted`."""
    _require_owner(context)
    with context.database.read() as session:
        rows = session.exec(select(CertificateImport).order_by(col(CertificateImport.id).desc()).limit(limit)).all()
        return [_view(session, row) for row in rows]


def lines(
    context: Context,
    import_id: int,
    states: Sequence[str] = (),
    search: str = "",
    offset: int = 0,
    limit: int = 100,
) -> Page:
    """The CA's list as it was read. `search` looks into common name, order and serial number. Raises `NotFound`,
    `NotPermitted`."""
    _require_owner(context)
    with context.database.read() as session:
        _found(session, import_id)
        conditions = [col(ListedCertificate.import_id) == import_id]
        if states:
            conditions.append(col(ListedCertificate.state).in_(states))
        if search.strip():
            like = f"%{search.strip().lower()}%"
            conditions.append(
                func.lower(ListedCertificate.common_name).like(like)
                | func.lower(ListedCertificate.order_number).like(like)
                | col(ListedCertificate.serial_number).like(like.replace(":", ""))
            )
        total = session.exec(select(func.count()).select_from(ListedCertificate).where(*conditions)).one()
        statement = select(ListedCertificate).where(*conditions).order_by(col(ListedCertificate.id))
        rows = session.exec(statement.offset(offset).limit(limit)).all()
        return Page([_line(row) for row in rows], total)


async def take(context: Context, import_id: int, orders: Sequence[str] | None = None) -> ImportView:
    """Take what is new in the list: all of it, or these order numbers; goes on where one that failed had stopped.

    Raises `InvalidInput` (not in the list, or nothing to take), `Conflict` (still being read), `NotFound`,
    `NotPermitted`, `Unavailable`.
    """
    with context.acting("certificate.import", "import", import_id) as session:
        context.require_owner("import certificates")
        row = _found(session, import_id)
        gone = _gone(session, row)
        if gone is not None:
            raise Conflict(f"The {gone} of import {import_id} was removed: import again with another one.")
        if row.state in RUNNING:
            raise Conflict(f"Import {import_id} is being worked on ({row.state}): wait until that is over.")
        _choose(session, import_id, orders)
        count = _counts(session, import_id).get("chosen", 0)
        if not count:
            raise InvalidInput(f"Import {import_id} has nothing that is new: there is nothing to take.")
        refused = inventory.refusal(session, row)
        if refused is not None:
            raise InvalidInput(refused)
        row.state, row.message, row.updated_at = "taking", None, context.clock()
        session.add(row)
        told = f"{count} certificates of CA {_name(session, row)} are taken into the inventory."
        context.tell(session, "certificate.import", "import", told, object_id=row.id, scope=_scope(row))
    await _run(context, import_id)
    return show(context, import_id)


async def from_file(context: Context, new: NewImport, content: bytes, order_number: str = "") -> ImportView:
    """Take one certificate out of a file: PEM with what belongs to its chain, or DER. `order_number` is the CA's.

    Raises `InvalidInput` (not a certificate, refused), `Conflict` (known), `NotFound`, `NotPermitted`, `Unavailable`
    (taken, but its renewal was not started).
    """
    with context.acting("certificate.import", "import") as session:
        context.require_owner("import certificates")
        leaf, chain = _leaf(content)
        row = _row(context, session, new, "done")
        given = inventory.Given(x509.to_pem(leaf), [x509.to_pem(one) for one in chain], order_number.strip())
        verdict = inventory.take(session, row, given, context.clock())
        if verdict.state == "known":
            raise Conflict(verdict.note or "It is known already.")
        if verdict.state == "refused":
            raise InvalidInput(f"The certificate can't be imported: {verdict.note}")
        session.add(
            ListedCertificate(
                import_id=identity(row),
                order_number=given.order_number[:128],
                serial_number=x509.serial_hex(leaf)[:40],
                common_name=(x509.common_name(leaf) or "")[:253],
                names=x509.subject_names(leaf),
                not_after=leaf.not_valid_after_utc,
                state=verdict.state,
                note=verdict.note,
                certificate_id=verdict.certificate_id,
            )
        )
        row.message = f"Certificate {verdict.certificate_id} of CA {_name(session, row)} was imported from a file."
        session.add(row)
        context.tell(session, "certificate.imported", "import", row.message, object_id=row.id, scope=_scope(row))
        number, certificate_id = identity(row), verdict.certificate_id
    if new.auto_renew and certificate_id is not None:
        await look_again(await context.temporal(), certificate_id)
    return show(context, number)


async def _run(context: Context, import_id: int) -> None:
    client = await context.temporal()
    try:
        await client.start_workflow(
            CertificateImportWorkflow.run,
            ImportStart(import_id),
            id=naming.import_workflow(import_id),
            task_queue=naming.MANAGER_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="carry_on",
            static_summary=f"Import {import_id}",
        )
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error


def _require_owner(context: Context) -> None:
    if not context.actor.owns_everything:
        with context.acting("certificate.import", "import"):
            context.require_owner("look at imports of certificates")


def _row(context: Context, session: Session, new: NewImport, state: str) -> CertificateImport:
    authority = lookup.authority(session, new.ca)
    organization = lookup.organization(session, context.actor, new.organization)
    department = (
        lookup.department(session, context.actor, organization, new.department) if new.department is not None else None
    )
    gateway = lookup.gateway(session, context.actor, new.gateway)
    if not access.gateway_serves(session, gateway, identity(organization), department.id if department else None):
        raise InvalidInput(
            f"Gateway {gateway.name} does not serve {organization.name}: delegate it, or choose another gateway."
        )
    assert context.actor.id is not None
    row = CertificateImport(
        authority_id=identity(authority),
        organization_id=identity(organization),
        department_id=department.id if department else None,
        gateway_id=identity(gateway),
        profile_id=identity(_profile(session, authority, new.profile)),
        administrator_id=context.actor.id,
        auto_renew=new.auto_renew,
        state=state,
        created_at=context.clock(),
        updated_at=context.clock(),
    )
    session.add(row)
    session.flush()
    return row


def _profile(session: Session, authority: CertificateAuthority, which: str | int | None) -> CertificateProfile:
    if which is not None:
        return lookup.profile(session, which)
    statement = select(CertificateProfile).where(CertificateProfile.authority_id == authority.id)
    rows = session.exec(statement.order_by(col(CertificateProfile.name))).all()
    if len(rows) != 1:
        named = ", ".join(row.name for row in rows) or "none"
        raise InvalidInput(
            f"The profile under which the certificates are renewed is to be named; CA {authority.name} has {named}."
        )
    return rows[0]


def _leaf(content: bytes) -> tuple[X509, list[X509]]:
    """The certificate of a server, and the CA certificates that stand beside it."""
    if len(content) > LARGEST_FILE:
        raise InvalidInput("The file is larger than a mebibyte: that is no certificate with its chain.")
    found = x509.read_certificates(content)
    leaves = [one for one in found if not any(x509.is_signed_by(other, one) for other in found)]
    if len(leaves) != 1:
        raise InvalidInput(f"One certificate with its chain is expected in the file, and there are {len(leaves)}.")
    return leaves[0], [one for one in found if one != leaves[0]]


def _choose(session: Session, import_id: int, orders: Sequence[str] | None) -> None:
    of = (col(ListedCertificate.import_id) == import_id, col(ListedCertificate.state) == "new")
    change = sqlalchemy.update(ListedCertificate).values(state="chosen")
    if orders is None:
        session.execute(change.where(*of))
        return
    wanted = list(dict.fromkeys(orders))
    there: set[str] = set()
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        statement = select(ListedCertificate.order_number).where(
            ListedCertificate.import_id == import_id, col(ListedCertificate.order_number).in_(some)
        )
        there.update(session.exec(statement).all())
        session.execute(change.where(*of, col(ListedCertificate.order_number).in_(some)))
    missing = [number for number in wanted if number not in there]
    if missing:
        raise InvalidInput(f"The CA's list has no order {missing[0][:64]}: look at it first.")


def _found(session: Session, import_id: int) -> CertificateImport:
    row = session.get(CertificateImport, import_id)
    if row is None:
        raise NotFound(f"There is no import {import_id}.")
    return row


def _scope(row: CertificateImport) -> Scope:
    return Scope(row.organization_id, row.department_id)


def _name(session: Session, row: CertificateImport) -> str:
    return session.get_one(CertificateAuthority, row.authority_id).name


def _called(row: CertificateAuthority | Organization | Department | Gateway | CertificateProfile | None) -> str:
    """An import outlives what it names."""
    return row.name if row is not None else "(removed)"


def _gone(session: Session, row: CertificateImport) -> str | None:
    """What the import needs and was removed since."""
    needed = (
        ("CA", CertificateAuthority, row.authority_id),
        ("organization", Organization, row.organization_id),
        ("gateway", Gateway, row.gateway_id),
        ("profile", CertificateProfile, row.profile_id),
    )
    return next((what for what, table, number in needed if session.get(table, number) is None), None)


def _counts(session: Session, import_id: int) -> dict[str, int]:
    statement = select(ListedCertificate.state, func.count()).where(ListedCertificate.import_id == import_id)
    return dict(session.exec(statement.group_by(ListedCertificate.state)).all())


def _view(session: Session, row: CertificateImport) -> ImportView:
    counts = _counts(session, identity(row))
    return ImportView(
        id=identity(row),
        ca=_called(session.get(CertificateAuthority, row.authority_id)),
        organization=_called(session.get(Organization, row.organization_id)),
        department=_called(session.get(Department, row.department_id)) if row.department_id else None,
        gateway=_called(session.get(Gateway, row.gateway_id)),
        profile=_called(session.get(CertificateProfile, row.profile_id)),
        auto_renew=row.auto_renew,
        state=row.state,
        message=row.message,
        total=row.total,
        counts={state: counts.get(state, 0) for state in STATES},
        created_at=row.created_at,
    )


def _line(row: ListedCertificate) -> LineView:
    return LineView(
        order_number=row.order_number,
        serial_number=row.serial_number,
        common_name=row.common_name,
        names=list(row.names),
        status=row.status,
        profile=row.profile,
        not_after=row.not_after,
        state=row.state,
        note=row.note,
        certificate_id=row.certificate_id,
    )
