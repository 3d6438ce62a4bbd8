"""``certgate ca``: certificate authorities, and the orders of a private one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.common import (
    Json,
    Limit,
    Offset,
    Yes,
    confirm,
    emit_fields,
    emit_json,
    emit_rows,
    more,
    opened,
    pairs,
    plain,
    run,
    say,
    shown,
    surroundings,
)
from model.errors import Unavailable
from model.states import AccessMethod

if TYPE_CHECKING:
    from connectors.registry import Surroundings
    from operations.context import Context
    from worker.door import Door

authorities = typer.Typer(
    no_args_is_help=True, help="Certificate authorities: add, check, and the orders that they have."
)

Name = Annotated[str, typer.Argument(help="The CA's name.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; lists and numbers as JSON.")
]
ReachedFrom = Annotated[Literal["manager", "gateway"], typer.Option(help="Whose network the CA is in.")]
Order = Annotated[str, typer.Argument(help="The order's number.")]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(authorities, name="ca")


def _acting(door: Door) -> tuple[Context, Surroundings]:
    context = door.context(door.command_line_actor(), AccessMethod.COMMAND_LINE)
    home: Path = door.settings.home
    return context, surroundings(home)


@authorities.command("list")
def list_authorities(as_json: Json = False) -> None:
    """List CAs."""
    from operations import authorities as operations

    with opened() as door:
        rows = operations.listing(_acting(door)[0])
    columns = {
        "ID": lambda row: row.id,
        "Name": lambda row: row.name,
        "Type": lambda row: row.type,
        "Private": lambda row: row.is_private,
        "Reached from": lambda row: row.reached_from,
        "Active": lambda row: row.active,
    }
    emit_rows(rows, as_json, columns, "There are no CAs: `certgate ca add` adds one.")


@authorities.command("show")
def show_authority(name: Name, as_json: Json = False) -> None:
    """Show one CA."""
    from operations import authorities as operations

    with opened() as door:
        context, around = _acting(door)
        row = operations.show(context, name)
        can = operations.abilities(context, name, around) if context.actor.owns_everything else []
    fields = {
        "ID": row.id,
        "Name": row.name,
        "Type": row.type,
        "Private": row.is_private,
        "Reached from": row.reached_from,
        "Active": row.active,
        "Settings": row.settings,
        "Can": can,
    }
    emit_fields({**plain(row), "abilities": can}, as_json, fields)


@authorities.command("add")
def add_authority(
    name: Annotated[str, typer.Option("--name", help="1 to 128 characters.")],
    type_name: Annotated[str, typer.Option("--type", help="The kind of CA, such as private.")],
    setting: Set = None,
    reached_from: ReachedFrom = "manager",
    public: Annotated[bool, typer.Option("--public", help="Its roots are in every browser already.")] = False,
    as_json: Json = False,
) -> None:
    """Add a CA. The roots of a private one are trusted from then on, if it can show them."""
    from operations import authorities as operations

    new = operations.NewAuthority(name, type_name, pairs(setting), reached_from, not public)
    with opened() as door:
        context, around = _acting(door)
        row = run(operations.add(context, new, around))
    if as_json:
        emit_json(row)
    say(f"CA {row.name} was added.")


@authorities.command("edit")
def edit_authority(
    name: Name,
    setting: Set = None,
    reached_from: Annotated[Literal["manager", "gateway"] | None, typer.Option(help="Whose network it is in.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it is used.")] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Where its OCSP and CRLs may be besides public addresses; '' for nowhere."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a CA. An empty setting (--set KEY=) takes it back to its default."""
    from operations import authorities as operations

    with opened() as door:
        settings = pairs(setting) if setting else None
        networks = [one for one in network if one.strip()] if network is not None else None
        row = operations.edit(
            _acting(door)[0],
            name,
            settings=settings,
            reached_from=reached_from,
            active=active,
            networks=networks,
        )
    if as_json:
        emit_json(row)
    say(f"CA {row.name} was edited.")


@authorities.command("remove")
def remove_authority(name: Name, yes: Yes = False) -> None:
    """Remove a CA that no profile and no request names."""
    from operations import authorities as operations

    confirm(f"Remove CA {name}?", yes)
    with opened() as door:
        operations.remove(_acting(door)[0], name)
    say(f"CA {name} was removed.")


@authorities.command("check")
def check_authority(
    name: Name,
    gateway: Annotated[str | None, typer.Option(help="Have this gateway ask it.")] = None,
    as_json: Json = False,
) -> None:
    """Ask a CA whether it can be used, without ordering anything. Exit 1 if it can't."""
    from operations import authorities as operations

    with opened() as door:
        context, around = _acting(door)
        health = run(operations.check(context, name, around, gateway))
    if as_json:
        emit_json(health)
    else:
        for detail in health.details:
            print(f"{detail.label}: {detail.text}")
    if not health.usable:
        raise Unavailable(health.message)
    say(health.message)


@authorities.command("profiles")
def list_profiles(name: Name, as_json: Json = False) -> None:
    """List the kinds of certificates that a CA offers: what a certificate profile may name as its own."""
    from operations import authorities as operations

    with opened() as door:
        context, around = _acting(door)
        rows = run(operations.profiles(context, name, around))
    columns = {
        "Name": lambda row: row.name,
        "Title": lambda row: row.title,
        "Validity (days)": lambda row: ", ".join(f"{seconds / 86_400:g}" for seconds in row.validities) or "any",
        "Description": lambda row: row.description,
    }
    emit_rows(rows, as_json, columns, f"CA {name} does not tell which profiles it has.")


@authorities.command("open-orders")
def list_open_orders(
    ca: Annotated[str | None, typer.Option(help="Only of this CA.")] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    as_json: Json = False,
) -> None:
    """List the orders that CAs have and have not issued yet, the oldest first."""
    from operations import orders as operations

    with opened() as door:
        page = operations.listing(_acting(door)[0], ca, offset, limit)
    columns = {
        "Order": lambda row: row.number,
        "CA": lambda row: row.ca,
        "Since": lambda row: shown(row.ordered_at)[:16],
        "Request": lambda row: row.request_id,
        "Common name": lambda row: row.common_name,
        "Organization": lambda row: f"{row.organization}/{row.department}" if row.department else row.organization,
        "Gateway": lambda row: row.gateway,
        "Reason": lambda row: row.reason or "",
    }
    emit_rows(page.rows, as_json, columns, "No order is open.")
    more(len(page.rows), offset, page.total)


@authorities.command("orders")
def list_orders(
    name: Name,
    pending: Annotated[bool, typer.Option("--pending", help="Only those that wait.")] = False,
    as_json: Json = False,
) -> None:
    """List the orders at the CA's own side, where its owner decides them (built-in CA, Sectigo)."""
    from operations import authorities as operations

    with opened() as door:
        context, around = _acting(door)
        rows = run(operations.orders(context, name, around))
    if pending:
        rows = [row for row in rows if row.state == "pending"]
    columns = {
        "Order": lambda row: row.number,
        "State": lambda row: row.state,
        "Common name": lambda row: row.common_name,
        "Since": lambda row: row.created,
        "Serial number": lambda row: row.serial_number,
        "Reason": lambda row: row.reason or "",
    }
    emit_rows(rows, as_json, columns, f"CA {name} has no such orders.")


@authorities.command("release")
def release_order(name: Name, order: Order) -> None:
    """Let a CA issue an order that waits for its owner's decision."""
    from operations import authorities as operations

    with opened() as door:
        context, around = _acting(door)
        run(operations.release(context, name, order, around))
    say(f"Order {order} was released.")


@authorities.command("reject")
def reject_order(
    name: Name, order: Order, reason: Annotated[str, typer.Option(help="Why, for the requester.")]
) -> None:
    """Refuse an order that waits for the decision of the CA's owner."""
    from operations import authorities as operations

    with opened() as door:
        context, around = _acting(door)
        run(operations.reject(context, name, order, reason, around))
    say(f"Order {order} was rejected.")
