"""One unit: its configuration, running and saved, the files that were uploaded, tokens, and transactions."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulators.f5.configuration import DOWNLOADS, Changer, Configuration
from tests.simulators.f5.problems import Problem, not_found

BULK = "/var/config/rest/bulk"
# What bigrest takes for the largest; the vendor's own SDK and Ansible collection send half of it.
LARGEST_PART = 1024 * 1024
TRANSACTION_LIFE = dt.timedelta(seconds=120)
TOKEN_LIFE = dt.timedelta(seconds=1200)
MOST_TOKENS = 100
# Where the utilities may work here; a real device gives them the whole file system.
_OPEN = (DOWNLOADS, BULK, "/config/ssl/ssl.csr")


@dataclass
class Transaction:
    """Commands that wait for their commit."""

    number: int
    ends: dt.datetime
    commands: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    state: str = "STARTED"
    reason: str = ""

    def told(self) -> dict[str, Any]:
        """As the device shows it."""
        return {
            "transId": self.number,
            "state": self.state,
            "timeoutSeconds": int(TRANSACTION_LIFE.total_seconds()),
            "asyncExecution": False,
            "validateOnly": False,
            "executionTimeout": 300,
            "executionTime": 0,
            "failureReason": self.reason,
            "kind": "tm:transactionstate",
            "selfLink": f"https://localhost/mgmt/tm/transaction/{self.number}?ver=17.1.1",
        }


@dataclass
class Token:
    """A token, whose it is and when it ends."""

    value: str
    user: str
    ends: dt.datetime


class Unit:
    """Every method wants the simulator's lock held."""

    def __init__(self, name: str, configuration: Configuration, clock: Callable[[], dt.datetime]) -> None:
        self.name = name
        self.configuration = configuration
        self.saved = configuration
        # When the configuration was changed last, counted over all units; the same number: they are in sync.
        self.stamp = 0
        self.files: dict[str, bytes] = {}
        self.tokens: dict[str, Token] = {}
        self.transactions: dict[int, Transaction] = {}
        self._now = clock
        self._numbers = iter(range(1_700_000_000, 2_000_000_000))

    # --- changes ------------------------------------------------------------------------------------------------------

    def change(self, commands: list[tuple[str, str, Mapping[str, Any]]], stamp: int, *, dry: bool = False) -> list[Any]:
        """Apply all or none; gives what was changed. Raises `Problem`."""
        wanted = self.configuration.copied()
        changer = Changer(wanted, self.files, self._now)
        done = [changer.apply(method, path, body) for method, path, body in commands]
        wanted.validate()
        if not dry:
            self.configuration, self.stamp = wanted, stamp
        return done

    def begin(self) -> Transaction:
        """A transaction."""
        number = next(self._numbers)
        self.transactions[number] = Transaction(number, self._now() + TRANSACTION_LIFE)
        return self.transactions[number]

    def transaction(self, number: int) -> Transaction:
        """One that is open or has ended just now; the device forgets those whose time is over without a word."""
        found = self.transactions.get(number)
        if found is None or (found.state == "STARTED" and self._now() >= found.ends):
            self.transactions.pop(number, None)
            raise Problem(f"There is no transaction {number}.", 404)
        return found

    def commit(self, number: int, stamp: int, *, dry: bool) -> Transaction:
        """All of its commands, or none. Raises `Problem`."""
        found = self.transaction(number)
        if found.state != "STARTED":
            raise Problem(f"The transaction {number} is {found.state}.", 400)
        try:
            self.change(found.commands, stamp, dry=dry)
        except Problem as problem:
            if not dry:
                found.state, found.reason = "FAILED", problem.message
            raise Problem(f"transaction failed:{problem.message}", 400) from None
        if not dry:
            found.state = "COMPLETED"
        return found

    def forget_transactions(self) -> None:
        """As when their time is over."""
        self.transactions = {number: one for number, one in self.transactions.items() if one.state != "STARTED"}

    # --- who it is ----------------------------------------------------------------------------------------------------

    def give_token(self, user: str) -> Token:
        """A new one. Raises `Problem` where there are too many."""
        self._drop_tokens()
        if sum(one.user == user for one in self.tokens.values()) >= MOST_TOKENS:
            raise Problem(f"user {user} has reached maximum active login tokens", 400)
        token = Token(secrets.token_hex(13).upper(), user, self._now() + TOKEN_LIFE)
        self.tokens[token.value] = token
        return token

    def user_of(self, token: str) -> str | None:
        """Whose token it is; None where it has ended."""
        self._drop_tokens()
        found = self.tokens.get(token)
        return found.user if found else None

    def _drop_tokens(self) -> None:
        self.tokens = {name: one for name, one in self.tokens.items() if self._now() < one.ends}

    # --- files --------------------------------------------------------------------------------------------------------

    def upload(self, name: str, content: bytes, content_range: str) -> dict[str, Any]:
        """A part of a file. Raises `Problem`."""
        found = re.fullmatch(r"(\d+)-(\d+)/(\d+)", content_range)
        if found is None:
            raise Problem("Content-Range is missing or malformed: start-end/size, the end included.")
        start, end, size = (int(one) for one in found.groups())
        if len(content) > LARGEST_PART:
            raise Problem(f"The part has {len(content)} bytes, and at most {LARGEST_PART} are taken.", 413)
        if end - start + 1 != len(content) or end >= size:
            raise Problem(f"The part has {len(content)} bytes, and Content-Range says {content_range}.")
        path = f"{DOWNLOADS}/{name}"
        there = self.files.get(path, b"") if start else b""
        if len(there) != start:
            raise Problem(f"The part begins at {start}, and {len(there)} bytes are there.")
        self.files[path] = there + content
        return {
            "remainingByteCount": size - end - 1,
            "usedChunks": {"0": len(content)},
            "totalByteCount": size,
            "localFilePath": path,
            "temporaryFilePath": f"/var/config/rest/downloads/tmp/{name}",
            "generation": 0,
        }

    def utility(self, name: str, arguments: str) -> str:
        """``unix-rm``, ``unix-ls`` and ``unix-mv``; gives what they print. Raises `Problem`."""
        words = arguments.split()
        silent = "-f" in words
        paths = [one for one in words if not one.startswith("-")]
        for path in paths:
            if not path.startswith(_OPEN) or ".." in path.split("/"):
                raise Problem(f"{name} {path} is not simulated", 400)
        if name == "unix-ls":
            return "\n".join(sorted(one for path in paths for one in self.files if one.startswith(path)))
        if name == "unix-mv" and len(paths) == 2:
            if paths[0] not in self.files:
                return f"/bin/mv: cannot stat '{paths[0]}': No such file or directory"
            self.files[paths[1]] = self.files.pop(paths[0])
            return ""
        if name != "unix-rm":
            raise not_found("command", name)
        missing = [path for path in paths if self.files.pop(path, None) is None and not silent]
        return "\n".join(f"/bin/rm: cannot remove '{path}': No such file or directory" for path in missing)
