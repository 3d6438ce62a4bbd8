"""``certgate audit``: read, export and verify the audit trail."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.common import Json, Limit, acting, emit_fields, emit_json, emit_rows, moment, plain, say, shown
from model.errors import Conflict, InvalidInput
from model.states import AccessMethod, Outcome

if TYPE_CHECKING:
    from model.audit import Known, Progress
    from operations.audit_search import Filter

trail = typer.Typer(no_args_is_help=True, help="The audit trail: who did what, and what was refused.")

Search = Annotated[str, typer.Option(help="In the description, in any case.")]
Actor = Annotated[str | None, typer.Option(help="Only of this administrator or process.")]
Action = Annotated[list[str] | None, typer.Option(help="Only this action, such as request.submitted; also several.")]
OutcomeIs = Annotated[Outcome | None, typer.Option("--outcome", help="Only what ended so.")]
Way = Annotated[AccessMethod | None, typer.Option("--access-method", help="Only what came in this way.")]
ObjectIs = Annotated[str | None, typer.Option("--object", metavar="TYPE[:ID]", help="Only about this: request:42.")]
Gateway = Annotated[str | None, typer.Option(help="Only about this gateway.")]
Since = Annotated[str | None, typer.Option(help="From then on; ISO 8601, UTC unless it says otherwise.")]
Until = Annotated[str | None, typer.Option(help="Before then.")]
Before = Annotated[int | None, typer.Option(min=1, help="Only entries before the one of this number.")]
_KNOWN = re.compile(r"(\d{1,10}):([0-9a-f]{64})")


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(trail, name="audit")


@trail.command("list")
def list_entries(
    search: Search = "",
    actor: Actor = None,
    action: Action = None,
    outcome: OutcomeIs = None,
    access_method: Way = None,
    thing: ObjectIs = None,
    gateway: Gateway = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    before: Before = None,
    as_json: Json = False,
) -> None:
    """List entries, the newest first."""
    from operations import audit_trail as operations

    wanted = _filter(search, actor, action, outcome, access_method, thing, gateway, since, until)
    with acting() as context:
        page = operations.listing(context, wanted, before=before, limit=limit)
    columns = {
        "No.": lambda row: row.sequence,
        "Time": lambda row: shown(row.time)[:16],
        "Who": lambda row: row.actor,
        "Action": lambda row: row.action,
        "Outcome": lambda row: row.outcome,
        "Description": lambda row: row.description,
    }
    emit_rows(page.rows, as_json, columns, "There are no such entries.")
    if page.older is not None:
        total = f" of {page.total:,}" if page.counted else f" of more than {page.total:,}"
        say(f"{len(page.rows)}{total}; older ones with --before {page.older}.")


@trail.command("show")
def show_entry(
    number: Annotated[int, typer.Argument(min=1, help="The entry's number.")], as_json: Json = False
) -> None:
    """Show all fields of an entry, with its hashes."""
    from operations import audit_trail as operations

    with acting() as context:
        found = operations.show(context, number)
    row = found.row
    emit_fields(
        found,
        as_json,
        {
            "No.": row.sequence,
            "Time": f"{row.time:%Y-%m-%d %H:%M:%S.%f}Z",
            "Who": row.actor,
            "Access method": row.access_method,
            "Action": row.action,
            "Outcome": row.outcome,
            "Object": row.object_type if row.object_id is None else f"{row.object_type}:{row.object_id}",
            "Gateway": row.gateway or row.gateway_id,
            "Organization": found.organization or row.organization_id,
            "Department": found.department or row.department_id,
            "Description": row.description,
            "Told once as": found.once,
            "Previous hash": found.previous_hash,
            "Hash": found.hash,
        },
    )


@trail.command("export")
def export_entries(
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="JSON Lines, or CSV.")] = "jsonl",
    output: Annotated[Path | None, typer.Option(help="Write it there (must not exist); else to stdout.")] = None,
    search: Search = "",
    actor: Actor = None,
    action: Action = None,
    outcome: OutcomeIs = None,
    access_method: Way = None,
    thing: ObjectIs = None,
    gateway: Gateway = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Export entries, the oldest first. The export is told in the trail itself."""
    from operations import audit_export

    wanted = _filter(search, actor, action, outcome, access_method, thing, gateway, since, until)
    counted = 0

    def count(entries: int) -> None:
        nonlocal counted
        counted = entries

    export = audit_export.export_csv if form == "csv" else audit_export.export_jsonl
    with acting() as context, _stream(output) as write:
        for piece in export(context, wanted, count):
            write(piece.encode())
    say(f"{counted:,} entries were exported.")


@trail.command("verify")
def verify_trail(
    known: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER:HASH",
            help="An entry noted elsewhere, as an earlier verify printed its last one: it must still be there.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Recalculate the whole chain: finds change, insertion and deletion, also at the end. Exit 1 if it is broken."""
    from operations import audit_trail as operations

    noted = _known(known)
    with acting() as context, _progress() as progress:
        check = operations.verify(context, noted, progress)
    if as_json:
        emit_json({"ok": check.finding is None, **plain(check)})
    if check.finding is not None:
        raise Conflict(f"The audit trail is broken: {check.finding.problem}.")
    say(f"The audit trail is whole: {check.entries:,} entries. Note elsewhere: {check.entries}:{check.head}")


def _filter(
    search: str,
    actor: str | None,
    action: list[str] | None,
    outcome: Outcome | None,
    access_method: AccessMethod | None,
    thing: str | None,
    gateway: str | None,
    since: str | None,
    until: str | None,
) -> Filter:
    from operations import audit_search

    object_type, _, number = (thing or "").partition(":")
    if thing is not None and (not object_type or (":" in thing and not (number.isascii() and number.isdecimal()))):
        raise InvalidInput(f"An object is given as TYPE or TYPE:ID, not {thing!r}.")
    return audit_search.Filter(
        search=search,
        actor=actor,
        actions=tuple(action or ()),
        outcome=outcome,
        access_method=access_method,
        object_type=object_type or None,
        object_id=int(number) if number else None,
        gateway=gateway,
        since=moment(since),
        until=moment(until),
    )


def _known(word: str | None) -> Known | None:
    from model.audit import Known

    if word is None:
        return None
    match = _KNOWN.fullmatch(word.strip().lower())
    if match is None:
        raise InvalidInput("A known entry is given as NUMBER:HASH, as `certgate audit verify` prints it.")
    return Known(int(match[1]), match[2])


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with Bar(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("")
        yield lambda done, of: bar.update(task, completed=done, total=of)


@contextmanager
def _stream(output: Path | None) -> Iterator[Callable[[bytes], object]]:
    """Bytes, so that no line end is made another."""
    if output is None:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    try:
        stream = output.open("xb")
    except FileExistsError:
        raise InvalidInput(f"The file {output} exists already: name another one.") from None
    except OSError as error:
        raise InvalidInput(f"The file {output} can't be written: {error.strerror}.") from None
    with stream:
        yield stream.write
