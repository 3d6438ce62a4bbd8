"""``certgate profile``: what kinds of certificate there are."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.common import Json, Yes, acting, confirm, emit_fields, emit_json, emit_rows, say, seconds
from model.keys import KeyAlgorithm

profiles = typer.Typer(no_args_is_help=True, help="Certificate profiles: what kinds of certificate there are.")

Name = Annotated[str, typer.Argument(help="The profile's name.")]
AuthorityProfile = Annotated[str | None, typer.Option("--ca-profile", help="What the CA calls it; empty: its default.")]
Key = Annotated[KeyAlgorithm | None, typer.Option("--key", help="Key algorithm and size.")]
Validity = Annotated[str | None, typer.Option(help="How long certificates last: 6d, 47d; 0s: as the CA does.")]
Allowed = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="PATTERN", help="Names it is for: a name, *.example.com, 10.0.0.0/8."),
]
Reuse = Annotated[bool | None, typer.Option("--reuse-key/--new-key", help="Whether renewals keep the key.")]

Root = Annotated[
    bool | None,
    typer.Option("--include-root/--without-root", help="Whether servers send the root as well; few clients want it."),
]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(profiles, name="profile")


@profiles.command("list")
def list_profiles(as_json: Json = False) -> None:
    """List certificate profiles."""
    from operations import profiles as operations

    with acting() as context:
        rows = operations.listing(context)
    columns = {
        "Name": lambda row: row.name,
        "CA": lambda row: row.ca,
        "CA's profile": lambda row: row.authority_profile,
        "Key": lambda row: row.key_algorithm,
        "Validity (s)": lambda row: row.validity_seconds,
        "Allowed names": lambda row: row.allowed_names or "full names",
        "Reuse key": lambda row: row.reuse_key,
    }
    emit_rows(rows, as_json, columns, "There are no certificate profiles: `certgate profile add` makes one.")


@profiles.command("show")
def show_profile(name: Name, as_json: Json = False) -> None:
    """Show one certificate profile."""
    from operations import profiles as operations

    with acting() as context:
        row = operations.show(context, name)
    fields = {
        "ID": row.id,
        "Name": row.name,
        "CA": row.ca,
        "CA's profile": row.authority_profile,
        "Key": row.key_algorithm,
        "Validity (s)": row.validity_seconds,
        "Allowed names": row.allowed_names,
        "Reuse key": row.reuse_key,
        "Sends the root": row.include_root,
    }
    emit_fields(row, as_json, fields)


@profiles.command("add")
def add_profile(
    name: Annotated[str, typer.Option("--name", help="1 to 128 characters.")],
    ca: Annotated[str, typer.Option(help="The CA that issues.")],
    ca_profile: AuthorityProfile = None,
    key: Key = None,
    validity: Validity = None,
    allow: Allowed = None,
    reuse_key: Reuse = None,
    include_root: Root = None,
    as_json: Json = False,
) -> None:
    """Add a certificate profile."""
    from operations import profiles as operations

    change = operations.ProfileChange(
        authority_profile=ca_profile,
        key_algorithm=key,
        validity_seconds=seconds(validity),
        reuse_key=reuse_key,
        allowed_names=allow,
        include_root=include_root,
    )
    with acting() as context:
        row = operations.add(context, name, ca, change)
    if as_json:
        emit_json(row)
    say(f"Profile {row.name} was added.")


@profiles.command("edit")
def edit_profile(
    name: Name,
    new_name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
    ca: Annotated[str | None, typer.Option(help="The CA that issues.")] = None,
    ca_profile: AuthorityProfile = None,
    key: Key = None,
    validity: Validity = None,
    allow: Allowed = None,
    reuse_key: Reuse = None,
    include_root: Root = None,
    as_json: Json = False,
) -> None:
    """Change a certificate profile; --allow replaces all patterns."""
    from operations import profiles as operations

    change = operations.ProfileChange(
        name=new_name,
        ca=ca,
        authority_profile=ca_profile,
        key_algorithm=key,
        validity_seconds=seconds(validity),
        reuse_key=reuse_key,
        allowed_names=allow,
        include_root=include_root,
    )
    with acting() as context:
        row = operations.edit(context, name, change)
    if as_json:
        emit_json(row)
    say(f"Profile {row.name} was edited.")


@profiles.command("remove")
def remove_profile(name: Name, yes: Yes = False) -> None:
    """Remove a profile that no request names."""
    from operations import profiles as operations

    confirm(f"Remove profile {name}?", yes)
    with acting() as context:
        operations.remove(context, name)
    say(f"Profile {name} was removed.")
