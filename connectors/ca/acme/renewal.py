"""Renewal information (RFC 9773): when the CA wants a certificate renewed, and telling it what an order replaces."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from acme import messages

from connectors.ca.acme.network import Network, Problematic
from connectors.ca.contract import HeldCertificate, OrderRequest, RenewalInformation
from connectors.errors import AuthorityFault
from model import x509

# RFC 9773 section 4.3.2: what a CA asks for is kept within a minute and a day; 4.3.3: six hours where it says nothing.
SOONEST, LATEST = timedelta(minutes=1), timedelta(days=1)
USUAL = timedelta(hours=6)
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_LONGEST_URL = 2000
# What a server says that does not take `replaces`, for whatever reason; the order itself may be all right.
_UNREPLACED = frozenset({"alreadyReplaced", "malformed", "unauthorized"})


def resource(directory: messages.Directory) -> str | None:
    """The address of the CA's renewal information (section 3), None where it has none."""
    try:
        found = directory["renewalInfo"]
    except KeyError:
        return None
    return found.rstrip("/") if isinstance(found, str) else None


async def renewal_information(network: Network, certificate: HeldCertificate) -> RenewalInformation | None:
    """The window of one certificate (sections 4.1 and 4.2); None where the CA has no renewal information, does not know
    the certificate, or the certificate has no identifier.

    Raises `AuthorityFault` for a window that is none, and what the CA says otherwise.
    """
    base = resource(await network.directory())
    identifier = x509.ari_identifier(x509.load_certificate(certificate.certificate_pem))
    if base is None or identifier is None:
        return None
    try:
        answer = await network.get(f"{base}/{identifier}")
    except Problematic as refused:
        if refused.status == 404:
            return None
        raise refused.error from None
    document = answer.object()
    start, end = _window(document, network.where)
    hint = network.hint(answer)
    return RenewalInformation(
        start=start,
        end=end,
        explanation_url=_page(document.get("explanationURL")),
        ask_again=USUAL if hint is None else min(max(hint, SOONEST), LATEST),
    )


def replaced(directory: messages.Directory, request: OrderRequest) -> str | None:
    """What a new order says that it replaces (section 5): only a server with renewal information knows the field."""
    if request.earlier is None or resource(directory) is None:
        return None
    return request.earlier.ari_identifier


def is_about_replacing(refused: Problematic) -> bool:
    """Whether an order with ``replaces`` may have been refused because of it, so that it is worth placing without."""
    return refused.status in (404, 409) or bool(refused.problem.kinds & _UNREPLACED)


def _window(document: dict[str, Any], where: str) -> tuple[datetime, datetime]:
    window = document.get("suggestedWindow")
    window = window if isinstance(window, dict) else {}
    start, end = _moment(window.get("start")), _moment(window.get("end"))
    if start is None or end is None:
        raise AuthorityFault(f"{where} gives renewal information without a window of two times (RFC 9773 section 4.2).")
    if end <= start:
        raise AuthorityFault(f"{where} gives renewal information whose window ends before it starts.")
    return start, end


def _moment(given: Any) -> datetime | None:
    """A time of RFC 3339, in UTC."""
    if not isinstance(given, str) or not _TIMESTAMP.fullmatch(given):
        return None
    try:
        return datetime.fromisoformat(given.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _page(given: Any) -> str | None:
    """An address that people may be sent to; what is none is left out (the window counts without it)."""
    if not isinstance(given, str) or len(given) > _LONGEST_URL or not given.isascii() or not given.isprintable():
        return None
    try:
        parts = urlsplit(given)
    except ValueError:
        return None
    return given if parts.scheme in ("https", "http") and parts.hostname and " " not in given else None
