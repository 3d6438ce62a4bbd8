"""``certgate inventory``: every certificate that was seen, and the scans that look for them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import (
    Comment,
    Json,
    Limit,
    Offset,
    Yes,
    acting,
    confirm,
    emit_fields,
    emit_json,
    emit_rows,
    more,
    plain,
    run,
    say,
    seconds,
    shown,
)
from model.errors import Conflict, InvalidInput, Unavailable
from model.states import InstallMode, ScanState, SightingWay

if TYPE_CHECKING:
    from operations.context import Context
    from operations.inventory import Filter, Place
    from operations.inventory_scans import ScanRow

inventory = typer.Typer(
    no_args_is_help=True,
    help="Certificates that were seen, whoever issued them: at endpoints, in keystores, in networks.",
)

Which = Annotated[str, typer.Argument(metavar="WHICH", help="Its number, or 8 digits of its fingerprint or more.")]
ScanNumber = Annotated[int, typer.Argument(metavar="ID", help="The scan's number.")]
Search = Annotated[str, typer.Option(help="In common name, names, issuer, serial number or fingerprint.")]
States = Annotated[list[str] | None, typer.Option("--state", help="unmanaged, managed or ignored; repeatable.")]
Ways = Annotated[
    list[SightingWay] | None, typer.Option("--way", case_sensitive=False, help="How it was seen; repeatable.")
]
OfGateway = Annotated[str | None, typer.Option("--gateway", help="Only what this gateway saw.")]
Expiring = Annotated[int | None, typer.Option("--expiring", metavar="DAYS", help="Only what ends within that time.")]
Expired = Annotated[bool, typer.Option("--expired", help="Only what has ended.")]
Gone = Annotated[bool, typer.Option("--gone", help="What is seen nowhere any more.")]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(inventory, name="inventory")


@inventory.command("list")
def list_inventory(
    search: Search = "",
    state: States = None,
    way: Ways = None,
    gateway: OfGateway = None,
    expiring: Expiring = None,
    expired: Expired = False,
    gone: Gone = False,
    limit: Limit = 100,
    offset: Offset = 0,
    as_json: Json = False,
) -> None:
    """List certificates that were seen, the next to end first."""
    from operations import inventory as operations

    wanted = _filter(search, state, way, gateway, expiring, expired, gone)
    with acting() as context:
        page = operations.listing(context, wanted, offset, limit)
    columns = {
        "ID": lambda row: row.id,
        "Common name": lambda row: row.common_name,
        "State": lambda row: row.state,
        "Until": lambda row: shown(row.not_after)[:16],
        "Issuer": lambda row: row.issuer,
        "Seen": lambda row: _seen(row.places, row.places_total),
        "Fingerprint": lambda row: row.fingerprint[:16],
    }
    emit_rows(page.rows, as_json, columns, "The inventory has no such certificates.")
    more(len(page.rows), offset, page.total)


@inventory.command("show")
def show_seen(which: Which, as_json: Json = False) -> None:
    """Show one certificate, and where it is and was seen."""
    from operations import inventory as operations

    with acting() as context:
        detail = operations.show(context, which)
    row = detail.row
    value = {**plain(row), "places": plain(detail.places), "places_total": detail.places_total, "pem": detail.pem}
    count = row.names_total - len(row.names)
    fields = {
        "Certificate": row.id,
        "Common name": row.common_name,
        "Names": ", ".join(row.names) + (f" and {count} more" if count else ""),
        "State": row.state,
        "Managed as": f"certificate {row.certificate_id} ({row.certificate_status})" if row.certificate_id else None,
        "Ignored": f"by {row.ignored_by}: {row.ignored_why}" if row.ignored_by else None,
        "CA certificate": row.authority or None,
        "Subject": row.subject,
        "Issuer": row.issuer,
        "Valid from": row.not_before,
        "Valid until": row.not_after,
        "Key": row.key_algorithm,
        "Serial number": row.serial_number,
        "Fingerprint": row.fingerprint,
        "First seen": row.first_seen,
        "Last seen": row.last_seen,
        "Seen": "\n".join(_told(place) for place in detail.places),
    }
    emit_fields(value, as_json, fields)


@inventory.command("export")
def export_inventory(
    search: Search = "",
    state: States = None,
    way: Ways = None,
    gateway: OfGateway = None,
    expiring: Expiring = None,
    expired: Expired = False,
    gone: Gone = False,
    form: Annotated[str, typer.Option("--format", help="csv or jsonl.")] = "csv",
    output: Annotated[Path | None, typer.Option(help="Write it there (must not exist); else to stdout.")] = None,
) -> None:
    """Write the inventory as CSV or JSON Lines, one line a place."""
    from operations import inventory as operations

    if form not in ("csv", "jsonl"):
        raise InvalidInput(f"The format is csv or jsonl, not {form!r}.")
    wanted = _filter(search, state, way, gateway, expiring, expired, gone)
    with acting() as context:
        pieces = (operations.export_csv if form == "csv" else operations.export_jsonl)(context, wanted)
        if output is None:
            for piece in pieces:
                sys.stdout.write(piece)
            return
        try:
            with output.open("x", encoding="utf-8", newline="") as stream:
                stream.writelines(pieces)
        except FileExistsError:
            raise InvalidInput(f"The file {output} exists already: name another one.") from None
        except OSError as error:
            raise InvalidInput(f"The file {output} can't be written: {error.strerror}.") from None


@inventory.command("ignore")
def ignore_seen(
    which: Which,
    why: Annotated[str, typer.Option(help="Why nobody needs to look at it.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Look at it again.")] = False,
    as_json: Json = False,
) -> None:
    """Leave a certificate out of what is unmanaged; nobody is told of its end then."""
    from operations import inventory as operations

    with acting() as context:
        row = operations.unignore(context, which) if undo else operations.ignore(context, which, why)
    if as_json:
        emit_json(row)
    say(f"Certificate {row.id} ({row.common_name}) is {'ignored no longer' if undo else 'ignored'}.")


@inventory.command("manage")
def manage_seen(
    which: Annotated[list[str], typer.Argument(metavar="WHICH…", help="Numbers, or 8 digits of fingerprints or more.")],
    organization: Annotated[str | None, typer.Option(help="Whose it is to be; default: the only possible one.")] = None,
    department: Annotated[str | None, typer.Option(help="A department of that organization.")] = None,
    profile: Annotated[str | None, typer.Option(help="Its certificate profile; default: the only one.")] = None,
    ca: Annotated[str | None, typer.Option(help="Another CA than the profile's.")] = None,
    install: Annotated[
        InstallMode | None, typer.Option(case_sensitive=False, help="Default: as the endpoint is set.")
    ] = None,
    comment: Comment = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be requested.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take unmanaged certificates under management: request ones with the same names where endpoints serve them."""
    from operations import inventory_manage as operations

    wish = operations.Wish(organization, department, profile, ca, install, comment)
    with acting() as context:
        plan = operations.preview(context, which, wish)
        count = sum(one.problem is None for one in plan)
        if not dry_run and count:
            for one in plan:
                if one.problem is None:
                    differs = f" ({one.note})" if one.note else ""
                    whose = f"{one.organization}/{one.department}" if one.department else one.organization
                    say(f"{one.endpoint} {one.binding}: {', '.join(one.names)}{differs}; {one.ca}, for {whose}.")
            confirm(f"Request {count} {'certificate' if count == 1 else 'certificates'}?", yes)
            plan = run(operations.manage(context, which, wish))
    columns = {
        "Common name": lambda row: row.common_name,
        "Gateway": lambda row: row.gateway,
        "Endpoint": lambda row: row.endpoint,
        "Binding": lambda row: row.binding,
        "CA": lambda row: row.ca,
        "Request": lambda row: row.request_id,
        "Note": lambda row: row.problem or row.note or "",
    }
    emit_rows(plan, as_json, columns, "There is nothing to manage.")
    if not dry_run and not any(one.request_id for one in plan):
        raise Conflict("Nothing was requested; the notes say why.")


@inventory.command("scan")
def scan_networks(
    gateway: Annotated[str, typer.Option("--gateway", help="The gateway that looks.")],
    network: Annotated[
        list[str] | None, typer.Option("--network", metavar="CIDR", help="Such as 10.0.0.0/24; repeatable.")
    ] = None,
    port: Annotated[
        list[str] | None,
        typer.Option("--port", metavar="PORT[:PROTOCOL]", help="443, 25, 8025:smtp; default: the usual ones."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A host name to ask for as well (SNI); repeatable.")
    ] = None,
    rate: Annotated[int, typer.Option(help="Connections a second.")] = 20,
    at_once: Annotated[int, typer.Option(help="Connections at a time.")] = 16,
    timeout: Annotated[int, typer.Option(help="Seconds that a connection may take.")] = 3,
    most: Annotated[str, typer.Option(metavar="DURATION", help="It is given up after so long, such as 6h.")] = "1d",
    every: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Look again and again, such as every 7d.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is over.")] = False,
    as_json: Json = False,
) -> None:
    """Have a gateway look for certificates in networks that its own settings allow; without --network show these."""
    from operations import inventory_scans as operations

    with acting() as context:
        if not network:
            _allowed(operations.allowed(context, gateway), as_json)
            return
        new = operations.NewScan(
            gateway, network, port or (), name or (), rate, at_once, timeout, seconds(most) or 0, seconds(every)
        )
        row = run(_scanned(context, new, wait))
    _one(row, as_json)
    if wait and row.state != ScanState.DONE:
        raise Unavailable(row.message or f"Scan {row.id} was {row.state}.")


@inventory.command("scans")
def list_scans(
    gateway: OfGateway = None,
    again: Annotated[int | None, typer.Option(metavar="ID", help="Carry this one out again, now.")] = None,
    cancel: Annotated[int | None, typer.Option(metavar="ID", help="End this one, and begin it no more.")] = None,
    remove: Annotated[int | None, typer.Option(metavar="ID", help="Forget this one; what it found stays.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List network scans and how far they are; or steer one."""
    from operations import inventory_scans as operations

    if sum(one is not None for one in (again, cancel, remove)) > 1:
        raise InvalidInput("Say one of --again, --cancel and --remove.")
    with acting() as context:
        if again is not None:
            _one(run(operations.again(context, again)), as_json)
            return
        if cancel is not None:
            _one(run(operations.cancel(context, cancel)), as_json)
            return
        if remove is not None:
            run(operations.remove(context, remove))
            say(f"Scan {remove} was removed; what it found stays in the inventory.")
        rows = operations.listing(context, gateway, limit)
    columns = {
        "ID": lambda row: row.id,
        "Gateway": lambda row: row.gateway,
        "Networks": lambda row: ", ".join(row.networks),
        "Ports": lambda row: ", ".join(row.services),
        "State": lambda row: row.state,
        "Looked at": lambda row: f"{row.position} of {row.total}" if row.total else "–",
        "Found": lambda row: f"{row.found}, {row.fresh} new",
        "Next": lambda row: shown(row.next_at)[:16],
        "Message": lambda row: row.message or "",
    }
    emit_rows(rows, as_json, columns, "No network was looked through yet: `certgate inventory scan` does it.")


async def _scanned(context: Context, new: object, wait: bool) -> ScanRow:
    from operations import inventory_scans as operations

    assert isinstance(new, operations.NewScan)
    row = await operations.begin(context, new)
    told = 0
    while wait and row.running:
        await asyncio.sleep(0.2)
        row = operations.show(context, row.id)
        if row.total and row.position * 10 // row.total > told:
            told = row.position * 10 // row.total
            say(f"{row.position} of {row.total} addresses and ports were looked at …")
    return row


def _one(row: ScanRow, as_json: bool) -> None:
    fields = {
        "Scan": row.id,
        "Gateway": row.gateway,
        "Networks": row.networks,
        "Ports": row.services,
        "Names": row.server_names,
        "State": row.state,
        "Looked at": f"{row.position} of {row.total} addresses and ports" if row.total else None,
        "Answered": row.answered,
        "Found": f"{row.found} with a certificate; {row.fresh} never seen before",
        "Not readable": row.unread or None,
        "Next": row.next_at,
        "Message": row.message,
    }
    emit_fields(row, as_json, fields)


def _allowed(rules: object, as_json: bool) -> None:
    from operations.inventory_scans import Allowed

    assert isinstance(rules, Allowed)
    told = "nothing" if rules.known else "not known: the gateway tells it when it starts"
    fields = {
        "Gateway": rules.gateway,
        "Networks": rules.networks or f"{told} ([discovery] in its gateway.toml names networks)",
        "Ports": rules.ports,
        "Rate": f"{rules.rate} connections a second, {rules.at_once} at once" if rules.networks else None,
    }
    emit_fields(rules, as_json, fields)


def _filter(
    search: str,
    state: list[str] | None,
    way: list[SightingWay] | None,
    gateway: str | None,
    expiring: int | None,
    expired: bool,
    gone: bool,
) -> Filter:
    from operations.inventory import STATES as KNOWN
    from operations.inventory import Filter

    kept = [one for one in KNOWN if one in (state or ())]
    if len(kept) != len(set(state or ())):
        raise InvalidInput(f"A state is one of {', '.join(KNOWN)}.")
    return Filter(search, kept, way or (), gateway, expiring, expired, gone)


def _seen(places: list[Place], total: int) -> str:
    told = "\n".join(f"{place.gateway}: {place.where}" for place in places)
    return told + (f"\nand {total - len(places)} more" if total > len(places) else "")


def _told(place: Place) -> str:
    gone = f", gone on {shown(place.gone_at)[:16]}" if place.gone_at else ""
    return f"{place.gateway}, {place.way}: {place.where}, since {shown(place.first_seen)[:16]}{gone}"
