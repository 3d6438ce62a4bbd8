"""How an order is marked as ours, so that it is found again. Pure.

A new order carries our reference as an external requester, in the form of an e-mail address because Sectigo takes no
other: that is what its list can be asked for. Its comments have the reference too, for people.

A renewal or a replacement takes no such words. So the *earlier* order is marked in its comments before it is asked for:
``[certgate: replacement for REFERENCE after SERIAL]``, with the serial number of the certificate that it had then.
Whoever comes after a crash sees from the mark that one may have been asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from connectors.ca.sectigo.settings import Settings

LONGEST_COMMENTS = 1024  # EnrollRequest.comments and SslInfo.comments
LONGEST_EXTERNAL_REQUESTER = 512
_MARK = re.compile(r"\[certgate: (renewal|replacement) for ([^\[\]\s]+) after ([0-9a-f]*)\]")
_ORDER = re.compile(r"\[certgate: order ([^\[\]\s]+)\]")


class Kind(StrEnum):
    """What may be asked for of an order that is there."""

    RENEWAL = "renewal"
    REPLACEMENT = "replacement"


@dataclass(frozen=True)
class Mark:
    """What was asked for, or was about to be, and the serial number that the certificate had before."""

    kind: Kind
    serial_number: str


def address(settings: Settings, reference: str) -> str:
    """The external requester that is our reference."""
    return f"{reference}@{settings.reference_domain}"


def external_requester(settings: Settings, reference: str) -> str:
    """The whole field of a new order: our reference first, then who else is told."""
    return ",".join(one for one in (address(settings, reference), settings.external_requester) if one)


def searches(settings: Settings, reference: str) -> Sequence[str]:
    """What the list is asked for. Whether its filter wants the field as a whole or a part of it is not documented."""
    return list(dict.fromkeys([address(settings, reference), external_requester(settings, reference)]))


def is_tagged(settings: Settings, field: str, reference: str) -> bool:
    """Whether an order's external requester has exactly our reference among its addresses."""
    wanted = address(settings, reference).casefold()
    return wanted in {one.strip().casefold() for one in re.split(r"[,;\s]+", field)}


def comments(settings: Settings, reference: str) -> str:
    """The comments of a new order."""
    return f"{settings.comments} [certgate: order {reference}]".strip()


def asked(text: str, reference: str) -> Mark | None:
    """The last mark for `reference`."""
    found = [Mark(Kind(kind), serial) for kind, whose, serial in _MARK.findall(text) if whose == reference]
    return found[-1] if found else None


def belongs_to(text: str) -> str | None:
    """The reference that an order's comments name as its own."""
    found = _ORDER.findall(text)
    return str(found[-1]) if found else None


def marked(text: str, mark: Mark, reference: str) -> str:
    """The comments with the mark. Where there is no room, marks of earlier times go first, and then people's words."""
    if asked(text, reference) == mark:
        return text
    added = f"[certgate: {mark.kind} for {reference} after {mark.serial_number}]"
    for old in [found.group(0) for found in _MARK.finditer(text)]:
        if len(text) + len(added) + 1 <= LONGEST_COMMENTS:
            break
        text = " ".join(text.replace(old, "", 1).split())
    return f"{text[: LONGEST_COMMENTS - len(added) - 1]} {added}".strip()


def reason(text: str) -> str:
    """What people wrote into the comments, without our marks."""
    return " ".join(_ORDER.sub("", _MARK.sub("", text)).split())
