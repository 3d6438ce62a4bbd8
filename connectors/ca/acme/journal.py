"""What this process asked of the CA, by our reference: one file a reference, written before the CA is asked.

An ACME server has no field for our reference. So the wish to order is written down first; the address of the order is
added once the CA has told it, and the first to add one is right: an order that somebody else placed in the meantime is
never finalized, and so never issued. There is nothing secret in the files.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from connectors.ca.acme.challenges.contract import Challenge
from connectors.errors import Permanent
from connectors.folders import PrivateFolder

KEPT = timedelta(days=180)
_PRUNED_EVERY = timedelta(days=1)
_LARGEST_ENTRY = 4 * 1024 * 1024


@dataclass(frozen=True)
class Placed:
    """One order at the CA. `ended` says why it will never be issued (None while it may be); `key` is the SHA-256 of the
    public key that it was finalized with, None before that."""

    url: str
    ended: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Entry:
    """All orders that were placed for one reference, the newest last.

    `failures` counts those that ended since a person was asked last; before `not_before` no new one is placed.
    `presented` are answers to challenges that may stand somewhere. Nothing more is ordered for one that is `withdrawn`.
    """

    reference: str
    names: tuple[str, ...]
    created: datetime
    orders: tuple[Placed, ...] = ()
    failures: int = 0
    not_before: datetime | None = None
    presented: tuple[Challenge, ...] = ()
    withdrawn: bool = False

    @property
    def current(self) -> Placed | None:
        """The order that may still be issued."""
        return self.orders[-1] if self.orders and self.orders[-1].ended is None else None

    def with_order(self, placed: Placed) -> Entry:
        """With another newest order, which nothing is known of yet."""
        return replace(self, orders=(*self.orders, placed), not_before=None)

    def with_current(self, placed: Placed) -> Entry:
        """With something else known of the newest order."""
        return replace(self, orders=(*self.orders[:-1], placed))


_ENTRY = TypeAdapter(Entry)
Change = Callable[[Entry | None], Entry | None]


class Journal:
    """The journal in one folder; any number of processes may share it."""

    def __init__(self, folder: PrivateFolder, clock: Callable[[], datetime]) -> None:
        self._folder, self._clock = folder, clock
        self._pruned: datetime | None = None

    async def read(self, reference: str) -> Entry | None:
        """What is known of a reference. Raises `Permanent` for a damaged file."""
        return await asyncio.to_thread(self._read, _name(reference))

    async def change(self, reference: str, change: Change) -> Entry | None:
        """Replace what is known of a reference by what `change` makes of it, alone; on the disk when this returns."""
        return await asyncio.to_thread(self._change, _name(reference), change)

    async def by_number(self, number: str) -> Entry | None:
        """The entry that has this order, newest or not."""
        return await asyncio.to_thread(self._by_number, number)

    async def claim(self, reference: str, url: str) -> Entry | None:
        """Take an order of the CA's list for a reference that has none; None if it belongs to another reference."""
        return await asyncio.to_thread(self._claim, reference, url)

    def _read(self, name: str) -> Entry | None:
        self._folder.prepare()
        content = self._folder.read(name, _LARGEST_ENTRY)
        if content is None:
            return None
        try:
            return _ENTRY.validate_json(content)
        except ValidationError:
            raise Permanent(
                f"The journal of orders {self._folder.path / name} is damaged: look at the CA whether the order is "
                "there, then delete the file."
            ) from None

    def _change(self, name: str, change: Change) -> Entry | None:
        self._folder.prepare()
        with self._folder.lock():
            self._prune()
            before = self._read(name)
            after = change(before)
            if after is not None and after != before:
                self._folder.write(name, _ENTRY.dump_json(after, indent=1))
            return after

    def _claim(self, reference: str, url: str) -> Entry | None:
        with self._folder.lock():
            entry = self._read(_name(reference))
            if entry is None or entry.orders or self._by_number(url) is not None:
                return None
            claimed = entry.with_order(Placed(url))
            self._folder.write(_name(reference), _ENTRY.dump_json(claimed, indent=1))
            return claimed

    def _by_number(self, number: str) -> Entry | None:
        self._folder.prepare()
        for name in self._folder.names(_SUFFIX):
            entry = self._read(name)
            if entry is not None and any(one.url == number for one in entry.orders):
                return entry
        return None

    def _prune(self) -> None:
        """Forget what is older than any order lives."""
        now = self._clock()
        if self._pruned is not None and now - self._pruned < _PRUNED_EVERY:
            return
        self._pruned = now
        oldest = (now - KEPT).timestamp()
        for name in self._folder.names(_SUFFIX):
            path = self._folder.path / name
            if path.exists() and path.stat().st_mtime < oldest:
                self._folder.delete(name)


_SUFFIX = ".order.json"


def _name(reference: str) -> str:
    return hashlib.sha256(reference.encode()).hexdigest()[:40] + _SUFFIX
