"""Which fault a request to a simulator meets: what a test ordered comes first, else it is drawn, all from one seed."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

KindT = TypeVar("KindT", bound=StrEnum)
OtherT = TypeVar("OtherT", bound=StrEnum)


@dataclass
class _Ordered(Generic[KindT]):
    fault: KindT
    on: str
    times: int
    skip: int


class Fate(Generic[KindT]):
    """Decides. `faults` has a chance (0 to 1) under the name of each of `kinds`, a `seed`, and `most_in_a_row`: so many
    requests of one kind fail one after the other at the most, and whoever tries again gets through."""

    def __init__(self, kinds: type[KindT], faults: Any) -> None:
        self.faults = faults
        self._kinds = kinds
        self._lock = threading.Lock()
        self._ordered: list[_Ordered[KindT]] = []
        self._seen: Counter[str] = Counter()
        self._in_a_row: Counter[str] = Counter()

    def inject(self, fault: KindT, on: str, times: int, skip: int) -> None:
        """The next `times` requests, after `skip` of them, that are meant by `on` meet `fault`."""
        with self._lock:
            self._ordered.append(_Ordered(fault, on, times, skip))

    def forget(self) -> None:
        """Drop what was ordered and not met yet."""
        with self._lock:
            self._ordered.clear()

    def meets(self, what: str, is_meant: Callable[[str], bool]) -> KindT | None:
        """What happens to a request of the kind `what`; `is_meant` tells whether an order's `on` means it."""
        with self._lock:
            for one in self._ordered:
                if not is_meant(one.on):
                    continue
                if one.skip:
                    one.skip -= 1
                    continue
                one.times -= 1
                if one.times <= 0:
                    self._ordered.remove(one)
                return one.fault
            self._seen[what] += 1
            drawn = self.draw(self._kinds, f"{what}/{self._seen[what]}")
            if drawn is None or self._in_a_row[what] >= self.faults.most_in_a_row:
                self._in_a_row[what] = 0
                return None
            self._in_a_row[what] += 1
            return drawn

    def draw(self, kinds: type[OtherT], what: str) -> OtherT | None:
        """One of `kinds` with its chance, or None; the same each time for the same seed and `what`."""
        point = random.Random(f"{self.faults.seed}/{what}").random()
        for kind in kinds:
            chance: float = getattr(self.faults, kind.value)
            if point < chance:
                return kind
            point -= chance
        return None
