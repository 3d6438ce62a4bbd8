"""``certgate gateway join|run``: on the gateway's own host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import Json, emit_json, first_line, run, say
from model.errors import InvalidInput, NotPermitted

if TYPE_CHECKING:
    from operations.tokens import Token
    from worker.settings import TemporalSettings

GatewayHome = Annotated[Path, typer.Option("--gateway-home", help="The gateway's own folder.", file_okay=False)]


def register(gateways: typer.Typer) -> None:
    """Hang the commands into `certgate gateway`."""
    gateways.command("join")(join_gateway)
    gateways.command("run")(run_gateway)


def join_gateway(
    gateway_home: GatewayHome,
    token_file: Annotated[Path, typer.Option(help="Holds the enrollment token; - for stdin.")],
    proxy: Annotated[
        str | None, typer.Option(help="http://HOST:PORT of an HTTP proxy that is the only way out; kept in the home.")
    ] = None,
    proxy_credential: Annotated[
        str | None, typer.Option(help="Its user:password, as file:/ABSOLUTE/PATH or env:NAME; kept as that reference.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn an enrollment token into a gateway's home, on the gateway's own host. The token is spent by that.

    The host makes a key of its own, and only it and the manager that made the token know what they agree on.

    TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and the SDK's other variables count before what the token says.
    """
    from operations import tokens

    token = tokens.read(first_line(token_file))
    name = run(_join(token, gateway_home.absolute(), proxy, proxy_credential))
    if as_json:
        emit_json({"id": token.gateway_id, "name": name, "gateway_home": gateway_home.absolute()})
    say(f"This is gateway {name} now: start it with `certgate gateway run --gateway-home {gateway_home}`.")


def run_gateway(gateway_home: GatewayHome) -> None:
    """Run a gateway until SIGTERM or Ctrl-C."""
    from cli.processes import log_to_stderr
    from worker import gateway_home as homes
    from worker.workers import run_gateway as work

    home = homes.read(gateway_home.absolute())
    log_to_stderr()
    run(work(home))


async def _join(token: Token, folder: Path, proxy: str | None, proxy_credential: str | None) -> str:
    from operations import joining
    from worker import connection, gateway_home

    _own_folder(folder, token)
    temporal = _temporal_for(token, proxy, proxy_credential)
    settings = gateway_home.GatewayHome(folder, token.gateway_id, token.name, None, temporal).settings()
    client = await connection.connect(settings)
    # On the disk before anybody hears of it: asked again after an answer that was lost, the same key still counts.
    first = not gateway_home.holds_key(folder, token.channel)
    key = gateway_home.hold_key(folder, token.channel)
    try:
        name = await joining.join(client, token, key)
    except NotPermitted:
        if first:
            # Judged and refused: this key will never count, and nothing half-done stays behind.
            gateway_home.drop_key(folder, token.channel)
        raise
    place = temporal.model_dump(include={"address", "namespace", "proxy", "proxy_credential"}, exclude_none=True)
    enrolled = gateway_home.Enrolled(token.channel, token.installation, token.manager_key)
    gateway_home.write(folder, token.gateway_id, name, temporal=place, enrolled=enrolled)
    return name


def _temporal_for(token: Token, proxy: str | None, proxy_credential: str | None) -> TemporalSettings:
    from pydantic import ValidationError

    from worker.settings import OUTSIDE_VARIABLES, TemporalSettings, explain

    configured = any(os.environ.get(variable) for variable in OUTSIDE_VARIABLES)
    address = os.environ.get("TEMPORAL_ADDRESS") or (None if configured else token.address)
    if not (address or configured):
        raise InvalidInput("The token does not say where Temporal is: set TEMPORAL_ADDRESS to host:port.")
    if proxy_credential is not None and proxy is None:
        raise InvalidInput("A credential was given without its proxy: name it with --proxy.")
    try:
        return TemporalSettings(
            address=address,
            namespace=os.environ.get("TEMPORAL_NAMESPACE") or token.namespace,
            proxy=proxy,
            proxy_credential=proxy_credential,
        )
    except ValidationError as error:
        raise InvalidInput(f"The way to Temporal is wrong: {explain(error)}.") from None


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
