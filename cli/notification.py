"""``certgate notification``: what one should hear of without looking."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.common import (
    Json,
    Limit,
    Offset,
    acting,
    emit_json,
    emit_rows,
    more,
    opened,
    run,
    say,
    surroundings,
    table,
)
from model.errors import InvalidInput

notifications = typer.Typer(no_args_is_help=True, help="What one should hear of: gateways with open work that went.")

_COLUMNS = {
    "ID": lambda row: row.id,
    "Time": lambda row: row.created_at,
    "": lambda row: "" if row.seen else "new",
    "Subject": lambda row: row.subject,
    "Text": lambda row: row.text,
    "Sent": lambda row: row.sent,
}


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(notifications, name="notification")


@notifications.command("list")
def list_notifications(
    unseen: Annotated[bool, typer.Option("--unseen", help="Only those that you have not seen.")] = False,
    search: Annotated[str, typer.Option(help="A part of subject or text, in any case.")] = "",
    limit: Limit = 50,
    offset: Offset = 0,
    as_json: Json = False,
) -> None:
    """List notifications, the newest first. With --json: rows and their total."""
    from operations import notifications as operations

    with acting() as context:
        page = operations.listing(context, operations.Filter(unseen=unseen, search=search), offset, limit)
    if as_json:
        emit_json(page)
        return
    emit_rows(page.rows, False, _COLUMNS, "There is nothing new." if unseen else "There are no notifications.")
    more(len(page.rows), offset, page.total)


@notifications.command("seen")
def mark_seen(
    number: Annotated[list[int] | None, typer.Argument(help="Their ids.", metavar="ID…")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Mark notifications as seen, for yourself."""
    from operations import notifications as operations

    if bool(number) == everything:
        raise InvalidInput("Name the notifications, or say --all.")
    with acting() as context:
        count = operations.mark_seen(context, None if everything else number)
    say(f"{count} marked as seen." if count else "There was nothing new.")


@notifications.command("email")
def choose_email(
    wanted: Annotated[bool | None, typer.Option("--on/--off", help="Whether you want them.")] = None,
    as_json: Json = False,
) -> None:
    """Say whether you want notifications about the gateways that you manage by e-mail; without an option, how it is."""
    from operations import notifications as operations

    with acting() as context:
        if wanted is not None:
            operations.choose_email(context, wanted)
        now = operations.by_email(context)
    if as_json:
        emit_json({"email": now})
    else:
        print("on" if now else "off")


@notifications.command("test")
def send_test(as_json: Json = False) -> None:
    """Send a test message by every way that certgate.toml sets up. Exit 1 if one is not taken."""
    from model.states import AccessMethod
    from operations import notifications as operations

    async def work() -> list[operations.Tried]:
        with opened() as door:
            context = door.context(door.command_line_actor(), AccessMethod.COMMAND_LINE)
            around = surroundings(door.settings.home)
            return await operations.test(context, door.settings.notifications, around)

    tried = run(work())
    if as_json:
        emit_json(tried)
    else:
        rows = [[one.way, one.address, "ok" if one.ok else "NOT OK", one.message] for one in tried]
        table(["Way", "Address", "", "What came of it"], rows)
    if not all(one.ok for one in tried):
        raise typer.Exit(1)
