"""Gateways and endpoints as CSV files, with the columns that `operations/imports.py` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlmodel import col, select

from model.tables import Endpoint, Gateway
from operations import gateways, lookup, sheets
from operations.context import Context
from operations.imports import ENDPOINT_COLUMNS, GATEWAY_COLUMNS
from operations.lookup import identity


def gateways_csv(context: Context) -> str:
    """The gateways that the actor may see as CSV, with whom they serve as far as he may see it."""
    with context.database.read() as session:
        seen = select(Gateway).where(lookup.gateways_seen_by(context.actor), _living()).order_by(col(Gateway.name_key))
        found = session.exec(seen).all()
        served = gateways.served(context, session, [identity(row) for row in found])
    rows = []
    for row in found:
        names = served.get(identity(row), [])
        rows.append(
            {
                "name": row.name,
                "comments": row.comments,
                "delegation_mode": str(row.delegation_mode).lower(),
                "organizations": _joined([name for name in names if "/" not in name]),
                "departments": _joined([name for name in names if "/" in name]),
                "active": "yes" if row.active else "no",
            }
        )
    return sheets.write([column.name for column in GATEWAY_COLUMNS], rows)


def endpoints_csv(context: Context) -> str:
    """The endpoints of the gateways that the actor may see as CSV; credentials are references, never secrets."""
    with context.database.read() as session:
        statement = (
            select(Endpoint, Gateway.name)
            .join(Gateway, col(Gateway.id) == col(Endpoint.gateway_id))
            .where(lookup.gateways_seen_by(context.actor), _living())
            .order_by(col(Gateway.name_key), col(Endpoint.name))
        )
        rows = [
            {
                "gateway": gateway,
                "name": row.name,
                "type": row.type,
                "connection": row.connection,
                "install": str(row.install_mode),
                "key_at_endpoint": "yes" if row.key_at_endpoint else "",
                "verify_from_manager": "yes" if row.verify_from_manager else "",
                "window_cron": row.window_cron or "",
                "window_zone": row.window_zone if row.window_cron else "",
                "window_minutes": str(row.window_minutes) if row.window_cron else "",
                "settings": json.dumps(row.settings, ensure_ascii=False) if row.settings else "",
                "connection_settings": (
                    json.dumps(row.connection_settings, ensure_ascii=False) if row.connection_settings else ""
                ),
            }
            for row, gateway in session.exec(statement).all()
        ]
    return sheets.write([column.name for column in ENDPOINT_COLUMNS if not column.prefix], rows)


def _joined(names: Sequence[str]) -> str:
    """Names for one cell as an import reads them: between bars, or a line each. No name holds a line end."""
    if any("|" in name for name in names):
        return "\n".join(names) + "\n"
    return "|".join(names)


def _living() -> Any:
    return ~col(Gateway.name_key).startswith(lookup.GONE)
