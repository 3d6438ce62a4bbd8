"""``certgate keystore``: where a gateway makes and keeps its keys."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.common import Json, acting, emit_json, emit_rows, pairs, say

keystores = typer.Typer(no_args_is_help=True, help="Keystores: where gateways make and keep their private keys.")


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(keystores, name="keystore")


@keystores.command("list")
def list_keystores(
    gateway: Annotated[str | None, typer.Option(help="Only of this gateway.")] = None, as_json: Json = False
) -> None:
    """List keystores and how they are opened. What is in them, only their gateway knows."""
    from operations import keystores as operations

    with acting() as context:
        rows = operations.listing(context, gateway)
    columns = {
        "Gateway": lambda row: row.gateway,
        "Name": lambda row: row.name,
        "Type": lambda row: row.type,
        "Settings": lambda row: ", ".join(f"{key}={value}" for key, value in sorted(row.settings.items())),
    }
    emit_rows(rows, as_json, columns, "There are no gateways yet: `certgate gateway add` makes one.")


@keystores.command("edit")
def edit_keystore(
    gateway: Annotated[str, typer.Option(help="The gateway that has it.")],
    setting: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Such as passphrase=file:/etc/certgate/passphrase.")
    ],
    name: Annotated[str, typer.Option(help="The keystore's name.")] = "default",
    as_json: Json = False,
) -> None:
    """Change how a keystore is opened. A passphrase is a reference that the gateway resolves on its own host."""
    from operations import keystores as operations

    with acting() as context:
        row = operations.edit(context, gateway, pairs(setting), name)
    if as_json:
        emit_json(row)
    say(f"Keystore {row.name} of gateway {row.gateway} was edited.")
