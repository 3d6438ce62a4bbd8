"""Several changes as one: all of them, or none ("iControl REST User Guide", Transactions).

A transaction that nobody commits within 120 seconds is gone, without a word. An answer to the commit that is lost says
nothing: the transaction is asked, and where it is gone, whoever began it looks at what it was to change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from connectors.endpoints.f5.session import Refused, Session
from connectors.errors import ConnectorError, Permanent, Retryable

TRANSACTIONS = "/mgmt/tm/transaction"
POLL_SECONDS = 0.2
POLLS = 100


@dataclass(frozen=True)
class Command:
    """One change."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


class Lost(Retryable):
    """Nobody knows whether the transaction was done: look at what it was to change."""


async def begin(session: Session) -> int:
    """A transaction; gives its number."""
    # One that is begun twice ends by itself.
    begun = await session.again("POST", TRANSACTIONS, {})
    number = begun.get("transId")
    if not isinstance(number, int) or isinstance(number, bool):
        raise Permanent("The device began a transaction without telling its number.")
    return number


async def drop(session: Session, number: int) -> None:
    """Nobody will commit it."""
    await session.delete(f"{TRANSACTIONS}/{number}")


async def carry_out(session: Session, commands: Sequence[Command]) -> None:
    """Do all of the commands or none. Raises `Refused` with the device's words, and `Lost`."""
    number = await begin(session)
    try:
        for command in commands:
            await session.send(command.method, command.path, command.body, transaction=number)
    except Refused as refused:
        if refused.missing:
            raise Lost(f"{refused.message} The transaction may have ended in between.") from refused
        await _give_up(session, number)
        raise
    except BaseException:
        await _give_up(session, number)
        raise
    await _commit(session, number)


async def _commit(session: Session, number: int) -> None:
    try:
        told = await session.send("PATCH", f"{TRANSACTIONS}/{number}", {"state": "VALIDATING"})
    except Refused as refused:
        if refused.missing:
            raise Lost("The transaction had ended before it was committed: it took longer than 120 s.") from refused
        raise
    except Retryable as cut:
        told = await _state(session, number, cut)
    for _ in range(POLLS):
        state = told.get("state")
        if state == "COMPLETED":
            return
        if state == "FAILED":
            words = str(told.get("failureReason") or "no reason was given")[:300]
            raise Refused(f"The transaction failed: {words}.", 400, words)
        await asyncio.sleep(POLL_SECONDS)
        told = await _state(session, number, None)
    raise Lost(f"The transaction did not come to its end (it is {told.get('state')}).")


async def _state(session: Session, number: int, cause: Retryable | None) -> dict[str, Any]:
    found = await session.look(f"{TRANSACTIONS}/{number}")
    if found is None or (cause is not None and found.get("state") == "STARTED"):
        raise Lost("The answer to the commit of the transaction was lost.") from cause
    return found


async def _give_up(session: Session, number: int) -> None:
    """It would end by itself; a device has room for few."""
    with suppress(ConnectorError):
        await drop(session, number)
