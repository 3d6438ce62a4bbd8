"""``certgate group``: bindings that serve one certificate, canaries first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import Json, Yes, acting, confirm, duration, emit_fields, emit_json, emit_rows, plain, say
from model.errors import InvalidInput

if TYPE_CHECKING:
    from operations.groups import GroupRow, MemberRow

groups = typer.Typer(no_args_is_help=True, help="Groups of bindings that serve one certificate, canaries first.")

Gateway = Annotated[str, typer.Option("--gateway", help="The gateway that reaches them, by name or id.")]
Name = Annotated[str, typer.Argument(help="The group's name.")]
_MEMBER = "A binding, in the order in which they get a certificate; repeat it for each."


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(groups, name="group")


@groups.command("list")
def list_groups(
    gateway: Annotated[str | None, typer.Option(help="Only of this gateway.")] = None, as_json: Json = False
) -> None:
    """List groups."""
    from operations import gateways
    from operations import groups as operations

    with acting() as context:
        rows = operations.listing(context, gateways.find(context, gateway) if gateway else None)
    columns = {
        "ID": lambda row: row.id,
        "Gateway": lambda row: row.gateway,
        "Name": lambda row: row.name,
        "Bindings": lambda row: row.members,
        "Canaries": lambda row: row.canaries,
        "At once": lambda row: row.at_once,
        "Watched (s)": lambda row: row.soak_seconds,
    }
    emit_rows(rows, as_json, columns, "There are no groups that you may see: `certgate group add` makes one.")


@groups.command("show")
def show_group(name: Name, gateway: Gateway, as_json: Json = False) -> None:
    """Show a group: its bindings in the order in which they get a certificate, and what each serves."""
    from operations import gateways
    from operations import groups as operations

    with acting() as context:
        row, members = operations.show(context, gateways.find(context, gateway), name)
    _print(row, members, as_json)


@groups.command("add")
def add_group(
    gateway: Gateway,
    name: Annotated[str, typer.Option("--name", help="1 to 128 characters.")],
    member: Annotated[list[str], typer.Option(metavar="ENDPOINT=BINDING", help=_MEMBER)],
    canaries: Annotated[int, typer.Option(help="How many of them get it first.")] = 1,
    at_once: Annotated[int, typer.Option(help="How many installs may be under way together.")] = 4,
    soak: Annotated[str, typer.Option(help="How long the canaries are watched, such as 30m.")] = "0s",
    as_json: Json = False,
) -> None:
    """Make a group. `certgate request submit --group` gets a certificate for all of it."""
    from operations import gateways
    from operations import groups as operations

    with acting() as context:
        new = operations.NewGroup(
            gateways.find(context, gateway), name, _members(member), canaries, at_once, _seconds(soak)
        )
        row = operations.add(context, new)
    if as_json:
        emit_json(row)
    say(f"Group {row.name} of {row.members} bindings was added.")


@groups.command("edit")
def edit_group(
    name: Name,
    gateway: Gateway,
    new_name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
    member: Annotated[
        list[str] | None, typer.Option(metavar="ENDPOINT=BINDING", help="All bindings, anew; repeat it for each.")
    ] = None,
    canaries: Annotated[int | None, typer.Option(help="How many of them get it first.")] = None,
    at_once: Annotated[int | None, typer.Option(help="How many installs may be under way together.")] = None,
    soak: Annotated[str | None, typer.Option(help="How long the canaries are watched, such as 30m.")] = None,
    as_json: Json = False,
) -> None:
    """Change a group. Installs that are under way go on with what it is then."""
    from operations import gateways
    from operations import groups as operations

    change = operations.GroupChange(
        name=new_name,
        members=_members(member) if member else None,
        canaries=canaries,
        at_once=at_once,
        soak_seconds=_seconds(soak) if soak is not None else None,
    )
    with acting() as context:
        row = operations.edit(context, gateways.find(context, gateway), name, change)
    if as_json:
        emit_json(row)
    say(f"Group {row.name} was edited.")


@groups.command("remove")
def remove_group(name: Name, gateway: Gateway, yes: Yes = False) -> None:
    """Remove a group that no open request and no certificate in use is for. What its bindings serve stays as it is."""
    from operations import gateways
    from operations import groups as operations

    confirm(f"Remove group {name} of gateway {gateway}?", yes)
    with acting() as context:
        operations.remove(context, gateways.find(context, gateway), name)
    say(f"Group {name} was removed.")


def _print(row: GroupRow, members: Sequence[MemberRow], as_json: bool) -> None:
    fields = {
        "ID": row.id,
        "Gateway": row.gateway,
        "Name": row.name,
        "Canaries": row.canaries,
        "Watched (s)": row.soak_seconds,
        "At once": row.at_once,
        "Bindings": "\n".join(_line(member) for member in members),
    }
    emit_fields({**plain(row), "bindings": plain(members)}, as_json, fields)


def _line(member: MemberRow) -> str:
    first = "canary " if member.canary else ""
    window = f", window {member.window}" if member.window else ""
    return f"{first}{member.endpoint}={member.binding}: serves {member.serves or 'nothing'}{window}"


def _members(words: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for word in words:
        endpoint, equals, binding = word.partition("=")
        if not endpoint or not equals or not binding:
            raise InvalidInput(f"A binding of a group is given as ENDPOINT=BINDING, not {word!r}.")
        found.append((endpoint, binding))
    return found


def _seconds(word: str) -> int:
    return int(duration(word).total_seconds())
