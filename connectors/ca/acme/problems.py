"""What an ACME server refuses (RFC 8555 section 6.7, problem documents of RFC 9457), as an outcome with one sentence.

Passes by itself: rate limits, trouble inside the CA. A person must mend: accounts, bindings, CAA records, proofs of
names that failed. Never issued: names and CSRs that the CA does not take. An error with subproblems is what the worst
of them is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from connectors.errors import ActionRequired, ConnectorError, Permanent, Rejected, Retryable

PREFIX = "urn:ietf:params:acme:error:"
_LONGEST_QUOTE = 400
_MOST_QUOTES = 5
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")

_MEANINGS = {
    "accountDoesNotExist": "it knows no account with this key",
    "alreadyReplaced": "the certificate was replaced by another order already",
    "alreadyRevoked": "the certificate is revoked already",
    "badCSR": "it does not take the signing request",
    "badNonce": "it rejects every nonce that it gave out",
    "badPublicKey": "it does not take this kind of key",
    "badRevocationReason": "it does not take this reason",
    "badSignatureAlgorithm": "it does not take signatures by this kind of account key",
    "caa": "CAA records forbid this CA to issue",
    "connection": "it could not connect to the host",
    "dns": "the DNS did not answer it well",
    "dnssec": "DNSSEC did not validate",
    "externalAccountRequired": "it wants an External Account Binding: set eab_key_id and eab_hmac_key",
    "incorrectResponse": "the answer was not the one it expects",
    "invalidContact": "it does not take the contact address",
    "invalidProfile": "it has no such profile, or not for this account",
    "malformed": "it does not take what was sent",
    "notFound": "it knows no such thing",
    "orderNotReady": "the order is not ready",
    "rateLimited": "a rate limit is reached",
    "rejectedIdentifier": "it does not issue for this name",
    "serverInternal": "it has trouble of its own",
    "tls": "the TLS handshake with the host failed",
    "unauthorized": "it does not allow that",
    "unknownHost": "the name does not resolve",
    "unsupportedContact": "it does not take this kind of contact address",
    "unsupportedIdentifier": "it does not issue for this kind of name",
    "userActionRequired": "somebody has to do what its page says",
}

_NEVER_ISSUED = frozenset({"badCSR", "rejectedIdentifier", "unsupportedIdentifier"})
_PASSING = frozenset({"rateLimited", "serverInternal", "badNonce", "orderNotReady"})


@dataclass(frozen=True)
class Problem:
    """One problem. `kind` is the type without the ACME prefix; `name` the identifier that it is about, if it says so;
    `instance` an address with more for people."""

    kind: str
    detail: str = ""
    name: str = ""
    instance: str = ""
    parts: tuple[Problem, ...] = ()

    @property
    def told(self) -> str:
        """For people, without a full stop: what it means, what the CA says, and of which names."""
        told = _MEANINGS.get(self.kind, "it reports a problem of an unknown kind")
        quoted = f"{self.kind}: {self.detail}" if self.detail else self.kind
        told = f"{self.name}: {told} ({quoted})" if self.name else f"{told} ({quoted})"
        parts = [part.told for part in self.parts[:_MOST_QUOTES]]
        more = len(self.parts) - len(parts)
        return "; ".join([told, *parts, *([f"and {more} more"] if more > 0 else [])])

    @property
    def kinds(self) -> frozenset[str]:
        """All that is wrong: its own kind, or those of its parts."""
        return frozenset().union(*(part.kinds for part in self.parts)) if self.parts else frozenset({self.kind})


def read(document: Any) -> Problem | None:
    """The problem in a JSON value; None if there is none in it."""
    if not isinstance(document, dict) or not isinstance(document.get("type", document.get("detail")), str):
        return None
    identifier = document.get("identifier")
    parts = document.get("subproblems")
    kind = str(document.get("type", "about:blank"))
    return Problem(
        kind=_quoted(kind.removeprefix(PREFIX), 80),
        detail=_quoted(document.get("detail", "")).rstrip("."),
        name=_quoted(identifier.get("value", ""), 260) if isinstance(identifier, dict) else "",
        instance=_quoted(document.get("instance", "")),
        parts=tuple(found for one in parts[:200] if (found := read(one))) if isinstance(parts, list) else (),
    )


def outcome(problem: Problem, where: str, act: str, status: int, after: timedelta | None) -> ConnectorError:
    """The error to raise when `where` refuses `act` (such as ``the order``) with this problem and HTTP status."""
    kind = _worst(problem, status)
    if kind is Retryable:
        waits = "asks us to wait" if "rateLimited" in problem.kinds else "can't do it now"
        return Retryable(f"{where} {waits} with {act}: {problem.told}.", after)
    if kind is Rejected:
        return Rejected(f"{where} refuses {act} for good: {problem.told}.")
    if kind is ActionRequired:
        page = f"; see {problem.instance}" if problem.instance else ""
        return ActionRequired(f"{where} refuses {act}: {problem.told}{page}.")
    return Permanent(f"{where} refuses {act}: {problem.told}.")


def _worst(problem: Problem, status: int) -> type[ConnectorError]:
    kinds = problem.kinds
    if status == 429:
        return Retryable
    if kinds & _NEVER_ISSUED:
        return Rejected
    if "userActionRequired" in kinds:
        return ActionRequired
    unknown_trouble = status >= 500 and not kinds & _MEANINGS.keys()
    return Retryable if kinds <= _PASSING or unknown_trouble else Permanent


def _quoted(text: Any, longest: int = _LONGEST_QUOTE) -> str:
    """The CA's words on one line and not too long: they may quote a stranger's web page."""
    if not isinstance(text, str):
        return ""
    shown = _UNSHOWN.sub(" ", text).strip()
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
