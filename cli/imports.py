"""``certgate gateway import|export`` and ``certgate endpoint import|export``: CSV files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import Json, acting, emit_json, emit_rows, opened, plain, say, write_new
from model.errors import InvalidInput
from model.states import AccessMethod

if TYPE_CHECKING:
    from operations.imports import Judged, Outcome

File = Annotated[Path, typer.Argument(help="The CSV file (UTF-8, commas or semicolons); - for stdin.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only check every row, write nothing.")]
Output = Annotated[Path | None, typer.Option(help="Write there (must not exist) and not to stdout.")]


def register(gateways: typer.Typer, endpoints: typer.Typer) -> None:
    """Hang the commands into `certgate gateway` and `certgate endpoint`."""
    gateways.command("import")(import_gateways)
    gateways.command("export")(export_gateways)
    endpoints.command("import")(import_endpoints)
    endpoints.command("export")(export_endpoints)


def import_gateways(
    file: File,
    dry_run: DryRun = False,
    tokens_dir: Annotated[
        Path | None,
        typer.Option(help="Write the enrollment tokens into this folder (0700, must not exist) and don't print them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Add the gateways of a CSV file: all of them, or none where one row is wrong.

    Columns: name (required), comments, delegation_mode, organizations and departments (several between bars:
    Alpha|Beta), active. Each new gateway gets an enrollment token, which can be used once, within 24 hours.
    """
    from operations import imports

    content = _content(file)
    with opened() as door:
        context = door.context(door.command_line_actor(), AccessMethod.COMMAND_LINE)
        address, namespace = door.temporal_place()
        folder = None if dry_run else tokens_dir
        if folder is not None:
            # Before the gateways are made: tokens that can't be kept would be lost.
            _new_folder(folder)
        try:
            outcome = imports.import_gateways(context, content, dry_run=dry_run, address=address, namespace=namespace)
        except BaseException:
            if folder is not None:
                folder.rmdir()
            raise
        if folder is not None:
            _write_tokens(folder, outcome)
    _report(outcome, "gateway", as_json, tokens_dir)


def import_endpoints(file: File, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Add the endpoints of a CSV file: all of them, or none where one row is wrong.

    Columns: gateway, name, type (required), connection, install, window_cron, window_zone, window_minutes, settings and
    connection_settings (a JSON object each), and single settings in columns such as settings.configuration.
    """
    from operations import imports

    content = _content(file)
    with acting() as context:
        outcome = imports.import_endpoints(context, content, dry_run=dry_run)
    _report(outcome, "endpoint", as_json, None)


def export_gateways(output: Output = None, as_json: Json = False) -> None:
    """Print the gateways that you may see as CSV, with the columns that an import reads."""
    from operations import exports, imports

    with acting() as context:
        _give(exports.gateways_csv(context), imports.GATEWAY_COLUMNS, output, as_json)


def export_endpoints(output: Output = None, as_json: Json = False) -> None:
    """Print the endpoints of the gateways that you may see as CSV, with the columns that an import reads."""
    from operations import exports, imports

    with acting() as context:
        _give(exports.endpoints_csv(context), imports.ENDPOINT_COLUMNS, output, as_json)


def _report(outcome: Outcome, what: str, as_json: bool, tokens_dir: Path | None) -> None:
    from operations.imports import Verdict

    shown = [row for row in outcome.rows if row.verdict == Verdict.WRONG] or outcome.rows
    if as_json:
        emit_json(
            {
                "written": outcome.written,
                **{str(verdict): outcome.count(verdict) for verdict in Verdict},
                "rows": [_value(row, tokens_dir) for row in outcome.rows],
            }
        )
    elif outcome.written and what == "gateway" and tokens_dir is None:
        for row in outcome.rows:
            if row.enrollment is not None:
                print(f"{row.name}\t{row.enrollment.token}")
    else:
        columns = {
            "Line": lambda row: row.line,
            "Gateway": lambda row: row.gateway if what == "endpoint" else row.name,
            **({"Name": lambda row: row.name} if what == "endpoint" else {}),
            "Result": lambda row: row.verdict,
            "Problem": lambda row: row.problem or "",
        }
        emit_rows(shown, False, columns, f"The file holds no {what}.")
    say(outcome.told[0].upper() + outcome.told[1:])
    if outcome.count(Verdict.WRONG):
        raise typer.Exit(1)


def _value(row: Judged, tokens_dir: Path | None) -> dict[str, Any]:
    value: dict[str, Any] = {name: one for name, one in plain(row).items() if name != "enrollment"}
    if row.enrollment is not None:
        value["expires_at"] = plain(row.enrollment.expires_at)
        if tokens_dir is None:
            value["token"] = row.enrollment.token
        else:
            value["token_file"] = str(_token_file(tokens_dir, row))
    return value


def _token_file(folder: Path, row: Judged) -> Path:
    return folder / f"gateway-{row.id}.token"


def _new_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise InvalidInput(f"{folder} exists already: name another folder for the tokens.") from None
    except OSError as error:
        raise InvalidInput(f"The folder {folder} can't be made: {error.strerror}.") from None


def _write_tokens(folder: Path, outcome: Outcome) -> None:
    """A file for each gateway that was added; where none was, the folder goes again."""
    made = [row for row in outcome.rows if row.enrollment is not None]
    for row in made:
        assert row.enrollment is not None
        write_new(_token_file(folder, row), row.enrollment.token + "\n")
    if not made:
        folder.rmdir()


def _content(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"The file {file} can't be read: {error.strerror}.") from None


def _give(text: str, columns: Any, output: Path | None, as_json: bool) -> None:
    from operations import sheets

    if as_json:
        emit_json([dict(record.cells) for record in sheets.read(text.encode(), columns).records])
    elif output is None:
        print(text, end="")
    else:
        write_new(output, text)
        say(f"{output} was written.")
