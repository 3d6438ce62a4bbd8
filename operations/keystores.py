"""Keystores of gateways: what they are and how they are opened. What is in them, only their gateway knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from model.errors import NotFound
from model.tables import Gateway, Keystore
from operations import lookup
from operations.context import Context
from operations.endpoints import checked_settings
from operations.gateways import require_custody
from operations.lookup import identity

DEFAULT = "default"


@dataclass(frozen=True)
class KeystoreRow:
    """A keystore as its gateway opens it. Credentials in the settings are references, never secrets."""

    id: int
    gateway: str
    name: str
    type: str
    settings: dict[str, Any]


def listing(context: Context, gateway: str | None = None) -> list[KeystoreRow]:
    """The keystores of one gateway or of all that the actor sees, by gateway and name. Raises `NotFound`."""
    with context.database.read() as session:
        if gateway is not None:
            owners = [lookup.gateway(session, context.actor, gateway)]
        else:
            statement = select(Gateway).where(lookup.gateways_seen_by(context.actor), Gateway.active)
            owners = list(session.exec(statement.order_by(col(Gateway.name_key))).all())
        return [row for owner in owners for row in _of(session, owner)]


def edit(context: Context, gateway: str, settings: Mapping[str, str], name: str = DEFAULT) -> KeystoreRow:
    """Change how a keystore is opened, for keys made from now on; an empty word takes a setting away.

    A passphrase is given as a reference (``file:PATH``, ``env:NAME``) that the gateway resolves on its own host. Raises
    `InvalidInput`, `NotFound`, `NotPermitted`.
    """
    with context.acting("keystore.edited", "keystore") as session:
        owner = lookup.gateway(session, context.actor, gateway)
        require_custody(context, session, owner, f"edit keystores of gateway {owner.name}")
        statement = select(Keystore).where(Keystore.gateway_id == owner.id, Keystore.name == name)
        row = session.exec(statement).one_or_none()
        if row is None and name != DEFAULT:
            raise NotFound(f"Gateway {owner.name} has no keystore {name!r}.")
        row = row or Keystore(gateway_id=identity(owner), name=DEFAULT, type="pem")
        row.settings = checked_settings("keystores", row.type, settings, row.settings)
        session.add(row)
        session.flush()
        told = f"Keystore {name} of gateway {owner.name} was edited ({', '.join(sorted(settings)) or 'nothing'})."
        context.tell(session, "keystore.edited", "keystore", told, object_id=row.id, gateway_id=owner.id)
        return _shown(row, owner)


def _of(session: Session, owner: Gateway) -> list[KeystoreRow]:
    rows = session.exec(select(Keystore).where(Keystore.gateway_id == owner.id).order_by(col(Keystore.name))).all()
    # A gateway without a row of its own uses the plain PEM directory in its home.
    return [_shown(row, owner) for row in rows] or [KeystoreRow(0, owner.name, DEFAULT, "pem", {})]


def _shown(row: Keystore, owner: Gateway) -> KeystoreRow:
    return KeystoreRow(identity(row), owner.name, row.name, row.type, dict(row.settings))
