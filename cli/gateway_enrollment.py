"""``certgate gateway token|restore|download``: a gateway's host comes, or comes again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import Json, Yes, confirm, emit_json, opened, say, write_new
from model.states import AccessMethod

if TYPE_CHECKING:
    from operations.tokens import Enrollment

Name = Annotated[str, typer.Argument(help="The gateway's name in any case, or its ID.")]


class FileKind(StrEnum):
    """What can be had for a gateway's host."""

    SYSTEMD = "systemd"
    CONTAINER = "container"
    GATEWAY_TOML = "gateway-toml"


TokenFile = Annotated[
    Path | None, typer.Option(help="Write the enrollment token there (0600, must not exist) and don't print it.")
]


def register(gateways: typer.Typer) -> None:
    """Hang the commands into `certgate gateway`."""
    gateways.command("token")(new_token)
    gateways.command("restore")(restore_gateway)
    gateways.command("download")(download)


def new_token(name: Name, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Make another enrollment token for a gateway that has not joined yet; the one before is void."""
    from operations import enrollment, gateways

    with opened() as door:
        context = door.context(door.command_line_actor(), AccessMethod.COMMAND_LINE)
        row = gateways.show(context, gateways.find(context, name))
        address, namespace = door.temporal_place()
        with kept(token_file) as keep:
            made = keep(enrollment.new_token(context, row.id, address=address, namespace=namespace))
    show_token(made, token_file, {"name": row.name}, as_json)
    say(f"Gateway {row.name} has a new token; it can be used once, within 24 hours.")


def restore_gateway(name: Name, token_file: TokenFile = None, yes: Yes = False, as_json: Json = False) -> None:
    """Give a lost or rebuilt host the same gateway again: shuts the host before out at once, and makes a new token.

    Endpoints, keystores and delegation stay; open requests go on as soon as the new host has joined.
    """
    from operations import enrollment, gateways

    with opened() as door:
        context = door.context(door.command_line_actor(), AccessMethod.COMMAND_LINE)
        row = gateways.show(context, gateways.find(context, name))
        confirm(f"Restore gateway {row.name}, and shut out the host that is this gateway now?", yes)
        address, namespace = door.temporal_place()
        with kept(token_file) as keep:
            made = keep(enrollment.restore(context, row.id, address=address, namespace=namespace))
    show_token(made, token_file, {"name": row.name, "channel": made.channel}, as_json)
    say(f"Gateway {row.name} waits for its new host: join it there with the token, once, within 24 hours.")


def download(
    name: Name,
    kind: Annotated[FileKind, typer.Option(help="A systemd unit, a Compose file, or a sample of gateway.toml.")],
    file: Annotated[Path | None, typer.Option(help="Write it there (must not exist), not on stdout.")] = None,
) -> None:
    """Print a file that the gateway's host needs, made for this gateway. None holds a secret."""
    from operations import downloads, gateways

    with opened() as door:
        context = door.context(door.command_line_actor(), AccessMethod.COMMAND_LINE)
        address, namespace = door.temporal_place()
        made = downloads.of_gateway(
            context,
            gateways.find(context, name),
            downloads.Kind(kind.value),
            address=address,
            namespace=namespace,
        )
    if file is None:
        print(made.text, end="")
    else:
        write_new(file, made.text, 0o644)
        say(f"{file} was written; its usual name is {made.file_name}.")


@contextmanager
def kept(token_file: Path | None) -> Iterator[Callable[[Enrollment], Enrollment]]:
    """A place for a token, made before the token is: one that can't be kept would be lost."""
    if token_file is not None:
        write_new(token_file, "")

    def keep(made: Enrollment) -> Enrollment:
        if token_file is not None:
            token_file.write_text(made.token + "\n", encoding="utf-8")
        return made

    try:
        yield keep
    except BaseException:
        if token_file is not None:
            token_file.unlink(missing_ok=True)
        raise


def show_token(made: Enrollment, token_file: Path | None, more: dict[str, Any], as_json: bool) -> None:
    """Print a token, or where it is."""
    value = {"id": made.gateway_id, "expires_at": made.expires_at, **more}
    value.update({"token_file": str(token_file)} if token_file is not None else {"token": made.token})
    if as_json:
        emit_json(value)
    elif token_file is None:
        print(made.token)
