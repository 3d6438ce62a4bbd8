"""A gateway's host comes, and comes again: new tokens, restore of a lost host, and the files that a host needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import select

from model.errors import Conflict
from model.tables import Gateway, GatewayChannel
from operations import lookup
from operations.context import Context
from operations.gateways import require_custody, tell
from operations.tokens import Enrollment, mint, open_channel


@dataclass(frozen=True)
class Host:
    """The host that is a gateway now, as far as one has joined. `token_until`: an enrollment token waits until then."""

    joined: bool
    name: str | None
    joined_at: datetime | None
    token_until: datetime | None


def host_of(context: Context, which: str | int) -> Host:
    """Whether a host is on the gateway's live channel, so that only a restore lets another in. Raises `NotFound`."""
    with context.database.read() as session:
        row = lookup.gateway(session, context.actor, which)
        statement = select(GatewayChannel).where(
            GatewayChannel.gateway_id == row.id, GatewayChannel.number == row.channel
        )
        live = session.exec(statement).one_or_none()
        joined = _joined_once(row) if live is None else _joined(row, live)
        waits = row.token_expires_at is not None and row.token_expires_at > context.clock()
        return Host(
            joined=joined,
            name=live.host if live is not None and joined else None,
            joined_at=(live.joined_at if live is not None else None) or (row.joined_at if joined else None),
            token_until=row.token_expires_at if waits else None,
        )


def new_token(context: Context, which: str | int, *, address: str = "", namespace: str = "default") -> Enrollment:
    """Another enrollment token for a gateway whose host has not joined yet; the one before is void from now on.

    `address` and `namespace` are where the gateway will find Temporal. Raises `NotFound`, `NotPermitted`, `Conflict`
    (it has joined: `restore` it), `Unavailable` (no manager has run yet).
    """
    with context.acting("gateway.token", "gateway") as session:
        row = lookup.gateway(session, context.actor, which)
        require_custody(context, session, row, f"make a token for the gateway {row.name}")
        now = context.clock()
        live = open_channel(session, row, now)
        if _joined(row, live):
            raise Conflict(
                f"Gateway {row.name} has joined{_from(live)}: if that host is lost, restore it "
                f"(`certgate gateway restore`)."
            )
        enrollment = mint(session, row, now, address=address, namespace=namespace)
        told = f"Gateway {row.name} got a new enrollment token; the one before is void."
        tell(context, session, "gateway.token", row, told)
        return enrollment


def restore(context: Context, which: str | int, *, address: str = "", namespace: str = "default") -> Enrollment:
    """Give a lost or rebuilt host the same gateway again: the channel of the host before is dead at once, and a token
    for the next one is made. Endpoints, keystores and delegation stay, and open requests go on.

    Raises `NotFound`, `NotPermitted`, `Conflict` (no host has joined yet: a new token is enough), `Unavailable`.
    """
    with context.acting("gateway.restored", "gateway") as session:
        row = lookup.gateway(session, context.actor, which)
        require_custody(context, session, row, f"restore the gateway {row.name}")
        now = context.clock()
        live = open_channel(session, row, now)
        if not _joined(row, live):
            raise Conflict(
                f"No host has joined as gateway {row.name} yet, so nothing is to be restored: make a new token "
                "(`certgate gateway token`)."
            )
        before = _from(live)
        live.closed_at = now
        session.add(live)
        row.channel += 1
        open_channel(session, row, now)
        enrollment = mint(session, row, now, address=address, namespace=namespace)
        told = (
            f"Gateway {row.name} was restored: the host that joined{before} is shut out, and channel "
            f"{row.channel} waits for a new one."
        )
        tell(context, session, "gateway.restored", row, told)
        return enrollment


def _joined(gateway: Gateway, live: GatewayChannel) -> bool:
    """Whether a host is on the live channel. Hosts that joined under 0.1 have no time there."""
    return live.joined_at is not None or _joined_once(gateway)


def _joined_once(gateway: Gateway) -> bool:
    return gateway.channel == 1 and gateway.joined_at is not None


def _from(live: GatewayChannel) -> str:
    when = f" on {live.joined_at:%Y-%m-%d %H:%M} UTC" if live.joined_at else ""
    return when + (f" from {live.host}" if live.host else "")
