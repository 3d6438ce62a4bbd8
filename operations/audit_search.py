"""How the audit trail is asked: which entries a reader may read and wants, so that a page costs the same wherever it
is.

An entry is found by equality on an indexed column and then in the order of the numbers (`model/tables.py`). Of several
such conditions the one that fits the fewest entries leads, the others are looked at one by one. Where it allows several
values (two organizations of a reader, some actions) it is asked as so many *branches*, each in the order of one index,
and merged: one condition on several values would have the database sort all that match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, false, func, or_, select, true
from sqlmodel import Session, col

from model import audit
from model.errors import InvalidInput, NotFound, NotPermitted
from model.rules import permissions
from model.states import AccessMethod, Outcome, Privilege
from model.tables import AuditEntry
from operations import lookup
from operations.context import Actor, Context

GREATEST = 2**31 - 1
_MOST_BRANCHES = 24
_LONGEST_TEXT = 256
# So many entries of an index are counted to find the condition that leads: a few milliseconds.
_PROBED = 20_000
_number = col(AuditEntry.sequence)

Condition = ColumnElement[bool]


@dataclass(frozen=True)
class Filter:
    """Which entries; empty fields keep all. `search` looks into the description, in any case; `actor` is a login or
    process; one of `actions` must fit; `gateway` is a name or an id; `since` is included, `until` not."""

    search: str = ""
    actor: str | None = None
    actions: Sequence[str] = ()
    outcome: Outcome | None = None
    access_method: AccessMethod | None = None
    object_type: str | None = None
    object_id: int | None = None
    gateway: str | int | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def sought(self) -> str:
        """What is searched for; nothing when only spaces were typed."""
        return self.search.strip()

    def described(self) -> str:
        """The filter in words, for the audit."""
        named: dict[str, object] = {
            "search": self.sought,
            "actor": self.actor,
            "action": ", ".join(self.actions),
            "outcome": self.outcome,
            "access method": self.access_method,
            "object": self.object_type,
            "object id": self.object_id,
            "gateway": self.gateway,
            "since": self.since.isoformat() if self.since else None,
            "until": self.until.isoformat() if self.until else None,
        }
        return ", ".join(f"{name} {value}" for name, value in named.items() if value not in (None, "")) or "all entries"


ALL = Filter()


@dataclass(frozen=True)
class Question:
    """A filter as the database is asked: one of `branches` and all of `conditions`. `everything` says that no entry is
    kept out, so that numbers tell positions."""

    branches: Sequence[Condition]
    conditions: Sequence[Condition] = field(default=())
    everything: bool = False

    def numbers(
        self,
        session: Session,
        *,
        above: int | None = None,
        below: int | None = None,
        oldest_first: bool = False,
        limit: int,
    ) -> list[int]:
        """The numbers of the first entries that fit, in order, between two numbers that are not of them."""
        found: list[int] = []
        for branch in self.branches:
            statement = select(_number).where(branch, *self._and(above, below))
            statement = statement.order_by(_number if oldest_first else _number.desc()).limit(limit)
            found += session.execute(statement).scalars()
        return sorted(found, reverse=not oldest_first)[:limit]

    def plain(self, session: Session, *, above: int, below: int, limit: int) -> Sequence[Sequence[Any]]:
        """The first entries that fit, the oldest first, as `audit.plain_columns`."""
        columns = select(*audit.plain_columns(session)).order_by(_number)
        if len(self.branches) == 1:
            statement = columns.where(*self.branches, *self._and(above, below)).limit(limit)
        else:
            numbers = self.numbers(session, above=above, below=below, oldest_first=True, limit=limit)
            statement = columns.where(_number.in_(numbers))
        return [tuple(row) for row in session.execute(statement)]

    def count(self, session: Session, *, above: int | None = None, most: int) -> int:
        """How many fit; one more than `most` where there are more."""
        total = 0
        for branch in self.branches:
            first = select(_number).where(branch, *self._and(above, None)).limit(most + 1 - total).subquery()
            total += session.execute(select(func.count()).select_from(first)).scalar_one()
            if total > most:
                break
        return total

    def _and(self, above: int | None, below: int | None) -> list[Condition]:
        bounds: list[Condition] = [] if above is None else [_number > _comparable(above)]
        return [*self.conditions, *bounds, *([] if below is None else [_number < _comparable(below)])]


def question(context: Context, session: Session, wanted: Filter) -> Question:
    """Raises `NotPermitted` (audited), `NotFound` (gateway), `InvalidInput`."""
    reader = reader_of(context)
    _check(wanted)
    scopes = _scopes(reader)
    conditions = _conditions(context, session, wanted)
    dimensions = [] if reader.owns_everything else [scopes]
    dimensions += _dimensions(session, wanted)
    if wanted.gateway is not None:
        dimensions.append([col(AuditEntry.gateway_id) == _gateway(context, session, wanted.gateway, scopes)])
    everything = not dimensions and not conditions
    leading = _leading(session, dimensions)
    others = [or_(*alternatives) for alternatives in dimensions if alternatives is not leading]
    if context.database.is_sqlite:
        # It has no statistics to choose by. A case uses no index, and so leaves the leading one.
        others = [_without_index(other) for other in others]
    return Question(leading or [true()], [*conditions, *others], everything)


def reader_of(context: Context) -> Actor:
    """The actor with only those grants that let him read. The refusal is audited."""
    grants = tuple(grant for grant in context.actor.grants if grant.allows(Privilege.VIEW_AUDIT))
    if not grants:
        with context.acting("audit.view", "audit"):
            raise NotPermitted(
                f"{context.actor.login} may not read the audit trail: the privilege 'view_audit' is missing."
            )
    return replace(context.actor, grants=grants)


def distinct(session: Session, column: Any, most: int) -> list[str]:
    """The values of an indexed column, in the database's order, by jumping from one to the next in its index: as many
    steps as there are values, however many entries."""
    values = select(func.min(column).label("value")).cte("jump", recursive=True)
    following = select(func.min(column)).where(column > values.c.value).scalar_subquery()
    values = values.union_all(select(following).where(values.c.value.is_not(None)))
    statement = select(values.c.value).where(values.c.value.is_not(None)).limit(most)
    return list(session.execute(statement).scalars())


def _scopes(reader: Actor) -> list[Condition]:
    """Where the reader may read, as conditions of which no two fit one entry."""
    sight = permissions.visible(reader.grants)
    if sight.everything:
        return [true()]
    organization, department = col(AuditEntry.organization_id), col(AuditEntry.department_id)
    elsewhere = or_(organization.is_(None), organization.not_in(sight.organizations))
    own: list[Condition] = [organization == number for number in sight.organizations]
    own += [and_(department == number, elsewhere) for number in sight.departments]
    return own or [false()]


def _dimensions(session: Session, wanted: Filter) -> list[list[Condition]]:
    """Conditions on indexed columns, each as alternatives of which no two fit one entry."""
    found: list[list[Condition]] = []
    if wanted.object_type and wanted.object_id is not None:
        both = and_(col(AuditEntry.object_type) == wanted.object_type, col(AuditEntry.object_id) == wanted.object_id)
        found.append([both if 0 <= wanted.object_id <= GREATEST else false()])
    elif wanted.object_type:
        found.append([col(AuditEntry.object_type) == wanted.object_type])
    if wanted.actor:
        found.append([col(AuditEntry.actor) == name for name in _names_of(session, wanted.actor)])
    if wanted.actions:
        found.append([col(AuditEntry.action) == action for action in dict.fromkeys(wanted.actions)])
    if wanted.outcome is not None:
        found.append([col(AuditEntry.outcome) == wanted.outcome])
    if wanted.access_method is not None:
        found.append([col(AuditEntry.access_method) == wanted.access_method])
    return found


def _leading(session: Session, dimensions: Sequence[list[Condition]]) -> list[Condition] | None:
    """The alternatives that fit the fewest entries, as far as counting is cheap."""
    able = [alternatives for alternatives in dimensions if len(alternatives) <= _MOST_BRANCHES]
    if len(able) < 2:
        return able[0] if able else None
    return min(able, key=lambda alternatives: Question(alternatives).count(session, most=_PROBED))


def _conditions(context: Context, session: Session, wanted: Filter) -> list[Condition]:
    found: list[Condition] = []
    if wanted.since is not None or wanted.until is not None:
        found += _times(session, wanted)
    if wanted.sought:
        found.append(lookup.contains(context.database, AuditEntry.description, wanted.sought))
    return found


def _times(session: Session, wanted: Filter) -> list[Condition]:
    """Times hardly ever run against the numbers, but a clock may be set back: so the index on the time tells between
    which numbers they are, and what is between them is looked at one by one."""
    time = col(AuditEntry.time)
    within: list[Condition] = []
    if wanted.since is not None:
        within.append(time >= wanted.since)
    if wanted.until is not None:
        within.append(time < wanted.until)
    # As a sum, which no index holds: else PostgreSQL looks through the numbers, from their ends, for a time that fits.
    number = _number + 0
    least, greatest = session.execute(select(func.min(number), func.max(number)).where(*within)).one()
    if least is None:
        return [false()]
    # The time's index has another order than the numbers.
    return [_number.between(least, greatest), _without_index(and_(*within))]


def _without_index(condition: Condition) -> Condition:
    return case((condition, 1), else_=0) == 1


def _names_of(session: Session, actor: str) -> list[str]:
    """`alice (owner of the home)` is alice, too."""
    spoken = [name for name in distinct(session, AuditEntry.actor, GREATEST) if name.startswith(f"{actor} (")]
    return [actor, *spoken]


def _gateway(context: Context, session: Session, which: str | int, scopes: Sequence[Condition]) -> int:
    """The id of a gateway that the actor sees, or, by its number only, of one that was deleted and is told of."""
    try:
        if isinstance(which, int) and not 0 < which <= GREATEST:
            raise NotFound(f"There is no gateway {which}: `certgate gateway list` shows what there is.")
        return lookup.identity(lookup.gateway(session, context.actor, which))
    except NotFound:
        if isinstance(which, int) and 0 < which <= GREATEST:
            told = Question(scopes, [col(AuditEntry.gateway_id) == which])
            if told.numbers(session, limit=1):
                return which
        raise


def _comparable(number: int) -> int:
    """What can be no number of an entry is one beyond all of them, which any database can compare."""
    return min(max(number, -1), GREATEST)


def _check(wanted: Filter) -> None:
    for name, value in (
        ("search", wanted.search),
        ("administrator", wanted.actor),
        ("object", wanted.object_type),
        *(("action", action) for action in wanted.actions),
    ):
        if value and (len(value) > _LONGEST_TEXT or "\0" in value):
            raise InvalidInput(f"What is looked for as {name} has at most {_LONGEST_TEXT} characters, and no NUL.")
    if wanted.object_id is not None and not wanted.object_type:
        raise InvalidInput("An object is looked for by its type and id: the type is missing.")
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise InvalidInput("The time range is empty: it ends before it begins.")
