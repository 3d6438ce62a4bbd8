"""Changing a zone by an administrator's own program, for a DNS provider that takes no dynamic updates.

The program is started without a shell, as the user that certgate runs as, once for each record::

    PROGRAM present NAME VALUE      add a TXT record, beside those that are there
    PROGRAM remove NAME VALUE       take away the TXT record with this value, and no other

NAME is a fully qualified name without the last dot, VALUE 43 characters of ``A-Z a-z 0-9 - _`` (it may begin with a
hyphen). It gets PATH and LC_ALL in its environment and nothing else, ``/`` as its folder, and no input: its credentials
it finds by itself. Both calls may be repeated, and must succeed when there is nothing left to do.

Exit status: 0 it is done, 75 (EX_TEMPFAIL of sysexits.h) try again later, another: a person must look. Of what it
prints the last line is told with a failure, so it must print no secret.
"""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path
from typing import Literal

from connectors.ca.acme.challenges.dns01_lookup import shown
from connectors.ca.acme.challenges.dns01_record import Record
from connectors.errors import Permanent, Retryable
from connectors.hosts.local import LocalHost, LocalSettings

TRY_AGAIN = 75
_LONGEST_QUOTE = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class HookPublisher:
    """`dns01.Publisher` by the program at an absolute path; a call that takes longer than `patience` is ended."""

    def __init__(self, program: Path, patience: timedelta) -> None:
        self._program, self._patience = str(program), patience
        self._host = LocalHost(LocalSettings())

    async def publish(self, record: Record) -> None:
        """Call it with ``present``."""
        await self._call("present", record)

    async def withdraw(self, record: Record) -> None:
        """Call it with ``remove``."""
        await self._call("remove", record)

    async def _call(self, verb: Literal["present", "remove"], record: Record) -> None:
        name = shown(record.owner)
        deed = f"The program {self._program} ({verb} {name})"
        try:
            # The host's own limit raises Permanent, but a DNS provider that is slow today may answer tomorrow.
            async with asyncio.timeout(self._patience.total_seconds()):
                done = await self._host.run([self._program, verb, name, record.value], timeout=self._patience * 2)
        except TimeoutError:
            raise Retryable(
                f"{deed} did not end within {self._patience.total_seconds():g} s and was stopped."
            ) from None
        if done.status == 0:
            return
        said = _last_line(done.errors) or _last_line(done.output)
        told = f" and said: {said}" if said else " and said nothing"
        if done.status == TRY_AGAIN:
            raise Retryable(f"{deed} asks to be called again later (status {TRY_AGAIN}){told}.")
        ended = f"was ended by signal {-done.status}" if done.status < 0 else f"failed with status {done.status}"
        raise Permanent(f"{deed} {ended}{told}.")


def _last_line(output: str) -> str:
    lines = [line for line in (_CONTROL.sub(" ", one).strip() for one in output.splitlines()) if line]
    if not lines:
        return ""
    last = lines[-1].rstrip(".")
    return last if len(last) <= _LONGEST_QUOTE else f"{last[:_LONGEST_QUOTE]}…"
