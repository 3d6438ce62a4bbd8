"""Keystores of gateways: how they are opened, and what their gateway saw in them when it last looked.

A keystore's file or folder is made by the gateway with the first key; it stays on the gateway's host when the keystore
is removed here. Passphrases are references that the gateway resolves on its own host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from connectors import cures, registry
from model import access, messages, naming
from model.errors import Conflict
from model.rules.permissions import Scope
from model.tables import Certificate, CertificateRequest, Gateway, Keystore
from operations import asking, gateways, lookup
from operations.context import Context
from operations.endpoints import checked_settings
from operations.lookup import identity
from operations.organizations import checked_name
from workflows.looks import KeystoreLookWorkflow

DEFAULT = "default"
_MOST_NAMED = 5


@dataclass(frozen=True)
class KeystoreRow:
    """A keystore as its gateway opens it, and what was seen in it at `checked_at`: how many entries, and when the first
    certificate in it ends. `last_error` is why it could not be opened then, `cure` what to do about it. Credentials in
    the settings are references, never secrets.

    A gateway's keystore may hold keys for whomever the gateway serves. What is in it is `withheld` from who does not
    see all of them.
    """

    id: int
    gateway: str
    gateway_id: int
    name: str
    type: str
    title: str
    settings: dict[str, Any]
    entries: int = 0
    next_expiry: datetime | None = None
    last_error: str | None = None
    cure: str | None = None
    checked_at: datetime | None = None
    withheld: bool = False


@dataclass(frozen=True)
class EntryRow:
    """An entry of a keystore, as its gateway saw it. `kind` is ``key pair``, ``trusted certificate`` or ``other``."""

    alias: str
    kind: str
    key_algorithm: str
    subject: str | None
    names: list[str]
    issuer: str | None
    serial_number: str | None
    fingerprint: str | None
    not_after: datetime | None
    problem: str | None


@dataclass(frozen=True)
class KeystoreDetail:
    """A keystore with what was seen in it; `omitted` entries more were counted and not kept."""

    keystore: KeystoreRow
    entries: list[EntryRow]
    omitted: int = 0


@dataclass(frozen=True)
class NewKeystore:
    """What a keystore is made of. Settings are the connector's own, as words: lists and numbers as JSON."""

    gateway: str | int
    name: str
    type: str
    settings: Mapping[str, str] = field(default_factory=dict)


def types() -> dict[str, str]:
    """The keystore types that are installed here: name and title."""
    return {name: kind.title for name, kind in registry.installed("keystores").items()}


def listing(context: Context, gateway: str | int | None = None) -> list[KeystoreRow]:
    """The keystores of one gateway or of all that the actor sees, by gateway and name. Raises `NotFound`."""
    with context.database.read() as session:
        if gateway is not None:
            owners = [lookup.gateway(session, context.actor, gateway)]
        else:
            living = ~col(Gateway.name_key).startswith(lookup.GONE)
            statement = select(Gateway).where(lookup.gateways_seen_by(context.actor), living, Gateway.active)
            owners = list(session.exec(statement.order_by(col(Gateway.name_key))).all())
        rows: dict[int, list[Keystore]] = {identity(owner): [] for owner in owners}
        known = select(Keystore).order_by(col(Keystore.name))
        if gateway is not None:
            known = known.where(Keystore.gateway_id == owners[0].id)
        for row in session.exec(known).all():
            if row.gateway_id in rows:
                rows[row.gateway_id].append(row)
        custodies = gateways.custodies(session, owners)
        # A gateway without a row of its own uses the plain PEM directory in its home.
        return [
            _row(row, owner, _withheld(context, custodies[identity(owner)]))
            for owner in owners
            for row in rows[identity(owner)] or [Keystore(gateway_id=identity(owner), name=DEFAULT, type="pem")]
        ]


def show(context: Context, gateway: str | int, which: str | int = DEFAULT) -> KeystoreDetail:
    """One keystore, and what was seen in it when its gateway last looked. Raises `NotFound`."""
    with context.database.read() as session:
        owner = lookup.gateway(session, context.actor, gateway)
        withheld = _withheld(context, gateways.custody(session, owner))
        return _detail(_found(session, owner, which), owner, withheld)


def add(context: Context, new: NewKeystore) -> KeystoreRow:
    """Add a keystore; its file or folder is made by the gateway with the first key. Raises `InvalidInput`, `NotFound`,
    `Conflict`, `NotPermitted`."""
    with context.acting("keystore.added", "keystore") as session:
        owner = lookup.gateway(session, context.actor, new.gateway)
        gateways.require_custody(context, session, owner, f"add keystores to gateway {owner.name}")
        name = checked_name(new.name, "A keystore's name")
        row = Keystore(gateway_id=identity(owner), name=name, type=new.type)
        row.settings = checked_settings("keystores", new.type, new.settings)
        _refuse_twin(session, owner, row)
        session.add(row)
        session.flush()
        _tell(context, session, "keystore.added", owner, row, f"Keystore {name} ({new.type}) was added to")
        return _row(row, owner)


def edit(
    context: Context,
    gateway: str | int,
    settings: Mapping[str, str],
    which: str | int = DEFAULT,
    *,
    new_name: str | None = None,
) -> KeystoreRow:
    """Change how a keystore is opened, for requests from now on; an empty word takes a setting back to its default.

    The default keystore keeps its name. Raises `InvalidInput`, `NotFound`, `Conflict`, `NotPermitted`.
    """
    with context.acting("keystore.edited", "keystore") as session:
        owner = lookup.gateway(session, context.actor, gateway)
        gateways.require_custody(context, session, owner, f"edit keystores of gateway {owner.name}")
        row = _found(session, owner, which)
        before = row.name
        if new_name is not None and (wanted := checked_name(new_name, "A keystore's name")) != before:
            if before == DEFAULT:
                raise Conflict(f"The keystore {DEFAULT} keeps its name: requests that choose none find it by that.")
            row.name = wanted
        row.settings = checked_settings("keystores", row.type, settings, row.settings)
        _refuse_twin(session, owner, row)
        session.add(row)
        session.flush()
        changes = [*([f"name {row.name}"] if row.name != before else []), *sorted(settings)]
        told = f"Keystore {before} was edited ({', '.join(changes) or 'nothing'}) on"
        _tell(context, session, "keystore.edited", owner, row, told)
        return _row(row, owner)


async def check(context: Context, gateway: str | int, which: str | int = DEFAULT) -> KeystoreDetail:
    """Have the gateway look into a keystore now; a keystore that can't be opened comes back with its `last_error`.

    Raises `Unavailable` when the gateway or Temporal does not answer, `NotFound`, `NotPermitted`.
    """
    with context.acting("keystore.checked", "keystore") as session:
        owner = lookup.gateway(session, context.actor, gateway)
        gateways.require_custody(context, session, owner, f"look into keystores of gateway {owner.name}")
        row = _found(session, owner, which)
        session.add(row)
        session.flush()
        number, name, gateway_id = identity(row), row.name, identity(owner)
    await asking.ask(
        context,
        KeystoreLookWorkflow.run,
        messages.LookStart(number, context.actor.described),
        workflow_id=naming.keystore_workflow(number),
        summary=f"Look into {name}",
    )
    return show(context, gateway_id, number)


def remove(context: Context, gateway: str | int, which: str | int) -> KeystoreRow:
    """Take a keystore away; its file or folder, with all keys, stays on the gateway's host.

    Raises `Conflict` for the default one, and while open requests or certificates in use have their keys there;
    `NotFound`, `NotPermitted`.
    """
    with context.acting("keystore.removed", "keystore") as session:
        owner = lookup.gateway(session, context.actor, gateway)
        gateways.require_custody(context, session, owner, f"remove keystores of gateway {owner.name}")
        row = _found(session, owner, which)
        if row.name == DEFAULT:
            raise Conflict(f"The keystore {DEFAULT} can't be removed: requests that choose none have their keys there.")
        used = _used_by(context, session, identity(row))
        if used:
            raise Conflict(f"Keystore {row.name} can't be removed, because keys in it are in use: {used}.")
        gone = _row(row, owner)
        _tell(context, session, "keystore.removed", owner, row, f"Keystore {row.name} ({row.type}) was removed from")
        session.delete(row)
        return gone


def _found(session: Session, owner: Gateway, which: str | int) -> Keystore:
    """The row; the default one is made in memory where the gateway has none yet."""
    if which == DEFAULT:
        statement = select(Keystore).where(Keystore.gateway_id == owner.id, Keystore.name == DEFAULT)
        row = session.exec(statement).one_or_none()
        return row or Keystore(gateway_id=identity(owner), name=DEFAULT, type="pem")
    return lookup.keystore(session, owner, which)


def _refuse_twin(session: Session, owner: Gateway, row: Keystore) -> None:
    with session.no_autoflush:
        statement = select(Keystore).where(Keystore.gateway_id == owner.id, Keystore.id != row.id)
        others: Sequence[Keystore] = [
            one for one in session.exec(statement).all() if one is not row and one.id is not None
        ]
    for other in others:
        if other.name.casefold() == row.name.casefold():
            raise Conflict(f"Gateway {owner.name} has a keystore {other.name!r} already.")
        place = row.settings.get("file") or row.settings.get("folder")
        if place is not None and place in (other.settings.get("file"), other.settings.get("folder")):
            raise Conflict(f"Keystore {other.name} of gateway {owner.name} is kept in {place} already.")


def _used_by(context: Context, session: Session, number: int) -> str:
    """What has its key in a keystore, in words; empty where nothing has. What the actor may not see is only counted."""
    seen = lookup.seen_by(context.actor, CertificateRequest.organization_id, CertificateRequest.department_id)
    here = CertificateRequest.keystore_id == number
    requests = select(CertificateRequest).where(here, ~col(CertificateRequest.closed))
    certificates = (
        select(Certificate)
        .join(CertificateRequest, col(CertificateRequest.id) == col(Certificate.request_id))
        .where(here, Certificate.active)
    )
    count, named = 0, []
    for row in session.exec(requests.where(seen).order_by(col(CertificateRequest.id)).limit(_MOST_NAMED)).all():
        named.append(f"open request {row.id} ({row.common_name})")
    for held in session.exec(certificates.where(seen).order_by(col(Certificate.id)).limit(_MOST_NAMED)).all():
        named.append(f"certificate {held.id} ({held.common_name})")
    for statement in (requests, certificates):
        count += session.exec(select(func.count()).select_from(statement.subquery())).one()
    named = named[:_MOST_NAMED]
    rest = count - len(named)
    if not named:
        return f"{rest} requests and certificates" if rest else ""
    return ", ".join(named) + (f" and {rest} more" if rest else "")


def _tell(context: Context, session: Session, action: str, owner: Gateway, row: Keystore, told: str) -> None:
    scope = access.scope_of_gateway(session, owner)
    told = f"{told} gateway {owner.name}."
    context.tell(session, action, "keystore", told, object_id=row.id, gateway_id=owner.id, scope=scope)


def _withheld(context: Context, custody: Sequence[Scope]) -> bool:
    return not all(context.actor.sees(scope) for scope in custody)


def _detail(row: Keystore, owner: Gateway, withheld: bool) -> KeystoreDetail:
    if withheld:
        return KeystoreDetail(_row(row, owner, withheld), [])
    kept = [entry for entry in row.contents if "alias" in entry]
    omitted = sum(int(entry.get("omitted", 0)) for entry in row.contents)
    return KeystoreDetail(_row(row, owner), [_entry(entry) for entry in kept], omitted)


def _entry(kept: Mapping[str, Any]) -> EntryRow:
    entry = messages.KeystoreEntry(**kept)
    return EntryRow(
        alias=entry.alias,
        kind=entry.kind,
        key_algorithm=entry.key_algorithm,
        subject=entry.subject,
        names=list(entry.names),
        issuer=entry.issuer,
        serial_number=entry.serial_number,
        fingerprint=entry.fingerprint,
        not_after=datetime.fromisoformat(entry.not_after) if entry.not_after else None,
        problem=entry.problem,
    )


def _row(row: Keystore, owner: Gateway, withheld: bool = False) -> KeystoreRow:
    contents = [] if withheld else row.contents
    ends = [datetime.fromisoformat(entry["not_after"]) for entry in contents if entry.get("not_after")]
    return KeystoreRow(
        id=row.id or 0,
        gateway=owner.name,
        gateway_id=identity(owner),
        name=row.name,
        type=row.type,
        title=types().get(row.type, row.type),
        settings=dict(row.settings),
        entries=sum(int(entry.get("omitted", 1)) for entry in contents),
        next_expiry=min(ends, default=None),
        last_error=row.last_error,
        cure=cures.cure(row.last_error) if row.last_error else None,
        checked_at=row.checked_at,
        withheld=withheld,
    )
