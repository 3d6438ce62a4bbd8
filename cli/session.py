"""``certgate login`` and ``certgate logout``: whose word the command line carries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.common import Json, duration, emit_json, first_line, opened, say, secret
from model.errors import Unavailable
from model.states import AccessMethod


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.command("login")(login)
    app.command("logout")(logout)


def login(
    name: Annotated[str | None, typer.Option("--login", help="Sign in with this login and its password.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="Holds a token; - for stdin.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="Holds the password; - for stdin.")] = None,
    lifetime: Annotated[str, typer.Option(help="How long a sign-in by password holds.")] = "12h",
    as_json: Json = False,
) -> None:
    """Keep a token in the home, so that further commands act as its administrator.

    The token is asked for or read from a file; with --login it is made after asking for the password.
    """
    from operations import administrators, identity
    from operations.context import now

    with opened() as door:
        if name is not None:
            lasting = duration(lifetime)
            password = secret(f"Password of {name}", password_file)
            method = AccessMethod.COMMAND_LINE
            actor = identity.sign_in(door.database, name, password, now(), access_method=method)
            token = administrators.token(door.context(actor, AccessMethod.COMMAND_LINE), name, lasting)
        else:
            token = first_line(token_file) if token_file else secret("Token", None)
            actor = identity.by_token(door.database, token, now())
        path = door.token_path()
        try:
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(token.strip() + "\n")
        except OSError as error:
            raise Unavailable(f"The token can't be kept in {path}: {error.strerror}.") from None
    if as_json:
        emit_json({"login": actor.login})
    say(f"You act as {actor.login} now; `certgate logout` ends that.")


def logout() -> None:
    """Forget the token that `certgate login` kept. The token itself stays good until it expires or is revoked."""
    with opened() as door:
        path = door.token_path()
        there = path.exists()
        path.unlink(missing_ok=True)
    say("You are signed out." if there else "Nobody was signed in.")
