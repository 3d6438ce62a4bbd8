"""``certgate gateway join|run``: on the gateway's own host."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import Json, emit_json, first_line, run, say, write_new
from model.errors import CertgateError, InvalidInput, Unavailable

if TYPE_CHECKING:
    from operations.joining import Token
    from worker.settings import TemporalSettings

GatewayHome = Annotated[Path, typer.Option("--gateway-home", help="The gateway's own folder.", file_okay=False)]
_ATTEMPT_FILE = "join-attempt"


def register(gateways: typer.Typer) -> None:
    """Hang the commands into `certgate gateway`."""
    gateways.command("join")(join_gateway)
    gateways.command("run")(run_gateway)


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


def run_gateway(gateway_home: GatewayHome) -> None:
    """Run a gateway until SIGTERM or Ctrl-C."""
    from cli.processes import log_to_stderr
    from worker import gateway_home as homes
    from worker.workers import run_gateway as work

    home = homes.read(gateway_home.absolute())
    log_to_stderr()
    run(work(home))


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
