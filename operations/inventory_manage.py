"""Unmanaged certificates are taken under management: a request with the same names, for the place that serves them.

Each goes the way of every request, through approval to its installation; what is served changes when the new
certificate is installed, and not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from sqlmodel import Session, col, select

from model import access, x509
from model.errors import CertgateError, InvalidInput, NotPermitted
from model.rules import names
from model.rules.permissions import Scope
from model.states import InstallMode, Privilege, SightingWay
from model.tables import (
    Certificate,
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Delegation,
    Department,
    Endpoint,
    EndpointBinding,
    Gateway,
    Organization,
    SeenCertificate,
    Sighting,
)
from operations import inventory, lookup, submission
from operations.context import Context
from operations.lookup import identity

MOST = 500
_IN_NETWORK = (
    "It was seen in the network only: add its server as an endpoint of the gateway and discover it, or import the "
    "certificate from its CA."
)
_IN_KEYSTORE = "It is in a keystore only: add the server that uses it as an endpoint and discover it."
_LONGEST_SAID = 5


@dataclass(frozen=True)
class Wish:
    """Whose the certificates are to be, and how they are made. What is None is taken from what is possible, where that
    is just one."""

    organization: str | None = None
    department: str | None = None
    profile: str | None = None
    ca: str | None = None
    install: InstallMode | None = None
    comments: str = ""


@dataclass(frozen=True)
class Planned:
    """What is to be requested for one place that serves an unmanaged certificate. `note` is what differs from the
    certificate there, `problem` why nothing is requested; `request_id` is the request, once it is submitted."""

    seen_id: int
    fingerprint: str
    common_name: str
    names: list[str]
    gateway: str
    endpoint: str | None
    binding: str | None
    organization: str | None = None
    department: str | None = None
    profile: str | None = None
    ca: str | None = None
    note: str | None = None
    problem: str | None = None
    request_id: int | None = None


def preview(context: Context, which: Sequence[int | str], wish: Wish = Wish()) -> list[Planned]:
    """What `manage` would request, place by place; nothing is changed. Raises `InvalidInput` (too many), `NotFound`."""
    with context.database.read() as session:
        return [planned for planned, _ in _planned(context, session, which, wish)]


async def manage(context: Context, which: Sequence[int | str], wish: Wish = Wish()) -> list[Planned]:
    """Request a certificate for each place that serves one of these and can be installed on. One that can't be
    requested keeps no other from it: its `problem` says why. Raises `InvalidInput`, `NotFound`, `NotPermitted`."""
    with context.database.read() as session:
        plan = _planned(context, session, which, wish)
    if not any(grant.allows(Privilege.REQUEST) for grant in context.actor.grants):
        with context.acting("inventory.managed", "certificate seen"):
            raise NotPermitted(
                f"{context.actor.login} may not take certificates under management: the privilege "
                f"'{Privilege.REQUEST}' is missing."
            )
    done = []
    for planned, new in plan:
        if new is None:
            done.append(planned)
            continue
        try:
            request = await submission.submit(context, new)
            done.append(replace(planned, request_id=request.id))
        except CertgateError as error:
            done.append(replace(planned, problem=error.message))
    return done


def _planned(
    context: Context, session: Session, which: Sequence[int | str], wish: Wish
) -> list[tuple[Planned, submission.NewRequest | None]]:
    if not 0 < len(which) <= MOST:
        raise InvalidInput(f"Choose 1 to {MOST} certificates at a time, not {len(which)}.")
    rows = {identity(row): row for row in (inventory.found_by(context, session, one) for one in which)}
    found: list[tuple[Planned, submission.NewRequest | None]] = []
    taken: set[tuple[int, str]] = set()
    for row in rows.values():
        managed = select(Certificate.id).where(Certificate.fingerprint == row.fingerprint)
        number = session.exec(managed).first()
        if number is not None:
            found.append((_nothing(row, "", f"It is managed already: certificate {number}."), None))
            continue
        places = _places(context, session, row)
        at_endpoints = [place for place in places if place[0].way == SightingWay.ENDPOINT]
        if not at_endpoints:
            seen_in_network = any(place[0].way == SightingWay.NETWORK for place in places)
            by = places[0][1].name if places else ""
            why = _IN_NETWORK if seen_in_network else _IN_KEYSTORE if places else "It is seen nowhere any more."
            found.append((_nothing(row, by, why), None))
        for sighting, gateway, endpoint in at_endpoints:
            assert endpoint is not None
            found.append(_one(context, session, row, sighting, gateway, endpoint, wish, taken))
    return found


def _places(
    context: Context, session: Session, row: SeenCertificate
) -> list[tuple[Sighting, Gateway, Endpoint | None]]:
    statement = (
        select(Sighting, Gateway, Endpoint)
        .join(Gateway, col(Gateway.id) == col(Sighting.gateway_id))
        .outerjoin(Endpoint, col(Endpoint.id) == col(Sighting.endpoint_id))
        .where(Sighting.certificate_id == row.id, col(Sighting.gone_at).is_(None), inventory.sight(context))
        .order_by(col(Sighting.id))
        .limit(MOST)
    )
    return [(sighting, gateway, endpoint) for sighting, gateway, endpoint in session.exec(statement).all()]


def _one(
    context: Context,
    session: Session,
    row: SeenCertificate,
    sighting: Sighting,
    gateway: Gateway,
    endpoint: Endpoint,
    wish: Wish,
    taken: set[tuple[int, str]],
) -> tuple[Planned, submission.NewRequest | None]:
    planned = replace(_nothing(row, gateway.name, None), endpoint=endpoint.name, binding=sighting.binding)
    try:
        _refuse_done(context, session, endpoint, sighting.binding, taken)
        wanted, note = _wanted(session, row, endpoint, sighting.binding)
        planned = replace(planned, names=wanted, note=note)
        organization, department = _whose(context, session, gateway, wish)
        profile = _profile(session, wish)
        ca = wish.ca or session.get_one(CertificateAuthority, profile.authority_id).name
        planned = replace(planned, organization=organization, department=department, profile=profile.name, ca=ca)
        new = submission.NewRequest(
            common_name=wanted[0],
            names=wanted,
            organization=organization,
            department=department,
            gateway=identity(gateway),
            endpoint=endpoint.name,
            binding=sighting.binding,
            ca=wish.ca,
            profile=profile.name,
            install=wish.install,
            comments=wish.comments or f"Takes the place of {row.fingerprint[:16]}…, issued by {row.issuer}."[:1024],
        )
        submission.judge(context, session, new)
    except CertgateError as error:
        return replace(planned, problem=error.message), None
    taken.add((identity(endpoint), sighting.binding))
    return planned, new


def _nothing(row: SeenCertificate, gateway: str, problem: str | None) -> Planned:
    return Planned(
        identity(row), row.fingerprint, row.common_name, list(row.names), gateway, None, None, problem=problem
    )


def _refuse_done(
    context: Context, session: Session, endpoint: Endpoint, binding: str, taken: set[tuple[int, str]]
) -> None:
    """Raise `InvalidInput` where a request is under way already, or another one of this plan is installed there too."""
    known = session.exec(
        select(EndpointBinding).where(EndpointBinding.endpoint_id == endpoint.id, EndpointBinding.binding == binding)
    ).one_or_none()
    number = identity(endpoint)
    shared = list(known.shared_with) if known is not None else []
    twin = next((other for other in shared if (number, other) in taken), None)
    if twin is not None:
        raise InvalidInput(f"It is the same file as that of {twin}, for which one is requested: it is served here too.")
    statement = select(CertificateRequest).where(
        CertificateRequest.endpoint_id == number,
        col(CertificateRequest.binding).in_([binding, *shared]),
        ~col(CertificateRequest.closed),
    )
    request = session.exec(statement.order_by(col(CertificateRequest.id))).first()
    if request is not None:
        named = f"Request {request.id}" if context.actor.sees(access.scope_of(request)) else "A request"
        raise InvalidInput(f"{named} for this binding is under way.")


def _wanted(session: Session, row: SeenCertificate, endpoint: Endpoint, binding: str) -> tuple[list[str], str | None]:
    """The names to request, the common name first, and what of them differs from the certificate's own."""
    own = x509.subject_names(x509.load_certificate(row.pem)) if row.names_total > len(row.names) else list(row.names)
    given = own or [row.common_name]
    kept, left = [], []
    for name in given:
        try:
            kept.append(names.normalize_name(name))
        except InvalidInput:
            left.append(name)
    rows = session.exec(select(EndpointBinding).where(EndpointBinding.endpoint_id == endpoint.id)).all()
    here = next((one for one in rows if one.binding == binding), None)
    if here is None:
        raise InvalidInput(f"{endpoint.name} has no binding {binding} any more: discover it again.")
    together = [here, *(one for one in rows if one.binding in here.shared_with)]
    answered = chain.from_iterable(one.names for one in together)
    lacking = [name for name in dict.fromkeys(answered) if not any(x509.covers(one, name) for one in kept)]
    common = row.common_name.lower()
    wanted = list(dict.fromkeys([*(name for name in kept if name == common), *kept, *lacking]))
    if not wanted:
        raise InvalidInput("It has no name that can be requested: submit a request with the names that you want.")
    notes = []
    if left:
        notes.append(f"without {_said(left)}, which can't be requested")
    if lacking:
        notes.append(f"with {_said(lacking)}, which the binding answers to")
    return wanted, "; ".join(notes) or None


def _said(given: Sequence[str]) -> str:
    more = len(given) - _LONGEST_SAID
    return ", ".join(given[:_LONGEST_SAID]) + (f" and {more} more" if more > 0 else "")


def _whose(context: Context, session: Session, gateway: Gateway, wish: Wish) -> tuple[str, str | None]:
    """The organization and department: as wished, else the only one for which the actor may request there."""
    if wish.organization is not None:
        return wish.organization, wish.department
    if wish.department is not None:
        raise InvalidInput("A department was given without its organization: name the organization too.")
    possible = [
        (organization.name, department.name if department else None)
        for organization, department in _served(session, gateway)
        if context.actor.may(
            Privilege.REQUEST, Scope(identity(organization), identity(department) if department else None)
        )
    ]
    if len(possible) == 1:
        return possible[0]
    if not possible:
        raise InvalidInput(f"You may request nothing for whom gateway {gateway.name} serves.")
    listed = _said(["/".join(word for word in one if word) for one in possible])
    raise InvalidInput(f"Say whose it is to be: {listed}.")


def _served(session: Session, gateway: Gateway) -> list[tuple[Organization, Department | None]]:
    """Whom the gateway serves: of a General one all organizations, and where one may not request for these, their
    departments."""
    delegated = session.exec(select(Delegation).where(Delegation.gateway_id == gateway.id)).all()
    served = {(one.organization_id, one.department_id) for one in delegated}
    found: list[tuple[Organization, Department | None]] = []
    for organization in session.exec(select(Organization).order_by(col(Organization.name))).all():
        number = identity(organization)
        whole = access.gateway_serves(session, gateway, number, None)
        if whole:
            found.append((organization, None))
        statement = select(Department).where(Department.organization_id == number).order_by(col(Department.name))
        for department in session.exec(statement).all():
            if (number, department.id) in served and not whole:
                found.append((organization, department))
    return found


def _profile(session: Session, wish: Wish) -> CertificateProfile:
    """As wished, else the only one (of that CA) whose CA issues."""
    if wish.profile is not None:
        return lookup.profile(session, wish.profile)
    of = CertificateProfile.authority_id == CertificateAuthority.id
    statement = select(CertificateProfile).join(CertificateAuthority, of).where(col(CertificateAuthority.active))  # type: ignore[arg-type]
    if wish.ca is not None:
        statement = statement.where(CertificateAuthority.id == lookup.authority(session, wish.ca).id)
    rows = session.exec(statement.order_by(col(CertificateProfile.name))).all()
    if len(rows) != 1:
        listed = _said([row.name for row in rows]) or "there is none"
        raise InvalidInput(f"Say under which certificate profile it is to be requested: {listed}.")
    return rows[0]
