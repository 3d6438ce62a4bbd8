"""A CA is asked, from where it is reached, whether it can be used."""

from __future__ import annotations

from dataclasses import dataclass, field

from model.messages.requests import AuthorityAccess


@dataclass(frozen=True)
class AuthorityCheckStart:
    """Have a gateway ask a CA; `asked_by` is for the audit."""

    authority_id: int
    gateway_id: int
    asked_by: str


@dataclass(frozen=True)
class AuthorityCheckAdmission:
    """The CA, and the task queue that the gateway listens on now."""

    gateway: str
    queue: str
    authority: AuthorityAccess


@dataclass(frozen=True)
class CheckAuthority:
    """Ask a CA, without buying anything."""

    authority: AuthorityAccess


@dataclass(frozen=True)
class AuthorityDetail:
    """One line that a CA told of itself."""

    label: str
    text: str


@dataclass(frozen=True)
class AuthorityHealth:
    """What the CA answered; one whose connector fails is not usable."""

    usable: bool
    message: str
    details: list[AuthorityDetail] = field(default_factory=list)
