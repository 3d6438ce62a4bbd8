"""``certgate audit``: read, export and verify the audit trail."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

import typer

from cli.common import Json, Limit, Offset, acting, clean, emit_json, emit_rows, moment, more, plain, say, shown
from model.errors import Conflict, InvalidInput
from model.states import Outcome

if TYPE_CHECKING:
    from operations.audit_trail import AuditRow, Filter

trail = typer.Typer(no_args_is_help=True, help="The audit trail: who did what, and what was refused.")

Search = Annotated[str, typer.Option(help="In the description.")]
Actor = Annotated[str | None, typer.Option(help="Only of this administrator or process.")]
Action = Annotated[str | None, typer.Option(help="Only this action, such as request.submitted.")]
OutcomeIs = Annotated[Outcome | None, typer.Option("--outcome", help="Only what ended so.")]
ObjectIs = Annotated[str | None, typer.Option("--object", metavar="TYPE[:ID]", help="Only about this: request:42.")]
Gateway = Annotated[str | None, typer.Option(help="Only about this gateway.")]
Since = Annotated[str | None, typer.Option(help="From then on; ISO 8601, UTC unless it says otherwise.")]
Until = Annotated[str | None, typer.Option(help="Before then.")]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(trail, name="audit")


@trail.command("list")
def list_entries(
    search: Search = "",
    actor: Actor = None,
    action: Action = None,
    outcome: OutcomeIs = None,
    thing: ObjectIs = None,
    gateway: Gateway = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    offset: Offset = 0,
    as_json: Json = False,
) -> None:
    """List entries, the newest first."""
    from operations import audit_trail as operations

    wanted = _filter(search, actor, action, outcome, thing, gateway, since, until)
    with acting() as context:
        page = operations.listing(context, wanted, offset, limit)
    columns = {
        "No.": lambda row: row.sequence,
        "Time": lambda row: shown(row.time)[:16],
        "Who": lambda row: row.actor,
        "Action": lambda row: row.action,
        "Outcome": lambda row: row.outcome,
        "Description": lambda row: row.description,
    }
    emit_rows(page.rows, as_json, columns, "There are no such entries.")
    more(len(page.rows), offset, page.total)


@trail.command("export")
def export_entries(
    output_format: Annotated[Literal["json", "csv"], typer.Option("--format", help="One JSON array, or CSV.")] = "json",
    output: Annotated[Path | None, typer.Option(help="Write it there (must not exist); else to stdout.")] = None,
    search: Search = "",
    actor: Actor = None,
    action: Action = None,
    outcome: OutcomeIs = None,
    thing: ObjectIs = None,
    gateway: Gateway = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Export entries, the oldest first."""
    from operations import audit_trail as operations

    wanted = _filter(search, actor, action, outcome, thing, gateway, since, until)
    with acting() as context:
        rows = operations.export(context, wanted)
        with _stream(output) as stream:
            count = _write_csv(stream, rows) if output_format == "csv" else _write_json(stream, rows)
    say(f"{count} entries were exported.")


@trail.command("verify")
def verify_trail(as_json: Json = False) -> None:
    """Recalculate the whole chain: finds change, insertion and deletion, also at the end. Exit 1 if it is broken."""
    from operations import audit_trail as operations

    with acting() as context:
        check = operations.verify(context)
    if as_json:
        emit_json({"ok": check.finding is None, **plain(check)})
    if check.finding is not None:
        raise Conflict(f"The audit trail is broken: {check.finding.problem}.")
    say(f"The audit trail is whole: {check.entries} entries, the last hash is {check.head}.")


def _filter(
    search: str,
    actor: str | None,
    action: str | None,
    outcome: Outcome | None,
    thing: str | None,
    gateway: str | None,
    since: str | None,
    until: str | None,
) -> Filter:
    from operations import audit_trail as operations

    object_type, _, number = (thing or "").partition(":")
    if number and not number.isdecimal():
        raise InvalidInput(f"An object is given as TYPE or TYPE:ID, not {thing!r}.")
    return operations.Filter(
        search=search,
        actor=actor,
        action=action,
        outcome=outcome,
        object_type=object_type or None,
        object_id=int(number) if number else None,
        gateway=gateway,
        since=moment(since),
        until=moment(until),
    )


@contextmanager
def _stream(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    try:
        stream = output.open("x", encoding="utf-8", newline="")
    except FileExistsError:
        raise InvalidInput(f"The file {output} exists already: name another one.") from None
    except OSError as error:
        raise InvalidInput(f"The file {output} can't be written: {error.strerror}.") from None
    with stream:
        yield stream


def _write_json(stream: IO[str], rows: Iterator[AuditRow]) -> int:
    count = 0
    for row in rows:
        stream.write(("[\n" if count == 0 else ",\n") + json.dumps(plain(row), ensure_ascii=False))
        count += 1
    stream.write("\n]\n" if count else "[]\n")
    return count


def _write_csv(stream: IO[str], rows: Iterator[AuditRow]) -> int:
    from operations.audit_trail import AuditRow

    names = [field.name for field in fields(AuditRow)]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    count = 0
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in names])
        count += 1
    return count


def _cell(value: object) -> str:
    text = "" if value is None else clean(shown(value))
    # A spreadsheet takes such a cell for a formula.
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t")) else text
