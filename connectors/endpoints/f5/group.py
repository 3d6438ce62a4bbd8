"""The device group: whether changes may be made, and synchronizing them ("BIG-IP Device Service Clustering").

The device says which unit it takes for the newest ("Recommended action: Synchronize UNIT to group GROUP"). Only changes
of the unit that is spoken to are sent to the others; what another unit has pending would be lost by that, so it is told
and left alone.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from connectors.endpoints.f5.session import Session
from connectors.errors import Permanent, Retryable

FIRST_POLL_SECONDS = 0.05
LONGEST_POLL_SECONDS = 3.0
_RECOMMENDED = re.compile(r"Synchronize (\S+) to group (\S+)")


@dataclass(frozen=True)
class Status:
    """What the device says of its groups. `newest` maps a group to the unit whose changes it is to get."""

    words: str
    details: tuple[str, ...]
    newest: dict[str, str]


async def status(session: Session) -> Status:
    """``show cm sync-status``."""
    texts: dict[str, list[str]] = {}
    _descriptions((await session.get("/mgmt/tm/cm/sync-status")).get("entries"), texts)
    details = tuple(texts.get("details", []))
    newest = {found[2].rpartition("/")[2]: found[1] for one in details if (found := _RECOMMENDED.search(one))}
    return Status((texts.get("status") or ["unknown"])[0], details, newest)


async def require_unchanged_elsewhere(session: Session, group: str) -> None:
    """Raise unless this unit may change something now."""
    found = await status(session)
    await _judge(session, group, found)


async def synchronize(session: Session, group: str, patience: float) -> str:
    """Send what this unit has to the others and wait until the group is in sync; gives one clause of what was done."""
    bare = group.rpartition("/")[2]
    found = await status(session)
    await _judge(session, bare, found)
    loop = asyncio.get_running_loop()
    until, pause = loop.time() + patience, FIRST_POLL_SECONDS
    ordered = False
    while found.words != "In Sync":
        if not ordered or bare in found.newest:
            # Once is enough, unless the device says again that it waits for it.
            await session.again(
                "POST", "/mgmt/tm/cm", {"command": "run", "utilCmdArgs": f"config-sync to-group {bare}"}
            )
            ordered = True
        if loop.time() >= until:
            raise Retryable(
                f"The device group {bare} did not get in sync within {patience:g} s: it is {_shown(found)}."
            )
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_POLL_SECONDS)
        found = await status(session)
        await _judge(session, bare, found)
    return f"device group {bare} is in sync"


async def _judge(session: Session, group: str, found: Status) -> None:
    bare = group.rpartition("/")[2]
    if found.words == "Standalone":
        raise Permanent(f"The device is in no device group: take {bare} out of the endpoint's settings.")
    if found.words in ("Disconnected", "Sync Failure", "Sync Failed"):
        raise Permanent(f"The device group {bare} can't be synchronized, it is {_shown(found)}: mend that first.")
    other = found.newest.get(bare)
    if other is not None and other != await this_unit(session):
        raise Permanent(
            f"Changes of {other} are pending for the device group {bare}, and synchronizing from here would undo them: "
            f"look which are right and synchronize the group, then retry. The device says: {_shown(found)}."
        )


async def this_unit(session: Session) -> str:
    """What the unit that answers is called in its group."""
    for device in await session.items("/mgmt/tm/cm/device"):
        if str(device.get("selfDevice")).lower() == "true":
            return str(device.get("name"))
    raise Permanent("The device does not say which of its group's units it is.")


async def role(session: Session) -> str:
    """``ACTIVE``, ``STANDBY`` or what else the unit is."""
    texts: dict[str, list[str]] = {}
    _descriptions((await session.get("/mgmt/tm/cm/failover-status")).get("entries"), texts)
    return (texts.get("status") or ["unknown"])[0]


def _shown(found: Status) -> str:
    return "; ".join([found.words, *(one.strip(" -") for one in found.details)])[:300]


def _descriptions(entries: Any, into: dict[str, list[str]]) -> None:
    """iControl's statistics are nested; all that is wanted are the descriptions, by name, in their order."""
    if not isinstance(entries, dict):
        return
    for name, value in entries.items():
        if not isinstance(value, dict):
            continue
        if isinstance(value.get("description"), str):
            into.setdefault(name, []).append(value["description"])
        nested = value.get("nestedStats")
        _descriptions(nested.get("entries") if isinstance(nested, dict) else None, into)


async def readiness(session: Session) -> str:
    """``show sys ready``: what is not ready yet; empty where all is, or where the version does not tell."""
    found = await session.look("/mgmt/tm/sys/ready")
    texts: dict[str, list[str]] = {}
    _descriptions((found or {}).get("entries"), texts)
    return ", ".join(f"{name} is {text}" for name, all_of in texts.items() for text in all_of if text != "yes")
