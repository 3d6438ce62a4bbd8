"""The orders of the private CA, in one SQLite file that several processes may use at once.

Write-ahead mode with ``synchronous=FULL``: an order number or certificate that was given out survives a power cut.
Every change of state is one transaction that holds the write lock from its first reading on, so an order is signed
once.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from connectors.ca.private.issuance import AcceptedOrder
from connectors.errors import Permanent, Retryable
from connectors.folders import PrivateFolder

FILE_NAME = "orders.db"
LOCK_WAIT_SECONDS = 30.0
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE orders (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    reference TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('pending', 'issued', 'rejected', 'withdrawn', 'revoked')),
    csr TEXT NOT NULL,
    common_name TEXT NOT NULL,
    names TEXT NOT NULL,
    profile TEXT NOT NULL,
    validity_seconds INTEGER NOT NULL,
    public_key TEXT NOT NULL,
    created TEXT NOT NULL,
    ready TEXT,
    reason TEXT,
    certificate TEXT,
    serial TEXT UNIQUE,
    not_after TEXT,
    revoked TEXT,
    CHECK ((state IN ('issued', 'revoked')) = (certificate IS NOT NULL))
) STRICT;
CREATE INDEX orders_by_state ON orders (state);
CREATE TABLE crls (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    made TEXT NOT NULL,
    revocations INTEGER NOT NULL,
    der BLOB NOT NULL
) STRICT;
"""


class OrderState(StrEnum):
    """Where an order is. Pending orders end in one of the others; only an issued one can become revoked."""

    PENDING = "pending"
    ISSUED = "issued"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"


@dataclass(frozen=True)
class OrderRecord:
    """An order as the ledger has it. `ready` is when it may be issued; None: when the owner of the CA releases it.

    `reason` is the owner's (rejected) or the revocation reason of RFC 5280 section 5.3.1 (revoked). Times are UTC.
    """

    number: str
    state: OrderState
    accepted: AcceptedOrder
    created: datetime
    ready: datetime | None
    reason: str | None
    certificate_pem: str | None
    serial_number: str | None
    not_after: datetime | None
    revoked: datetime | None


@dataclass(frozen=True)
class StoredList:
    """The newest CRL (DER), and how many revocations there had been when it was made."""

    number: int
    made: datetime
    revocations: int
    der: bytes


def order_number(sequence: int) -> str:
    """What a person quotes: ``P-000042``."""
    return f"P-{sequence:06d}"


class Ledger:
    """All methods block, and those that change need `changing()` around them. Raises `Retryable` when another process
    holds the file for more than half a minute, and `Permanent` for a damaged file or a full disk."""

    def __init__(self, folder: PrivateFolder) -> None:
        self._path = folder.path / FILE_NAME
        self._busy = threading.RLock()
        folder.prepare()
        # Under the folder's lock, because switching to write-ahead mode is not safe against another process doing it.
        with folder.lock(), self._told():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                self._path, timeout=LOCK_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._closing = weakref.finalize(self, self._connection.close)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
            elif version != _SCHEMA_VERSION:
                raise Permanent(
                    f"The CA's orders {self._path} were written by another version of certgate ({version})."
                )

    def close(self) -> None:
        """Give the file back; also done when the ledger is no longer referred to. Not to be used after."""
        with self._busy:
            self._closing()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One transaction; it is undone when an exception leaves it."""
        with self._busy, self._told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk makes SQLite undo it by itself
                    self._connection.execute("ROLLBACK")
                raise

    def by_reference(self, reference: str) -> OrderRecord | None:
        """The order that carries our reference."""
        return self._one("reference = ?", reference)

    def by_number(self, number: str) -> OrderRecord:
        """The order of that number; raises `Permanent` when there is none."""
        digits = number.removeprefix("P-")
        found = None
        if number.startswith("P-") and digits.isascii() and digits.isdigit() and len(digits) < 16:
            found = self._one("sequence = ?", int(digits))
        if found is None or found.number != number:
            raise Permanent(f"This CA has no order {number[:40]!a}.")
        return found

    def by_serial(self, serial_number: str) -> OrderRecord | None:
        """The order whose certificate has that serial number (lower-case hex)."""
        return self._one("serial = ?", serial_number)

    def all(self, *states: OrderState) -> list[OrderRecord]:
        """Orders in the given states (none given: in any), by number."""
        wanted = states or tuple(OrderState)
        marks = ", ".join("?" * len(wanted))
        return self._many(f"state IN ({marks}) ORDER BY sequence", *wanted)

    def signed(self, after: str | None, limit: int) -> list[OrderRecord]:
        """Orders with a certificate, by number, from the one after `after`."""
        sequence = int((after or "P-0").removeprefix("P-"))
        return self._many("certificate IS NOT NULL AND sequence > ? ORDER BY sequence LIMIT ?", sequence, limit)

    def count_signed(self) -> int:
        """How many orders have a certificate."""
        with self._busy, self._told():
            found = self._connection.execute("SELECT count(*) FROM orders WHERE certificate IS NOT NULL").fetchone()
        return int(found[0])

    def add(self, order: AcceptedOrder, now: datetime, ready: datetime | None) -> OrderRecord:
        """A new pending order."""
        self._connection.execute(
            "INSERT INTO orders (reference, state, csr, common_name, names, profile, validity_seconds, public_key, "
            "created, ready) VALUES (?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                order.reference,
                order.csr_pem,
                order.common_name,
                json.dumps(order.names),
                order.profile,
                order.validity_seconds,
                order.public_key_sha256,
                _text(now),
                _text(ready),
            ),
        )
        found = self.by_reference(order.reference)
        assert found is not None
        return found

    def set_ready(self, number: str, ready: datetime) -> None:
        """From `ready` on the order may be issued."""
        self._update(number, "ready = ?", _text(ready))

    def set_issued(self, number: str, certificate_pem: str, serial_number: str, not_after: datetime) -> None:
        """The order's one certificate."""
        self._update(
            number,
            "state = 'issued', certificate = ?, serial = ?, not_after = ?",
            certificate_pem,
            serial_number,
            _text(not_after),
        )

    def set_ended(self, number: str, state: OrderState, reason: str | None) -> None:
        """A pending order that will not be issued."""
        self._update(number, "state = ?, reason = ?", state, reason)

    def set_revoked(self, number: str, reason: str, now: datetime) -> None:
        """An issued order is revoked."""
        self._update(number, "state = 'revoked', reason = ?, revoked = ?", reason, _text(now))

    def newest_list(self) -> StoredList | None:
        """The CRL with the highest number."""
        with self._busy, self._told():
            row = self._connection.execute("SELECT * FROM crls ORDER BY number DESC LIMIT 1").fetchone()
        if row is None:
            return None
        return StoredList(row["number"], datetime.fromisoformat(row["made"]), row["revocations"], row["der"])

    def add_list(self, stored: StoredList) -> None:
        """Keep a new CRL in place of the older ones; its number must be higher than theirs."""
        self._connection.execute(
            "INSERT INTO crls VALUES (?, ?, ?, ?)", (stored.number, _text(stored.made), stored.revocations, stored.der)
        )
        self._connection.execute("DELETE FROM crls WHERE number < ?", (stored.number,))

    def _update(self, number: str, assignments: str, *values: str | None) -> None:
        # `assignments` is one of the constants above; every value is bound.
        sequence = int(number.removeprefix("P-"))
        self._connection.execute(f"UPDATE orders SET {assignments} WHERE sequence = ?", (*values, sequence))  # noqa: S608

    def _one(self, condition: str, *values: str | int) -> OrderRecord | None:
        return next(iter(self._many(condition, *values)), None)

    def _many(self, condition: str, *values: str | int) -> list[OrderRecord]:
        with self._busy, self._told():
            rows = self._connection.execute(f"SELECT * FROM orders WHERE {condition}", values).fetchall()  # noqa: S608
        return [_record(row) for row in rows]

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise Retryable(f"The CA's orders {self._path} are locked by another process.") from None
            raise Permanent(f"The CA's orders {self._path} can't be used: {error}.") from None
        except OSError as error:
            raise Permanent(f"The CA's orders {self._path} can't be used: {error.strerror}.") from None


def _record(row: sqlite3.Row) -> OrderRecord:
    accepted = AcceptedOrder(
        reference=row["reference"],
        csr_pem=row["csr"],
        common_name=row["common_name"],
        names=tuple(json.loads(row["names"])),
        profile=row["profile"],
        validity_seconds=row["validity_seconds"],
        public_key_sha256=row["public_key"],
    )
    return OrderRecord(
        number=order_number(row["sequence"]),
        state=OrderState(row["state"]),
        accepted=accepted,
        created=datetime.fromisoformat(row["created"]),
        ready=_time(row["ready"]),
        reason=row["reason"],
        certificate_pem=row["certificate"],
        serial_number=row["serial"],
        not_after=_time(row["not_after"]),
        revoked=_time(row["revoked"]),
    )


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
