"""``certgate policy``: who must approve."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.common import Json, Yes, acting, confirm, emit_fields, emit_json, emit_rows, say, seconds

policies = typer.Typer(no_args_is_help=True, help="Approval policies: who must approve, and how long that may take.")

Name = Annotated[str, typer.Argument(help="The policy's name.")]
Approvals = Annotated[int | None, typer.Option(help="How many different people must approve.")]
FourEyes = Annotated[
    bool | None, typer.Option("--four-eyes/--no-four-eyes", help="Whether the requester may not approve.")
]
Reminder = Annotated[str | None, typer.Option(help="After how long approvers are reminded: 24h.")]
Expiry = Annotated[str | None, typer.Option(help="After how long a request without decision ends: 30d.")]
AutoRenewals = Annotated[
    bool | None,
    typer.Option("--auto-approve-renewals/--approve-renewals", help="Whether renewals need nobody."),
]
AutoPrivileged = Annotated[
    bool | None,
    typer.Option("--auto-approve-privileged/--approve-privileged", help="Whether the privilege auto_approve counts."),
]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(policies, name="policy")


@policies.command("list")
def list_policies(as_json: Json = False) -> None:
    """List approval policies."""
    from operations import policies as operations

    with acting() as context:
        rows = operations.listing(context)
    columns = {
        "Name": lambda row: row.name,
        "For": lambda row: row.organization or "all others",
        "Approvals": lambda row: row.approvals_required,
        "Four eyes": lambda row: row.four_eyes,
        "Reminder (s)": lambda row: row.reminder_seconds,
        "Expiry (s)": lambda row: row.expiry_seconds,
        "Renewals by themselves": lambda row: row.auto_approve_renewals,
    }
    emit_rows(rows, as_json, columns, "There are no approval policies: the strict default holds.")


@policies.command("show")
def show_policy(name: Name, as_json: Json = False) -> None:
    """Show one approval policy."""
    from operations import policies as operations

    with acting() as context:
        row = operations.show(context, name)
    fields = {
        "ID": row.id,
        "Name": row.name,
        "For": row.organization or "all without one of their own",
        "Approvals": row.approvals_required,
        "Four eyes": row.four_eyes,
        "Reminder (s)": row.reminder_seconds,
        "Expiry (s)": row.expiry_seconds,
        "Renewals approve themselves": row.auto_approve_renewals,
        "auto_approve counts": row.auto_approve_privileged,
    }
    emit_fields(row, as_json, fields)


@policies.command("add")
def add_policy(
    name: Annotated[str, typer.Option("--name", help="1 to 128 characters.")],
    organization: Annotated[str | None, typer.Option(help="For this one; without it for all others.")] = None,
    approvals: Approvals = None,
    four_eyes: FourEyes = None,
    reminder: Reminder = None,
    expiry: Expiry = None,
    auto_approve_renewals: AutoRenewals = None,
    auto_approve_privileged: AutoPrivileged = None,
    as_json: Json = False,
) -> None:
    """Add an approval policy."""
    from operations import policies as operations

    change = operations.PolicyChange(
        approvals, four_eyes, seconds(reminder), seconds(expiry), auto_approve_renewals, auto_approve_privileged
    )
    with acting() as context:
        row = operations.add(context, name, organization, change)
    if as_json:
        emit_json(row)
    say(f"Approval policy {row.name} was added.")


@policies.command("edit")
def edit_policy(
    name: Name,
    new_name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
    approvals: Approvals = None,
    four_eyes: FourEyes = None,
    reminder: Reminder = None,
    expiry: Expiry = None,
    auto_approve_renewals: AutoRenewals = None,
    auto_approve_privileged: AutoPrivileged = None,
    as_json: Json = False,
) -> None:
    """Change an approval policy; it holds at once, also for requests that wait."""
    from operations import policies as operations

    change = operations.PolicyChange(
        approvals,
        four_eyes,
        seconds(reminder),
        seconds(expiry),
        auto_approve_renewals,
        auto_approve_privileged,
        new_name,
    )
    with acting() as context:
        row = operations.edit(context, name, change)
    if as_json:
        emit_json(row)
    say(f"Approval policy {row.name} was edited.")


@policies.command("remove")
def remove_policy(name: Name, yes: Yes = False) -> None:
    """Remove an approval policy; the general one holds then, or the strict default."""
    from operations import policies as operations

    confirm(f"Remove approval policy {name}?", yes)
    with acting() as context:
        operations.remove(context, name)
    say(f"Approval policy {name} was removed.")
