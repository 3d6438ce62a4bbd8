"""Workflows stay deterministic: every history that was ever recorded replays against the code of today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from tests.workflows.record import HISTORIES
from worker.converter import DATA_CONVERTER
from workflows.registry import WORKFLOWS, runner

FILES = sorted(HISTORIES.glob("*.json"))


def replayer() -> Replayer:
    """Replays as the workers run."""
    return Replayer(workflows=list(WORKFLOWS), workflow_runner=runner(), data_converter=DATA_CONVERTER)


def started_type(text: str) -> str:
    """The workflow type of a history."""
    first = json.loads(text)["events"][0]
    return str(first["workflowExecutionStartedEventAttributes"]["workflowType"]["name"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_a_recorded_history_replays(path: Path) -> None:
    await replayer().replay_workflow(WorkflowHistory.from_json(path.stem, path.read_text()))


def test_every_workflow_has_a_recorded_history() -> None:
    recorded = {started_type(path.read_text()) for path in FILES}
    defined = {workflow.__temporal_workflow_definition.name for workflow in WORKFLOWS}  # type: ignore[attr-defined]
    assert recorded == defined


async def test_a_history_of_another_order_does_not_replay() -> None:
    """The check can fail: a history whose first step is another one is found."""
    text = (HISTORIES / "0.1-request-served.json").read_text().replace("keys.prepare", "keys.discard")
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(WorkflowHistory.from_json("request-1", text))


def test_no_history_holds_a_private_key() -> None:
    for path in FILES:
        assert "PRIVATE KEY" not in path.read_text()
