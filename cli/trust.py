"""``certgate trust``: the CA certificates that chains are completed with and must end at."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import (
    Json,
    Yes,
    acting,
    confirm,
    emit_fields,
    emit_json,
    emit_rows,
    plain,
    read_bytes,
    run,
    say,
    settings,
    shown,
)
from model.errors import InvalidInput

if TYPE_CHECKING:
    from operations.context import Context
    from operations.trust import Candidate, Waiting

trusted = typer.Typer(no_args_is_help=True, help="Trusted CA certificates: roots and intermediates.")

Fingerprint = Annotated[str, typer.Argument(help="The SHA-256 fingerprint, or at least its first 8 digits.")]
File = Annotated[Path | None, typer.Argument(help="PEM or PKCS#7 (one or more), or DER; - for stdin.")]
Url = Annotated[str | None, typer.Option("--url", help="Fetch from the issuer's address (http:// or https://).")]
_COLUMNS = {
    "Subject": lambda row: row.subject,
    "Root": lambda row: row.is_root,
    "Until": lambda row: row.not_after,
    "Fingerprint": lambda row: row.fingerprint[:16],
}


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(trusted, name="trust")


@trusted.command("list")
def list_trusted(as_json: Json = False) -> None:
    """List trusted CA certificates, and say which CA certificates end soon."""
    from operations import trust as operations
    from operations import trust_expiry

    with acting() as context:
        rows, uses = operations.listing(context), operations.uses(context)
        ends = trust_expiry.ending(context)
        moment = context.clock()
    columns = {
        **_COLUMNS,
        "Used by CA": lambda row: uses[row.id].authorities,
        "In use": lambda row: uses[row.id].in_use,
    }
    if as_json:
        emit_json([{**plain(row), **plain(uses[row.id])} for row in rows])
    else:
        emit_rows(rows, False, columns, "No CA certificate is trusted: `certgate trust add` adds one.")
    for one in ends:
        say(trust_expiry.told_of(one, moment))


@trusted.command("show")
def show_trusted(fingerprint: Fingerprint, as_json: Json = False) -> None:
    """Print a trusted CA certificate as PEM."""
    from operations import trust as operations

    with acting() as context:
        row, pem = operations.show(context, fingerprint)
        uses = operations.uses(context)[row.id]
    if as_json:
        used = {"used_by": uses.authorities, "signed": uses.signed, "in_use": uses.in_use}
        emit_json({**plain(row), "pem": pem, **used})
    else:
        print(pem, end="")


@trusted.command("inspect")
def inspect_certificates(file: File = None, url: Url = None, as_json: Json = False) -> None:
    """Show the certificates of a file or an issuer's address; nothing is trusted for that."""
    with acting() as context:
        found = _candidates(context, file, url)
    if as_json:
        emit_json(found)
    else:
        _print(found)


@trusted.command("add")
def add_trusted(
    file: File = None,
    url: Url = None,
    fingerprint: Annotated[
        list[str] | None,
        typer.Option(help="Only the certificate with this SHA-256 fingerprint, as its CA publishes it. Repeatable."),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Trust the CA certificates of a file or an issuer's address: self-signed ones as roots, others as intermediates.

    What was fetched from an address is shown first, and trusted once that is confirmed: by a word on the terminal, by
    --fingerprint, or by --yes.
    """
    from operations import trust as operations

    with acting() as context:
        found = _candidates(context, file, url)
        if url is not None and not fingerprint:
            if not yes:
                _print(found, to_people=True)
            what = "this certificate" if len(found) == 1 else f"these {len(found)} certificates"
            confirm(f"Trust {what}? Compare the fingerprint with what the CA publishes.", yes)
        rows = operations.add(context, *(one.pem for one in found), only=fingerprint or None)
        waiting = operations.waiting(context)
    emit_rows(rows, as_json, _COLUMNS, "There is nothing in it.")
    _say_waiting(waiting, {row.subject for row in rows})


@trusted.command("waiting")
def list_waiting(as_json: Json = False) -> None:
    """List the requests that wait for a CA certificate, by the issuer that is missing."""
    from operations import trust as operations

    with acting() as context:
        rows = operations.waiting(context)
    columns = {
        "Missing issuer": lambda row: row.missing_issuer,
        "Requests": lambda row: [f"{one.id} ({one.common_name})" for one in row.requests],
    }
    emit_rows(rows, as_json, columns, "No request waits for a CA certificate.")


@trusted.command("remove")
def remove_trusted(fingerprint: Fingerprint, yes: Yes = False) -> None:
    """Trust a CA certificate no longer; certificates in use stay where they are."""
    from operations import trust as operations

    with acting() as context:
        row, _ = operations.show(context, fingerprint)
        used = operations.uses(context)[row.id].authorities
        then = f" New certificates of {', '.join(used)} will be refused then." if used else ""
        confirm(f"Trust {row.subject} no longer?{then}", yes)
        operations.remove(context, row.fingerprint)
    say(f"{row.subject} is trusted no longer.")


def _candidates(context: Context, file: Path | None, url: str | None) -> Sequence[Candidate]:
    from operations import trust as operations

    if (file is None) == (url is None):
        raise InvalidInput("Name a file, or an address with --url: one of the two.")
    if file is not None:
        return operations.inspect(context, read_bytes(file))
    assert url is not None
    return run(operations.fetch(context, url, settings().trust.fetch_networks))


def _print(found: Sequence[Candidate], *, to_people: bool = False) -> None:
    """Each in full: a fingerprint is there to be compared."""
    for number, one in enumerate(found):
        fields = {
            "Subject": one.subject,
            "Issuer": one.issuer,
            "Kind": "root" if one.is_root else "intermediate",
            "SHA-256": one.fingerprint,
            "Serial number": one.serial_number,
            "Key": one.key,
            "Valid from": one.not_before,
            "Valid until": one.not_after,
            "Signed by": one.signed_by,
            "Known": "trusted already" if one.known else None,
            "Problem": one.problem,
            "Remark": one.remark,
        }
        if to_people:
            for name, value in fields.items():
                if value:
                    say(f"{name:<13}  {shown(value)}")
            say("")
            continue
        if number:
            sys.stdout.write("\n")
        emit_fields(one, False, fields)


def _say_waiting(waiting: Sequence[Waiting], added: set[str]) -> None:
    for row in waiting:
        if row.missing_issuer in added:
            numbers = ", ".join(str(one.id) for one in row.requests)
            what = "Requests" if len(row.requests) > 1 else "Request"
            say(f"{what} {numbers} waited for {row.missing_issuer}: what waits goes on by itself.")
