"""``certgate overview``: how things stand, in one look."""

from __future__ import annotations

import typer

from cli.common import Json, acting, emit_fields, emit_json, plain, run, say
from model.errors import Unavailable


def register(app: typer.Typer) -> None:
    """Hang the command into the command line."""
    app.command("overview")(show_overview)


def show_overview(as_json: Json = False) -> None:
    """Show what waits, what fails, which certificates end when, and which gateways are connected."""
    from operations import overview as operations

    gateways = None
    with acting() as context:
        seen = operations.show(context)
        try:
            gateways = run(operations.gateways_now(context))
        except Unavailable as error:
            say(f"Which gateways are connected is not known: {error.message}")
    if as_json:
        emit_json({**plain(seen), "gateways": plain(gateways)})
        return
    expiry = seen.expiry
    failing = (f"request {row.id}, {row.common_name}: {row.reason}" for row in seen.failing.rows)
    fields = {
        "Awaiting your decision": f"{seen.awaiting_me.total}",
        "Needs attention": "\n".join([f"{seen.failing.total}", *failing]),
        "Open requests": {str(status): count for status, count in seen.open_requests.items()},
        "Valid certificates": f"{expiry.valid}",
        **{f"End within {days} days": f"{count}" for days, count in expiry.within.items()},
        "Expired, not replaced": f"{expiry.expired}",
    }
    if gateways is not None:
        fields["Gateways"] = {str(status): count for status, count in gateways.by_status.items()}
        fields["Away with open work"] = "\n".join(f"{one.name}: {one.open_requests}" for one in gateways.away)
    emit_fields(seen, False, fields)
