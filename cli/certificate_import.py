"""``certgate certificate import``: certificates that a CA issued elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.certificate import certificates
from cli.common import Json, Yes, acting, confirm, emit_json, emit_rows, plain, run, say, shown
from model.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from operations.certificate_import import ImportView
    from operations.context import Context

_SHOWN = 1000


def register(_app: typer.Typer) -> None:
    """Hang the command beside the others on certificates."""
    certificates.command("import")(import_certificates)


def import_certificates(
    ca: Annotated[str, typer.Option(help="The CA that issued them.")],
    organization: Annotated[str, typer.Option(help="Whose they are to be.")],
    gateway: Annotated[str, typer.Option(help="The gateway that makes the key when one is renewed.")],
    department: Annotated[str | None, typer.Option(help="A department of that organization.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Under which they are renewed; default: the only one of that CA.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that the CA lists and certgate does not have.")] = False,
    order: Annotated[
        list[str] | None, typer.Option(metavar="NUMBER", help="Only the certificate of this order; repeatable.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="One certificate from a file (PEM with chain, DER)."),
    ] = None,
    auto_renew: Annotated[
        bool, typer.Option("--auto-renew", help="Renew them by themselves; the first time an approver decides.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what the CA lists.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take certificates that a CA issued elsewhere into the inventory; what is known already is skipped."""
    from operations import certificate_import as operations

    if file is not None and (every or dry_run):
        raise InvalidInput("A file is one certificate: --all and --dry-run are for the CA's own list.")
    if file is None and not (every or order or dry_run):
        raise InvalidInput("Say which: --all, --order NUMBER, --file FILE, or --dry-run to see what the CA lists.")
    new = operations.NewImport(ca, organization, gateway, department, profile, auto_renew)
    with acting() as context:
        if file is not None:
            number = (order or [""])[0]
            view = run(operations.from_file(context, new, file.read_bytes(), number))
        else:
            view = run(_from_list(context, new, None if every else order, dry_run, yes, as_json))
        if dry_run:
            return
        rows = operations.lines(context, view.id, ("imported", "refused"), limit=_SHOWN).rows
    if as_json:
        emit_json({**plain(view), "certificates": plain(rows)})
    else:
        _table(rows, as_json=False)
    if view.state == "failed":
        raise Unavailable(f"{view.message} What was imported stays; `--all` again goes on with the others.")
    say(view.message or "")


async def _from_list(
    context: Context, new: object, orders: list[str] | None, dry_run: bool, yes: bool, as_json: bool
) -> ImportView:
    from operations import certificate_import as operations

    assert isinstance(new, operations.NewImport)
    view = await _over(context, await operations.begin(context, new))
    if view.state == "failed":
        raise Unavailable(view.message or "The CA's list could not be read.")
    say(view.message or "")
    if dry_run:
        _table(operations.lines(context, view.id, limit=_SHOWN).rows, as_json)
        if sum(view.counts.values()) > _SHOWN:
            say(f"These are the first {_SHOWN}.")
        return view
    count = len(orders) if orders is not None else view.counts["new"]
    if not count:
        say("Nothing of it is new.")
        return view
    whom = f"{view.organization}/{view.department}" if view.department else view.organization
    confirm(f"Import {count} certificates of CA {view.ca} for {whom}, profile {view.profile}?", yes)
    return await _over(context, await operations.take(context, view.id, orders))


async def _over(context: Context, view: ImportView) -> ImportView:
    """Wait until the import rests, and tell how far it is."""
    from operations import certificate_import as operations

    told = 0
    while view.running:
        await asyncio.sleep(0.2)
        view = operations.show(context, view.id)
        done = sum(view.counts.values()) if view.state == "listing" else view.counts["imported"]
        if done >= told + 500:
            told = done
            say(f"{done} certificates are {'listed' if view.state == 'listing' else 'imported'} …")
    return view


def _table(rows: object, as_json: bool) -> None:
    assert isinstance(rows, list)
    columns = {
        "Order": lambda row: row.order_number,
        "Common name": lambda row: row.common_name,
        "Until": lambda row: shown(row.not_after)[:16],
        "At the CA": lambda row: row.status,
        "Here": lambda row: row.state,
        "Certificate": lambda row: row.certificate_id,
        "Note": lambda row: row.note,
    }
    emit_rows(rows, as_json, columns, "The CA lists no certificate.")
