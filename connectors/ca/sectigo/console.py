"""The calls of Sectigo's REST interface that we use, with typed answers. Each raises `Refused` where the CA says no."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.ca.contract import RevocationReason
from connectors.ca.sectigo import answers
from connectors.ca.sectigo.answers import CustomField, Details, Line, Page, Profile
from connectors.ca.sectigo.session import Session, segment
from connectors.ca.sectigo.settings import Settings
from connectors.errors import NameValidation
from connectors.registry import Surroundings
from connectors.web import Answer

LONGEST_REASON = 512
# Profiles change when somebody edits them in the console: seldom.
_PROFILES_LAST = timedelta(minutes=10)
REASON_CODES = {
    RevocationReason.UNSPECIFIED: "0",
    RevocationReason.KEY_COMPROMISE: "1",
    RevocationReason.AFFILIATION_CHANGED: "3",
    RevocationReason.SUPERSEDED: "4",
    RevocationReason.CESSATION_OF_OPERATION: "5",
}


class Console:
    """The account as Sectigo Certificate Manager shows it."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self.session = Session(settings, surroundings)
        self._settings = settings
        self._clock = surroundings.clock
        self._ssl = f"/ssl/{settings.api_version}"
        self._profiles: tuple[datetime, list[Profile]] | None = None

    # What the account has

    async def profiles(self, *, anew: bool = False) -> list[Profile]:
        """The certificate profiles of the organization, at most ten minutes old."""
        now = self._clock()
        if anew or self._profiles is None or not self._profiles[0] <= now < self._profiles[0] + _PROFILES_LAST:
            query = {"organizationId": self._settings.organization_id}
            self._profiles = now, answers.profiles(await self.session.get(f"{self._ssl}/types", query))
        return self._profiles[1]

    async def custom_fields(self) -> list[CustomField]:
        """The custom fields of orders."""
        return answers.custom_fields(await self.session.get(f"{self._ssl}/customFields"))

    async def organization(self) -> str | None:
        """What our organization or department is called; None: we don't see it."""
        wanted = self._settings.organization_id
        return answers.organization(await self.session.get("/organization/v1"), wanted)

    # Orders

    async def page(self, position: int, filters: Mapping[str, str | int]) -> Page:
        """Lines of the list from `position` on."""
        query = {"size": self._settings.page_size, "position": position, **filters}
        return answers.page(await self.session.get(self._ssl, query))

    async def lines(self, filters: Mapping[str, str | int]) -> AsyncIterator[Line]:
        """All lines of the list, each once, in the list's order."""
        seen: set[int] = set()
        position = 0
        while True:
            page = await self.page(position, filters)
            new = [line for line in page.lines if line.id not in seen]
            for line in new:
                seen.add(line.id)
                yield line
            position += len(page.lines)
            full = len(page.lines) >= self._settings.page_size
            if not new or (position >= page.total if page.total is not None else not full):
                return

    async def details(self, order: int) -> Details:
        """One order."""
        return answers.details(await self.session.get(f"{self._ssl}/{order}"))

    async def known(self, order: int) -> Details | None:
        """One order; None where there is none of that number."""
        answer = await self.session.look(f"{self._ssl}/{order}")
        return answers.details(answer) if answer else None

    async def validations(self, order: int) -> list[NameValidation]:
        """Where the CA stands with the names of an order."""
        answer = await self.session.look(f"{self._ssl}/{order}/dcv")
        return answers.validations(answer) if answer else []

    async def enroll(self, body: Mapping[str, Any]) -> int:
        """Place an order; gives its id."""
        return answers.order_id(await self.session.post(f"{self._ssl}/enroll", body))

    async def renew(self, order: int, csr_pem: str) -> int:
        """Order a renewal; gives the id of the new order."""
        body = {"csr": csr_pem, **self.dcv()}
        return answers.order_id(await self.session.post(f"{self._ssl}/renewById/{order}", body))

    async def replace(self, order: int, csr_pem: str, common_name: str, names: Sequence[str], reason: str) -> None:
        """Order another certificate within an order. Its id stays."""
        body = {
            "csr": csr_pem,
            "commonName": common_name,
            "subjectAlternativeNames": list(names),
            "reason": reason[:LONGEST_REASON],
            **self.dcv(),
        }
        await self.session.post(f"{self._ssl}/replace/{order}", body)

    async def tag(self, order: Details, external_requester: str, comments: str) -> None:
        """Write an order's external requester and comments."""
        body = {"sslId": order.id, "comments": comments, "externalRequester": external_requester}
        await self.session.put(self._ssl, body)

    async def approve(self, order: int, message: str) -> None:
        """Approve an order that is Requested."""
        await self.session.post(f"{self._ssl}/approve/{order}", {"message": message[:LONGEST_REASON]})

    async def decline(self, order: int, message: str) -> None:
        """Decline an order that is Requested."""
        await self.session.post(f"{self._ssl}/decline/{order}", {"message": message[:LONGEST_REASON]})

    async def delete(self, order: int) -> None:
        """Delete an order."""
        await self.session.delete(f"{self._ssl}/{order}")

    async def collect(self, order: int, format_name: str) -> Answer:
        """The certificate as bytes."""
        return await self.session.get(f"{self._ssl}/collect/{order}", {"format": format_name})

    async def revoke(self, order: int, reason: RevocationReason) -> None:
        """Revoke the certificate that an order has now."""
        await self.session.post(f"{self._ssl}/revoke/{order}", _revocation(reason))

    async def revoke_serial(self, serial_number: str, reason: RevocationReason) -> None:
        """Revoke by serial number, lower-case hex."""
        # Whole bytes, as the console writes them.
        spelled = serial_number.upper().zfill(len(serial_number) + len(serial_number) % 2)
        await self.session.post(f"{self._ssl}/revoke/serial/{segment(spelled)}", _revocation(reason))

    def dcv(self) -> dict[str, str]:
        """How domains are to be validated, if that is set."""
        s = self._settings
        mode = {"dcvMode": s.dcv_mode} if s.dcv_mode else {}
        return {**mode, **({"dcvEmail": s.dcv_email} if s.dcv_email and s.dcv_mode == "EMAIL" else {})}


def _revocation(reason: RevocationReason) -> dict[str, str]:
    return {"reasonCode": REASON_CODES[reason], "reason": f"Revoked by certgate: {reason}."}


def utc(moment: datetime) -> str:
    """A time in messages."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
