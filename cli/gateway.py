"""``certgate gateway``: list, show, add, edit, delegate, delete; `token` and `restore` stand in `gateway_enrollment`,
`join` and `run` in `gateway_processes`."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cli import gateway_enrollment, gateway_processes, gateway_sync
from cli.common import (
    Json,
    Limit,
    Offset,
    Yes,
    acting,
    clean,
    emit_fields,
    emit_json,
    emit_rows,
    more,
    opened,
    run,
    say,
)
from cli.gateway_enrollment import Name, TokenFile, kept, show_token
from model.errors import Conflict, InvalidInput, Unavailable
from model.states import AccessMethod, ConnectionStatus, DelegationMode

if TYPE_CHECKING:
    from operations.context import Context
    from operations.gateway_queries import Filter, Order, Statuses
    from operations.gateways import By

gateways = typer.Typer(no_args_is_help=True, help="Orchestration gateways: the workers inside somebody's network.")

Organizations = Annotated[list[str] | None, typer.Option("--organization", help="Serves this organization.")]
Departments = Annotated[list[str] | None, typer.Option("--department", help="Serves ORGANIZATION/NAME.")]


class GroupBy(StrEnum):
    """What the list can be grouped by."""

    DELEGATION_MODE = "delegation-mode"
    STATUS = "status"
    ORGANIZATION = "organization"
    VERSION = "version"
    OS = "os"


class SortBy(StrEnum):
    """What the list can be ordered by."""

    ID = "id"
    NAME = "name"
    DELEGATION_MODE = "delegation-mode"
    STATUS = "status"
    COMMENTS = "comments"
    VERSION = "version"
    OS = "os"
    MODULES = "modules"
    ENDPOINTS = "endpoints"
    LAST_ACTIVITY = "last-activity"
    ORGANIZATIONS = "organizations"
    OPEN_REQUESTS = "open-requests"


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    gateway_enrollment.register(gateways)
    gateway_processes.register(gateways)
    gateway_sync.register(gateways)
    app.add_typer(gateways, name="gateway")


@gateways.command("list")
def list_gateways(
    search: Annotated[str, typer.Option(help="Keep names that hold this, in any case.")] = "",
    status: Annotated[
        list[ConnectionStatus] | None, typer.Option(case_sensitive=False, help="Keep this status.")
    ] = None,
    delegation_mode: Annotated[DelegationMode | None, typer.Option(case_sensitive=False)] = None,
    organization: Annotated[str | None, typer.Option(help="Keep those delegated to this organization.")] = None,
    version: Annotated[str | None, typer.Option(help="Keep this version of certgate.")] = None,
    os: Annotated[str | None, typer.Option("--os", help="Keep this operating system.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Keep those that are given work.")] = None,
    group_by: Annotated[GroupBy | None, typer.Option(help="Count the gateways of each kind.")] = None,
    sort: Annotated[SortBy, typer.Option(help="Order by this column.")] = SortBy.NAME,
    descending: Annotated[bool, typer.Option("--descending", help="The last first.")] = False,
    limit: Limit = 1000,
    offset: Offset = 0,
    as_json: Json = False,
) -> None:
    """List gateways; the status is asked of Temporal."""
    from operations import gateways as operations
    from operations.gateway_queries import Filter

    wanted = Filter(
        search=search.strip(),
        statuses=tuple(status or ()),
        delegation_mode=delegation_mode,
        organization=organization,
        version=version,
        os=os,
        active=active,
    )
    with acting() as context:
        statuses = _statuses(context)
        if statuses is None and (status or group_by == GroupBy.STATUS):
            raise Unavailable("Without Temporal's answer, gateways can't be kept or counted by status.")
        if group_by is not None:
            _emit_groups(context, group_by, wanted, statuses, as_json)
            return
        order = cast("Order", sort.value.replace("-", "_"))
        page = operations.listing(
            context, wanted, statuses, order=order, descending=descending, offset=offset, limit=limit
        )
    columns = {
        "ID": lambda row: row.id,
        "Name": lambda row: row.name,
        "Delegation mode": lambda row: row.delegation_mode,
        "Status": lambda row: row.status,
        "Endpoints": lambda row: row.endpoints,
        "Comments": lambda row: row.comments,
    }
    empty = (
        "There are no gateways that you may see: `certgate gateway add` makes one."
        if wanted == Filter()
        else "No gateway matches."
    )
    emit_rows(page.rows, as_json, columns, empty)
    more(len(page.rows), offset, page.total)


@gateways.command("show")
def show_gateway(name: Name, as_json: Json = False) -> None:
    """Show one gateway."""
    from operations import gateways as operations

    with acting() as context:
        row = operations.show(context, operations.find(context, name), _statuses(context))
    fields = {
        "ID": row.id,
        "Name": row.name,
        "Delegation mode": row.delegation_mode,
        "Serves": row.organizations or ("everybody" if row.delegation_mode == DelegationMode.GENERAL else None),
        "Status": row.status,
        "Since": row.since,
        "Active": row.active,
        "Comments": row.comments,
        "Added": row.created_at,
        "Joined": row.joined_at,
        "Last activity": row.last_activity,
        "Version": row.version,
        "Operating system": row.os,
        "Host": row.host,
        "Modules": row.modules,
        "Endpoints": row.endpoints,
        "Open requests": row.open_requests,
    }
    emit_fields(row, as_json, fields)


@gateways.command("add")
def add_gateway(
    name: Annotated[str, typer.Option("--name", help="1 to 128 letters, digits, spaces, hyphens, dots, apostrophes.")],
    comments: Annotated[str, typer.Option(help="At most 256 characters.")] = "",
    delegation_mode: Annotated[DelegationMode, typer.Option(case_sensitive=False)] = DelegationMode.GENERAL,
    organization: Organizations = None,
    department: Departments = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Add a gateway; prints its enrollment token once, for `certgate gateway join` on the gateway's host."""
    from operations import gateway_changes as operations

    with opened() as door:
        context = door.context(door.command_line_actor(), AccessMethod.COMMAND_LINE)
        address, namespace = door.temporal_place()
        new = operations.NewGateway(
            name=name,
            comments=comments,
            delegation_mode=delegation_mode,
            organizations=organization or (),
            departments=department or (),
            address=address,
            namespace=namespace,
        )
        with kept(token_file) as keep:
            made = keep(operations.add(context, new))
    show_token(made, token_file, {"name": name}, as_json)
    where = f"is in {token_file}" if token_file else "is shown only now"
    say(f"Gateway {name} was added; its token {where} and can be used once, within 24 hours.")


@gateways.command("edit")
def edit_gateway(
    name: Name,
    new_name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
    comments: Annotated[str | None, typer.Option(help="At most 256 characters.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it is given work.")] = None,
    revision: Annotated[
        int | None, typer.Option(min=1, help="Only if nobody has changed it since this revision (`show --json`).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a gateway's name, comments, or whether it is given work."""
    from operations import gateway_changes
    from operations import gateways as operations

    with acting() as context:
        row = gateway_changes.edit(
            context,
            operations.find(context, name),
            new_name=new_name,
            comments=comments,
            active=active,
            seen_revision=revision,
        )
    if as_json:
        emit_json(row)
    say(f"Gateway {row.name} was edited.")


@gateways.command("delegate")
def delegate_gateway(
    name: Name,
    general: Annotated[bool, typer.Option("--general", help="Serves everybody.")] = False,
    organization: Organizations = None,
    department: Departments = None,
    revision: Annotated[
        int | None, typer.Option(min=1, help="Only if nobody has changed it since this revision (`show --json`).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whom a gateway serves: everybody, or exactly these organizations and departments.

    Those that you may not see stay as they are.
    """
    from operations import gateway_delegation
    from operations import gateways as operations

    with acting() as context:
        row = gateway_delegation.delegate(
            context,
            operations.find(context, name),
            general=general,
            organizations=organization or (),
            departments=department or (),
            seen_revision=revision,
        )
    if as_json:
        emit_json(row)
    served = "everybody" if general else ", ".join(row.organizations) or "nobody that you may see"
    say(f"Gateway {row.name} serves {served}.")


@gateways.command("delete")
def delete_gateway(
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Also with open requests, active installations or a running sync.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Delete a gateway, after telling what hangs on it and asking for its name."""
    from operations import gateway_changes
    from operations import gateways as operations

    with acting() as context:
        row = operations.show(context, operations.find(context, name))
        hangs = gateway_changes.hanging(context, row.id)
        question = f"Delete gateway {row.name}" + (f", on which hangs: {hangs}?" if str(hangs) else "?")
        if not yes:
            _confirm_name(question, row.name)
        if hangs.heavy and not force:
            raise Conflict(f"On gateway {row.name} hangs: {hangs}; close them first, or delete it with --force.")
        gateway_changes.delete(context, row.id, force=force, seen_name=row.name)
    say(f"Gateway {row.name} was deleted.")


def _confirm_name(question: str, name: str) -> None:
    """Ask for the name of what is deleted. Raises `InvalidInput` where nobody can be asked or another name is typed."""
    if not sys.stdin.isatty():
        raise InvalidInput(f"{question} Nobody can be asked here: say --yes if so.")
    print(clean(f"{question} Type its name: "), end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != name:
        raise InvalidInput(f"That is not the name of gateway {name}: nothing was deleted.")


def _statuses(context: Context) -> Statuses | None:
    """The statuses of all gateways; None, and a sentence about it, when Temporal does not tell them."""
    from operations import gateways as operations

    try:
        return run(operations.statuses(context))
    except Unavailable as error:
        say(f"The status is not known: {error.message}")
        return None


def _emit_groups(context: Context, by: GroupBy, wanted: Filter, statuses: Statuses | None, as_json: bool) -> None:
    from operations import gateways as operations

    found = operations.groups(context, cast("By", by.value.replace("-", "_")), wanted, statuses)
    nameless = "(General)" if by == GroupBy.ORGANIZATION else "(unknown)"
    columns = {
        by.value.replace("-", " ").capitalize(): lambda group: group.key or nameless,
        "Gateways": lambda g: g.count,
    }
    emit_rows(found, as_json, columns, "No gateway matches.")
