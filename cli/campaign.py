"""``certgate campaign``: many certificates replaced, canaries first and the rest under a rate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import (
    Comment,
    Json,
    Limit,
    Offset,
    Yes,
    acting,
    confirm,
    duration,
    emit_fields,
    emit_json,
    emit_rows,
    moment,
    more,
    plain,
    read_text,
    run,
    say,
    shown,
    table,
)
from connectors.ca.contract import RevocationReason
from model.errors import InvalidInput
from model.keys import KeyAlgorithm
from model.states import CampaignState, CampaignWay, ItemState

if TYPE_CHECKING:
    from operations.campaign_selection import Plan, Preview, Selection, Share
    from operations.campaign_words import Word
    from operations.campaigns import CampaignDetail, CampaignRow

campaigns = typer.Typer(
    no_args_is_help=True,
    help="Replacement campaigns: many certificates replaced, canaries first and the rest under a rate.",
)

Number = Annotated[int, typer.Argument(metavar="ID", help="The campaign's number.")]

# Which certificates.
Ca = Annotated[str | None, typer.Option(help="Those that this CA issued.")]
Issuer = Annotated[str | None, typer.Option(help="Those signed by this CA certificate (its distinguished name).")]
Key = Annotated[KeyAlgorithm | None, typer.Option(help="Those with such a key.", case_sensitive=False)]
Organization = Annotated[str | None, typer.Option(help="Those of this organization.")]
Department = Annotated[str | None, typer.Option(help="Those of this department.")]
Gateway = Annotated[str | None, typer.Option(help="Those of this gateway.")]
Search = Annotated[str, typer.Option(help="In common name, serial number or fingerprint.")]
Serials = Annotated[
    Path | None, typer.Option(help="A file with serial numbers (hexadecimal), one a line, as a CA sends; - is stdin.")
]
IssuedFrom = Annotated[str | None, typer.Option(metavar="TIME", help="Those valid from this time on.")]
IssuedUntil = Annotated[str | None, typer.Option(metavar="TIME", help="Those valid from before this time.")]
All = Annotated[bool, typer.Option("--all", help="All that you may replace.")]

# What is done with them.
Way = Annotated[CampaignWay, typer.Option(help="Replace, renew, or move to another CA or profile.")]
Reason = Annotated[str, typer.Option(help="For the CA and the record.")]
ToProfile = Annotated[str | None, typer.Option(help="With --way move: the profile to move to.")]
ToCa = Annotated[str | None, typer.Option(help="With --way move: the CA to move to, if it has one profile.")]
NewKey = Annotated[bool, typer.Option("--new-key", help="Make another key also where the profile keeps it.")]
RevokeOld = Annotated[
    RevocationReason | None, typer.Option(help="Revoke each old one so (RFC 5280 section 5.3.1), once it is replaced.")
]
Rate = Annotated[int, typer.Option(metavar="N", help="Order at most so many an hour.")]
AtOnce = Annotated[int, typer.Option(metavar="N", help="At most so many at the same time.")]
Canaries = Annotated[int, typer.Option(metavar="N", help="So many first; the rest when they are served.")]
PauseAfter = Annotated[int, typer.Option(metavar="N", help="Pause after so many failures; 0: never.")]
PauseShare = Annotated[int, typer.Option(metavar="PERCENT", help="Pause when such a share failed; 0: never.")]
Deadline = Annotated[str, typer.Option(metavar="TIME", help="Must be done so long after the start, as in 24h; none.")]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(campaigns, name="campaign")


@dataclass(frozen=True)
class _Asked:
    """What was asked for on the command line."""

    selection: Selection
    plan: Plan


@campaigns.command("preview")
def preview_campaign(
    ca: Ca = None,
    issuer: Issuer = None,
    key: Key = None,
    organization: Organization = None,
    department: Department = None,
    gateway: Gateway = None,
    search: Search = "",
    serials: Serials = None,
    issued_from: IssuedFrom = None,
    issued_until: IssuedUntil = None,
    everything: All = False,
    way: Way = CampaignWay.REPLACE,
    reason: Reason = "",
    to_profile: ToProfile = None,
    to_ca: ToCa = None,
    new_key: NewKey = False,
    revoke_old: RevokeOld = None,
    rate: Rate = 600,
    at_once: AtOnce = 20,
    canaries: Canaries = 1,
    pause_after: PauseAfter = 5,
    pause_share: PauseShare = 20,
    deadline: Deadline = "24h",
    as_json: Json = False,
) -> None:
    """See what a campaign would do; nothing is changed."""
    from operations.campaign_selection import preview

    asked = _asked(locals())
    with acting() as context:
        found = preview(context, asked.selection, asked.plan)
    if as_json:
        emit_json(found)
    else:
        _print_preview(found)


@campaigns.command("create")
def create_campaign(
    name: Annotated[str, typer.Option(help="What the campaign is called.")],
    ca: Ca = None,
    issuer: Issuer = None,
    key: Key = None,
    organization: Organization = None,
    department: Department = None,
    gateway: Gateway = None,
    search: Search = "",
    serials: Serials = None,
    issued_from: IssuedFrom = None,
    issued_until: IssuedUntil = None,
    everything: All = False,
    way: Way = CampaignWay.REPLACE,
    reason: Reason = "",
    to_profile: ToProfile = None,
    to_ca: ToCa = None,
    new_key: NewKey = False,
    revoke_old: RevokeOld = None,
    rate: Rate = 600,
    at_once: AtOnce = 20,
    canaries: Canaries = 1,
    pause_after: PauseAfter = 5,
    pause_share: PauseShare = 20,
    deadline: Deadline = "24h",
    count: Annotated[
        int | None, typer.Option(metavar="N", help="How many you expect; another number creates nothing.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Choose certificates and keep the choice as a draft; `campaign start` begins."""
    from operations import campaigns as operations

    asked = _asked(locals())
    with acting() as context:
        detail = operations.create(context, name, asked.selection, asked.plan, count)
    if as_json:
        _emit(detail, as_json)
    else:
        ready = detail.row.counts[ItemState.WAITING]
        say(f"Campaign {detail.row.id} would {detail.row.way} {ready} certificates; nothing is ordered yet.")
        say(f"Begin with `certgate campaign start {detail.row.id} --count {ready}`.")


@campaigns.command("start")
def start_campaign(
    number: Number,
    count: Annotated[
        int | None, typer.Option(metavar="N", help="How many certificates will be replaced; answers the question.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Watch it to its end.")] = False,
    as_json: Json = False,
    yes: Yes = False,
) -> None:
    """Begin a draft: canaries first, the rest under its rate."""
    from operations import campaign_words as words
    from operations import campaigns as operations

    with acting() as context:
        row = operations.show(context, number).row
        ready = row.counts[ItemState.WAITING]
        if count is None:
            confirm(f"Campaign {number} ({row.name}) will {row.way} {ready} certificates. Begin?", yes)
        elif count != ready and row.state == CampaignState.DRAFT:
            raise InvalidInput(f"Campaign {number} will {row.way} {ready} certificates, not {count}: look at it again.")
        detail = run(words.start(context, number))
        say(f"Campaign {number} is running.")
        if watch:
            detail = _watched(context, number)
    if as_json:
        emit_json(_value(detail))


@campaigns.command("pause")
def pause_campaign(number: Number, comment: Comment = "") -> None:
    """Order nothing more until it is resumed; what was ordered comes to its end."""
    _say(number, "pause", comment)


@campaigns.command("resume")
def resume_campaign(number: Number, comment: Comment = "") -> None:
    """Go on. Failures until now no longer count for a pause."""
    _say(number, "resume", comment)


@campaigns.command("cancel")
def cancel_campaign(number: Number, comment: Comment = "", yes: Yes = False) -> None:
    """Order nothing more, for good; what was ordered comes to its end. A draft is given up."""
    from operations import campaigns as operations

    with acting() as context:
        row = operations.show(context, number).row
    confirm(f"Cancel campaign {number} ({row.name}) with {row.counts[ItemState.WAITING]} certificates to go?", yes)
    _say(number, "cancel", comment)


@campaigns.command("rate")
def change_rate_of_campaign(
    number: Number,
    rate: Annotated[int | None, typer.Option(metavar="N", help="Order at most so many an hour.")] = None,
    at_once: Annotated[int | None, typer.Option(metavar="N", help="At most so many at the same time.")] = None,
    comment: Comment = "",
) -> None:
    """Go faster or slower from now on."""
    _say(number, "change_rate", comment, rate, at_once)


@campaigns.command("retry")
def retry_campaign(
    number: Number,
    skipped: Annotated[bool, typer.Option("--skipped", help="Also what was left out.")] = False,
    as_json: Json = False,
) -> None:
    """Try again what failed; a completed campaign goes on."""
    from operations import campaign_words as words

    with acting() as context:
        tried = run(words.retry(context, number, skipped=skipped))
    if as_json:
        emit_json(tried)
        return
    say(f"{tried.ordered} certificates are ordered anew, {tried.requests} open requests try their step again.")
    for problem in tried.problems:
        say(problem)


@campaigns.command("list")
def list_campaigns(
    state: Annotated[list[CampaignState] | None, typer.Option(case_sensitive=False)] = None,
    search: Annotated[str, typer.Option(help="In the name.")] = "",
    limit: Limit = 100,
    offset: Offset = 0,
    as_json: Json = False,
) -> None:
    """List campaigns, the newest first."""
    from operations import campaigns as operations

    with acting() as context:
        page = operations.listing(context, state or (), search, offset, limit)
    columns = {
        "ID": lambda row: row.id,
        "Name": lambda row: row.name,
        "State": lambda row: row.state,
        "Done": lambda row: f"{row.counts[ItemState.DONE]} of {row.total}",
        "Failed": lambda row: row.counts[ItemState.FAILED],
        "An hour": lambda row: row.rate_per_hour,
        "Expected end": lambda row: shown(row.expected_at)[:16],
        "Deadline": lambda row: shown(row.deadline_at)[:16],
        "By": lambda row: row.created_by,
    }
    emit_rows(page.rows, as_json, columns, "There are no such campaigns.")
    more(len(page.rows), offset, page.total)


@campaigns.command("show")
def show_campaign(
    number: Number,
    watch: Annotated[bool, typer.Option("--watch", help="Tell of its progress until it ends or pauses.")] = False,
    as_json: Json = False,
) -> None:
    """Show how a campaign goes. With --watch, exit 1 when it has paused, was canceled, or something failed."""
    from operations import campaigns as operations

    with acting() as context:
        detail = _watched(context, number) if watch else operations.show(context, number)
    _emit(detail, as_json)
    if watch and (detail.row.state != CampaignState.COMPLETED or detail.row.counts[ItemState.FAILED]):
        raise typer.Exit(1)


@campaigns.command("items")
def list_items(
    number: Number,
    state: Annotated[list[ItemState] | None, typer.Option(case_sensitive=False)] = None,
    search: Annotated[str, typer.Option(help="In the common name.")] = "",
    limit: Limit = 100,
    offset: Offset = 0,
    as_json: Json = False,
) -> None:
    """List the certificates of a campaign in the order of their turn."""
    from operations import campaigns as operations

    with acting() as context:
        page = operations.items(context, number, state or (), search, offset, limit)
    columns = {
        "Turn": lambda row: f"{row.position}{' canary' if row.canary else ''}",
        "Certificate": lambda row: row.certificate_id,
        "Common name": lambda row: row.common_name,
        "Gateway": lambda row: row.gateway,
        "Endpoint": lambda row: row.endpoint,
        "State": lambda row: row.state,
        "Request": lambda row: row.request_id,
        "Message": lambda row: row.message,
    }
    emit_rows(page.rows, as_json, columns, "The campaign has no such certificates.")
    more(len(page.rows), offset, page.total)


def _asked(given: dict[str, Any]) -> _Asked:
    from operations.campaign_selection import Plan, Selection

    file: Path | None = given["serials"]
    deadline: str = given["deadline"]
    selection = Selection(
        ca=given["ca"],
        issuer=given["issuer"],
        key_algorithm=given["key"],
        organization=given["organization"],
        department=given["department"],
        gateway=given["gateway"],
        search=given["search"],
        serials=[line for line in read_text(file).split() if line] if file is not None else (),
        issued_from=moment(given["issued_from"]),
        issued_until=moment(given["issued_until"]),
        everything=given["everything"],
    )
    if file is not None and not selection.serials:
        raise InvalidInput(f"The file {file} names no serial number.")
    plan = Plan(
        way=given["way"],
        reason=given["reason"],
        profile=given["to_profile"],
        ca=given["to_ca"],
        new_key=given["new_key"],
        revocation_reason=str(given["revoke_old"]) if given["revoke_old"] else None,
        rate_per_hour=given["rate"],
        at_once=given["at_once"],
        canaries=given["canaries"],
        pause_after=given["pause_after"],
        pause_share=given["pause_share"],
        deadline_seconds=None if deadline == "none" else int(duration(deadline).total_seconds()),
    )
    return _Asked(selection, plan)


def _say(number: int, word: Word, comment: str, rate_per_hour: int | None = None, at_once: int | None = None) -> None:
    from operations import campaign_words as words

    with acting() as context:
        said = run(words.say(context, number, word, comment, rate_per_hour=rate_per_hour, at_once=at_once))
    say(said.message)


def _watched(context: Any, number: int) -> CampaignDetail:
    """Tell of changes until it ends or pauses."""
    from operations import campaigns as operations

    told = ""
    while True:
        detail = operations.show(context, number)
        line = _progress(detail.row)
        if line != told:
            say(line)
            told = line
        if detail.row.state != CampaignState.RUNNING:
            return detail
        time.sleep(1)


def _progress(row: CampaignRow) -> str:
    counts = ", ".join(f"{count} {state.lower().replace('_', ' ')}" for state, count in row.counts.items() if count)
    why = f" – {row.why}" if row.why else ""
    return f"{row.state}: {row.ended} of {row.total} ({counts}){why}"


def _value(detail: CampaignDetail) -> dict[str, Any]:
    value: dict[str, Any] = plain(detail)
    return {**value.pop("row"), **value}


def _emit(detail: CampaignDetail, as_json: bool) -> None:
    row = detail.row
    fields = {
        "Campaign": row.id,
        "Name": row.name,
        "State": row.state,
        "Why": row.why,
        "Certificates": _progress(row).partition(": ")[2].partition(" – ")[0],
        "Chosen by": ", ".join(f"{name} {value}" for name, value in detail.criteria.items()),
        "Way": f"{row.way} to profile {detail.profile}" if detail.profile else row.way,
        "Reason": detail.reason,
        "New keys": detail.new_key or None,
        "Revokes the old": detail.revocation_reason,
        "Rate": f"{row.rate_per_hour} an hour, {row.at_once} at the same time",
        "Canaries": "\n".join(
            f"{one.certificate_id} {one.common_name} ({one.gateway}): {one.state}" for one in detail.canaries
        ),
        "Pauses after": f"{detail.pause_after} failures, or {detail.pause_share} %",
        "Created": f"{shown(row.created_at)} by {row.created_by}",
        "Started": f"{shown(row.started_at)} by {detail.started_by}" if row.started_at else None,
        "Ended": row.ended_at,
        "Expected end": row.expected_at,
        "Deadline": f"{shown(row.deadline_at)}{' – missed at this rate' if detail.late else ''}"
        if row.deadline_at
        else None,
        "Failures": "\n".join(f"{one.count}: {one.name}" for one in detail.failures),
        "Next": ", ".join(detail.may),
    }
    emit_fields(_value(detail), as_json, fields)


def _print_preview(found: Preview) -> None:
    forecast = found.forecast
    end = f"{shown(forecast.ends_at)}"
    if forecast.deadline_at is not None:
        end += f", {'before' if forecast.meets_deadline else 'AFTER'} the deadline {shown(forecast.deadline_at)}"
    needed = f"{forecast.needed_rate} an hour" if forecast.needed_rate is not None else None
    fields = {
        "Chosen": found.chosen,
        "Can be replaced": found.replaceable,
        "Over already": ", ".join(f"{one.count} {one.name}" for one in found.past),
        "Unknown serials": found.unknown_serials or None,
        "By CA": _listed(found.by_ca),
        "By organization": _listed(found.by_organization),
        "By gateway": _listed(found.by_gateway),
        "By endpoint": _listed(found.by_endpoint_type),
        "Canaries": "\n".join(f"{one.certificate_id} {one.common_name} ({one.gateway})" for one in found.canaries),
        "Expected end": end if found.replaceable else None,
        "Slowest rate": needed,
        "Gateways away": _listed(found.away),
        "Approvals": "\n".join(
            f"{one.organization}: {one.certificates} certificates, {one.approvals_each} each" for one in found.approvals
        ),
    }
    emit_fields(found, False, fields)
    if found.hindered:
        print()
        rows = [[str(one.count), one.reason, ", ".join(one.examples) or "–"] for one in found.hindered]
        table(["Left out", "Why", "Such as"], rows)


def _listed(shares: list[Share]) -> str:
    return "\n".join(f"{one.name}: {one.count}" for one in shares)
