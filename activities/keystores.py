"""Keystores are looked into: on the gateway that has them, and the manager keeps what it saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any

from sqlmodel import Session
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.failures import as_failures, heartbeating
from activities.inventory_seen import keep_kept, known_at
from activities.keys import open_keystore
from activities.records import Records, step_key
from connectors.errors import Permanent
from connectors.keystores.contract import Entry
from connectors.registry import Surroundings
from model import access, audit
from model.messages import (
    KeystoreAccess,
    KeystoreContents,
    KeystoreEntry,
    LookAdmission,
    LookIntoKeystore,
    LookStart,
    RecordLook,
)
from model.naming import gateway_queue
from model.states import AccessMethod, Outcome
from model.tables import Gateway, Keystore, Sighting

# What one entry may say: others' files hold what they like.
_LONGEST, _MOST_NAMES = 512, 20
_MOST_PEM = 512 * 1024


class KeystoreLooks:
    """Runs on a gateway."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    @activity.defn(name="keystores.look")
    async def look(self, wanted: LookIntoKeystore) -> KeystoreContents:
        """What is in a keystore; one that can't be opened is told by its sentence."""
        with as_failures():
            async with heartbeating(lambda: "looking into a keystore"):
                try:
                    entries = await open_keystore(wanted.keystore, self._surroundings).entries()
                except Permanent as error:
                    return KeystoreContents([], problem=error.message)
                kept = entries[: wanted.most]
                said = _within(kept, set(wanted.known))
                return KeystoreContents(said, omitted=len(entries) - len(kept))


class KeystoreRecords(Records):
    """Runs on the manager."""

    @activity.defn(name="records.admit_look")
    def admit_look(self, start: LookStart) -> LookAdmission:
        """Which keystore, and where its gateway listens."""
        with self.reading() as session:
            keystore = _keystore(session, start.id)
            gateway = session.get_one(Gateway, keystore.gateway_id)
            queue = gateway_queue(keystore.gateway_id, gateway.channel)
            known = known_at(session, Sighting.keystore_id == keystore.id)
            return LookAdmission(gateway.name, queue, KeystoreAccess(keystore.type, dict(keystore.settings)), known)

    @activity.defn(name="records.record_look")
    def record_look(self, seen: RecordLook) -> None:
        """Keep what was seen. Where it could not be opened, what was seen before stays, beside the error."""
        with self.writing() as session:
            keystore = _keystore(session, seen.id)
            gateway = session.get_one(Gateway, keystore.gateway_id)
            contents = seen.contents
            keystore.last_error, keystore.checked_at = contents.problem, self._clock()
            if contents.problem is None:
                keep_kept(session, keystore, contents, self._clock())
                keystore.contents = [_without_certificate(entry) for entry in contents.entries]
                if contents.omitted:
                    keystore.contents = [*keystore.contents, {"omitted": contents.omitted}]
            session.add(keystore)
            scope = access.scope_of_gateway(session, gateway)
            count = len(contents.entries) + contents.omitted
            found = f"{count} {'entry was' if count == 1 else 'entries were'} found"
            told = contents.problem or f"{found} in keystore {keystore.name} of gateway {gateway.name}."
            audit.append(
                session,
                audit.Act(
                    actor=seen.asked_by,
                    access_method=AccessMethod.WORKFLOW,
                    action="keystore.checked",
                    object_type="keystore",
                    object_id=keystore.id,
                    gateway_id=keystore.gateway_id,
                    organization_id=scope.organization_id,
                    department_id=scope.department_id,
                    description=told,
                    outcome=Outcome.FAILED if contents.problem else Outcome.DONE,
                    once=step_key("keystore.checked"),
                ),
                self._clock(),
            )


def _within(entries: Sequence[Entry], known: set[str]) -> list[KeystoreEntry]:
    """As much of the certificates as one answer may hold; the others come when it is looked again."""
    said, size = [], 0
    for entry in entries:
        one = _said(entry)
        if entry.certificate_sha256 in known or size + len(one.certificate_pem or "") > _MOST_PEM:
            one = replace(one, certificate_pem=None)
        elif entry.certificate_sha256 is not None:
            known.add(entry.certificate_sha256)
            size += len(one.certificate_pem or "")
        said.append(one)
    return said


def _without_certificate(entry: KeystoreEntry) -> dict[str, Any]:
    return {name: value for name, value in vars(entry).items() if name != "certificate_pem"}


def _said(entry: Entry) -> KeystoreEntry:
    return KeystoreEntry(
        alias=entry.alias[:_LONGEST],
        kind=str(entry.kind),
        key_algorithm=str(entry.algorithm or ""),
        subject=entry.subject[:_LONGEST] if entry.subject else None,
        names=[name[:_LONGEST] for name in list(entry.names)[:_MOST_NAMES]],
        issuer=entry.issuer[:_LONGEST] if entry.issuer else None,
        serial_number=entry.serial_number,
        fingerprint=entry.certificate_sha256,
        not_after=entry.not_after.astimezone(UTC).isoformat() if entry.not_after else None,
        problem=entry.problem,
        certificate_pem=entry.certificate_pem,
    )


def _keystore(session: Session, number: int) -> Keystore:
    keystore = session.get(Keystore, number)
    if keystore is None:
        raise ApplicationError(f"There is no keystore {number} any more.", type="NotFound", non_retryable=True)
    return keystore
