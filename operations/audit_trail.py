"""The audit trail, for those who may read it: an MRAO all of it, others the entries of the organizations and
departments where they hold `view_audit`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from model import audit
from model.audit import Check, Known, Progress
from model.errors import NotFound
from model.rules import permissions
from model.states import AccessMethod, Outcome
from model.tables import AuditEntry, AuditHead, Department, Gateway, Organization
from operations import audit_search, decisions, lookup
from operations.audit_search import ALL, Filter, Question
from operations.context import Context

__all__ = [
    "MOST_COUNTED",
    "AuditRow",
    "Choices",
    "Detail",
    "Filter",
    "Page",
    "choices",
    "for_request",
    "listing",
    "show",
    "verify",
]

# A count of more would read more than the page itself; nobody turns so many pages by number.
MOST_COUNTED = 10_000
_MOST_CHOICES = 1000
_number = col(AuditEntry.sequence)


@dataclass(frozen=True)
class AuditRow:
    """An entry of the trail. `gateway` is the name that the gateway has now, where the reader may see it."""

    sequence: int
    time: datetime
    actor: str
    access_method: AccessMethod
    action: str
    object_type: str
    object_id: int | None
    gateway_id: int | None
    gateway: str | None
    organization_id: int | None
    department_id: int | None
    description: str
    outcome: Outcome


@dataclass(frozen=True)
class Page:
    """Some rows, the newest first. `total` is how many there are; where `counted` is False there are more: with a
    filter no more than `MOST_COUNTED` are counted, with a search none beyond the page. `first` is the first row's
    position from 1, None where it was not counted. `newer` and `older` are what to give as `after` and `before` for the
    pages beside this one, None where there is nothing."""

    rows: list[AuditRow]
    total: int
    counted: bool = True
    first: int | None = None
    newer: int | None = None
    older: int | None = None


@dataclass(frozen=True)
class Choices:
    """Who and what is told of in the entries that the reader may read."""

    actors: list[str]
    actions: list[str]


@dataclass(frozen=True)
class Detail:
    """An entry with all that its hash is made of. Names are those of today, None where the reader may not see them."""

    row: AuditRow
    organization: str | None
    department: str | None
    once: str | None
    previous_hash: str
    hash: str


def listing(
    context: Context,
    wanted: Filter = ALL,
    *,
    page: int = 1,
    before: int | None = None,
    after: int | None = None,
    limit: int = 100,
) -> Page:
    """Entries, the newest first: a page by its number, or the one before (or after) an entry's number, which stays the
    same when new entries come. A number beyond what there is, or beyond `MOST_COUNTED` entries of a filter, gives the
    last page. Raises `NotPermitted` (audited), `NotFound` (gateway), `InvalidInput`."""
    with context.database.snapshot() as session:
        asked = audit_search.question(context, session, wanted)
        if after is not None:
            numbers = asked.numbers(session, above=after, oldest_first=True, limit=limit)[::-1]
        elif before is not None:
            numbers = asked.numbers(session, below=before, limit=limit)
        else:
            numbers, page = _numbered(session, asked, max(1, page), limit)
        newer = bool(numbers and asked.numbers(session, above=numbers[0], oldest_first=True, limit=1))
        older = bool(numbers and asked.numbers(session, below=numbers[-1], limit=1))
        by_number = before is None and after is None
        if asked.everything:
            total, counted = _head(session), True
            first = total - numbers[0] + 1 if numbers else None
        else:
            first = (page - 1) * limit + 1 if by_number or not newer else None
            total, counted = _counted(session, asked, wanted, first, numbers, older=older)
            if first is None and not wanted.sought:
                ahead = asked.count(session, above=numbers[0], most=MOST_COUNTED)
                first = ahead + 1 if ahead <= MOST_COUNTED else None
        return Page(
            rows=_rows(context, session, numbers),
            total=total,
            counted=counted,
            first=first if numbers else None,
            newer=numbers[0] if newer else None,
            older=numbers[-1] if older else None,
        )


def show(context: Context, sequence: int) -> Detail:
    """One entry. Raises `NotPermitted` (audited), `NotFound`."""
    with context.database.snapshot() as session:
        asked = audit_search.question(context, session, ALL)
        if not asked.numbers(session, above=sequence - 1, below=sequence + 1, limit=1):
            raise NotFound(f"There is no entry {sequence} in the audit trail.")
        entry = session.get_one(AuditEntry, sequence)
        organization = session.get(Organization, entry.organization_id) if entry.organization_id else None
        department = session.get(Department, entry.department_id) if entry.department_id else None
        scope = permissions.Scope(entry.organization_id, entry.department_id)
        seen = context.actor.sees(scope)
        (row,) = _rows(context, session, [sequence])
        return Detail(
            row=row,
            organization=organization.name if organization and seen else None,
            department=department.name if department and seen else None,
            once=entry.once,
            previous_hash=entry.previous_hash,
            hash=entry.hash,
        )


def choices(context: Context) -> Choices:
    """What a filter may be set to. For a reader of some organizations: what their newest entries tell of, so that
    nobody else's administrators show. Raises `NotPermitted` (audited)."""
    with context.database.read() as session:
        if audit_search.reader_of(context).owns_everything:
            actors = audit_search.distinct(session, AuditEntry.actor, _MOST_CHOICES)
            actions = audit_search.distinct(session, AuditEntry.action, _MOST_CHOICES)
        else:
            asked = audit_search.question(context, session, ALL)
            numbers = asked.numbers(session, limit=MOST_COUNTED)
            actors, actions = [], []
            for some in _in_parts(numbers):
                found = select(AuditEntry.actor, AuditEntry.action).where(_number.in_(some)).distinct()
                for actor, action in session.exec(found).all():
                    actors.append(actor)
                    actions.append(action)
    return Choices(
        actors=sorted({actor.partition(" (")[0] for actor in actors}, key=str.casefold), actions=sorted(set(actions))
    )


def for_request(context: Context, request_id: int) -> list[AuditRow]:
    """The timeline of a request, the oldest first, for everybody who may see the request. Raises `NotFound`."""
    with context.database.read() as session:
        decisions.visible(context, session, request_id)
        statement = (
            select(AuditEntry.sequence)
            .where(AuditEntry.object_type == "request", AuditEntry.object_id == request_id)
            .order_by(_number)
        )
        return _rows(context, session, session.exec(statement).all())


def verify(context: Context, known: Known | None = None, progress: Progress | None = None) -> Check:
    """Recalculate the whole chain. For an MRAO: what it says concerns everybody's entries. `known` is an entry that was
    noted elsewhere, `progress` hears of entries read and expected. Raises `NotPermitted`."""
    if not context.actor.owns_everything:
        with context.acting("audit.verify", "audit"):
            context.require_owner("verify the audit trail")
    with context.database.snapshot() as session:
        return audit.verify(session, known=known, progress=progress)


def _numbered(session: Session, asked: Question, page: int, limit: int) -> tuple[list[int], int]:
    """The entries of a page by number, and the number of the page that they are."""
    if asked.everything:
        # Numbers have no gaps, so that a page is found by calculation, wherever it is.
        total = _head(session)
        page = min(page, max(1, -(-total // limit)))
        return asked.numbers(session, below=total - (page - 1) * limit + 1, limit=limit), page
    page = min(page, max(1, MOST_COUNTED // limit))
    found = asked.numbers(session, limit=page * limit)
    page = min(page, max(1, -(-len(found) // limit)))
    return found[(page - 1) * limit : page * limit], page


def _counted(
    session: Session, asked: Question, wanted: Filter, first: int | None, numbers: Sequence[int], *, older: bool
) -> tuple[int, bool]:
    """How many entries there are, and whether these are all. A search is never read further than its page."""
    if first is not None and not older:
        return first - 1 + len(numbers), True
    if wanted.sought:
        return len(numbers) + (first or 1) - 1, False
    total = asked.count(session, most=MOST_COUNTED)
    return min(total, MOST_COUNTED), total <= MOST_COUNTED


def _head(session: Session) -> int:
    return session.exec(select(AuditHead.sequence).where(AuditHead.id == 1)).first() or 0


def _rows(context: Context, session: Session, numbers: Sequence[int]) -> list[AuditRow]:
    found: dict[int, AuditEntry] = {}
    for some in _in_parts(numbers):
        for entry in session.exec(select(AuditEntry).where(_number.in_(some))).all():
            found[entry.sequence] = entry
    named = {entry.gateway_id for entry in found.values() if entry.gateway_id is not None}
    seen = lookup.gateways_seen_by(context.actor)
    names: dict[int | None, str] = {}
    for some in _in_parts(sorted(named)):
        names.update(session.exec(select(Gateway.id, Gateway.name).where(col(Gateway.id).in_(some), seen)).all())
    return [_row(found[number], names) for number in numbers]


def _row(entry: AuditEntry, gateways: dict[int | None, str]) -> AuditRow:
    return AuditRow(
        sequence=entry.sequence,
        time=entry.time,
        actor=entry.actor,
        access_method=entry.access_method,
        action=entry.action,
        object_type=entry.object_type,
        object_id=entry.object_id,
        gateway_id=entry.gateway_id,
        gateway=gateways.get(entry.gateway_id),
        organization_id=entry.organization_id,
        department_id=entry.department_id,
        description=entry.description,
        outcome=entry.outcome,
    )


def _in_parts(numbers: Sequence[int]) -> Iterable[Sequence[int]]:
    """No database takes any number of values in one condition."""
    return (numbers[start : start + 1000] for start in range(0, len(numbers), 1000))
