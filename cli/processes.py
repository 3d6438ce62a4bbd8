"""The processes: ``up``, ``demo``, ``manager``, ``dashboard``, and ``database upgrade``."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import Json, emit_fields, emit_json, opened, plain, run, say, settings, surroundings

if TYPE_CHECKING:
    from operations.bootstrap import FirstLogin, Prepared
    from worker.settings import Settings
    from worker.up import Addresses

database = typer.Typer(no_args_is_help=True, help="Our own database.")


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.command("up")(up)
    app.command("demo")(demo)
    app.command("manager")(manager)
    app.command("dashboard")(dashboard)
    app.add_typer(database, name="database")


def up(
    headless: Annotated[bool, typer.Option("--headless", help="Without dashboard and Temporal's web page.")] = False,
) -> None:
    """Run everything on this machine until Ctrl-C: Temporal, the manager, a gateway, the dashboard.

    Prints the first login at the first start, once, and the addresses as soon as all is ready.
    """
    from worker.up import up as work

    log_to_stderr()
    run(work(settings(make=True), headless=headless, on_ready=_ready, prepare=_prepare, notify=say))


def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep everything in this folder.", file_okay=False)] = None,
    as_json: Json = False,
) -> None:
    """Do the main job once, for real, in a folder of its own: request, approve, issue, install on nginx, serve."""
    from worker import demo as job

    log_to_stderr()
    result = run(job.run(folder=keep, say=say))
    value = plain(result)
    emit_fields(result, as_json, {name.replace("_", " ").capitalize(): one for name, one in value.items()})


def manager() -> None:
    """Run the manager until SIGTERM or Ctrl-C."""
    from worker.workers import run_manager

    log_to_stderr()
    run(run_manager(settings(make=True)))


def dashboard() -> None:
    """Run the dashboard until SIGTERM or Ctrl-C, where the settings say (127.0.0.1:8501)."""
    environment = {**os.environ, "CERTGATE_HOME": str(settings(make=True).home)}
    # In place of this process, so that signals reach it.
    os.execve(sys.executable, [sys.executable, "-m", "dashboard"], environment)  # noqa: S606


@database.command("upgrade")
def upgrade(as_json: Json = False) -> None:
    """Bring the database to this release's schema; a new one gets its first login, which is printed once."""

    async def work() -> Prepared:
        from operations import bootstrap
        from operations.context import now

        with opened(make=True) as door:
            return await bootstrap.prepare(
                door.database,
                surroundings(door.settings.home),
                now(),
                local_gateway=False,
                key_file=door.settings.trust.key_file,
            )

    prepared = run(work())
    with opened() as door:
        revision = door.database.revision()
    if as_json:
        emit_json({"revision": revision, "first_login": prepared.first_login})
    elif prepared.first_login is not None:
        _print_login(prepared.first_login)
    say(f"The database has the schema {revision}.")


async def _prepare(home: Settings) -> None:
    """Make database and local gateway ready; the first login is printed here, at once, because it is kept nowhere."""
    from worker import local

    prepared = await local.prepare(home)
    if prepared.first_login is not None:
        _print_login(prepared.first_login)


def _print_login(login: FirstLogin) -> None:
    print(f"First login: {login.login}  password: {login.password}  (shown only now)", flush=True)


def _ready(addresses: Addresses) -> None:
    print(f"Home:        {addresses.home}")
    print(f"Temporal:    {addresses.temporal} (namespace {addresses.namespace})")
    if addresses.temporal_ui:
        print(f"Temporal UI: {addresses.temporal_ui}")
    if addresses.dashboard:
        print(f"Dashboard:   {addresses.dashboard}")
    print("Ready; Ctrl-C stops everything.", flush=True)


def log_to_stderr() -> None:
    """Send what the processes tell of themselves to stderr: stdout is for data."""
    import structlog

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
