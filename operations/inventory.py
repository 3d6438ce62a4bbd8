"""The inventory: every certificate that was seen, whoever issued it, and where.

What an endpoint serves may be known to whoever sees its gateway. What is in a keystore or in a network may be there for
anybody whom the gateway serves, so it is shown to those who see all of these. A certificate that certgate manages is
shown to those who see whose it is.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy
from sqlalchemy import ColumnElement, Text, and_, cast, func, or_
from sqlmodel import Session, col, select

from model import access
from model.errors import InvalidInput, NotFound, NotPermitted
from model.rules.permissions import Scope
from model.states import CertificateStatus, Privilege, SightingWay
from model.tables import Certificate, Endpoint, Gateway, Keystore, SeenCertificate, Sighting
from operations import cells, lookup
from operations.context import Context
from operations.lookup import identity

State = Literal["unmanaged", "managed", "ignored"]
STATES: tuple[State, ...] = ("unmanaged", "managed", "ignored")
_SHOWN_PLACES = 3
_MOST_PLACES = 500
_AT_ONCE = 500
_PIECE = 1000
_LONGEST_WHY = 1024
_SHORTEST_FINGERPRINT = 8


@dataclass(frozen=True)
class Filter:
    """Which certificates; empty fields keep all. `search` looks into common name, names, issuer, serial number and
    fingerprint. `gone` keeps those that are seen nowhere any more, in place of those that are seen somewhere.
    `authorities` False leaves CA certificates out."""

    search: str = ""
    states: Sequence[State] = ()
    ways: Sequence[SightingWay] = ()
    gateway: str | None = None
    expiring_within_days: int | None = None
    expired: bool = False
    gone: bool = False
    authorities: bool = True


@dataclass(frozen=True)
class Place:
    """Where a certificate was seen. `where` is for people; `endpoint` and `binding`, `keystore` and `alias`, or
    `address`, `port`, `server_name` and `starttls` say it piece by piece."""

    id: int
    gateway: str
    way: SightingWay
    where: str
    first_seen: datetime
    last_seen: datetime
    gone_at: datetime | None
    endpoint: str | None = None
    binding: str | None = None
    keystore: str | None = None
    alias: str | None = None
    address: str | None = None
    port: int | None = None
    server_name: str | None = None
    starttls: str | None = None


@dataclass(frozen=True)
class SeenRow:
    """A line of the inventory. `certificate_id` and `certificate_status` are those of the managed certificate. `places`
    are the first few of `places_total` at which it is seen (with `gone`: was seen)."""

    id: int
    fingerprint: str
    common_name: str
    names: list[str]
    names_total: int
    subject: str
    issuer: str
    serial_number: str
    key_algorithm: str
    not_before: datetime
    not_after: datetime
    authority: bool
    self_signed: bool
    first_seen: datetime
    last_seen: datetime
    state: State
    certificate_id: int | None
    certificate_status: CertificateStatus | None
    ignored_by: str | None
    ignored_why: str | None
    ignored_at: datetime | None
    places_total: int = 0
    places: list[Place] = field(default_factory=list)


@dataclass(frozen=True)
class SeenDetail:
    """A certificate with the places at which it is and was seen (the first `_MOST_PLACES`), and itself as PEM."""

    row: SeenRow
    places: list[Place]
    places_total: int
    pem: str


@dataclass(frozen=True)
class Page:
    """Some rows and how many there are in all."""

    rows: list[SeenRow]
    total: int


def listing(context: Context, wanted: Filter = Filter(), offset: int = 0, limit: int = 100) -> Page:
    """Certificates that the actor may see, the first to end first; filtered and paged by the database. Raises
    `NotFound` (gateway)."""
    with context.database.read() as session:
        conditions = _conditions(context, session, wanted)
        counted = _joined(sqlalchemy.select(func.count())).where(*conditions)
        total = session.execute(counted).scalar_one()
        order = (col(SeenCertificate.not_after), col(SeenCertificate.id))
        found = session.execute(_rows().where(*conditions).order_by(*order).offset(offset).limit(limit)).all()
        return Page(_with_places(context, session, [_row(*line) for line in found], wanted), total)


def counts(context: Context, wanted: Filter = Filter()) -> dict[State, int]:
    """How many of them there are of each state."""
    with context.database.read() as session:
        conditions = _conditions(context, session, replace(wanted, states=()))
        counted = [
            func.count(sqlalchemy.case((_of_state(state), col(SeenCertificate.id)))).label(state) for state in STATES
        ]
        found = session.execute(_joined(sqlalchemy.select(*counted)).where(*conditions)).one()
        return dict(zip(STATES, (int(count) for count in found), strict=True))


def show(context: Context, which: int | str) -> SeenDetail:
    """One certificate, by number or by the beginning of its fingerprint (8 digits at least). Raises `NotFound`,
    `InvalidInput` (more than one begins so)."""
    with context.database.read() as session:
        row = found_by(context, session, which)
        line = session.execute(_rows().where(SeenCertificate.id == row.id)).one()
        seen = sight(context)
        total = session.execute(
            _places(sqlalchemy.select(func.count())).where(Sighting.certificate_id == row.id, seen)
        ).scalar_one()
        places = _places(_columns()).where(Sighting.certificate_id == row.id, seen)
        order = (col(Sighting.gone_at).is_not(None), col(Sighting.id))
        found = session.execute(places.order_by(*order).limit(_MOST_PLACES)).all()
        return SeenDetail(_row(*line), [_place(*one) for one in found], total, row.pem)


def ignore(context: Context, which: int | str, why: str) -> SeenRow:
    """Nobody needs to look at this one: it is left out of what is unmanaged, and no one is told of its end. For who
    holds `manage_gateways` wherever the gateways serve that have seen it. Raises `InvalidInput`, `NotFound`,
    `NotPermitted`."""
    reason = " ".join(why.split())
    if not 0 < len(reason) <= _LONGEST_WHY:
        raise InvalidInput(f"Say why it is to be ignored, in 1 to {_LONGEST_WHY} characters.")
    return _mark(context, which, reason)


def unignore(context: Context, which: int | str) -> SeenRow:
    """Take that back. Raises `InvalidInput`, `NotFound`, `NotPermitted`."""
    return _mark(context, which, None)


def export_csv(context: Context, wanted: Filter = Filter()) -> Iterator[str]:
    """The inventory as CSV (RFC 4180), one line a place, with a header row; cells that a spreadsheet would take for a
    formula begin with an apostrophe. Raises `NotFound`."""
    yield _csv([_EXPORTED])
    for row in _export(context, wanted):
        yield _csv([cells.cell(_flat(value)) for value in line.values()] for line in _lines(row))


def export_jsonl(context: Context, wanted: Filter = Filter()) -> Iterator[str]:
    """The inventory in JSON Lines, one object a place. Raises `NotFound`."""
    for row in _export(context, wanted):
        yield "".join(json.dumps(line, default=_flat) + "\n" for line in _lines(row))


def sight(context: Context) -> ColumnElement[bool]:
    """A condition on sightings (joined with their gateways) that keeps those that the actor may know of."""
    actor = context.actor
    wholly = lookup.gateways_wholly_seen_by(actor)
    partly = and_(col(Sighting.way) == SightingWay.ENDPOINT, lookup.gateways_seen_by(actor))
    return and_(~col(Gateway.name_key).startswith(lookup.GONE), or_(wholly, partly))


def found_by(context: Context, session: Session, which: int | str) -> SeenCertificate:
    """By number or the beginning of its fingerprint, with colons or without. Raises `NotFound`, `InvalidInput`."""
    word = str(which).replace(":", "").strip().lower()
    if isinstance(which, int) or (word.isascii() and word.isdigit() and len(word) < _SHORTEST_FINGERPRINT):
        known: ColumnElement[bool] = col(SeenCertificate.id) == int(word)
    elif len(word) >= _SHORTEST_FINGERPRINT:
        known = col(SeenCertificate.fingerprint).startswith(word, autoescape=True)
    else:
        raise InvalidInput(f"A fingerprint is named by {_SHORTEST_FINGERPRINT} of its digits at least.")
    statement = _joined(select(SeenCertificate)).where(known, _managed_seen(context), _seen_somewhere(context))
    rows: Sequence[SeenCertificate] = session.execute(statement.limit(2)).scalars().all()
    if len(rows) > 1:
        raise InvalidInput(
            f"More than one certificate has a fingerprint that begins with {word[:64]}: name more of it."
        )
    if not rows:
        raise NotFound(f"The inventory has no certificate {str(which)[:64]!r}: `certgate inventory list` shows all.")
    return rows[0]


def _conditions(context: Context, session: Session, wanted: Filter) -> list[ColumnElement[bool]]:
    found = [_managed_seen(context), _seen_somewhere(context, session, wanted)]
    now = context.clock()
    if wanted.gone:
        found.append(~_seen_somewhere(context, session, replace(wanted, gone=False)))
    if sought := wanted.search.strip():
        columns = (SeenCertificate.common_name, SeenCertificate.issuer)
        digits = sought.replace(":", "").replace(" ", "").lower()
        found.append(
            or_(
                *(lookup.contains(context.database, column, sought) for column in columns),
                cast(col(SeenCertificate.names), Text).icontains(sought, autoescape=True),
                col(SeenCertificate.fingerprint).startswith(digits, autoescape=True),
                col(SeenCertificate.serial_number).startswith(digits.lstrip("0") or "0", autoescape=True),
            )
        )
    if wanted.states:
        found.append(or_(*(_of_state(state) for state in wanted.states)))
    if wanted.expiring_within_days is not None:
        until = now + timedelta(days=wanted.expiring_within_days)
        found += [col(SeenCertificate.not_after) > now, col(SeenCertificate.not_after) <= until]
    if wanted.expired:
        found.append(col(SeenCertificate.not_after) <= now)
    if not wanted.authorities:
        found.append(~col(SeenCertificate.authority))
    return found


def _of_state(state: State) -> ColumnElement[bool]:
    managed = col(Certificate.id).is_not(None)
    ignored = col(SeenCertificate.ignored_by).is_not(None)
    return {"managed": managed, "ignored": and_(~managed, ignored), "unmanaged": and_(~managed, ~ignored)}[state]


def _managed_seen(context: Context) -> ColumnElement[bool]:
    seen = lookup.seen_by(context.actor, Certificate.organization_id, Certificate.department_id)
    return or_(col(Certificate.id).is_(None), seen)


def _seen_somewhere(
    context: Context, session: Session | None = None, wanted: Filter | None = None
) -> ColumnElement[bool]:
    """There is a sighting of it that the actor may know of, and that `wanted` keeps."""
    conditions = [col(Sighting.certificate_id) == col(SeenCertificate.id), sight(context)]
    if wanted is not None:
        if not wanted.gone:
            conditions.append(col(Sighting.gone_at).is_(None))
        conditions += _which_places(context, session, wanted)
    joined = select(Sighting.id).join(Gateway, col(Gateway.id) == col(Sighting.gateway_id))
    return joined.where(*conditions).correlate(SeenCertificate).exists()


def _which_places(context: Context, session: Session | None, wanted: Filter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.ways:
        found.append(col(Sighting.way).in_(wanted.ways))
    if wanted.gateway is not None:
        assert session is not None
        found.append(col(Sighting.gateway_id) == identity(lookup.gateway(session, context.actor, wanted.gateway)))
    return found


def _joined(statement: Any) -> Any:
    managed = col(Certificate.fingerprint) == col(SeenCertificate.fingerprint)
    return statement.select_from(SeenCertificate).outerjoin(Certificate, managed)


def _rows() -> Any:
    return _joined(sqlalchemy.select(SeenCertificate, col(Certificate.id), col(Certificate.status)))


def _row(row: SeenCertificate, certificate_id: int | None, status: CertificateStatus | None) -> SeenRow:
    ignored = row.ignored_by is not None
    return SeenRow(
        id=identity(row),
        fingerprint=row.fingerprint,
        common_name=row.common_name,
        names=list(row.names),
        names_total=row.names_total,
        subject=row.subject,
        issuer=row.issuer,
        serial_number=row.serial_number,
        key_algorithm=row.key_algorithm,
        not_before=row.not_before,
        not_after=row.not_after,
        authority=row.authority,
        self_signed=row.self_signed,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        state="managed" if certificate_id is not None else "ignored" if ignored else "unmanaged",
        certificate_id=certificate_id,
        certificate_status=CertificateStatus(status) if status is not None else None,
        ignored_by=row.ignored_by,
        ignored_why=row.ignored_why,
        ignored_at=row.ignored_at,
    )


def _with_places(context: Context, session: Session, rows: list[SeenRow], wanted: Filter) -> list[SeenRow]:
    """Each with the first places and how many there are: of one that is everywhere not all are read."""
    totals: dict[int, int] = {}
    places: dict[int, list[Place]] = {}
    conditions = [sight(context), *_which_places(context, session, wanted)]
    if not wanted.gone:
        conditions.append(col(Sighting.gone_at).is_(None))
    for start in range(0, len(rows), _AT_ONCE):
        some = [row.id for row in rows[start : start + _AT_ONCE]]
        of = (col(Sighting.certificate_id).in_(some), *conditions)
        counted = _places(sqlalchemy.select(col(Sighting.certificate_id), func.count())).where(*of)
        totals.update((one, int(count)) for one, count in session.execute(counted.group_by(Sighting.certificate_id)))
        turn = func.row_number().over(partition_by=col(Sighting.certificate_id), order_by=col(Sighting.id))
        numbered = _places(sqlalchemy.select(col(Sighting.id).label("id"), turn.label("turn"))).where(*of).subquery()
        first = sqlalchemy.select(numbered.c.id).where(numbered.c.turn <= _SHOWN_PLACES)
        for line in session.execute(_places(_columns()).where(col(Sighting.id).in_(first)).order_by(Sighting.id)):
            places.setdefault(line[0].certificate_id, []).append(_place(*line))
    return [replace(row, places_total=totals.get(row.id, 0), places=places.get(row.id, [])) for row in rows]


def _columns() -> Any:
    return sqlalchemy.select(Sighting, col(Gateway.name), col(Endpoint.name), col(Keystore.name))


def _places(statement: Any) -> Any:
    joined = statement.select_from(Sighting).join(Gateway, col(Gateway.id) == col(Sighting.gateway_id))
    joined = joined.outerjoin(Endpoint, col(Endpoint.id) == col(Sighting.endpoint_id))
    return joined.outerjoin(Keystore, col(Keystore.id) == col(Sighting.keystore_id))


def _place(row: Sighting, gateway: str, endpoint: str | None, keystore: str | None) -> Place:
    common = Place(identity(row), gateway, row.way, "", row.first_seen, row.last_seen, row.gone_at)
    if row.way == SightingWay.ENDPOINT:
        return replace(common, where=f"{endpoint} {row.binding}", endpoint=endpoint, binding=row.binding)
    if row.way == SightingWay.KEYSTORE:
        return replace(common, where=f"{keystore} {row.alias}", keystore=keystore, alias=row.alias)
    address = f"[{row.address}]:{row.port}" if ":" in row.address else f"{row.address}:{row.port}"
    said = [row.server_name] if row.server_name else []
    said += [row.starttls.upper()] if row.starttls else []
    return replace(
        common,
        where=f"{address} ({', '.join(said)})" if said else address,
        address=row.address,
        port=row.port,
        server_name=row.server_name or None,
        starttls=row.starttls or None,
    )


def _mark(context: Context, which: int | str, why: str | None) -> SeenRow:
    action = "inventory.ignored" if why else "inventory.watched"
    with context.acting(action, "certificate seen") as session:
        row = found_by(context, session, which)
        gateways = select(Gateway).where(
            col(Gateway.id).in_(select(Sighting.gateway_id).where(Sighting.certificate_id == row.id))
        )
        owners = session.exec(gateways).all()
        for owner in owners:
            if access.is_gone(owner):
                continue
            for scope in access.custody(session, owner):
                if not context.actor.may(Privilege.MANAGE_GATEWAYS, scope):
                    raise NotPermitted(
                        f"{context.actor.login} may not say that this certificate is ignored: the privilege "
                        f"'{Privilege.MANAGE_GATEWAYS}' is missing where it was seen."
                    )
        row.ignored_by = context.actor.login if why else None
        row.ignored_why, row.ignored_at = why, context.clock() if why else None
        session.add(row)
        scopes = {access.scope_of_gateway(session, owner) for owner in owners}
        told = f"Certificate {row.fingerprint[:16]}… ({row.common_name}) is "
        told += f"ignored in the inventory: {why}" if why else "ignored no longer."
        scope = scopes.pop() if len(scopes) == 1 else Scope()
        context.tell(session, action, "certificate seen", told, object_id=row.id, scope=scope)
        session.flush()
        line = session.execute(_rows().where(SeenCertificate.id == row.id)).one()
        return _row(*line)


_OF_ROW = (
    "fingerprint",
    "common_name",
    "names",
    "subject",
    "issuer",
    "serial_number",
    "key_algorithm",
    "not_before",
    "not_after",
    "authority",
    "state",
    "certificate_id",
    "ignored_by",
    "ignored_why",
)
_OF_PLACE = (
    "gateway",
    "way",
    "endpoint",
    "binding",
    "keystore",
    "alias",
    "address",
    "port",
    "server_name",
    "starttls",
    "first_seen",
    "last_seen",
    "gone_at",
)
_EXPORTED = (*_OF_ROW, *_OF_PLACE)


def _export(context: Context, wanted: Filter) -> Iterator[SeenRow]:
    """All that the filter keeps, in short readings, with all their places."""
    last: tuple[datetime, int] | None = None
    order = (col(SeenCertificate.not_after), col(SeenCertificate.id))
    while True:
        with context.database.read() as session:
            conditions = _conditions(context, session, wanted)
            if last is not None:
                conditions.append(or_(order[0] > last[0], and_(order[0] == last[0], order[1] > last[1])))
            found = session.execute(_rows().where(*conditions).order_by(*order).limit(_PIECE)).all()
            rows = [_row(*line) for line in found]
            places = _all_places(context, session, [row.id for row in rows], wanted)
        yield from (replace(row, places=places.get(row.id, [])) for row in rows)
        if len(rows) < _PIECE:
            return
        last = (rows[-1].not_after, rows[-1].id)


def _all_places(context: Context, session: Session, numbers: list[int], wanted: Filter) -> dict[int, list[Place]]:
    found: dict[int, list[Place]] = {}
    conditions = [sight(context), *_which_places(context, session, wanted)]
    if not wanted.gone:
        conditions.append(col(Sighting.gone_at).is_(None))
    for start in range(0, len(numbers), _AT_ONCE):
        of = col(Sighting.certificate_id).in_(numbers[start : start + _AT_ONCE])
        for line in session.execute(_places(_columns()).where(of, *conditions).order_by(Sighting.id)):
            found.setdefault(line[0].certificate_id, []).append(_place(*line))
    return found


def _lines(row: SeenRow) -> list[dict[str, Any]]:
    of_row = {name: getattr(row, name) for name in _OF_ROW}
    return [{**of_row, **{name: getattr(place, name) for name in _OF_PLACE}} for place in row.places]


def _flat(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list):
        return " ".join(str(one) for one in value)
    return value


def _csv(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()
