"""Proofs of the names of one order: authorizations and challenges (RFC 8555 sections 7.1.4 and 7.5).

`Validations.advance` may run any number of times, in any process: it looks what the CA has, puts answers where they are
missing, and asks the CA to look only once they can be seen. What was put anywhere is in the journal before, so that it
is taken away again in the end, whatever was killed in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import josepy as jose
from acme import challenges, messages

from connectors.ca.acme import problems
from connectors.ca.acme.account import Account
from connectors.ca.acme.challenges.contract import Challenge, Listens, Method, Responder
from connectors.ca.acme.journal import Entry, Journal
from connectors.ca.acme.network import Network, Problematic
from connectors.errors import AuthorityFault, NameValidation, Permanent, Retryable

PENDING, VALID, FAILED = "pending", "valid", "failed"
_AT_ONCE = 8
# A CA that has not looked by then has forgotten it.
_ASKED_AGAIN_SECONDS = 300.0
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@challenges.Challenge.register
class TLSALPN01(challenges.KeyAuthorizationChallenge):
    """The challenge of RFC 8737, which the library does not know any more."""

    typ = Method.TLS_ALPN_01.value
    response_cls = challenges.HTTP01Response

    def validation(self, account_key: jose.JWK, **_unused: object) -> str:
        """The key authorization."""
        return str(self.key_authorization(account_key))


@dataclass(frozen=True)
class Authorization:
    """One authorization as the CA has it now."""

    url: str
    body: messages.Authorization
    after: timedelta | None

    @property
    def name(self) -> str:
        """The name without the star of a wildcard."""
        return str(self.body.identifier.value)

    @property
    def shown(self) -> str:
        """The name as it was ordered."""
        return f"*.{self.name}" if self.body.wildcard else self.name

    @property
    def pending(self) -> bool:
        """Whether it waits for a proof."""
        return bool(self.body.status == messages.STATUS_PENDING)

    def error(self) -> tuple[str, problems.Problem] | None:
        """The method that failed, and what the CA says of it."""
        for one in self.body.challenges or ():
            if one.error is not None and (found := problems.read(one.error.to_json())):
                return str(one.chall.typ) if hasattr(one.chall, "typ") else "", found
        return None


@dataclass(frozen=True)
class Attempt:
    """A pending authorization and the challenge that we answer for it."""

    authorization: Authorization
    challenge: Challenge
    body: messages.ChallengeBody

    @property
    def looked_at(self) -> bool:
        """Whether the CA says that it looks already."""
        return bool(self.body.status != messages.STATUS_PENDING)


@dataclass(frozen=True)
class Progress:
    """How far the proofs are. `after` is when the CA wants to be asked again."""

    validations: tuple[NameValidation, ...]
    after: timedelta | None = None

    @property
    def missing(self) -> list[str]:
        """The names without a proof."""
        return [one.name for one in self.validations if one.state != VALID]


class Validations:
    """The proofs of one account's orders. `responders` are in the order in which they are preferred."""

    def __init__(
        self, network: Network, account: Account, journal: Journal, responders: Mapping[Method, Responder]
    ) -> None:
        self._network, self._account, self._journal = network, account, journal
        self._responders = dict(responders)
        # When the CA was asked to look, by the challenge's address: some servers show nothing of it, and look once more
        # each time they are asked.
        self._asked: dict[str, float] = {}

    async def advance(self, reference: str, order: messages.Order) -> Progress:
        """Do what can be done now for the proofs that an order needs. Raises `Permanent` where a person must set up
        something first."""
        there = await self.look(order)
        attempts = await self._attempts([one for one in there if one.pending])
        await self._note(reference, [one.challenge for one in attempts])
        missing = dict(await _bounded(self._work, attempts))
        hints = [one.after for one in there if one.pending and one.after is not None]
        methods = {one.authorization.url: one.challenge.method for one in attempts}
        told = tuple(_told(one, methods.get(one.url), missing.get(one.url, "")) for one in there)
        return Progress(told, min(hints, default=None))

    async def look(self, order: messages.Order) -> Sequence[Authorization]:
        """All authorizations of an order, as far as the CA still knows them."""
        return [one for one in await _bounded(self._look, order.authorizations or ()) if one is not None]

    async def tidy(self, entry: Entry) -> None:
        """Take away all answers that were put anywhere for a reference.

        One that can't be taken away stays in the journal and holds up nothing: a proof that is over is worth nothing,
        and a certificate that is issued is not kept back for it.
        """
        if not entry.presented:
            return
        gone = [one for one in await _bounded(self._remove, entry.presented) if one is not None]

        def forget(now: Entry | None) -> Entry | None:
            if now is None:
                return None
            return replace(now, presented=tuple(one for one in now.presented if one not in gone))

        await self._journal.change(entry.reference, forget)

    async def close(self) -> None:
        """Stop listening."""
        for responder in self._responders.values():
            if isinstance(responder, Listens):
                await responder.close()

    async def _look(self, url: str) -> Authorization | None:
        try:
            answer = await self._account.post(url, None, "to show an authorization")
        except Problematic as refused:
            if refused.status == 404:
                return None
            raise refused.error from None
        body = self._network.parsed(messages.Authorization.from_json, answer.object())
        if body.identifier is None or body.status is None:
            raise AuthorityFault(f"{self._network.where} gives something that is no authorization.")
        return Authorization(url, body, self._network.hint(answer))

    async def _attempts(self, pending: Sequence[Authorization]) -> list[Attempt]:
        if not pending:
            return []
        key = await self._account.key()
        return [self._attempt(one, key) for one in pending]

    def _attempt(self, authorization: Authorization, key: jose.JWK) -> Attempt:
        offered = {
            str(one.chall.typ): one
            for one in authorization.body.challenges or ()
            if isinstance(one.chall, challenges.KeyAuthorizationChallenge)
        }
        asked = [method for method in self._responders if method in offered and _asked(offered[method])]
        for method in [*asked, *self._responders]:
            if method not in offered:
                continue
            chosen = offered[method]
            token, authorized = str(chosen.chall.encode("token")), str(chosen.chall.key_authorization(key))
            return Attempt(authorization, Challenge(authorization.name, method, token, authorized), chosen)
        known = " or ".join(sorted(offered)) or "a method that certgate does not know"
        ours = ", ".join(self._responders) or "no method"
        raise Permanent(
            f"{self._network.where} wants proof of {authorization.shown} by {known}, and {ours} is set up in the "
            "settings of this CA."
        )

    async def _note(self, reference: str, presented: Sequence[Challenge]) -> None:
        def add(now: Entry | None) -> Entry | None:
            if now is None:
                return None
            new = tuple(one for one in presented if one not in now.presented)
            return replace(now, presented=(*now.presented, *new)) if new else now

        if presented:
            await self._journal.change(reference, add)

    async def _work(self, attempt: Attempt) -> tuple[str, str]:
        """Answer one challenge; what is still missing for it."""
        responder = self._responders[attempt.challenge.method]
        url = attempt.authorization.url
        try:
            await responder.present(attempt.challenge)
            if attempt.looked_at or self._was_asked(attempt.body.uri):
                return url, "the CA looks for the answer"
            awaited = await responder.settled(attempt.challenge)
        except Retryable as error:
            return url, error.message
        if awaited is not None:
            return url, awaited
        try:
            await self._account.post(attempt.body.uri, _Ready(), f"the answer for {attempt.authorization.shown}")
        except Problematic as refused:
            # An earlier call, whose answer was lost, may have asked it already: the authorization shows what is true.
            if refused.problem.kind not in ("malformed", "orderNotReady", "badNonce", "unauthorized"):
                raise refused.error from None
        self._asked[attempt.body.uri] = time.monotonic()
        return url, "the CA looks for the answer"

    def _was_asked(self, challenge: str) -> bool:
        oldest = time.monotonic() - _ASKED_AGAIN_SECONDS
        self._asked = {url: asked for url, asked in self._asked.items() if asked > oldest}
        return challenge in self._asked

    async def _remove(self, challenge: Challenge) -> Challenge | None:
        responder = self._responders.get(challenge.method)
        if responder is not None:
            try:
                await responder.remove(challenge)
            except (Retryable, Permanent):
                return None
        return challenge


class _Ready(jose.JSONDeSerializable):
    """The empty object that says: look now (RFC 8555 section 7.5.1)."""

    def to_partial_json(self) -> dict[str, object]:
        return {}

    @classmethod
    def from_json(cls, _jobj: object) -> _Ready:
        return cls()


def failures(there: Sequence[Authorization]) -> list[NameValidation]:
    """The names whose proof failed, with what the CA says of each."""
    return [one for one in (_told(each, None, "") for each in there) if one.state == FAILED]


def failed_kinds(there: Sequence[Authorization]) -> frozenset[str]:
    """The kinds of problems for which proofs failed."""
    return frozenset().union(*(found[1].kinds for each in there if (found := each.error())))


def _told(seen: Authorization, method: Method | None, missing: str) -> NameValidation:
    until = seen.body.expires
    if seen.body.status == messages.STATUS_VALID:
        done = next((str(one.chall.typ) for one in seen.body.challenges or () if _is_valid(one)), "")
        return NameValidation(seen.shown, VALID, done, until=until)
    if seen.pending:
        return NameValidation(seen.shown, PENDING, method or "", missing, until=until)
    found = seen.error()
    failed_by, told = (found[0], found[1].told) if found else ("", f"the authorization is {seen.body.status.name}")
    return NameValidation(seen.shown, FAILED, failed_by, error=told)


def _is_valid(challenge: messages.ChallengeBody) -> bool:
    return bool(challenge.status == messages.STATUS_VALID) and hasattr(challenge.chall, "typ")


def _asked(challenge: messages.ChallengeBody) -> bool:
    return bool(challenge.status == messages.STATUS_PROCESSING)


async def _bounded(work: Callable[[ItemT], Awaitable[ResultT]], items: Sequence[ItemT]) -> list[ResultT]:
    """Work on all items, some at once; the first error counts once all are done."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(item: ItemT) -> ResultT:
        async with gate:
            return await work(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]
