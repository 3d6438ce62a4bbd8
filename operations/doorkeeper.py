"""Slows guessing at the dashboard's door, without shutting out those whose door it is.

Three brakes, each for another attack (OWASP: "Slow down online guessing attacks with device cookies"):

- An account is locked for a quarter of an hour after five failures (`identity.sign_in`). A browser in which its owner
  signed in before counts for itself: strangers can lock the account for strangers only, and never for good.
- An address has a stock of failures that fills up slowly, so that one host cannot try a few passwords on every account.
  Known browsers are let past it: colleagues behind one address don't shut each other out.
- Few passwords are compared at the same time: the comparison is slow on purpose, and must not eat the machine.

A login that nobody has is refused with the same sentences as one that somebody has, the lock's too. What is refused is
told in the audit while there is room for it; beyond that it is counted, and told as one entry.

The counts are this process's own; they begin anew when it starts. The lock of an account is in the records.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from model.database import Database
from model.errors import NotPermitted, Unavailable
from operations import identity
from operations.context import Actor

ADDRESS_FAILURES = 20
ADDRESS_REFILL = timedelta(seconds=15)  # for one failure
TOLD = 100
TOLD_REFILL = timedelta(seconds=30)  # for one entry
_REMEMBERED = 10_000  # addresses, and logins that nobody has
_AT_ONCE = 2
_PATIENCE = 10.0  # seconds


class TooManyAttempts(NotPermitted):
    """The address has to wait; `seconds` says how long."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many failed sign-ins from this address: try again in {seconds} seconds.")
        self.seconds = seconds


@dataclass(frozen=True)
class Attempt:
    """Who wants in, and from where. `browser` is the token of a known browser, if it sent one."""

    login: str
    password: str = field(repr=False)
    address: str = ""
    browser: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Admitted:
    """An attempt may be made. Whether its refusal is told in the audit, and how many before it were not."""

    tell: bool
    untold: int


@dataclass
class _Stock:
    """So many at once, then one in a while."""

    most: int
    refill: timedelta
    left: float
    at: datetime

    def fill(self, now: datetime) -> None:
        if now > self.at:
            self.left = min(self.most, self.left + (now - self.at) / self.refill)
            self.at = now

    def take(self, now: datetime) -> bool:
        self.fill(now)
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Doorkeeper:
    """One for the process; safe to ask from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._comparing = threading.BoundedSemaphore(_AT_ONCE)
        self._addresses: OrderedDict[str, _Stock] = OrderedDict()
        self._strangers: OrderedDict[str, tuple[int, datetime | None]] = OrderedDict()
        self._room: _Stock | None = None
        self._untold = 0

    def sign_in(self, database: Database, attempt: Attempt, now: datetime) -> Actor:
        """Recognize an administrator by password. Raises `SignInRefused`, `TooManyAttempts`, `Unavailable`."""
        known = identity.knows_browser(database, attempt.login, attempt.browser, now)
        with self.admitting(database, attempt.address, now, known=known) as admitted, self._one_of_few():
            try:
                return identity.sign_in(
                    database,
                    attempt.login,
                    attempt.password,
                    now,
                    browser=attempt.browser,
                    address=attempt.address,
                    tell=admitted.tell,
                )
            except identity.SignInRefused as refusal:
                until = None if refusal.account else self._stranger(attempt.login, now)
                if until is None:
                    raise
                raise identity.SignInRefused(identity.locked(attempt.login, until), account=False) from None

    @contextmanager
    def admitting(self, database: Database, address: str, now: datetime, *, known: bool = False) -> Iterator[Admitted]:
        """Around an attempt to sign in, by whatever way: a `NotPermitted` that leaves the block is a failure. `known`
        lets a browser past that somebody signed in with before. Raises `TooManyAttempts`."""
        stock = self._stock(address, now)
        with self._lock:
            stock.fill(now)
            wait = (1 - stock.left) * stock.refill
        if wait > timedelta(0) and not known:
            raise TooManyAttempts(max(1, round(wait.total_seconds())))
        admitted = self._room_for(now)
        if admitted.untold:
            identity.tell_refusals(database, admitted.untold, now)
        try:
            yield admitted
        except NotPermitted:
            with self._lock:
                stock.take(now)
                if admitted.tell and self._room is not None:
                    self._room.take(now)
                elif not admitted.tell:
                    self._untold += 1
            raise

    @contextmanager
    def _one_of_few(self) -> Iterator[None]:
        if not self._comparing.acquire(timeout=_PATIENCE):
            raise Unavailable("Too many people are signing in right now: try again in a moment.")
        try:
            yield
        finally:
            self._comparing.release()

    def _stock(self, address: str, now: datetime) -> _Stock:
        with self._lock:
            key = _network(address)
            stock = self._addresses.pop(key, None) or _Stock(ADDRESS_FAILURES, ADDRESS_REFILL, ADDRESS_FAILURES, now)
            self._addresses[key] = stock
            while len(self._addresses) > _REMEMBERED:
                self._addresses.popitem(last=False)
            return stock

    def _room_for(self, now: datetime) -> Admitted:
        with self._lock:
            self._room = self._room or _Stock(TOLD, TOLD_REFILL, TOLD, now)
            self._room.fill(now)
            if self._room.left < 1:
                return Admitted(False, 0)
            before, self._untold = self._untold, 0
            if before:
                self._room.take(now)
            return Admitted(self._room.left >= 1, before)

    def _stranger(self, login: str, now: datetime) -> datetime | None:
        """Counts for a login that nobody has as the records do for one that somebody has; until when it is locked."""
        with self._lock:
            failed, until = self._strangers.pop(login, (0, None))
            if until is not None and until > now:
                self._strangers[login] = (failed, until)
                return until
            failed += 1
            locked = failed >= identity.FAILURES_ALLOWED
            self._strangers[login] = (0, now + identity.LOCKED_FOR) if locked else (failed, None)
            while len(self._strangers) > _REMEMBERED:
                self._strangers.popitem(last=False)
            return None


def _network(address: str) -> str:
    """What counts as one address: for IPv6 the /64 that a single host has all of (RFC 4291 section 2.5.1)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
