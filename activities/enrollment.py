"""Gateways join and check in: the manager's part, which holds the manager's private key.

A join that can't be opened, or whose token does not count, is refused with the reason, and so is a gateway that checks
in on a channel that is dead. Both are in the audit.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlmodel import Session, select
from temporalio import activity

from activities.records import Clock, Records, step_key
from model import access, audit, channel
from model.channel import Parties, Purpose
from model.database import Database
from model.errors import InvalidInput
from model.messages import CheckInResult, CheckInStart, JoinResult, JoinStart
from model.rules.permissions import Scope
from model.states import AccessMethod, Outcome
from model.tables import Gateway, GatewayChannel

# A gateway's clock may be off by this much before somebody should hear of it.
_CLOCK_TOLERANCE = timedelta(minutes=5)
_LONGEST_MESSAGE = 262_144
_MOST_MODULES = 500


class _Word(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    host: str = ""
    os: str = ""
    version: str = ""


class _JoinWord(_Word):
    secret: str


class _Module(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: str
    name: str
    title: str
    version: str


class _Discovery(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    networks: list[str] = Field(default=[], max_length=1000)
    ports: list[str] = Field(default=[], max_length=1000)
    rate: int = 1
    at_once: int = 1


class _CheckInWord(_Word):
    time: datetime
    modules: list[_Module] = []
    discovery: _Discovery | None = None


class _Refused(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Enrollments(Records):
    """Steps on the manager for gateways that come and for gateways that start."""

    def __init__(self, database: Database, clock: Clock, key: X25519PrivateKey) -> None:
        super().__init__(database, clock)
        self._key = key
        self._public = channel.public_text(key)

    @activity.defn(name="records.join")
    def join(self, asked: JoinStart) -> JoinResult:
        """Spend an enrollment token and agree on the channel's key. The host that has joined may ask again."""
        with self.writing() as session:
            gateway = session.get(Gateway, asked.gateway_id)
            name = gateway.name if gateway is not None else str(asked.gateway_id)
            try:
                result, told = self._join(session, gateway, asked)
            except _Refused as refusal:
                result, told = JoinResult(refusal.reason), refusal.reason
            if told is not None:
                outcome = Outcome.REFUSED if result.refused else Outcome.DONE
                _tell(session, gateway, asked.gateway_id, "gateway.joined", told, outcome, self._clock(), name)
            return result

    @activity.defn(name="records.check_in")
    def check_in(self, asked: CheckInStart) -> CheckInResult:
        """Hear what a gateway is that starts to work; refuse one whose channel is dead."""
        with self.writing() as session:
            gateway = session.get(Gateway, asked.gateway_id)
            try:
                return self._check_in(session, gateway, asked)
            except _Refused as refusal:
                now = self._clock()
                # A service that is restarted again and again is told of once a day.
                once = f"gateway.refused/{asked.gateway_id}/{asked.channel}/{now:%Y-%m-%d}/{refusal.reason}"[:192]
                _tell(
                    session,
                    gateway,
                    asked.gateway_id,
                    "gateway.refused",
                    refusal.reason,
                    Outcome.REFUSED,
                    now,
                    gateway.name if gateway is not None else str(asked.gateway_id),
                    once=once,
                )
                return CheckInResult(refusal.reason)

    def _join(self, session: Session, gateway: Gateway | None, asked: JoinStart) -> tuple[JoinResult, str | None]:
        if gateway is None or access.is_gone(gateway):
            raise _Refused(f"Gateway {asked.gateway_id} was deleted: its token is worth nothing any more.")
        if not asked.public_key:
            raise _Refused(
                f"Gateway {gateway.name} was to be joined by an older certgate: install the manager's release there."
            )
        installation = access.installation(session)
        if asked.installation != installation:
            raise _Refused(
                f"The token is of another certgate (installation {asked.installation[:32]}), not of this one "
                f"({installation}): use the address of its own Temporal."
            )
        parties = Parties(installation, asked.gateway_id, asked.channel, self._public, asked.public_key)
        key, word = self._opened(parties, asked.sealed, gateway)
        live = _live(session, gateway, self._clock())
        if asked.channel != gateway.channel:
            raise _Refused(_closed_told(session, gateway, asked.channel, "ask for the newest token."))
        now = self._clock()
        if live.joined_at is not None:
            if live.public_key == asked.public_key:
                # Its answer was lost, or the process was killed before it came.
                return JoinResult(None, gateway.name, _confirmation(key, parties, gateway.name)), None
            raise _Refused(
                f"The token of gateway {gateway.name} was used before, on {_at(live.joined_at)} from the host "
                f"{live.host}: restore the gateway to get a new one."
            )
        if gateway.token_digest is None:
            raise _Refused(f"The token of gateway {gateway.name} was used before: restore it to get a new one.")
        if not hmac.compare_digest(gateway.token_digest, access.token_digest(word.secret)):
            raise _Refused(
                f"This is not the token that gateway {gateway.name} was given last: a newer one has taken its place."
            )
        if gateway.token_expires_at is None or gateway.token_expires_at <= now:
            ended = f" on {_at(gateway.token_expires_at)}" if gateway.token_expires_at else ""
            raise _Refused(f"The token of gateway {gateway.name} has expired{ended}: ask for a new one.")
        live.public_key, live.host, live.joined_at = asked.public_key, word.host[:255], now
        gateway.token_digest = gateway.token_expires_at = None
        gateway.joined_at = gateway.last_activity = now
        # What was known of the clock before was another host's.
        gateway.clock_offset = None
        gateway.version, gateway.os, gateway.host = word.version[:64], word.os[:128], word.host[:255]
        session.add_all([live, gateway])
        told = (
            f"Gateway {gateway.name} joined from the host {gateway.host} ({gateway.os}) "
            f"with certgate {gateway.version}, on channel {live.number}."
        )
        return JoinResult(None, gateway.name, _confirmation(key, parties, gateway.name)), told

    def _opened(self, parties: Parties, sealed: str, gateway: Gateway) -> tuple[bytes, _JoinWord]:
        try:
            if len(sealed) > _LONGEST_MESSAGE:
                raise InvalidInput("It is too long.")
            key = channel.channel_key(self._key, parties)
            content = channel.unseal(key, Purpose.JOIN, parties, sealed)
            return key, _JoinWord.model_validate_json(content)
        except (InvalidInput, ValidationError):
            # Whoever owns the engine may have put his own key in its place: he can't seal the secret that he lacks.
            raise _Refused(
                f"The join of gateway {gateway.name} could not be opened with this manager's key: it was changed on "
                "its way, or its token is of another manager."
            ) from None

    def _check_in(self, session: Session, gateway: Gateway | None, asked: CheckInStart) -> CheckInResult:
        if gateway is None:
            raise _Refused(f"There is no gateway {asked.gateway_id} any more: end this process and delete its home.")
        statement = select(GatewayChannel).where(
            GatewayChannel.gateway_id == asked.gateway_id, GatewayChannel.number == asked.channel
        )
        row = session.exec(statement).one_or_none()
        if row is None or row.public_key != asked.public_key:
            raise _Refused(
                f"This host is not the one that joined as gateway {gateway.name} on channel {asked.channel}: "
                "join it with a token."
            )
        parties = Parties(access.installation(session), asked.gateway_id, asked.channel, self._public, asked.public_key)
        try:
            key = channel.channel_key(self._key, parties)
            if len(asked.sealed) > _LONGEST_MESSAGE:
                raise InvalidInput("It is too long.")
            word = _CheckInWord.model_validate_json(channel.unseal(key, Purpose.CHECK_IN, parties, asked.sealed))
        except (InvalidInput, ValidationError):
            raise _Refused(
                f"What gateway {gateway.name} said of itself was not sealed with the key of its channel: it is not "
                "that gateway, or the manager's key was exchanged."
            ) from None
        if access.is_gone(gateway):
            raise _Refused(f"Gateway {gateway.name} was deleted: end this process and delete its home.")
        if row.closed_at is not None or asked.channel != gateway.channel:
            told = _closed_told(session, gateway, asked.channel, "join this host with a new token, or delete its home.")
            raise _Refused(told)
        return self._heard(session, gateway, row, word)

    def _heard(self, session: Session, gateway: Gateway, row: GatewayChannel, word: _CheckInWord) -> CheckInResult:
        now = self._clock()
        modules = [one.model_dump() for one in word.modules[:_MOST_MODULES]]
        before = (gateway.version, gateway.os, gateway.host, gateway.modules)
        said = (word.version[:64], word.os[:128], word.host[:255], modules)
        gateway.last_activity = now
        if before != said:
            gateway.version, gateway.os, gateway.host, gateway.modules = said
            row.host = gateway.host
            told = (
                f"Gateway {gateway.name} runs certgate {gateway.version} on the host {gateway.host} ({gateway.os}), "
                f"with {len(modules)} connectors."
            )
            _tell(
                session, gateway, access.number_of(gateway), "gateway.checked_in", told, Outcome.DONE, now, gateway.name
            )
        if word.discovery is not None:
            gateway.discovery = word.discovery.model_dump()
        session.add_all([gateway, row])
        off = word.time - now if word.time.tzinfo else timedelta(0)
        notes = []
        if abs(off) > _CLOCK_TOLERANCE:
            way = "ahead of" if off > timedelta(0) else "behind"
            notes.append(f"The clock of this host is {abs(off)} {way} the manager's: set it.")
        if not gateway.active:
            notes.append(f"Gateway {gateway.name} is not active: it is given no work until it is.")
        return CheckInResult(None, " ".join(notes) or None)


def _live(session: Session, gateway: Gateway, now: datetime) -> GatewayChannel:
    """The live channel; gateways that were added by 0.1 get their first one here."""
    statement = select(GatewayChannel).where(
        GatewayChannel.gateway_id == gateway.id, GatewayChannel.number == gateway.channel
    )
    row = session.exec(statement).one_or_none()
    if row is None:
        row = GatewayChannel(gateway_id=access.number_of(gateway), number=gateway.channel, opened_at=now)
        session.add(row)
    return row


def _closed_told(session: Session, gateway: Gateway, number: int, cure: str) -> str:
    statement = select(GatewayChannel).where(GatewayChannel.gateway_id == gateway.id, GatewayChannel.number == number)
    row = session.exec(statement).one_or_none()
    if row is None or row.closed_at is None:
        return f"Gateway {gateway.name} has no channel {number}: {cure}"
    return f"Channel {number} of gateway {gateway.name} was closed on {_at(row.closed_at)} by a restore: {cure}"


def _confirmation(key: bytes, parties: Parties, name: str) -> str:
    return channel.proof(key, Purpose.CONFIRMATION, parties, name)


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _tell(
    session: Session,
    gateway: Gateway | None,
    gateway_id: int,
    action: str,
    told: str,
    outcome: Outcome,
    now: datetime,
    name: str,
    *,
    once: str | None = None,
) -> None:
    scope = access.scope_of_gateway(session, gateway) if gateway is not None else Scope()
    audit.append(
        session,
        audit.Act(
            actor=f"gateway {name}"[:128],
            access_method=AccessMethod.GATEWAY,
            action=action,
            object_type="gateway",
            object_id=gateway_id,
            gateway_id=gateway_id,
            organization_id=scope.organization_id,
            department_id=scope.department_id,
            description=told,
            outcome=outcome,
            once=once or step_key(action),
        ),
        now,
    )
