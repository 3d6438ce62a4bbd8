"""``certgate organization`` and ``certgate department``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import Json, Yes, acting, confirm, emit_fields, emit_json, emit_rows, plain, say
from model.errors import NotFound

if TYPE_CHECKING:
    from operations.directory import Counts

organizations = typer.Typer(no_args_is_help=True, help="Organizations: who certificates are for.")
departments = typer.Typer(no_args_is_help=True, help="Departments of organizations.")

Name = Annotated[str, typer.Option("--name", help="1 to 128 characters.")]
Organization = Annotated[str, typer.Option("--organization", help="The organization's name.")]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(organizations, name="organization")
    app.add_typer(departments, name="department")


@organizations.command("list")
def list_organizations(as_json: Json = False) -> None:
    """List organizations with their departments."""
    from operations import organizations as operations

    with acting() as context:
        rows = operations.listing(context)
    columns = {"ID": lambda row: row.id, "Name": lambda row: row.name, "Departments": lambda row: row.departments}
    emit_rows(rows, as_json, columns, "There are no organizations that you may see.")


@organizations.command("show")
def show_organization(name: Annotated[str, typer.Argument()], as_json: Json = False) -> None:
    """Show one organization with what hangs on it."""
    from operations import directory
    from operations import organizations as operations

    with acting() as context:
        line = directory.organization(context, name)
        row = next(row for row in operations.listing(context) if row.id == line.id)
    fields = {"ID": row.id, "Name": row.name, "Departments": row.departments, "Approval policy": line.policy}
    whole = {**plain(row), "policy": line.policy, "counts": plain(line.counts)}
    emit_fields(whole, as_json, {**fields, **_counts(line.counts)})


@organizations.command("add")
def add_organization(name: Name, as_json: Json = False) -> None:
    """Add an organization."""
    from operations import organizations as operations

    with acting() as context:
        row = operations.add(context, name)
    if as_json:
        emit_json(row)
    say(f"Organization {row.name} was added.")


@organizations.command("edit")
def edit_organization(
    name: Annotated[str, typer.Argument()],
    new_name: Annotated[str, typer.Option("--name", help="The new name.")],
    as_json: Json = False,
) -> None:
    """Give an organization another name."""
    from operations import organizations as operations

    with acting() as context:
        row = operations.rename(context, name, new_name)
    if as_json:
        emit_json(row)
    say(f"Organization {name} is called {row.name}.")


@organizations.command("remove")
def remove_organization(name: Annotated[str, typer.Argument()], yes: Yes = False) -> None:
    """Remove an organization on which nothing hangs."""
    from operations import organizations as operations

    confirm(f"Remove organization {name}?", yes)
    with acting() as context:
        operations.remove(context, name)
    say(f"Organization {name} was removed.")


@departments.command("list")
def list_departments(
    organization: Annotated[str | None, typer.Option(help="Only of this organization.")] = None, as_json: Json = False
) -> None:
    """List departments."""
    from operations import organizations as operations

    with acting() as context:
        rows = [
            {"organization": row.name, "name": name}
            for row in operations.listing(context)
            if organization in (None, row.name)
            for name in row.departments
        ]
    columns = {"Organization": lambda row: row["organization"], "Name": lambda row: row["name"]}
    emit_rows(rows, as_json, columns, "There are no departments that you may see.")


@departments.command("show")
def show_department(name: Annotated[str, typer.Argument()], organization: Organization, as_json: Json = False) -> None:
    """Show one department with what it has."""
    from operations import directory

    with acting() as context:
        rows = directory.departments(context, organization, name).rows
    row = next((row for row in rows if row.name == name), None)
    if row is None:
        raise NotFound(f"Organization {organization} has no department {name!r}.")
    fields = {"ID": row.id, "Organization": organization, "Name": row.name, **_counts(row.counts)}
    emit_fields(row, as_json, fields)


@departments.command("add")
def add_department(name: Name, organization: Organization, as_json: Json = False) -> None:
    """Add a department to an organization."""
    from operations import organizations as operations

    with acting() as context:
        row = operations.add_department(context, organization, name)
    if as_json:
        emit_json(row)
    say(f"Department {organization}/{name} was added.")


@departments.command("edit")
def edit_department(
    name: Annotated[str, typer.Argument()],
    organization: Organization,
    new_name: Annotated[str, typer.Option("--name", help="The new name.")],
    as_json: Json = False,
) -> None:
    """Give a department another name."""
    from operations import organizations as operations

    with acting() as context:
        operations.rename_department(context, organization, name, new_name)
    if as_json:
        emit_json({"organization": organization, "name": new_name.strip()})
    say(f"Department {organization}/{name} is called {new_name}.")


@departments.command("remove")
def remove_department(name: Annotated[str, typer.Argument()], organization: Organization, yes: Yes = False) -> None:
    """Remove a department on which nothing hangs."""
    from operations import organizations as operations

    confirm(f"Remove department {organization}/{name}?", yes)
    with acting() as context:
        operations.remove_department(context, organization, name)
    say(f"Department {organization}/{name} was removed.")


def _counts(counts: Counts) -> dict[str, int | None]:
    return {
        "Gateways delegated to it": counts.gateways,
        "Open requests": counts.open_requests,
        "Certificates": counts.certificates,
        "Administrators": counts.administrators,
    }
