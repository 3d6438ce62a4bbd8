"""``certgate keystore``: where a gateway makes and keeps its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import Json, Yes, acting, confirm, emit_fields, emit_json, emit_rows, pairs, plain, run, say, shown
from model.errors import Conflict

if TYPE_CHECKING:
    from operations.keystores import EntryRow, KeystoreDetail

keystores = typer.Typer(no_args_is_help=True, help="Keystores: where gateways make and keep their private keys.")

Gateway = Annotated[str, typer.Option("--gateway", help="The gateway that has it, by name or id.")]
Name = Annotated[str, typer.Argument(help="The keystore's name or id.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Such as passphrase=file:/etc/certgate/passphrase."),
]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(keystores, name="keystore")


@keystores.command("list")
def list_keystores(
    gateway: Annotated[str | None, typer.Option(help="Only of this gateway.")] = None, as_json: Json = False
) -> None:
    """List keystores, how they are opened, and how much their gateway saw in them when it last looked."""
    from operations import gateways
    from operations import keystores as operations

    with acting() as context:
        rows = operations.listing(context, gateways.find(context, gateway) if gateway else None)
    columns = {
        "Gateway": lambda row: row.gateway,
        "Name": lambda row: row.name,
        "Type": lambda row: row.type,
        "Settings": lambda row: ", ".join(f"{key}={value}" for key, value in sorted(row.settings.items())),
        "Entries": lambda row: row.entries if row.checked_at and not row.withheld else "–",
        "First expiry": lambda row: row.next_expiry,
        "Checked": lambda row: row.checked_at,
        "Last error": lambda row: row.last_error or "",
    }
    emit_rows(rows, as_json, columns, "There are no gateways yet: `certgate gateway add` makes one.")


@keystores.command("show")
def show_keystore(gateway: Gateway, name: Name = "default", as_json: Json = False) -> None:
    """Show a keystore and what its gateway saw in it when it last looked."""
    from operations import gateways
    from operations import keystores as operations

    with acting() as context:
        _print(operations.show(context, gateways.find(context, gateway), name), as_json)


@keystores.command("add")
def add_keystore(
    gateway: Gateway,
    name: Annotated[str, typer.Option("--name", help="1 to 128 characters.")],
    type_name: Annotated[str, typer.Option("--type", help="pem, pkcs12 or jks.")],
    setting: Settings = None,
    as_json: Json = False,
) -> None:
    """Add a keystore. The gateway makes its file or folder with the first key; what is there already is kept.

    A passphrase is a reference (file:PATH, env:NAME, vault:PATH#FIELD) that the gateway resolves on its own host.
    """
    from operations import gateways
    from operations import keystores as operations

    given = pairs(setting)
    with acting() as context:
        new = operations.NewKeystore(gateways.find(context, gateway), name, type_name, given)
        row = operations.add(context, new)
    if as_json:
        emit_json(row)
    say(f"Keystore {row.name} was added: `certgate keystore check --gateway '{row.gateway}' '{row.name}'` looks in.")


@keystores.command("edit")
def edit_keystore(
    gateway: Gateway,
    name: Name = "default",
    new_name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
    setting: Settings = None,
    as_json: Json = False,
) -> None:
    """Change how a keystore is opened, for requests from now on. An empty setting (--set KEY=) takes it back to its
    default. A passphrase is a reference that the gateway resolves on its own host."""
    from operations import gateways
    from operations import keystores as operations

    given = pairs(setting)
    with acting() as context:
        row = operations.edit(context, gateways.find(context, gateway), given, name, new_name=new_name)
    if as_json:
        emit_json(row)
    say(f"Keystore {row.name} of gateway {row.gateway} was edited.")


@keystores.command("check")
def check_keystore(gateway: Gateway, name: Name = "default", as_json: Json = False) -> None:
    """Have the gateway open a keystore and tell what is in it, now."""
    from operations import gateways
    from operations import keystores as operations

    with acting() as context:
        detail = run(operations.check(context, gateways.find(context, gateway), name))
    if detail.keystore.last_error:
        if as_json:
            emit_json(_plain(detail))
        raise Conflict(f"{detail.keystore.last_error} {detail.keystore.cure or ''}".strip())
    _print(detail, as_json)


@keystores.command("remove")
def remove_keystore(gateway: Gateway, name: Name, yes: Yes = False) -> None:
    """Remove a keystore that no open request and no certificate in use has its key in. Its file or folder stays on the
    gateway's host."""
    from operations import gateways
    from operations import keystores as operations

    confirm(f"Remove keystore {name} of gateway {gateway}? Its keys stay on the gateway's host.", yes)
    with acting() as context:
        row = operations.remove(context, gateways.find(context, gateway), name)
    say(f"Keystore {row.name} was removed from gateway {row.gateway}. Its keys stay where they are.")


def _print(detail: KeystoreDetail, as_json: bool) -> None:
    row = detail.keystore
    more = f"\n… and {detail.omitted} more" if detail.omitted else ""
    fields = {
        "ID": row.id,
        "Gateway": row.gateway,
        "Name": row.name,
        "Type": row.type,
        "Settings": row.settings,
        "Checked": row.checked_at,
        "Last error": row.last_error,
        "Cure": row.cure,
        "Contents": _contents(detail) + more,
    }
    emit_fields(_plain(detail), as_json, fields)


def _plain(detail: KeystoreDetail) -> dict[str, object]:
    return {**plain(detail.keystore), "contents": plain(detail.entries), "omitted": detail.omitted}


def _contents(detail: KeystoreDetail) -> str:
    if detail.keystore.withheld:
        return "for those who see all that the gateway serves"
    if detail.keystore.checked_at is None:
        return "never looked: `certgate keystore check` looks"
    if not detail.entries:
        return "nothing yet; the gateway makes its file or folder with the first key"
    return "\n".join(_line(entry) for entry in detail.entries)


def _line(entry: EntryRow) -> str:
    certificate = "no certificate yet" if entry.kind == "key pair" else "no certificate"
    if entry.not_after is not None:
        names = ", ".join(entry.names) or entry.subject or ""
        certificate = f"{names}, until {shown(entry.not_after)}"
    told = f"{entry.alias}: {entry.kind} {entry.key_algorithm}".rstrip() + f", {certificate}"
    return f"{told} – {entry.problem}" if entry.problem else told
