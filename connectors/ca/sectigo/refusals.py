"""What Sectigo's error codes mean, and which of our outcomes each one is: one table.

Refusals are HTTP 400 (also 401, 403, 404, 409) with ``{"code": -36, "description": "…"}``. The codes are those of the
vendor's interface documents for Sectigo Certificate Manager 25.9. A code that is not in the table is told with its
number and the description; it is `Permanent`, because what refuses an order once will do so again. `Refused` is the
answer as it came: verbs look at its code first, and `outcome` makes of it what is raised.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from connectors.errors import ConnectorError, Pending, Permanent, Rejected, Retryable

LONGEST_DESCRIPTION = 300
# "Being processed": the only 400s that a `collect` may take for patience.
BEING_PROCESSED = frozenset({0, -1400, -183})
ALREADY_REVOKED: frozenset[int | None] = frozenset({-159, -110})
NO_SUCH_CERTIFICATE = frozenset({-124, -1117, -5101})
# The only refusal of a renewal that is certain to mean "never": others may come of one that is under way.
NO_RENEWALS = -180
WRONG_STATE: frozenset[int | None] = frozenset({-1112, -1113})


class Outcome(Enum):
    """Which of the outcomes of `connectors/errors.py` a code is."""

    WAIT = "Pending where an order is collected, Retryable elsewhere"
    AGAIN = "Retryable"
    MEND = "Permanent"
    NEVER = "Rejected"


@dataclass(frozen=True)
class Meaning:
    """`means` says what is wrong, `cure` what a person does next; both are parts of one sentence."""

    outcome: Outcome
    means: str
    cure: str


def _wait(means: str) -> Meaning:
    return Meaning(Outcome.WAIT, means, "nothing is to be done")


def _again(means: str) -> Meaning:
    return Meaning(Outcome.AGAIN, means, "it is tried again by itself")


def _mend(means: str, cure: str) -> Meaning:
    return Meaning(Outcome.MEND, means, cure)


def _never(means: str, cure: str) -> Meaning:
    return Meaning(Outcome.NEVER, means, cure)


_CREDENTIALS = "correct login, customer URI and the credential in the CA's settings"
_PRIVILEGE = "give the API user the privilege for it in the console"
_CSR = "ask for another key type in the request"
_PROFILE = "name one of the profiles that `certgate ca check` lists"
_DCV = "validate the domain in the console (Domains), then try again"

MEANINGS: dict[int, Meaning] = {
    0: _wait("the request is being processed"),
    -1400: _wait("the request is being processed"),
    -183: _wait("the certificate is not there to be collected yet"),
    -1: _again("something went wrong at the CA"),
    -2: _again("something went wrong at the CA"),
    -14: _again("something went wrong at the CA"),
    -65: _again("something went wrong at the CA"),
    -109: _again("the certificate is not available at this moment"),
    -129: _again("the connection between the console and the CA is cut"),
    -140: _again("signing requests can't be read there at this moment"),
    -195: _again("the CA behind the console is not available"),
    -196: _again("the CA behind the console is not available"),
    -3114: _again("somebody else changed the order at the same moment"),
    -3115: _again("somebody else changed the order at the same moment"),
    -3: _mend("who signs in may not do this", _PRIVILEGE),
    -25: _mend("who signs in may not do this", _PRIVILEGE),
    -37: _mend("access is denied", _PRIVILEGE),
    -226: _mend("who signs in does not manage this organization", _PRIVILEGE),
    -7: _mend("a field is missing", "set it in the CA's settings or in the certificate profile"),
    -9: _never("the signing request can't be read", _CSR),
    -10: _never("the signing request can't be read", _CSR),
    -138: _never("the signing request can't be read", _CSR),
    -11: _never("keys of this algorithm are not taken", _CSR),
    -13: _never("keys of this size are not taken", _CSR),
    -78: _never("the public key is invalid or not taken", _CSR),
    -141: _never("the key is too short", _CSR),
    -170: _never("elliptic-curve keys are not taken for this customer", _CSR),
    -194: _never("keys of this size are not taken", _CSR),
    -16: _mend("the user is unknown", _CREDENTIALS),
    -970: _mend("login or password is wrong", _CREDENTIALS),
    -410: _mend("the customer is unknown", "correct customer_uri in the CA's settings"),
    -429: _mend("the account has no login at the CA behind the console", "ask Sectigo's support to set it up"),
    -36: _mend("the term is none of this profile", "set term_days to one that `certgate ca check` lists"),
    -39: _mend("the certificate profile is invalid", _PROFILE),
    -111: _mend("the certificate profile is unknown", _PROFILE),
    -62: _mend("a mandatory custom field is missing or a value is invalid", "give it a value in custom_fields"),
    -64: _mend("a custom field has an invalid value", "correct it in custom_fields"),
    -135: _mend("a custom field is unknown", "correct its name in custom_fields"),
    -139: _mend("an external requester is required", "set external_requester in the CA's settings"),
    -1601: _mend("a field has an invalid value", "correct it in the CA's settings or in the request"),
    -107: _mend("the domain is not validated, or not any more", _DCV),
    -724: _mend("the domain is not validated, or not any more", _DCV),
    -737: _mend("the domain is not validated, or not any more", _DCV),
    -1137: _mend("the domain is not validated, or not any more", _DCV),
    -1603: _mend("the domain can't be validated", _DCV),
    -1608: _mend("domain validation is switched off for this customer", "ask Sectigo's support to switch it on"),
    -164: _never("internal names and private addresses are not certified that long", "ask for public names only"),
    -715: _mend("the domain is inactive", "activate it in the console (Domains)"),
    -727: _mend("the domain is unknown to the account", "add and delegate it in the console (Domains)"),
    -732: _never("a domain name is invalid", "ask for another name"),
    -1010: _mend(
        "the domain is not allowed for this organization", "delegate it to the organization in the console (Domains)"
    ),
    -1002: _mend("the subject alternative names are missing", "give at least one name in the request"),
    -639: _mend("the organization is unknown", "correct organization_id in the CA's settings"),
    -843: _mend("the organization is not validated for this profile", "have it validated, or choose another profile"),
    -1021: _mend("this can't be done for the organization", "look at its state in the console (Organizations)"),
    -1023: _mend("the organization is unknown", "correct organization_id in the CA's settings"),
    -102: _mend("only issued certificates can be revoked", "wait until it is issued, or withdraw the order"),
    -103: _wait("the certificate has not come from the CA yet"),
    -105: _mend("the certificate can't be renewed in its state", "ask for a new one"),
    -123: _mend("there is no certificate to renew", "ask for a new one"),
    -180: _mend("the profile does not allow renewals", "set renew_in_order to false in the CA's settings"),
    -110: _never("the certificate is revoked", "ask for a new one"),
    -159: _mend("the certificate is revoked already", "nothing is to be done"),
    -124: _mend("there is no order of that number", "look whether it was deleted in the console"),
    -1117: _mend("there is no order of that number", "look whether it was deleted in the console"),
    -5101: _mend("there is no such certificate", "look whether it was deleted in the console"),
    -166: _mend("there is no such certificate", "look whether it was deleted in the console"),
    -169: _mend("the certificate is not available", "ask the administrator of the console"),
    -126: _mend("the format is unknown", "choose another chain_format in the CA's settings"),
    -1450: _mend("the format is unknown", "choose another chain_format in the CA's settings"),
    -130: _mend("the order is not issued", "wait until it is"),
    -1112: _mend("the order is not in a state in which it can be approved or declined", "look at it in the console"),
    -1113: _mend("the order is not ready to be applied", "look at it in the console"),
    -1140: _mend("who requested it may not approve it as well", "have somebody else approve it in the console"),
    -1144: _mend("the certificate was migrated and can't be used", "ask Sectigo's support"),
    -1148: _mend(
        "certificates that the console installs by itself can't be replaced",
        "set replace_in_order to false in the CA's settings",
    ),
}


class Refused(Exception):
    """The CA said no. `code` is None where it gave none."""

    def __init__(self, status: int, code: int | None, description: str, where: str) -> None:
        super().__init__(f"status {status}, code {code}")
        self.status, self.code, self.description, self.where = status, code, description, where

    def among(self, codes: Collection[int | None]) -> bool:
        """Whether it is one of these."""
        return self.code in codes

    @property
    def missing(self) -> bool:
        """There is no such thing."""
        return self.status == 404 or self.code in NO_SUCH_CERTIFICATE


def outcome(refused: Refused, doing: str, *, collecting: bool = False) -> ConnectorError:
    """The refusal as one of our outcomes; `doing` ends "refused to …"."""
    meaning = _meaning(refused)
    sentence = _sentence(refused, meaning, doing)
    kind = meaning.outcome if meaning else Outcome.MEND
    if kind is Outcome.WAIT:
        return Pending(sentence) if collecting else Retryable(sentence)
    kinds: dict[Outcome, type[ConnectorError]] = {
        Outcome.AGAIN: Retryable,
        Outcome.MEND: Permanent,
        Outcome.NEVER: Rejected,
    }
    return kinds[kind](sentence)


def _meaning(refused: Refused) -> Meaning | None:
    if refused.code is not None and refused.code in MEANINGS:
        return MEANINGS[refused.code]
    if refused.status == 401:
        return _mend("the credentials are not accepted", _CREDENTIALS)
    if refused.status == 403:
        return _mend("who signs in may not do this", _PRIVILEGE)
    if refused.status == 404:
        return MEANINGS[-124]
    return None


def _sentence(refused: Refused, meaning: Meaning | None, doing: str) -> str:
    code = f"code {refused.code}" if refused.code is not None else f"status {refused.status}"
    said = f"{code}: {refused.description}" if refused.description else code
    if meaning is None:
        return (
            f"{refused.where} refused to {doing} ({said}), which certgate has no advice for: ask Sectigo's support, "
            "and quote the code."
        )
    return f"{refused.where} refused to {doing}, because {meaning.means} ({said}): {meaning.cure}."


def printable(text: object, secrets: Iterable[str] = (), longest: int = LONGEST_DESCRIPTION) -> str:
    """What a CA wrote, fit for a message: one line, bounded, printable, without our credentials or a final stop."""
    line = re.sub(r"\s+", " ", str(text))
    line = "".join(one for one in line if one.isprintable()).strip().rstrip(".")
    for secret in secrets:
        if secret:
            line = line.replace(secret, "…")
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
