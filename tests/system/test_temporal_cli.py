"""What an operator does with Temporal's own command line, and `certgate replay` with what it exports."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from model.states import CertificateStatus, InstallState
from tests.support.holding import acts
from tests.support.running import Running, running, until
from worker import embedded_state

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Said:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """All that it printed."""
        return [*self.out.splitlines(), *self.err.splitlines()]


async def ran(command: list[str], environment: dict[str, str]) -> Said:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), errors.decode())


@dataclass(frozen=True)
class Operator:
    """Somebody at a terminal beside a running certgate."""

    up: Running

    async def temporal(self, *words: str) -> Said:
        """Temporal's command line on the embedded server."""
        record = embedded_state.find(self.up.home)
        assert record is not None
        command = [str(embedded_state.binary()), *words, "--address", record.address]
        # A home of its own: the operator's own Temporal configuration must not count.
        return await ran(command, {**self.up.environment, "HOME": str(self.up.temporary)})

    async def certgate(self, *words: str) -> Said:
        """Our own command line."""
        return await ran(self.up.command(*words), dict(self.up.environment))

    async def requested(self, name: str) -> int:
        """A request that awaits its approval."""
        number = await self.up.world.submit(name)
        await self.up.world.until(number, state=InstallState.KEY_READY)
        return number

    async def shown(self, number: int, file: Path) -> Any:
        """The history, as `temporal workflow show -o json > file` leaves it."""
        said = await self.temporal("workflow", "show", "--workflow-id", f"request-{number}", "-o", "json")
        assert said.code == 0, said
        file.write_text(said.out)
        return json.loads(said.out)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operator(tmp_path_factory: Any) -> AsyncIterator[Operator]:
    """A whole certgate in processes, and somebody who uses it."""
    async with running(tmp_path_factory.mktemp("cli")) as up:
        yield Operator(up)


async def test_a_signal_as_typed_approves_and_a_wrong_one_changes_nothing(operator: Operator) -> None:
    world = operator.up.world
    number = await operator.requested("typed.example.org")
    signal = ("workflow", "signal", "--workflow-id", f"request-{number}", "--name", "approve")
    for wrong in ('"bob"', "42", '{"who":"bob"}', '{"administrator":{"name":"bob"}}', '["bob"]', "null"):
        assert (await operator.temporal(*signal, "--input", wrong)).code == 0
    assert (await operator.temporal(*signal)).code == 0
    assert (await operator.temporal(*signal, "--input", "no JSON")).code != 0
    assert (await operator.temporal(*signal, "--input", '{"administrator":"alice"}')).code == 0
    await until(lambda: "decision.refused" in [entry.action for entry in acts(world, number)])
    assert world.show(number).status == CertificateStatus.REQUESTED

    said = await operator.temporal(*signal, "--input", '{"administrator":"bob","comment":"ok"}')
    assert said.code == 0, said
    done = await world.until(number, state=InstallState.NOT_CONFIGURED)
    assert done.status == CertificateStatus.ISSUED
    assert [(one.administrator, one.comment) for one in done.decisions] == [("bob", "ok")]


async def test_listing_and_asking(operator: Operator) -> None:
    number = await operator.requested("asked.example.org")
    query = 'CertgateStatus="REQUESTED" AND CertgateCommonName="asked.example.org"'

    async def found() -> list[str]:
        said = await operator.temporal("workflow", "list", "--query", query, "-o", "json")
        assert said.code == 0, said
        return [row["execution"]["workflowId"] for row in json.loads(said.out or "[]")]

    while not await found():  # visibility is eventually consistent; the test's time limit is the bound
        pass
    assert await found() == [f"request-{number}"]
    listed = await operator.temporal("workflow", "list", "--query", 'CertgateStatus="REQUESTED"')
    assert f"request-{number}" in listed.out
    said = await operator.temporal("workflow", "query", "--workflow-id", f"request-{number}", "--type", "view")
    assert said.code == 0, said
    for told in ("REQUESTED", "KEY_READY", "an approver's decision"):
        assert told in said.out.replace("\\u0027", "'")


async def test_an_update_answers_and_refuses(operator: Operator) -> None:
    world = operator.up.world
    number = await operator.requested("update.example.org")
    update = ("workflow", "update", "execute", "--workflow-id", f"request-{number}", "--name", "approve", "--input")
    refused = await operator.temporal(*update, '{"administrator":"alice"}')
    assert refused.code != 0
    assert "somebody else has to approve" in refused.err + refused.out
    misshapen = await operator.temporal(*update, '"bob"')
    assert misshapen.code != 0
    assert world.show(number).status == CertificateStatus.REQUESTED
    accepted = await operator.temporal(*update, '{"administrator":"bob","comment":"ok"}')
    assert accepted.code == 0, accepted
    assert f"Request {number} is approved by bob." in accepted.out
    await world.until(number, state=InstallState.NOT_CONFIGURED)


async def test_cancel(operator: Operator) -> None:
    world = operator.up.world
    number = await operator.requested("cancel.example.org")
    key = world.gateway_surroundings.home / "keys" / f"request-{number}.key"
    assert key.exists()
    said = await operator.temporal("workflow", "cancel", "--workflow-id", f"request-{number}")
    assert said.code == 0, said
    await until(lambda: world.show(number).closed)
    assert world.show(number).status == CertificateStatus.CANCELED
    await until(lambda: not key.exists())
    described = await operator.temporal("workflow", "describe", "--workflow-id", f"request-{number}")
    while "CANCELED" not in described.out.upper():
        described = await operator.temporal("workflow", "describe", "--workflow-id", f"request-{number}")


async def test_an_exported_history_replays_and_a_changed_one_does_not(operator: Operator, tmp_path: Path) -> None:
    number = await operator.requested("replay.example.org")
    waiting, ended = tmp_path / "waiting.json", tmp_path / "ended.json"
    await operator.shown(number, waiting)
    await operator.up.world.say(number, "approve")
    await operator.up.world.until(number, state=InstallState.NOT_CONFIGURED)
    await operator.up.world.workflow(number).result()
    history = await operator.shown(number, ended)
    said = await operator.certgate("replay", str(waiting), str(ended))
    assert (said.code, said.err) == (0, ""), said
    assert said.out.splitlines() == [f"{file}: request-{number} replays" for file in (waiting, ended)]

    def scheduled(content: Any, step: str) -> Any:
        key = "activityTaskScheduledEventAttributes"
        return next(
            event for event in content["events"] if event.get(key, {}).get("activityType", {}).get("name") == step
        )

    changed = copy.deepcopy(history)
    scheduled(changed, "orders.submit")["activityTaskScheduledEventAttributes"]["activityType"]["name"] = "orders.give"
    cut = copy.deepcopy(history)
    cut["events"].remove(scheduled(cut, "keys.prepare"))
    for name, content in (("changed", changed), ("cut", cut)):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(content))
        said = await operator.certgate("replay", str(file))
        assert said.code == 1, said
        (line,) = said.lines
        assert line.startswith(f"{file}: request-{number} does not replay: "), said
        assert "Traceback" not in line
    no_history = tmp_path / "none.json"
    no_history.write_text("{}")
    said = await operator.certgate("replay", str(no_history))
    assert said.code == 2
    assert len(said.lines) == 1
