"""The manager's watch over the gateways: who came and who went is told in the audit, once, by whichever manager saw it.

Nobody is told to be gone on a guess. After a start of the manager, an outage of the engine, or a machine that slept,
the heartbeats need a while to arrive again: a gateway is Disconnected only when the engine has answered all the while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select, update
from sqlmodel import Session, col
from temporalio.client import Client

from connectors.notices.settings import NotificationSettings
from model import audit
from model.database import Database
from model.errors import CertgateError
from model.naming import gateway_queue
from model.rules import delegation
from model.states import AccessMethod, ConnectionStatus, DelegationMode
from model.tables import Delegation, Gateway
from operations import absence, lookup, presence
from operations.context import now as system_clock
from operations.presence import Beat, Beats

log = structlog.get_logger(__name__)

EVERY_SECONDS = 5.0
# Heartbeats come every five seconds; after an outage of the engine the SDK tries again within ten.
GRACE = timedelta(seconds=20)
# Between two looks, more than this is a gap that nothing is known of.
_GAP = timedelta(seconds=15)
# A measured offset is right to within the time between two looks; what is within that and this is left as it is.
_PRECISION = 1.0
# `last_activity` is for people. All that are older than half of this are written with the first that is due.
_ACTIVITY = timedelta(seconds=60)
_AT_ONCE = 500
# Who is away and has open work is looked for as often as this, or as often as it has to be told.
_ABSENCES = timedelta(seconds=15)
DEFAULTS = NotificationSettings()


@dataclass(frozen=True)
class Known:
    """What the records say of a gateway."""

    id: int
    channel: int
    joined_at: datetime | None
    told: ConnectionStatus | None
    offset: float | None
    last_activity: datetime | None

    @property
    def known_before(self) -> bool:
        """It has joined, or was seen at any time."""
        return self.joined_at is not None or self.told is not None


@dataclass(frozen=True)
class Change:
    """A gateway's status is another than was told last; `last_beat` by the shared clock, None where there is none."""

    gateway_id: int
    told: ConnectionStatus | None
    status: ConnectionStatus
    last_beat: datetime | None


@dataclass(frozen=True)
class Claimed:
    """A change that is ours to tell; `since` is when the status before began."""

    change: Change
    name: str
    mode: DelegationMode
    since: datetime | None


class Watch:
    """One manager's view. It remembers the looks before, from which it knows what moves."""

    def __init__(
        self,
        database: Database,
        settings: NotificationSettings = DEFAULTS,
        clock: Callable[[], datetime] = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._steady_since: datetime | None = None
        self._looked: tuple[float, datetime] | None = None
        self._heard: dict[str, datetime] | None = None
        self._absences: datetime | None = None

    async def look(self, client: Client) -> None:
        """Look once, and tell what changed. Raises `Unavailable` (engine or database)."""
        try:
            beats = await presence.beats(client)
        except CertgateError:
            self._steady_since = self._looked = self._heard = None
            raise
        await asyncio.to_thread(self._compare, beats, self._monotonic())

    def _compare(self, beats: Beats, moment: float) -> None:
        with self._database.read() as session:
            now = presence.reference_time(session, self._clock)
            known = _known(session)
        since_last = self._elapsed(now, moment)
        if since_last is None:
            self._steady_since, self._heard = now, None
        assert self._steady_since is not None
        steady = now - self._steady_since >= GRACE
        changes: list[Change] = []
        offsets: dict[int, float] = {}
        active: list[Known] = []
        for gateway in known:
            heard = beats.get(gateway_queue(gateway.id, gateway.channel), [])
            offset = self._offset(gateway, heard, now, since_last)
            if offset != gateway.offset and offset is not None:
                offsets[gateway.id] = offset
            status = presence.connection_status(heard, gateway.known_before, offset, now)
            if status == ConnectionStatus.CONNECTED:
                active.append(gateway)
            if status == gateway.told or (status == ConnectionStatus.PENDING and gateway.told is None):
                continue
            if status == ConnectionStatus.CONNECTED or steady:
                last = max((beat.at for beat in heard), default=None)
                if last is not None:
                    last = min(last - timedelta(seconds=offset or 0.0), now)
                changes.append(Change(gateway.id, gateway.told, status, last))
        self._heard = {beat.worker: beat.at for heard in beats.values() for beat in heard}
        self._looked = (moment, now)
        due = _due(active, now)
        if changes or offsets or due:
            self._keep(changes, offsets, due, now)
        often = min(_ABSENCES, timedelta(seconds=self._settings.away_seconds))
        if steady and (self._absences is None or not timedelta() <= now - self._absences < often):
            absence.tell_away(self._database, self._settings, now)
            self._absences = now

    def _elapsed(self, now: datetime, moment: float) -> timedelta | None:
        """The time since the last look; None when there was none, or nothing is known of what was in between."""
        if self._looked is None:
            return None
        clock, monotonic = now - self._looked[1], timedelta(seconds=moment - self._looked[0])
        # The two differ after a sleep of the machine, and when its clock was set.
        if monotonic > _GAP or abs(clock - monotonic) > timedelta(seconds=EVERY_SECONDS):
            return None
        return monotonic

    def _offset(
        self, gateway: Known, heard: Iterable[Beat], now: datetime, since_last: timedelta | None
    ) -> float | None:
        """By how many seconds the clock of a gateway's host is fast, as it shows at this look."""
        if self._heard is None or since_last is None:
            # Nothing can be said of when these came.
            return gateway.offset
        moved = [beat.at for beat in heard if self._heard.get(beat.worker) != beat.at]
        if not moved:
            return gateway.offset
        # It came after the last look and before this one.
        least = (max(moved) - now).total_seconds()
        if least - _PRECISION <= (gateway.offset or 0.0) <= least + since_last.total_seconds() + _PRECISION:
            return gateway.offset
        return least

    def _keep(self, changes: list[Change], offsets: Mapping[int, float], active: Iterable[int], now: datetime) -> None:
        with self._database.write() as session:
            told = _claim(session, changes, now)
            for some in _portions(sorted(offsets)):
                session.execute(update(Gateway), [{"id": one, "clock_offset": offsets[one]} for one in some])
            for some in _portions(sorted(active)):
                session.execute(update(Gateway).where(col(Gateway.id).in_(some)).values(last_activity=now))
            # Rows first, in order of their numbers, then the audit: as everybody else who acts on a gateway.
            self._tell(session, told, now)

    def _tell(self, session: Session, told: Mapping[int, Claimed], now: datetime) -> None:
        served = _served(session, told)
        returns = []
        for number, claimed in told.items():
            change, name = claimed.change, claimed.name
            scope = delegation.scope(claimed.mode, served.get(number, ()))
            if change.status == ConnectionStatus.CONNECTED:
                action, text = "gateway.connected", f"Gateway {name} is connected."
                if claimed.since is not None:
                    returns.append(absence.Return(number, name, scope, claimed.since))
            elif change.told is None:
                # It joined and was never seen since; the join was told.
                continue
            else:
                action, text = "gateway.disconnected", f"Gateway {name} is disconnected{_ended(change.last_beat)}."
            act = audit.Act(
                actor=f"gateway {name}",
                access_method=AccessMethod.GATEWAY,
                action=action,
                object_type="gateway",
                object_id=number,
                gateway_id=number,
                organization_id=scope.organization_id,
                department_id=scope.department_id,
                description=text,
            )
            audit.append(session, act, now)
        absence.tell_back(session, self._settings, returns, now)


async def keep_watch(database: Database, client: Client, settings: NotificationSettings) -> None:
    """Look every few seconds, for ever."""
    watch = Watch(database, settings)
    while True:
        try:
            await watch.look(client)
        except CertgateError as error:
            log.warning("it is not known which gateways are connected", reason=error.message)
        except Exception:
            # What nobody thought of must not end the watch, and not be quiet either.
            log.exception("the watch over the gateways failed, and goes on")
        await asyncio.sleep(EVERY_SECONDS)


def _known(session: Session) -> list[Known]:
    statement = select(
        col(Gateway.id),
        col(Gateway.channel),
        col(Gateway.joined_at),
        col(Gateway.told_status),
        col(Gateway.clock_offset),
        col(Gateway.last_activity),
    ).where(~col(Gateway.name_key).startswith(lookup.GONE))
    return [Known(*row) for row in session.execute(statement).all()]


def _due(active: Iterable[Known], now: datetime) -> list[int]:
    """Whose last activity is to be written: once a minute for all together."""
    never = datetime.min.replace(tzinfo=now.tzinfo)
    ages = [(one.id, now - (one.last_activity or never)) for one in active]
    if not any(age >= _ACTIVITY for _, age in ages):
        return []
    return [number for number, age in ages if age >= _ACTIVITY / 2]


def _claim(session: Session, changes: list[Change], now: datetime) -> dict[int, Claimed]:
    """Take those changes that no other manager has told, by number; their rows are locked and brought up to date."""
    wanted = {change.gateway_id: change for change in changes}
    taken: dict[int, Claimed] = {}
    for some in _portions(sorted(wanted)):
        columns = (
            col(Gateway.id),
            col(Gateway.told_status),
            col(Gateway.name),
            col(Gateway.delegation_mode),
            col(Gateway.status_since),
        )
        living = ~col(Gateway.name_key).startswith(lookup.GONE)
        statement = select(*columns).where(columns[0].in_(some), living).order_by(columns[0]).with_for_update()
        values = []
        for number, told, name, mode, since in session.execute(statement).all():
            change = wanted[number]
            if told != change.told:
                continue
            taken[number] = Claimed(change, name, mode, since)
            value = {"id": number, "told_status": change.status, "status_since": now}
            if change.last_beat is not None:
                value["last_activity"] = change.last_beat
            values.append(value)
        # Rows of one shape at a time: some have a last beat and some have none.
        for shape in (3, 4):
            if same := [value for value in values if len(value) == shape]:
                session.execute(update(Gateway), same)
    return taken


def _served(session: Session, numbers: Iterable[int]) -> dict[int, list[delegation.Delegated]]:
    found: dict[int, list[delegation.Delegated]] = {}
    for some in _portions(sorted(numbers)):
        for row in session.scalars(select(Delegation).where(col(Delegation.gateway_id).in_(some))):
            given = delegation.Delegated(row.organization_id, row.department_id)
            found.setdefault(row.gateway_id, []).append(given)
    return found


def _portions(numbers: list[int]) -> Iterable[list[int]]:
    return (numbers[start : start + _AT_ONCE] for start in range(0, len(numbers), _AT_ONCE))


def _ended(last_beat: datetime | None) -> str:
    return f" since {last_beat:%Y-%m-%d %H:%M:%S} UTC" if last_beat is not None else ""
