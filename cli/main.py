"""``certgate NOUN VERB``: the command line.

Exit codes: 0 done, or nothing to do · 1 failed · 2 wrong usage · 3 not permitted.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from typer import _click as click

from cli import (
    administrator,
    audit,
    ca,
    campaign,
    certificate,
    certificate_import,
    endpoint,
    gateway,
    group,
    imports,
    inventory,
    keystore,
    notification,
    organization,
    overview,
    policy,
    processes,
    profile,
    request,
    session,
    simulate,
    trust,
    upkeep,
)
from cli.common import GLOBALS, Globals, say
from model.errors import CertgateError, InvalidInput, NotPermitted

FAILED, WRONG_USAGE, REFUSED, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    name="certgate",
    help="Certificates that are requested, approved, issued, installed, served and renewed, as durable workflows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for nouns in (
    processes,
    session,
    overview,
    request,
    certificate,
    campaign,
    certificate_import,
    gateway,
    endpoint,
    group,
    keystore,
    inventory,
    organization,
    administrator,
    profile,
    policy,
    ca,
    trust,
    audit,
    notification,
    simulate,
    upkeep,
):
    nouns.register(app)
imports.register(gateway.gateways, endpoint.endpoints)


@app.callback()
def options(
    home: Annotated[
        Path | None,
        typer.Option(help="The manager's home; else CERTGATE_HOME, else ~/.certgate.", file_okay=False),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Takes the options that stand before the command."""
    GLOBALS.home, GLOBALS.debug = home, debug


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    # Temporal's client has threads of its own that may still be in Python when the interpreter is taken down, which
    # then aborts: everything of ours is closed by now, so leave at once.
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@cache
def _command() -> click.Command:
    """All nouns and verbs, made once in a process: that takes longer than most commands."""
    return typer.main.get_command(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command; gives its exit code. Errors are told in one sentence on stderr."""
    defaults = Globals()
    GLOBALS.home, GLOBALS.debug = defaults.home, defaults.debug
    try:
        result = _command().main(list(arguments), prog_name="certgate", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return WRONG_USAGE
    except click.exceptions.UsageError as error:
        where = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        say(f"{error.format_message().rstrip('.')}{where}.")
        return WRONG_USAGE
    except click.exceptions.ClickException as error:
        say(error.format_message())
        return WRONG_USAGE
    except typer.Exit as error:
        return int(error.exit_code)
    except typer.Abort:
        say("Nothing was changed.")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output went away; what is left in the buffer must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except CertgateError as error:
        _trace()
        say(error.message)
        if isinstance(error, InvalidInput):
            return WRONG_USAGE
        return REFUSED if isinstance(error, NotPermitted) else FAILED
    except Exception as error:
        _trace()
        say(f"Something unexpected happened ({type(error).__name__}: {_first_line(error)}); --debug shows where.")
        return FAILED


def _trace() -> None:
    if GLOBALS.debug:
        traceback.print_exc()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no message")


if __name__ == "__main__":
    main()
