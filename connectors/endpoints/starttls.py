"""How TLS begins on a connection that first speaks its own protocol."""

from __future__ import annotations

from enum import StrEnum


class StartTls(StrEnum):
    """The protocols that are spoken before the TLS handshake."""

    SMTP = "smtp"
    IMAP = "imap"
    POP3 = "pop3"
    LDAP = "ldap"
    POSTGRESQL = "postgresql"
