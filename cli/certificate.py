"""``certgate certificate``: issued certificates."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import (
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
    shown,
    write_new,
)
from connectors.ca.contract import RevocationReason
from model.errors import Conflict, InvalidInput, Unavailable
from model.states import CertificateStatus, OrderWay

if TYPE_CHECKING:
    from model.messages import VerificationCount
    from operations.certificates import CertificateDetail
    from operations.context import Context

certificates = typer.Typer(
    no_args_is_help=True, help="Issued certificates: look, download, renew, replace, revoke, import."
)

_CA_ANSWERS_WITHIN = 20.0

Number = Annotated[int, typer.Argument(metavar="ID", help="The certificate's number.")]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(certificates, name="certificate")


@certificates.command("list")
def list_certificates(
    search: Annotated[str, typer.Option(help="In common name, serial number or fingerprint.")] = "",
    status: Annotated[list[CertificateStatus] | None, typer.Option(case_sensitive=False)] = None,
    expiring: Annotated[int | None, typer.Option(metavar="DAYS", help="Only those that end within that time.")] = None,
    gateway: Annotated[str | None, typer.Option(help="Only of this gateway.")] = None,
    organization: Annotated[str | None, typer.Option(help="Only of this organization.")] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    as_json: Json = False,
) -> None:
    """List certificates, the newest first; with --expiring the next to end first."""
    from operations import certificates as operations

    wanted = operations.Filter(search, status or (), expiring, gateway, organization)
    with acting() as context:
        page = operations.listing(context, wanted, offset, limit)
    columns = {
        "ID": lambda row: row.id,
        "Common name": lambda row: row.common_name,
        "Gateway": lambda row: row.gateway,
        "Endpoint": lambda row: row.endpoint,
        "Status": lambda row: row.status,
        "In use": lambda row: row.active,
        "Until": lambda row: shown(row.not_after)[:16],
        "Renews at": lambda row: shown(row.renew_at)[:16],
        "Fingerprint": lambda row: row.fingerprint[:12],
    }
    emit_rows(page.rows, as_json, columns, "There are no such certificates.")
    more(len(page.rows), offset, page.total)


@certificates.command("show")
def show_certificate(number: Number, as_json: Json = False) -> None:
    """Show one certificate, its chain, where it is installed and when it will be renewed."""
    from operations import certificates as operations

    with acting() as context:
        detail = operations.show(context, number)
    row = detail.row
    value = plain(detail)
    value = {**value.pop("row"), **value}
    fields = {
        "Certificate": row.id,
        "Common name": row.common_name,
        "Names": detail.chain[0].names,
        "Organization": f"{row.organization}/{row.department}" if row.department else row.organization,
        "Request": row.request_id,
        "Status": row.status,
        "In use": row.active,
        "Valid from": row.not_before,
        "Valid until": row.not_after,
        "Serial number": row.serial_number,
        "Fingerprint": row.fingerprint,
        "Key": detail.chain[0].key,
        "Chain": "\n".join(f"{one.subject}, until {shown(one.not_after)}" for one in detail.chain),
        "Installed": "\n".join(
            f"{one.endpoint} {one.binding}: {one.state}, {one.verification or 'not verified'}; "
            f"served before {one.served_before or 'nothing'}, after {one.served_after or 'nothing'}"
            + "".join(f"\n  {seen['seen_from']}: {seen['message']}" for seen in one.sightings)
            for one in detail.installations
        ),
        "CA": detail.order.ca,
        "Order": _order(detail),
        "Renews at": row.renew_at,
        "Renewal": row.renewal_note,
        "CA's window": _window(detail),
        "CA stands by it": _standing(detail),
        "Replaces": detail.replaces_id,
        "Replaced by": detail.replaced_by_id,
        "Being replaced by request": detail.successor_request_id,
        "Revoked": f"{shown(detail.revoked_at)} ({detail.revocation_reason})" if detail.revoked_at else None,
    }
    emit_fields(value, as_json, fields)


@certificates.command("verify")
def verify_certificates(
    number: Annotated[int | None, typer.Argument(metavar="ID", help="The certificate's number.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are in use and that you may install.")] = False,
    gateway: Annotated[str | None, typer.Option(help="With --all: only what this gateway installed.")] = None,
    as_json: Json = False,
) -> None:
    """Look again whether a certificate is served everywhere it is installed, by TLS handshakes, now."""
    from operations import verification as operations

    if (number is None) != everything:
        raise InvalidInput("Name a certificate, or all of them with --all.")
    with acting() as context:
        count = run(_verified(context, gateway) if number is None else operations.certificate(context, number))
    if as_json:
        emit_json(count)
    if count.failed:
        raise Conflict(
            f"{count.failed} of {count.looked} do not serve what they should: `certgate certificate show` and the "
            "audit tell what was seen."
        )
    say(f"{count.looked} looked at: all serve what they should.")


async def _verified(context: Context, gateway: str | None) -> VerificationCount:
    from operations import gateways
    from operations import verification as operations

    owner = gateways.find(context, gateway) if gateway else None
    workflow_id = await operations.everything(context, owner)
    told = -1
    while True:
        count, over = await operations.progress(context, workflow_id)
        if count.looked != told:
            told = count.looked
            say(f"{count.looked} looked at, {count.failed} of them not as they should be.")
        if over:
            return count
        await asyncio.sleep(0.5)


def _order(detail: CertificateDetail) -> str:
    order = detail.order
    number = order.number or "without a number"
    if detail.row.imported:
        return f"{number}, imported: it was issued elsewhere"
    what = {OrderWay.NEW: "a new one", OrderWay.RENEW: "a renewal", OrderWay.REPLACE: "a replacement"}[order.way]
    return f"{number}, {what}" + (f" ({order.reason})" if order.reason else "")


def _window(detail: CertificateDetail) -> str | None:
    window = detail.window
    if window is None:
        return None
    told = f"{shown(window.start)} to {shown(window.end)}, ours at {shown(window.at)}"
    return told + (f"; why: {window.explanation_url}" if window.explanation_url else "")


def _standing(detail: CertificateDetail) -> str | None:
    standing = detail.standing
    parts = []
    if standing.found_revoked_at:
        parts.append(f"no: found revoked on {shown(standing.found_revoked_at)}, by {standing.source}")
    elif standing.asked_at:
        parts.append(f"yes, on {shown(standing.asked_at)}, by {standing.source}")
    if standing.note:
        parts.append(f"not known: {standing.note}")
    return "; ".join(parts) or None


@certificates.command("download")
def download_certificate(
    number: Number,
    output: Annotated[Path | None, typer.Option(help="Write it there (must not exist); else to stdout.")] = None,
) -> None:
    """Print leaf and chain as PEM, the leaf first. Never a key: that stays where it was made."""
    from operations import certificates as operations

    with acting() as context:
        pem = operations.download(context, number)
    if output is None:
        print(pem, end="")
    else:
        write_new(output, pem, 0o644)


@certificates.command("renew")
def renew_certificate(
    number: Number,
    wait: Annotated[bool, typer.Option("--wait", help="Watch the request to its end.")] = False,
    as_json: Json = False,
) -> None:
    """Renew now; gives the request that does it."""
    from cli.request import ended
    from operations import certificates as operations
    from operations import requests

    async def work(context: Context) -> int:
        request_id = await operations.renew(context, number)
        say(f"Certificate {number} is being renewed by request {request_id}.")
        if wait:
            return await ended(context, requests.show(context, request_id), wait, as_json)
        if as_json:
            emit_json({"certificate_id": number, "request_id": request_id})
        return 0

    with acting() as context:
        code = run(work(context))
    raise typer.Exit(code)


@certificates.command("replace")
def replace_certificate(
    number: Number,
    reason: Annotated[str, typer.Option(help="For the CA and the record.")] = "",
    new_key: Annotated[bool, typer.Option("--new-key/--same-key", help="Whether another key is made.")] = True,
    profile: Annotated[
        str | None, typer.Option(help="Another profile for the new one, and with it another CA or key algorithm.")
    ] = None,
    revoke_old: Annotated[
        bool, typer.Option("--revoke-old", help="Revoke this one as soon as the new one is served.")
    ] = False,
    revocation_reason: Annotated[
        RevocationReason, typer.Option(help="RFC 5280 section 5.3.1, with --revoke-old.")
    ] = RevocationReason.SUPERSEDED,
    wait: Annotated[bool, typer.Option("--wait", help="Watch the request to its end.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Replace a certificate before its time, with the same names; gives the request that does it."""
    from cli.request import ended
    from operations import certificates as operations
    from operations import requests
    from operations.replacement import Replacement, replace

    wanted = Replacement(reason, new_key, profile, str(revocation_reason) if revoke_old else None)

    async def work(context: Context) -> int:
        request_id = await replace(context, number, wanted)
        say(f"Certificate {number} is being replaced by request {request_id}.")
        if wait:
            return await ended(context, requests.show(context, request_id), wait, as_json)
        if as_json:
            emit_json({"certificate_id": number, "request_id": request_id})
        return 0

    with acting() as context:
        row = operations.show(context, number).row
        then = f", and revoke it ({revocation_reason}) once the new one is served" if revoke_old else ""
        confirm(f"Replace certificate {number} ({row.common_name}){then}?", yes)
        code = run(work(context))
    raise typer.Exit(code)


@certificates.command("ask")
def ask_about_certificate(
    number: Number,
    as_json: Json = False,
) -> None:
    """Ask the CA now whether it stands by a certificate and when it wants it renewed, and show what it says."""
    from operations import certificates as operations
    from operations import standing

    with acting() as context:
        if not run(standing.ask(context, number, _CA_ANSWERS_WITHIN)):
            raise Unavailable(f"The CA has not answered yet: `certgate certificate show {number}` shows what it says.")
        detail = operations.show(context, number)
    fields = {"CA": detail.order.ca, "CA stands by it": _standing(detail), "CA's window": _window(detail)}
    emit_fields({"standing": plain(detail.standing), "window": plain(detail.window)}, as_json, fields)


@certificates.command("revoke")
def revoke_certificate(
    number: Number,
    reason: Annotated[RevocationReason, typer.Option(help="RFC 5280 section 5.3.1.")],
    comment: Annotated[str, typer.Option(help="For the record.")] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Revoke a certificate at its CA, for good. Exit 1 if the CA has not answered yet; it is tried on."""
    from operations import certificates as operations

    with acting() as context:
        row = operations.show(context, number).row
        used = ", which is in use" if row.active else ""
        confirm(f"Revoke certificate {number} ({row.common_name}){used}, for good?", yes)
        result = run(operations.revoke(context, number, str(reason), comment))
    if as_json:
        emit_json(result)
    if not result.revoked:
        raise Unavailable(result.message)
    say(result.message)


@certificates.command("auto-renew")
def auto_renew_certificate(
    number: Number, on: Annotated[bool, typer.Option("--on/--off", help="Whether it is renewed by itself.")]
) -> None:
    """Switch the automatic renewal of a certificate on or off."""
    from operations import certificates as operations

    with acting() as context:
        run(operations.set_auto_renew(context, number, on))
    say(f"Automatic renewal of certificate {number} is {'on' if on else 'off'}.")
