"""Sync of modules, the gateway's part: read its own file, and change it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from temporalio import activity

from activities import modules_file
from activities.failures import as_failures, heartbeating
from connectors.registry import Surroundings
from model.messages import ConnectorVersion, ModulesRead, ModulesWritten, ReadModules, WriteModules


class Modules:
    """Runs on a gateway. See `activities/modules_file.py` for the file."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._home = surroundings.home

    def steps(self) -> Sequence[Callable[..., Any]]:
        """All of them, for the worker."""
        return [self.read, self.write]

    @activity.defn(name="modules.read")
    async def read(self, _: ReadModules) -> ModulesRead:
        """What the file says, without the entries that break a rule, and which connectors are installed here."""
        with as_failures():
            async with heartbeating(lambda: "reading the modules"):
                found = await asyncio.to_thread(modules_file.read, self._home)
                here = await asyncio.to_thread(modules_file.connectors_here)
        return ModulesRead(
            revision=found.revision,
            digest=found.digest,
            document=found.document,
            unusable=found.unusable,
            connectors=[ConnectorVersion(one.kind, one.name, one.title, one.version) for one in here],
        )

    @activity.defn(name="modules.write")
    async def write(self, wanted: WriteModules) -> ModulesWritten:
        """Change the file, unless somebody else did since it was read. It is well when it was changed so before."""
        with as_failures():
            async with heartbeating(lambda: "writing the modules"):
                edited = await asyncio.to_thread(
                    modules_file.edit,
                    self._home,
                    expected=wanted.expected,
                    revision=wanted.revision,
                    changes=wanted.changes,
                )
        return ModulesWritten(edited.written, edited.digest, edited.refused)
