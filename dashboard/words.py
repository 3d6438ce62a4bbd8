"""The words and colours that states are shown with, and how times and lengths read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Literal

from model.keys import KeyAlgorithm
from model.rules.modules import SyncState
from model.states import (
    AccessMethod,
    CampaignState,
    CampaignWay,
    CertificateStatus,
    ConnectionStatus,
    DelegationMode,
    InstallMode,
    InstallState,
    ItemState,
    Outcome,
    Privilege,
    Role,
)

Colour = Literal["red", "orange", "blue", "green", "violet", "gray"]


@dataclass(frozen=True)
class Look:
    """A state for people: its words, its colour, a Material icon, and what it means in one sentence."""

    words: str
    colour: Colour
    icon: str
    meaning: str


STATUS: dict[CertificateStatus, Look] = {
    CertificateStatus.REQUESTED: Look("Requested", "orange", "hourglass_top", "It awaits approval."),
    CertificateStatus.APPROVED: Look("Approved", "blue", "thumb_up", "It is approved and goes to the CA."),
    CertificateStatus.DECLINED: Look("Declined", "red", "thumb_down", "An approver declined it."),
    CertificateStatus.APPLIED: Look("Applied", "blue", "outgoing_mail", "The CA has the order."),
    CertificateStatus.ISSUED: Look("Issued", "green", "verified", "The CA issued the certificate."),
    CertificateStatus.REJECTED: Look("Rejected", "red", "block", "The CA rejected the order."),
    CertificateStatus.REVOKED: Look("Revoked", "red", "gpp_bad", "The certificate was revoked."),
    CertificateStatus.EXPIRED: Look("Expired", "gray", "event_busy", "The certificate has expired."),
    CertificateStatus.REPLACED: Look("Replaced", "gray", "published_with_changes", "A newer certificate replaced it."),
    CertificateStatus.INVALID: Look("Invalid", "red", "error", "certgate refused it; the reason is told."),
    CertificateStatus.CANCELED: Look("Canceled", "gray", "cancel", "It was canceled."),
}

INSTALL: dict[InstallState, Look] = {
    InstallState.NOT_CONFIGURED: Look("Nothing to install", "gray", "remove", "No endpoint was named."),
    InstallState.NOT_STARTED: Look("Not started", "gray", "schedule", "The gateway has not begun."),
    InstallState.KEY_PROCESSING: Look("Making the key", "blue", "key", "The gateway makes key and CSR."),
    InstallState.KEY_READY: Look("Key ready", "blue", "key", "Key and CSR are made."),
    InstallState.CERT_PROCESSING: Look("Awaiting certificate", "blue", "pending", "The CA works on it."),
    InstallState.READY_FOR_INSTALL: Look(
        "Ready to install", "violet", "download_done", "It awaits the word to install."
    ),
    InstallState.SCHEDULED: Look("Scheduled", "violet", "event", "It awaits its maintenance window."),
    InstallState.INSTALLING: Look("Installing", "blue", "build", "The gateway installs it."),
    InstallState.ACTION_REQUIRED: Look(
        "Action required", "orange", "priority_high", "A person must do something first."
    ),
    InstallState.COMPLETED: Look("Installed", "green", "check_circle", "The endpoint serves it."),
    InstallState.ROLLED_BACK: Look("Rolled back", "red", "undo", "The certificate from before is served again."),
    InstallState.FAILED: Look("Failed", "red", "error", "The last step failed; the reason is told."),
}

CONNECTION: dict[ConnectionStatus, Look] = {
    ConnectionStatus.CONNECTED: Look("Connected", "green", "link", "It is communicating with this certgate."),
    ConnectionStatus.DISCONNECTED: Look(
        "Disconnected", "red", "link_off", "It joined, and is not communicating with this certgate now."
    ),
    ConnectionStatus.PENDING: Look("Pending", "orange", "pending", "No connection has been established yet."),
}

DELEGATION: dict[DelegationMode, Look] = {
    DelegationMode.GENERAL: Look("General", "blue", "public", "It serves every organization."),
    DelegationMode.CUSTOMIZED: Look("Customized", "violet", "account_tree", "It serves whom it is delegated to."),
}

CAMPAIGN: dict[CampaignState, Look] = {
    CampaignState.DRAFT: Look("Draft", "gray", "edit_note", "Certificates are chosen; nothing is ordered yet."),
    CampaignState.RUNNING: Look("Running", "blue", "play_circle", "Certificates are being replaced."),
    CampaignState.PAUSED: Look("Paused", "orange", "pause_circle", "Nothing more is ordered until it is resumed."),
    CampaignState.COMPLETED: Look("Completed", "green", "check_circle", "Nothing is left to do."),
    CampaignState.CANCELED: Look("Canceled", "gray", "cancel", "Nothing more is ordered."),
}

ITEM: dict[ItemState, Look] = {
    ItemState.WAITING: Look("Waiting", "gray", "schedule", "Its turn has not come."),
    ItemState.RUNNING: Look("Under way", "blue", "pending", "A request replaces it."),
    ItemState.AWAITING_APPROVAL: Look("Awaits approval", "orange", "hourglass_top", "Somebody must approve it."),
    ItemState.DONE: Look("Replaced", "green", "check_circle", "The new one is in use."),
    ItemState.FAILED: Look("Failed", "red", "error", "The reason is told."),
    ItemState.SKIPPED: Look("Left out", "violet", "block", "It can't be replaced; the reason is told."),
}

CAMPAIGN_WAYS: dict[CampaignWay, str] = {
    CampaignWay.REPLACE: "Replace",
    CampaignWay.RENEW: "Renew",
    CampaignWay.MOVE: "Move to another CA or profile",
}

SYNC: dict[SyncState, Look] = {
    SyncState.NEVER: Look("Never compared", "gray", "help", "Nobody has compared the two sides yet."),
    SyncState.ASKED: Look("Asked", "blue", "schedule", "The order is kept and about to begin."),
    SyncState.COMPARING: Look("Comparing", "blue", "difference", "The gateway's file is read and compared."),
    SyncState.WAITING: Look("Waits for gateway", "orange", "hourglass_top", "It goes on when the gateway is back."),
    SyncState.WRITING: Look("Writing", "blue", "edit_document", "The gateway's file is brought up to date."),
    SyncState.COMPARED: Look("Compared", "violet", "difference", "The difference is shown; nothing was changed."),
    SyncState.DONE: Look("Same on both sides", "green", "check_circle", "Both sides agree."),
    SyncState.PARTLY: Look("Partly synced", "orange", "rule", "Something was left alone; the reason is told."),
    SyncState.CHANGED: Look("Changed meanwhile", "orange", "sync_problem", "Look at the new difference."),
    SyncState.CANCELED: Look("Canceled", "gray", "cancel", "It was canceled."),
    SyncState.REFUSED: Look("Refused", "red", "block", "Who asked may no longer do this."),
    SyncState.FAILED: Look("Failed", "red", "error", "The reason is told."),
}

OUTCOME: dict[Outcome, Look] = {
    Outcome.DONE: Look("Done", "green", "check_circle", "It was done."),
    Outcome.REFUSED: Look("Refused", "orange", "block", "Whoever wanted it may not, or not so."),
    Outcome.FAILED: Look("Failed", "red", "error", "It was tried and failed."),
}

WAY: dict[AccessMethod, str] = {
    AccessMethod.DASHBOARD: "Dashboard",
    AccessMethod.COMMAND_LINE: "Command line",
    AccessMethod.API: "API",
    AccessMethod.WORKFLOW: "Workflow",
    AccessMethod.GATEWAY: "Gateway",
}

KEYS: dict[KeyAlgorithm, str] = {
    KeyAlgorithm.EC_P256: "EC P-256",
    KeyAlgorithm.EC_P384: "EC P-384",
    KeyAlgorithm.RSA_2048: "RSA 2048",
    KeyAlgorithm.RSA_3072: "RSA 3072",
    KeyAlgorithm.RSA_4096: "RSA 4096",
    KeyAlgorithm.ED25519: "Ed25519",
}

INSTALL_MODES: dict[InstallMode, str] = {
    InstallMode.AUTO: "At once, or in the maintenance window",
    InstallMode.MANUAL: "On an administrator's word",
}


def key(name: str) -> str:
    """A key algorithm for people; an unknown one as it stands."""
    try:
        return KEYS[KeyAlgorithm(name)]
    except ValueError:
        return name


def when(moment: datetime | None, zone: tzinfo) -> str:
    """A time as people in `zone` read it, to the minute and with the zone; a dash for none."""
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z") if moment else "–"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago, or in how long, roughly; an exact time belongs beside it."""
    seconds = int((now - moment).total_seconds())
    if abs(seconds) < 60:
        return "just now" if seconds >= 0 else "in a moment"
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        count = abs(seconds) // length
        if count:
            span = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"{span} ago" if seconds > 0 else f"in {span}"
    return "just now"


def lifetime(seconds: int) -> str:
    """A validity for people: days where it is whole days."""
    days, rest = divmod(seconds, 86_400)
    if days and not rest:
        return f"{days} day{'s' if days > 1 else ''}"
    hours = round(seconds / 3600)
    return f"{hours} hour{'s' if hours != 1 else ''}"


def grouped(hexadecimal: str) -> str:
    """A fingerprint or serial number in pairs, easier to compare by eye."""
    hexadecimal = hexadecimal.zfill(len(hexadecimal) + len(hexadecimal) % 2)
    return ":".join(hexadecimal[i : i + 2] for i in range(0, len(hexadecimal), 2)).upper()


def enumerated(things: Sequence[str], most: int = 5) -> str:
    """A list in a sentence; a long one is cut with the count of the rest."""
    if len(things) <= most:
        return ", ".join(things)
    return f"{', '.join(things[:most])} and {len(things) - most} more"


# What each privilege allows, where a role that has it holds.
PRIVILEGES: dict[Privilege, tuple[str, str]] = {
    Privilege.REQUEST: ("Request", "Ask for certificates."),
    Privilege.APPROVE: ("Approve", "Approve or decline what others asked for."),
    Privilege.RENEW: ("Renew", "Start a renewal before its time, and switch renewals on and off."),
    Privilege.REPLACE: ("Replace", "Replace certificates by new ones with a new key."),
    Privilege.REVOKE: ("Revoke", "Revoke certificates; that can't be taken back."),
    Privilege.INSTALL: ("Install", "Say when a certificate is installed, and try again what failed."),
    Privilege.MANAGE_GATEWAYS: ("Manage gateways", "Add, edit and delete gateways with their endpoints and keystores."),
    Privilege.MANAGE_DELEGATION: ("Manage delegation", "Say which organizations and departments a gateway serves."),
    Privilege.VIEW_AUDIT: ("View audit", "Read the audit trail."),
    Privilege.AUTO_APPROVE: (
        "Auto-approve",
        "His own requests need nobody else, where the approval policy says that this privilege counts.",
    ),
}

ROLES: dict[Role, tuple[str, str]] = {
    Role.MRAO: ("MRAO: everything", "May do everything everywhere, and is the only one to manage administrators."),
    Role.RAO: ("RAO: organizations", "Acts in the chosen organizations with all their departments."),
    Role.DRAO: ("DRAO: departments", "Acts in the chosen departments only."),
}
