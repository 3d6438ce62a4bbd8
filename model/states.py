"""States of the records, in the vendor console's own terms."""

from __future__ import annotations

from enum import StrEnum


class CertificateStatus(StrEnum):
    """Where a request stands between the administrator and the CA."""

    REQUESTED = "REQUESTED"
    APPROVED = "APPROVED"
    DECLINED = "DECLINED"
    APPLIED = "APPLIED"
    ISSUED = "ISSUED"
    REJECTED = "REJECTED"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    REPLACED = "REPLACED"
    INVALID = "INVALID"
    CANCELED = "CANCELED"


class InstallState(StrEnum):
    """Where a request stands between the gateway and the endpoint."""

    NOT_CONFIGURED = "NOT_CONFIGURED"
    NOT_STARTED = "NOT_STARTED"
    KEY_PROCESSING = "KEY_PROCESSING"
    KEY_READY = "KEY_READY"
    CERT_PROCESSING = "CERT_PROCESSING"
    READY_FOR_INSTALL = "READY_FOR_INSTALL"
    SCHEDULED = "SCHEDULED"
    INSTALLING = "INSTALLING"
    ACTION_REQUIRED = "ACTION_REQUIRED"
    COMPLETED = "COMPLETED"
    ROLLED_BACK = "ROLLED_BACK"
    FAILED = "FAILED"


class OrderWay(StrEnum):
    """What a request is to the CA: a first certificate, the renewal of an earlier one, or its replacement before its
    time (a reissue, where the CA has that)."""

    NEW = "new"
    RENEW = "renew"
    REPLACE = "replace"


class CampaignWay(StrEnum):
    """What a replacement campaign does with each certificate: replace it before its time, renew it, or have it issued
    by another CA or by another profile."""

    REPLACE = "replace"
    RENEW = "renew"
    MOVE = "move"


class CampaignState(StrEnum):
    """Where a replacement campaign stands."""

    DRAFT = "DRAFT"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


class ItemState(StrEnum):
    """Where one certificate of a replacement campaign stands. Done: the new one is in use, as a handshake showed where
    something serves it."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    DONE = "DONE"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class RequestOrigin(StrEnum):
    """How a request came to be: made here, written down for a certificate that the CA issued elsewhere, or made to put
    the certificate back that was in use before."""

    SUBMITTED = "submitted"
    IMPORTED = "imported"
    ROLLBACK = "rollback"


class KeyPlace(StrEnum):
    """Where the private key of a request was made: in the gateway's keystore, from which it is copied to the endpoint;
    in a keystore that gives no key away (an HSM); at the endpoint itself."""

    GATEWAY = "gateway"
    HSM = "hsm"
    ENDPOINT = "endpoint"


class DelegationMode(StrEnum):
    """Whom a gateway serves: every organization, or those it is delegated to."""

    GENERAL = "GENERAL"
    CUSTOMIZED = "CUSTOMIZED"


class Role(StrEnum):
    """Kinds of administrator: of everything, of organizations, of departments."""

    MRAO = "MRAO"
    RAO = "RAO"
    DRAO = "DRAO"


class Privilege(StrEnum):
    """What a role assignment allows."""

    REQUEST = "request"
    APPROVE = "approve"
    RENEW = "renew"
    REPLACE = "replace"
    REVOKE = "revoke"
    INSTALL = "install"
    MANAGE_GATEWAYS = "manage_gateways"
    MANAGE_DELEGATION = "manage_delegation"
    VIEW_AUDIT = "view_audit"
    AUTO_APPROVE = "auto_approve"


class Verdict(StrEnum):
    """What an approver says."""

    APPROVE = "approve"
    DECLINE = "decline"


class InstallMode(StrEnum):
    """When an issued certificate is installed: at once (or in the window), or on an administrator's word."""

    AUTO = "auto"
    MANUAL = "manual"


class AccessMethod(StrEnum):
    """The way an act came in, as the audit shows it."""

    DASHBOARD = "dashboard"
    COMMAND_LINE = "command line"
    API = "api"
    WORKFLOW = "workflow"
    GATEWAY = "gateway"


class Outcome(StrEnum):
    """How an audited act ended."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class EndpointStatus(StrEnum):
    """What is known about an endpoint."""

    INIT = "INIT"
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    RESTART_REQUIRED = "RESTART_REQUIRED"


class ConnectionStatus(StrEnum):
    """Whether a gateway's worker is there, as the engine says it. Pending: it never joined and was never seen."""

    CONNECTED = "Connected"
    DISCONNECTED = "Disconnected"
    PENDING = "Pending"


class SightingWay(StrEnum):
    """How a certificate was seen: served by a binding of an endpoint, kept in a keystore, or found in the network."""

    ENDPOINT = "endpoint"
    KEYSTORE = "keystore"
    NETWORK = "network"


class ScanState(StrEnum):
    """Where a network scan is: in its turn soon, being carried out, or at its end."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"
