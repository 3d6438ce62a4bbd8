"""``certgate trust``: the CA certificates that chains are completed with and must end at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.common import Json, Yes, acting, confirm, emit_json, emit_rows, plain, read_bytes, say

trusted = typer.Typer(no_args_is_help=True, help="Trusted CA certificates: roots and intermediates.")

Fingerprint = Annotated[str, typer.Argument(help="The SHA-256 fingerprint, or at least its first 8 digits.")]
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
    """List trusted CA certificates."""
    from operations import trust as operations

    with acting() as context:
        rows = operations.listing(context)
    emit_rows(rows, as_json, _COLUMNS, "No CA certificate is trusted: `certgate trust add` adds one.")


@trusted.command("show")
def show_trusted(fingerprint: Fingerprint, as_json: Json = False) -> None:
    """Print a trusted CA certificate as PEM."""
    from operations import trust as operations

    with acting() as context:
        row, pem = operations.show(context, fingerprint)
        uses = operations.uses(context)[row.id]
    if as_json:
        emit_json({**plain(row), "pem": pem, "used_by": uses.authorities, "signed": uses.signed})
    else:
        print(pem, end="")


@trusted.command("add")
def add_trusted(
    file: Annotated[Path, typer.Argument(help="PEM (one or more) or DER; - for stdin.")], as_json: Json = False
) -> None:
    """Trust the CA certificates of a file: self-signed ones as roots, others as intermediates."""
    from operations import trust as operations

    with acting() as context:
        rows = operations.add(context, read_bytes(file))
    emit_rows(rows, as_json, _COLUMNS, "There is nothing in it.")


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
