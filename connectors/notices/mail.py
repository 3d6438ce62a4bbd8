"""E-mail by a server that takes it in (submission, RFC 6409), with STARTTLS (RFC 3207) or TLS from the start."""

from __future__ import annotations

import asyncio
import hashlib
import smtplib
import ssl
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

from connectors.errors import ConnectorError, Permanent, Retryable
from connectors.notices.contract import Notice, trust
from connectors.notices.settings import EmailSettings

_PATIENCE = 15.0  # seconds, for each answer


class Mail:
    """One server."""

    def __init__(self, settings: EmailSettings, secret: Callable[[str], bytes], ca_file: Path | None) -> None:
        self._settings, self._secret, self._ca_file = settings, secret, ca_file

    async def send(self, notice: Notice, address: str) -> None:
        """Send it to one address. A mailbox that is refused for good (5xx) is not tried again."""
        await asyncio.to_thread(self._with_server, lambda server: self._hand_over(server, notice, address))

    async def check(self) -> str:
        """Connect, secure and sign in; nothing is sent."""
        await asyncio.to_thread(self._with_server, lambda _: None)
        signed = f", signed in as {self._settings.user}" if self._settings.user else ""
        return f"The mail server {self._where()} answers{signed}."

    def _with_server(self, act: Callable[[smtplib.SMTP], None]) -> None:
        server: smtplib.SMTP | None = None
        try:
            server = self._connect()
            self._prepare(server)
            act(server)
        except ConnectorError:
            raise
        except smtplib.SMTPAuthenticationError as error:
            # Its words may repeat what was sent.
            raise Retryable(f"The mail server {self._where()} refuses the login ({error.smtp_code}).") from None
        except smtplib.SMTPNotSupportedError:
            raise Retryable(f"The mail server {self._where()} does not offer what the settings want.") from None
        except smtplib.SMTPResponseException as error:
            raise Retryable(f"The mail server {self._where()} answered {error.smtp_code}.") from None
        except ssl.SSLCertVerificationError as error:
            raise Retryable(
                f"The mail server {self._where()} shows a certificate that is not trusted ({error.verify_message}); "
                "see notifications.ca_file."
            ) from None
        except TimeoutError:
            raise Retryable(f"The mail server {self._where()} did not answer within {_PATIENCE:.0f} s.") from None
        except (OSError, smtplib.SMTPException) as error:
            why = getattr(error, "strerror", None) or "the connection was cut"
            raise Retryable(f"The mail server {self._where()} can't be reached: {why}.") from None
        finally:
            if server is not None:
                with suppress(OSError, smtplib.SMTPException):
                    server.quit()
                server.close()

    def _connect(self) -> smtplib.SMTP:
        place = (self._settings.server, self._settings.port)
        if self._settings.security == "tls":
            return smtplib.SMTP_SSL(*place, timeout=_PATIENCE, context=trust(self._ca_file))
        return smtplib.SMTP(*place, timeout=_PATIENCE)

    def _prepare(self, server: smtplib.SMTP) -> None:
        server.ehlo()
        if self._settings.security == "starttls":
            if not server.has_extn("starttls"):
                raise Retryable(
                    f"The mail server {self._where()} does not offer STARTTLS: set security to tls, or none on a line "
                    "that nobody else can read."
                )
            server.starttls(context=trust(self._ca_file))
            server.ehlo()
        if self._settings.user is not None and self._settings.password is not None:
            try:
                password = self._secret(self._settings.password).decode()
            except UnicodeDecodeError:
                raise Permanent(f"What {self._settings.password} holds is no text.") from None
            server.login(self._settings.user, password)

    def _hand_over(self, server: smtplib.SMTP, notice: Notice, address: str) -> None:
        try:
            server.send_message(self._message(notice, address), self._settings.sender, [address])
        except smtplib.SMTPRecipientsRefused as refused:
            codes = [code for code, _ in refused.recipients.values()]
            told = f"The mail server {self._where()} refuses mail to {address} ({codes[0] if codes else 'no reason'})."
            if codes and all(code >= 500 for code in codes):
                raise Permanent(told) from None
            raise Retryable(told) from None

    def _message(self, notice: Notice, address: str) -> EmailMessage:
        message = EmailMessage(policy=SMTP)
        message["From"], message["To"] = self._settings.sender, address
        message["Subject"] = " ".join(f"[certgate] {notice.subject}".split())
        message["Date"] = format_datetime(notice.created_at)
        # The same at each attempt: who gets it twice can see that.
        digest = hashlib.sha256(address.casefold().encode()).hexdigest()[:16]
        message["Message-ID"] = f"<{notice.key}.{digest}@{self._settings.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834 section 5: no out-of-office answers
        message.set_content(notice.text + (f"\n\n{notice.link}" if notice.link else "") + "\n")
        return message

    def _where(self) -> str:
        return f"{self._settings.server}:{self._settings.port}"
