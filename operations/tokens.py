"""Enrollment tokens: what a gateway's host is told so that it can join.

A token says which manager to believe (its public key) and proves that its holder may be the gateway (the secret). It is
used once; of the secret only the SHA-256 is kept.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlmodel import Session, select

from model import access, channel
from model.errors import InvalidInput
from model.tables import Gateway, GatewayChannel
from operations import manager_key

PREFIX = "cgj_"
LIFETIME = timedelta(hours=24)
_LONGEST = 4096


@dataclass(frozen=True)
class Token:
    """An enrollment token, read. `address` is None where the token doesn't say where Temporal is."""

    gateway_id: int
    name: str
    channel: int
    installation: str
    manager_key: str
    secret: str = field(repr=False)
    address: str | None = None
    namespace: str = "default"


@dataclass(frozen=True)
class Enrollment:
    """An enrollment token, to be shown once: only a hash of its secret is kept."""

    gateway_id: int
    token: str = field(repr=False)
    expires_at: datetime
    channel: int = 1


def mint(session: Session, gateway: Gateway, now: datetime, *, address: str, namespace: str) -> Enrollment:
    """A new token for the gateway's live channel; the one before is void. Raises `Unavailable` (no manager's key)."""
    assert gateway.id is not None
    open_channel(session, gateway, now)
    secret = secrets.token_urlsafe(32)
    content = {
        "gateway_id": gateway.id,
        "name": gateway.name,
        "channel": gateway.channel,
        "installation": access.installation(session),
        "manager_key": manager_key.public_key(session),
        "secret": secret,
        "namespace": namespace,
    }
    if address:
        content["address"] = address
    gateway.token_digest, gateway.token_expires_at = access.token_digest(secret), now + LIFETIME
    session.add(gateway)
    encoded = base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")
    return Enrollment(gateway.id, PREFIX + encoded, now + LIFETIME, gateway.channel)


def open_channel(session: Session, gateway: Gateway, now: datetime) -> GatewayChannel:
    """The row of the gateway's live channel, made where there is none yet."""
    assert gateway.id is not None
    statement = select(GatewayChannel).where(
        GatewayChannel.gateway_id == gateway.id, GatewayChannel.number == gateway.channel
    )
    row = session.exec(statement).one_or_none()
    if row is None:
        row = GatewayChannel(gateway_id=gateway.id, number=gateway.channel, opened_at=now)
        session.add(row)
    return row


def read(text: str) -> Token:
    """Read an enrollment token. Raises `InvalidInput`; its message never holds a part of the token."""
    wrong = InvalidInput("This is not an enrollment token of `certgate gateway add`: it begins with cgj_ and is whole.")
    text = text.strip()
    if not text.startswith(PREFIX) or len(text) > _LONGEST:
        raise wrong
    encoded = text.removeprefix(PREFIX)
    try:
        values = json.loads(base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise wrong from None
    match values:
        case {
            "gateway_id": int(number),
            "name": str(name),
            "channel": int(channel_number),
            "installation": str(installation),
            "manager_key": str(key),
            "secret": str(secret),
        }:
            address, namespace = values.get("address"), values.get("namespace", "default")
            channel.read_public(key)
            if isinstance(namespace, str) and (address is None or isinstance(address, str)):
                return Token(number, name, channel_number, installation, key, secret, address or None, namespace)
        case {"gateway_id": int(), "secret": str()}:
            raise InvalidInput("This token is of an older certgate: ask for a new one (`certgate gateway token NAME`).")
    raise wrong
