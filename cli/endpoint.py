"""``certgate endpoint``: what serves certificates at a gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import Json, Yes, acting, confirm, emit_fields, emit_json, emit_rows, pairs, plain, run, say
from model.errors import Conflict, InvalidInput
from model.states import InstallMode

if TYPE_CHECKING:
    from operations.context import Context

endpoints = typer.Typer(no_args_is_help=True, help="Endpoints: the products that serve certificates.")

Gateway = Annotated[str, typer.Option("--gateway", help="The gateway that reaches it, by name or id.")]
Name = Annotated[str, typer.Argument(help="The endpoint's name or id.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help='A setting; lists and numbers as JSON: command=["nginx"].'),
]
SetConnection = Annotated[
    list[str] | None, typer.Option("--set-connection", metavar="KEY=VALUE", help="A setting of the connection.")
]
Install = Annotated[InstallMode, typer.Option(help="When an issued certificate is installed.")]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(endpoints, name="endpoint")


@endpoints.command("list")
def list_endpoints(
    gateway: Annotated[str | None, typer.Option(help="Only of this gateway.")] = None, as_json: Json = False
) -> None:
    """List endpoints."""
    from operations import endpoints as operations
    from operations import gateways

    with acting() as context:
        rows = operations.listing(context, gateways.find(context, gateway) if gateway else None)
    columns = {
        "ID": lambda row: row.id,
        "Gateway": lambda row: row.gateway,
        "Name": lambda row: row.name,
        "Type": lambda row: row.type,
        "Install": lambda row: row.install_mode,
        "Bindings": lambda row: row.bindings,
        "Status": lambda row: row.status,
        "Last error": lambda row: row.last_error or "",
    }
    emit_rows(rows, as_json, columns, "There are no endpoints that you may see: `certgate endpoint add` makes one.")


@endpoints.command("show")
def show_endpoint(name: Name, gateway: Gateway, as_json: Json = False) -> None:
    """Show one endpoint and what it served when it was last looked at."""
    from operations import endpoints as operations
    from operations import gateways

    with acting() as context:
        row = operations.show(context, gateways.find(context, gateway), name)
        found = operations.bindings(context, row.gateway_id, row.id)
    fields = {
        "ID": row.id,
        "Gateway": row.gateway,
        "Name": row.name,
        "Type": row.type,
        "Connection": row.connection,
        "Settings": row.settings,
        "Of connection": row.connection_settings,
        "Install": row.install_mode,
        "Window": row.window,
        "Keys": "made at the endpoint" if row.key_at_endpoint else "made at the gateway",
        "Verified from": "gateway and manager" if row.verify_from_manager else "gateway",
        "Status": row.status,
        "Last error": row.last_error,
        "Cure": row.last_cure,
        "Tested": row.tested_at,
        "Discovered": row.discovered_at,
        "Bindings": "\n".join(_line(binding) for binding in found),
    }
    emit_fields({**plain(row), "bindings": plain(found)}, as_json, fields)


@endpoints.command("add")
def add_endpoint(
    gateway: Gateway,
    name: Annotated[str, typer.Option("--name", help="1 to 512 characters.")],
    type_name: Annotated[str, typer.Option("--type", help="The kind of product, such as nginx.")],
    connection: Annotated[
        str | None, typer.Option(help="How the gateway reaches it: local, ssh, winrm or rest; else the usual way.")
    ] = None,
    setting: Set = None,
    connection_setting: SetConnection = None,
    install: Install = InstallMode.AUTO,
    window: Annotated[str | None, typer.Option(metavar="CRON", help="When a maintenance window opens.")] = None,
    window_zone: Annotated[str, typer.Option(help="The window's time zone, such as Europe/Berlin.")] = "UTC",
    window_minutes: Annotated[int, typer.Option(help="How long the window is open.")] = 60,
    key_at_endpoint: Annotated[
        bool, typer.Option("--key-at-endpoint", help="Keys are made there, and never cross the network.")
    ] = False,
    verify_from_manager: Annotated[
        bool, typer.Option("--verify-from-manager", help="The manager may look at what is served too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add an endpoint. What it serves is found by `certgate endpoint discover`."""
    from operations import endpoints as operations
    from operations import gateways

    given, of_connection = pairs(setting), pairs(connection_setting)
    with acting() as context:
        new = operations.NewEndpoint(
            gateway=gateways.find(context, gateway),
            name=name,
            type=type_name,
            connection=connection,
            settings=given,
            connection_settings=of_connection,
            install=install,
            window_cron=window,
            window_zone=window_zone,
            window_minutes=window_minutes,
            key_at_endpoint=key_at_endpoint,
            verify_from_manager=verify_from_manager,
        )
        row = operations.add(context, new)
    if as_json:
        emit_json(row)
    say(f"Endpoint {row.name} was added: `certgate endpoint discover` looks at what it serves.")


@endpoints.command("edit")
def edit_endpoint(
    name: Name,
    gateway: Gateway,
    new_name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
    connection: Annotated[str | None, typer.Option(help="How the gateway reaches it.")] = None,
    setting: Set = None,
    connection_setting: SetConnection = None,
    install: Annotated[InstallMode | None, typer.Option(help="When an issued certificate is installed.")] = None,
    window: Annotated[str | None, typer.Option(metavar="CRON", help="Empty takes the window away.")] = None,
    window_zone: Annotated[str | None, typer.Option(help="The window's time zone.")] = None,
    window_minutes: Annotated[int | None, typer.Option(help="How long the window is open.")] = None,
    key_at_endpoint: Annotated[
        bool | None, typer.Option("--key-at-endpoint/--key-at-gateway", help="Where keys are made.")
    ] = None,
    verify_from_manager: Annotated[
        bool | None,
        typer.Option("--verify-from-manager/--verify-from-gateway", help="Who looks at what is served."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Change an endpoint. An empty setting (--set KEY=) takes it back to its default."""
    from operations import endpoints as operations
    from operations import gateways

    change = operations.EndpointChange(
        name=new_name,
        settings=pairs(setting) if setting else None,
        connection=connection,
        connection_settings=pairs(connection_setting) if connection_setting else None,
        install=install,
        window_cron=window,
        window_zone=window_zone,
        window_minutes=window_minutes,
        key_at_endpoint=key_at_endpoint,
        verify_from_manager=verify_from_manager,
    )
    with acting() as context:
        row = operations.edit(context, gateways.find(context, gateway), name, change)
    if as_json:
        emit_json(row)
    say(f"Endpoint {row.name} was edited.")


@endpoints.command("discover")
def discover_endpoint(name: Name, gateway: Gateway, as_json: Json = False) -> None:
    """Have the gateway look at what an endpoint serves, now."""
    from operations import endpoints as operations
    from operations import gateways

    with acting() as context:
        rows = run(operations.discover(context, gateways.find(context, gateway), name))
    columns = {
        "Binding": lambda row: row.binding,
        "Names": lambda row: row.names,
        "Listeners": lambda row: row.listeners,
        "Serves": lambda row: (row.served_fingerprint or "nothing")[:16],
        "Obstacle": lambda row: row.obstacle or "",
    }
    emit_rows(rows, as_json, columns, f"{name} has no binding that serves a certificate.")


@endpoints.command("test")
def try_endpoint(name: Name, gateway: Gateway, as_json: Json = False) -> None:
    """Have the gateway try the connection to an endpoint, step by step, now. Nothing there is changed."""
    from operations import endpoints as operations
    from operations import gateways

    with acting() as context:
        report = run(operations.test(context, gateways.find(context, gateway), name))
    if as_json:
        emit_json(report)
    else:
        for step in report.steps:
            say(f"{'ok     ' if step.passed else 'FAILED '}{step.name}: {step.told}")
    if report.problem is not None:
        raise Conflict(f"{report.problem} {report.cure or ''}".strip())
    say(f"The connection to {name} is good.")


@endpoints.command("sudoers")
def sudoers_for_endpoint(name: Name, gateway: Gateway, as_json: Json = False) -> None:
    """Print what sudo has to allow on the host of an endpoint over SSH, as a file for its /etc/sudoers.d."""
    from connectors.hosts.ssh import CONNECTOR
    from connectors.hosts.ssh.sudo import sudoers
    from operations import endpoints as operations
    from operations import gateways

    with acting() as context:
        row = operations.show(context, gateways.find(context, gateway), name)
    if row.connection != CONNECTOR.name:
        raise InvalidInput(f"Endpoint {row.name} is connected by {row.connection}, not by SSH: certgate needs no sudo.")
    text = sudoers(CONNECTOR.configure(row.connection_settings))
    if as_json:
        emit_json({"endpoint": row.name, "sudoers": text})
    else:
        typer.echo(text, nl=False)


@endpoints.command("rollback")
def roll_back_endpoint(
    name: Name,
    gateway: Gateway,
    binding: Annotated[str | None, typer.Option(help="Which place of the endpoint; else the only one in use.")] = None,
    comment: Annotated[str, typer.Option(help="For the record, at most 1024 characters.")] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Watch the request until it has ended or needs a person.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Go back to the certificate that was in use before. It is a request: it is approved as any other, and installed in
    the maintenance window; nothing is ordered."""
    from operations import gateways

    with acting() as context:
        owner = gateways.find(context, gateway)
        confirm(f"Put the certificate back that {name} of gateway {gateway} served before?", yes)
        code = run(_rolled_back(context, owner, name, binding, comment, wait, as_json))
    raise typer.Exit(code)


async def _rolled_back(
    context: Context, gateway: int, name: str, binding: str | None, comment: str, wait: bool, as_json: bool
) -> int:
    from cli.request import ended
    from operations import rollback

    detail = await rollback.roll_back(context, gateway, name, binding, comment)
    say(f"Request {detail.id} puts certificate {detail.issued_fingerprint} back (workflow {detail.workflow_id}).")
    return await ended(context, detail, wait, as_json)


@endpoints.command("remove")
def remove_endpoint(name: Name, gateway: Gateway, yes: Yes = False) -> None:
    """Remove an endpoint that no open request and no active installation uses. What it serves stays as it is."""
    from operations import endpoints as operations
    from operations import gateways

    confirm(f"Remove endpoint {name} of gateway {gateway}?", yes)
    with acting() as context:
        operations.remove(context, gateways.find(context, gateway), name)
    say(f"Endpoint {name} was removed.")


def _line(binding: object) -> str:
    values = plain(binding)
    serves = values["served_fingerprint"] or "nothing"
    obstacle = f" – {values['obstacle']}" if values["obstacle"] else ""
    return f"{values['binding']} ({', '.join(values['names'])}): {serves}{obstacle}"
