"""Signed requests to one ACME server (RFC 8555 section 6), by the rules of `connectors/web.py`.

The `acme` library gives messages, signatures and challenges their form; the requests are our own, see
``docs/decisions/2026-11-24-acme-client.md``. A nonce is spent once; one that the server rejects is answered with a
fresh one, at most `NONCE_TRIES` times.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

import josepy as jose
from acme import jws, messages
from josepy.errors import DeserializationError

from connectors.ca.acme import problems
from connectors.ca.acme.settings import Settings
from connectors.errors import AuthorityFault, ConnectorError, Permanent, Retryable
from connectors.web import Answer, Web, place, retry_after

NONCE_TRIES = 12
TITLE = "The ACME server"
_KEPT_NONCES = 32
_DIRECTORY_LIFE = timedelta(hours=1)
_NEEDED = ("newNonce", "newAccount", "newOrder", "revokeCert")
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,500}")
_LINK = re.compile(r"<([^<>]{1,2000})>((?:\s*;\s*[A-Za-z0-9*_-]+\s*=\s*(?:\"[^\"]*\"|[^\s,;\"]+))*)")
_RELATION = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s,;\"]+))", re.IGNORECASE)
_PROBLEMS = range(400, 600)


@dataclass(frozen=True)
class Signer:
    """Who signs: an account key, its algorithm, and the account's URL (None before the server told it)."""

    key: jose.JWK
    algorithm: jose.JWASignature
    account: str | None = None

    def sign(self, payload: bytes, nonce: str, url: str) -> bytes:
        """The request body for `url` (RFC 8555 section 6.2): with the key itself where there is no account yet."""
        signed = jws.JWS.sign(payload, self.key, self.algorithm, jose.decode_b64jose(nonce), url, self.account)
        return signed.json_dumps().encode()


class Problematic(Exception):
    """The server answered with a problem document; `error` is the outcome it stands for. Never leaves this package."""

    def __init__(self, problem: problems.Problem, error: ConnectorError, status: int = 400) -> None:
        super().__init__(problem.told)
        self.problem = problem
        self.error = error
        self.status = status


class Network:
    """One ACME server. Opening it connects to nothing.

    It is used as a context: connections are shared by all who are in it, and closed when the last one leaves.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._directory_url = settings.directory_url
        self._web = Web(
            TITLE, place(settings.directory_url), ca_file=settings.ca_file, headers={"accept-language": "en, *;q=0.5"}
        )
        self._clock = clock
        self._nonces: deque[str] = deque(maxlen=_KEPT_NONCES)
        self._directory: tuple[messages.Directory, datetime] | None = None
        self._users = 0

    async def __aenter__(self) -> Network:
        self._users += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if self._users == 0:
            await self._web.close()

    @property
    def where(self) -> str:
        """The server, for messages."""
        return self._web.where

    async def directory(self) -> messages.Directory:
        """The directory (RFC 8555 section 7.1.1), asked anew once an hour."""
        if self._directory is not None and self._directory[1] > self._clock():
            return self._directory[0]
        answer = await self._web.get(self._directory_url)
        document = self._successful(answer).object()
        for name in _NEEDED:
            if not isinstance(document.get(name), str):
                raise AuthorityFault(
                    f"{self.where} gives no ACME directory (it lacks {name}): is directory_url the right address?"
                )
        found: messages.Directory = self.parsed(messages.Directory.from_json, document)
        self._directory = found, self._clock() + _DIRECTORY_LIFE
        return found

    async def get(self, url: str) -> Answer:
        """An unsigned GET, for the few resources that take one (RFC 8555 section 6.3; renewal information of RFC 9773).
        Raises `Problematic` besides what `connectors/web.py` raises."""
        answer = await self._web.get(url, passing=_PROBLEMS)
        if answer.status >= 400:
            raise self._refused(answer, "the question")
        return answer

    async def post(
        self, signer: Signer, url: str, payload: jose.JSONDeSerializable | None, act: str, accept: str = "*/*"
    ) -> Answer:
        """A signed POST; without a payload a POST-as-GET (RFC 8555 section 6.3). `act` names it in messages.

        Raises `Problematic` for a problem document, and what `connectors/web.py` raises for everything else.
        """
        body = b"" if payload is None else payload.json_dumps().encode()
        refused = Problematic(problems.Problem("badNonce"), Retryable(f"{self.where} rejects every nonce."))
        for _ in range(NONCE_TRIES):
            content = signer.sign(body, await self._nonce(), url)
            headers = {"content-type": "application/jose+json", "accept": accept}
            answer = await self._web.post(url, content=content, headers=headers, passing=_PROBLEMS)
            self._keep_nonce(answer)
            if answer.status < 400:
                return answer
            refused = self._refused(answer, act)
            if refused.problem.kind != "badNonce":
                break
        raise refused

    def parsed(self, form: Callable[[Any], Any], document: Any) -> Any:
        """A message read by the library's own form. Raises `AuthorityFault` for what does not fit it."""
        try:
            return form(document)
        except (DeserializationError, jose.errors.Error, AttributeError, KeyError, TypeError, ValueError):
            raise AuthorityFault(f"{self.where} answered with something that RFC 8555 does not know.") from None

    def links(self, answer: Answer, relation: str) -> Sequence[str]:
        """The addresses that the answer's Link headers name for a relation (RFC 8288), each on this server."""
        found = []
        for url, parameters in _LINK.findall(answer.headers.get("link", "")):
            relations = " ".join(one for pair in _RELATION.findall(parameters) for one in pair).lower().split()
            if relation in relations:
                found.append(url)
        return found

    def location(self, answer: Answer, what: str) -> str:
        """The address of what was made. Raises `AuthorityFault` where there is none, or it is another server's."""
        url = answer.headers.get("location", "")
        if not url or place(url) != place(self._directory_url):
            raise AuthorityFault(f"{self.where} does not say where {what} is.")
        return str(url)

    def hint(self, answer: Answer) -> timedelta | None:
        """When the server wants to be asked again."""
        return retry_after(answer.headers, self._clock())

    async def _nonce(self) -> str:
        if not self._nonces:
            directory = await self.directory()
            answer = self._successful(await self._web.ask("HEAD", directory["newNonce"]))
            self._keep_nonce(answer)
        if not self._nonces:
            raise AuthorityFault(f"{self.where} gives no usable nonce.")
        return self._nonces.popleft()

    def _keep_nonce(self, answer: Answer) -> None:
        nonce = answer.headers.get("replay-nonce", "")
        if _NONCE.fullmatch(nonce):
            self._nonces.append(nonce)

    def _successful(self, answer: Answer) -> Answer:
        if answer.status >= 400:
            raise Permanent(
                f"{self.where} answered with status {answer.status}: is directory_url the address of a directory?"
            )
        return answer

    def _refused(self, answer: Answer, act: str) -> Problematic:
        """The problem of an answer. Raises what `Web` says of an answer that is no problem document."""
        if answer.status == 404 and answer.empty:
            missing = Permanent(f"{self.where} knows nothing of {act}.")
            return Problematic(problems.Problem("notFound"), missing, answer.status)
        try:
            problem = problems.read(answer.json())
        except AuthorityFault as fault:
            self._web.judge(answer)
            raise fault from None
        if problem is None:
            self._web.judge(answer)
            raise AuthorityFault(f"{self.where} answered with status {answer.status} and does not say why.")
        error = problems.outcome(problem, self.where, act, answer.status, self.hint(answer))
        return Problematic(problem, error, answer.status)
