"""CA certificates from the URL of an issuer, as there are inside certificates (caIssuers, RFC 5280 section 4.2.2.1).

Plain HTTP is usual there and does no harm: what comes is believed only as far as signatures reach. What somebody else
wrote into a certificate must not make us ask servers inside: only public addresses are asked, and the networks that the
installation allows.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography import x509 as crypto

from connectors.errors import AuthorityFault, ConnectorError, Permanent, Retryable
from connectors.web import Addresses, Web, place
from model import x509
from model.errors import InvalidInput

# A bundle of a hundred certificates is smaller.
LARGEST = 1024 * 1024
# Four times that is the longest that one of them may take.
PATIENCE = 5.0  # seconds
# A chain has two or three; what leads on for longer leads nowhere.
_MOST_FETCHES = 8
_TOGETHER = 45.0  # seconds


@dataclass(frozen=True)
class Found:
    """The issuers that were found, a sentence for each place that had none, and whether it may go better later."""

    certificates: list[crypto.Certificate]
    notes: list[str]
    again: bool


def reachable(networks: Iterable[str]) -> Addresses:
    """Public addresses, and those of `networks` (CIDR). Raises `InvalidInput`."""
    try:
        return Addresses(every=False, allowed=tuple(ipaddress.ip_network(one) for one in networks))
    except ValueError as error:
        raise InvalidInput(f"A network is given as 10.0.0.0/8 or fd00::/8: {error}.") from None


async def fetch(url: str, addresses: Addresses) -> list[crypto.Certificate]:
    """All certificates that a URL gives: DER, PEM or PKCS#7, whatever it calls it. Raises `Permanent` (the URL, a
    private address, a redirect, 404), `Retryable` (not reached now), `AuthorityFault` (no certificates, too much).
    """
    try:
        sound = url.isascii() and url.isprintable() and " " not in url and urlsplit(url).port != 0
    except ValueError:
        sound = False
    if not sound:
        raise Permanent("The address of the issuer's certificate is malformed.")
    try:
        async with Web(
            "the issuer's server", url, patience=PATIENCE, largest=LARGEST, addresses=addresses, plain=True,
            headers={"accept-encoding": "identity"},
        ) as web:  # fmt: skip
            answer = await web.get()
    except ConnectorError as error:
        error.message = error.message[:1].upper() + error.message[1:]
        raise
    where = _called(url)
    if answer.status != 200:
        raise Permanent(f"There is no certificate at {where} (status {answer.status}).")
    try:
        return x509.read_certificates(answer.content)
    except InvalidInput as error:
        raise AuthorityFault(f"What {where} gave can't be used: {_lower(error.message)}") from None


async def follow(ends: Sequence[crypto.Certificate], addresses: Addresses) -> Found:
    """The issuers of `ends`, theirs, and so on up to a root or as far as it goes: each is kept only if it signed what
    named it. Loops, strangers and duplicates end there."""
    found: dict[crypto.Certificate, None] = {}
    notes: list[str] = []
    again = False
    answers: dict[str, list[crypto.Certificate]] = {}
    waiting = deque(ends)
    try:
        async with asyncio.timeout(_TOGETHER):
            while waiting:
                current = waiting.popleft()
                for url in x509.issuer_urls(current):
                    if url not in answers and len(answers) >= _MOST_FETCHES:
                        notes.append(f"After {_MOST_FETCHES} addresses no more were asked.")
                        return Found(list(found), notes, again)
                    try:
                        if url not in answers:
                            answers[url] = []
                            answers[url] = await fetch(url, addresses)
                    except ConnectorError as error:
                        notes.append(error.message)
                        again = again or isinstance(error, Retryable)
                        continue
                    issuers = [one for one in answers[url] if x509.is_signed_by(current, one)]
                    if not issuers and answers[url]:
                        notes.append(f"What {_called(url)} gave did not sign {x509.called(current)}.")
                    new = [one for one in issuers if one not in found and one not in ends]
                    found |= dict.fromkeys(new)
                    waiting.extend(one for one in new if not x509.is_self_signed(one))
                    if issuers:
                        break
    except TimeoutError:
        notes.append("The issuers' addresses did not answer in time.")
        again = True
    return Found(list(found), list(dict.fromkeys(notes)), again)


def _called(url: str) -> str:
    """Scheme, host and path of a URL for messages: what is asked behind a question mark may be secret."""
    return f"{place(url)}{urlsplit(url).path}"[:300]


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
