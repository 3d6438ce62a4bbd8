"""``certgate gateway``: add, join, run, list, show, edit, delegate, delete."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import (
    Json,
    Yes,
    acting,
    confirm,
    emit_fields,
    emit_json,
    emit_rows,
    first_line,
    opened,
    plain,
    run,
    say,
    write_new,
)
from model.errors import CertgateError, Conflict, InvalidInput, Unavailable
from model.states import AccessMethod, DelegationMode

if TYPE_CHECKING:
    from operations.context import Context
    from operations.gateways import GatewayRow
    from operations.joining import Token
    from worker.settings import Settings, TemporalSettings

gateways = typer.Typer(no_args_is_help=True, help="Orchestration gateways: the workers inside somebody's network.")

Name = Annotated[str, typer.Argument(help="The gateway's name, in any case.")]
GatewayHome = Annotated[Path, typer.Option("--gateway-home", help="The gateway's own folder.", file_okay=False)]
Organizations = Annotated[list[str] | None, typer.Option("--organization", help="Serves this organization.")]
Departments = Annotated[list[str] | None, typer.Option("--department", help="Serves ORGANIZATION/NAME.")]
_ATTEMPT_FILE = "join-attempt"


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(gateways, name="gateway")


@gateways.command("list")
def list_gateways(as_json: Json = False) -> None:
    """List gateways; the status is asked of Temporal."""
    from operations import gateways as operations

    with acting() as context:
        rows = operations.listing(context)
        found = _statuses(context) if rows else {}
    values = [_value(row, found) for row in rows]
    columns = {
        "ID": lambda row: row["id"],
        "Name": lambda row: row["name"],
        "Delegation mode": lambda row: row["delegation_mode"],
        "Status": lambda row: row["status"],
        "Endpoints": lambda row: row["endpoints"],
        "Comments": lambda row: row["comments"],
    }
    emit_rows(values, as_json, columns, "There are no gateways that you may see: `certgate gateway add` makes one.")


@gateways.command("show")
def show_gateway(name: Name, as_json: Json = False) -> None:
    """Show one gateway."""
    from operations import gateways as operations

    with acting() as context:
        row = operations.show(context, name)
        value = _value(row, _statuses(context))
    fields = {
        "ID": row.id,
        "Name": row.name,
        "Delegation mode": row.delegation_mode,
        "Serves": row.organizations or ("everybody" if row.delegation_mode == DelegationMode.GENERAL else None),
        "Status": value["status"],
        "Active": row.active,
        "Comments": row.comments,
        "Joined": row.joined_at,
        "Version": row.version,
        "Operating system": row.os,
        "Endpoints": row.endpoints,
    }
    emit_fields(value, as_json, fields)


@gateways.command("add")
def add_gateway(
    name: Annotated[str, typer.Option("--name", help="1 to 128 letters, digits, spaces, hyphens, dots, apostrophes.")],
    comments: Annotated[str, typer.Option(help="At most 256 characters.")] = "",
    delegation_mode: Annotated[DelegationMode, typer.Option(case_sensitive=False)] = DelegationMode.GENERAL,
    organization: Organizations = None,
    department: Departments = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Write the enrollment token there (0600, must not exist) and don't print it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add a gateway; prints its enrollment token once, for `certgate gateway join` on the gateway's host."""
    from operations import gateways as operations

    with opened() as door:
        context = door.context(door.command_line_actor(), AccessMethod.COMMAND_LINE)
        address, namespace = _temporal_of(door.settings)
        new = operations.NewGateway(
            name=name,
            comments=comments,
            delegation_mode=delegation_mode,
            organizations=organization or (),
            departments=department or (),
            address=address,
            namespace=namespace,
        )
        if token_file is not None:
            # Before the gateway is made: a token that can't be kept would be lost.
            write_new(token_file, "")
        try:
            enrollment = operations.add(context, new)
        except BaseException:
            if token_file is not None:
                token_file.unlink(missing_ok=True)
            raise
        value = {"id": enrollment.gateway_id, "name": name, "expires_at": enrollment.expires_at}
        if token_file is not None:
            token_file.write_text(enrollment.token + "\n", encoding="utf-8")
            value["token_file"] = str(token_file)
        else:
            value["token"] = enrollment.token
    if as_json:
        emit_json(value)
    elif token_file is None:
        print(enrollment.token)
    where = f"is in {token_file}" if token_file else "is shown only now"
    say(f"Gateway {name} was added; its token {where} and can be used once, within 24 hours.")


@gateways.command("join")
def join_gateway(
    gateway_home: GatewayHome,
    token_file: Annotated[Path, typer.Option(help="Holds the enrollment token; - for stdin.")],
    as_json: Json = False,
) -> None:
    """Turn an enrollment token into a gateway's home, on the gateway's own host. The token is spent by that.

    TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and the SDK's other variables count before what the token says.
    """
    from operations import joining

    token = joining.read_token(first_line(token_file))
    name = run(_join(token, gateway_home.absolute()))
    if as_json:
        emit_json({"id": token.gateway_id, "name": name, "gateway_home": gateway_home.absolute()})
    say(f"This is gateway {name} now: start it with `certgate gateway run --gateway-home {gateway_home}`.")


@gateways.command("run")
def run_gateway(gateway_home: GatewayHome) -> None:
    """Run a gateway until SIGTERM or Ctrl-C."""
    from cli.processes import log_to_stderr
    from worker import gateway_home as homes
    from worker.workers import run_gateway as work

    home = homes.read(gateway_home.absolute())
    log_to_stderr()
    run(work(home))


@gateways.command("edit")
def edit_gateway(
    name: Name,
    new_name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
    comments: Annotated[str | None, typer.Option(help="At most 256 characters.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it is given work.")] = None,
    as_json: Json = False,
) -> None:
    """Change a gateway."""
    from operations import gateways as operations

    with acting() as context:
        row = operations.edit(context, name, new_name=new_name, comments=comments, active=active)
    if as_json:
        emit_json(row)
    say(f"Gateway {row.name} was edited.")


@gateways.command("delegate")
def delegate_gateway(
    name: Name,
    general: Annotated[bool, typer.Option("--general", help="Serves everybody.")] = False,
    organization: Organizations = None,
    department: Departments = None,
    as_json: Json = False,
) -> None:
    """Say whom a gateway serves: everybody, or exactly these organizations and departments."""
    from operations import gateways as operations

    with acting() as context:
        row = operations.delegate(
            context, name, general=general, organizations=organization or (), departments=department or ()
        )
    if as_json:
        emit_json(row)
    served = "everybody" if general else ", ".join([*(organization or []), *(department or [])])
    say(f"Gateway {row.name} serves {served}.")


@gateways.command("delete")
def delete_gateway(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Also with open requests or active installations.")] = False,
    yes: Yes = False,
) -> None:
    """Delete a gateway, after telling what hangs on it."""
    from operations import gateways as operations

    with acting() as context:
        hangs = operations.hanging(context, name)
        confirm(f"Delete gateway {name}" + (f", on which hangs: {hangs}?" if str(hangs) else "?"), yes)
        if (hangs.open_requests or hangs.active_installations) and not force:
            raise Conflict(f"On gateway {name} hangs: {hangs}; close them first, or delete it with --force.")
        operations.delete(context, name, force=force)
    say(f"Gateway {name} was deleted.")


def _statuses(context: Context) -> dict[int, Any]:
    from operations import gateways as operations

    async def ask() -> dict[int, Any]:
        return dict(await operations.statuses(context))

    try:
        return run(ask())
    except Unavailable as error:
        say(f"The status is not known: {error.message}")
        return {}


def _value(row: GatewayRow, statuses: dict[int, Any]) -> dict[str, Any]:
    value: dict[str, Any] = plain(row)
    status = statuses.get(row.id)
    return {**value, "status": str(status) if status is not None else None}


def _temporal_of(settings: Settings) -> tuple[str, str]:
    """Where this installation's Temporal is, for a gateway's token; an empty address when it isn't known now."""
    from worker import connection, embedded_state

    if settings.temporal.outside:
        config = connection.outside_config(settings)
        return config.get("target_host") or "", config.get("namespace") or "default"
    record = embedded_state.find(settings.home)
    return record.address if record else "", settings.temporal.embedded_namespace


async def _join(token: Token, folder: Path) -> str:
    from operations import joining
    from worker import connection, gateway_home

    temporal = _temporal_for(token)
    settings = gateway_home.GatewayHome(folder, token.gateway_id, token.name, None, temporal).settings()
    _own_folder(folder, token)
    attempt_file = folder / _ATTEMPT_FILE
    if attempt_file.exists():
        attempt = first_line(attempt_file)
    else:
        attempt = secrets.token_hex(16)
        write_new(attempt_file, attempt + "\n")
    try:
        result = await joining.join(await connection.connect(settings), token, attempt=attempt)
    except CertgateError as error:
        # Asked again after an answer that was lost, the same attempt still counts; a refusal is final.
        if not isinstance(error, Unavailable):
            attempt_file.unlink(missing_ok=True)
        raise
    place = {key: value for key, value in (("address", temporal.address), ("namespace", temporal.namespace)) if value}
    gateway_home.write(folder, token.gateway_id, result.gateway, temporal=place)
    attempt_file.unlink(missing_ok=True)
    return result.gateway


def _temporal_for(token: Token) -> TemporalSettings:
    from worker.settings import OUTSIDE_VARIABLES, TemporalSettings

    configured = any(os.environ.get(variable) for variable in OUTSIDE_VARIABLES)
    address = os.environ.get("TEMPORAL_ADDRESS") or (None if configured else token.address)
    if not (address or configured):
        raise InvalidInput("The token does not say where Temporal is: set TEMPORAL_ADDRESS to host:port.")
    return TemporalSettings(address=address, namespace=os.environ.get("TEMPORAL_NAMESPACE") or token.namespace)


def _own_folder(folder: Path, token: Token) -> None:
    """Make the gateway's home. Raises `InvalidInput` where another gateway lives; the token is not spent then."""
    from worker import gateway_home

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InvalidInput(f"The gateway's home {folder} can't be made: {error.strerror}.") from None
    if (folder / gateway_home.FILE_NAME).exists():
        there = gateway_home.read(folder)
        if there.gateway_id != token.gateway_id:
            raise InvalidInput(f"{folder} is the home of gateway {there.name}: choose another folder.")
