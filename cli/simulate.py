"""``certgate simulate …``: stand-ins for systems that not everybody has, to try certgate with.

They live with the tests and are no part of the installed package: the commands need the source tree.
"""

from __future__ import annotations

import errno
import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.common import say
from model.errors import InvalidInput, Unavailable

simulate = typer.Typer(no_args_is_help=True, help="Simulators of foreign systems, on loopback (source tree only).")
TREE = Path(__file__).parents[1]
DEFAULT_SEED = "1"

Port = Annotated[int, typer.Option(min=0, max=65_535, help="Where it listens; 0: a free port.")]
FaultsOption = Annotated[
    str, typer.Option("--faults", help="off, or a seed (a number): the same seed brings the same faults.")
]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(simulate, name="simulate")


@simulate.command("sectigo")
def sectigo(port: Port = 0, faults: FaultsOption = DEFAULT_SEED) -> None:
    """Simulate Sectigo's certificate manager until Ctrl-C; prints its addresses and credentials as one JSON value.

    Faults are on unless told otherwise: lost replies, cut connections, rate limits. See docs/simulators.md.
    """
    _serve("sectigo", port, faults)


@simulate.command("f5")
def f5(port: Port = 0, faults: FaultsOption = DEFAULT_SEED) -> None:
    """Simulate a pair of F5 BIG-IP units until Ctrl-C; prints its address and credentials as one JSON value.

    Its virtual servers really speak TLS, on loopback. Faults are on unless told otherwise: busy, expired tokens, cut
    connections, transactions that are gone. See docs/simulators.md.
    """
    _serve("f5", port, faults)


@simulate.command("winrm")
def winrm(port: Port = 0, faults: FaultsOption = DEFAULT_SEED) -> None:
    """Simulate a Windows server with IIS until Ctrl-C; prints how WinRM reaches it as one JSON value.

    Its sites really speak TLS, on loopback. Faults are on unless told otherwise: cut connections, sessions that are
    killed or refused. See docs/simulators.md.
    """
    _serve("winrm", port, faults)


def _serve(name: str, port: int, faults: str) -> None:
    if faults != "off" and not (faults.isascii() and faults.isdigit() and len(faults) <= 18):
        raise InvalidInput("--faults takes the word off, or a seed: a whole number such as 7.")
    command = _command(name)
    say(f"The simulator of {name} runs until Ctrl-C.")
    try:
        command.run(port, faults)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise Unavailable(f"The simulator can't listen on port {port}: {error.strerror}.") from None


def _command(name: str) -> Any:
    """The program part of a simulator in the source tree."""
    package = TREE / "tests" / "simulators" / name
    if not (package / "command.py").is_file():
        raise Unavailable(
            f"The simulator of {name} is not in this installation: it is in tests/simulators of certgate's source tree."
        )
    if str(TREE) not in sys.path:
        sys.path.insert(0, str(TREE))
    return importlib.import_module(f"tests.simulators.{name}.command")
