"""The import from a CA's own list: reading the list, fetching what was chosen, and keeping both."""

from __future__ import annotations

import asyncio
from datetime import datetime

from sqlmodel import Session, col, func, select
from temporalio import activity

from activities import inventory
from activities.failures import as_failures, heartbeating
from activities.orders import Orders
from activities.records import Clock, Records, authority_access, step_key
from connectors.ca.contract import ListsCertificates
from connectors.errors import AuthorityFault, Permanent
from model import audit
from model.database import Database
from model.messages import (
    AuthorityAccess,
    Chosen,
    ChosenCertificate,
    EndImport,
    FetchChosen,
    FetchedCertificate,
    FetchHere,
    ImportAdmission,
    ImportResult,
    ImportStart,
    KeepFetched,
    KeepPage,
    ListedLine,
    ListedPage,
    ListPage,
    ListPageHere,
    PageKept,
    Taken,
)
from model.naming import gateway_queue
from model.states import AccessMethod, Outcome
from model.tables import (
    Administrator,
    Certificate,
    CertificateAuthority,
    CertificateImport,
    CertificateRequest,
    Gateway,
    ListedCertificate,
)

# A longer list is cut, and that is said: whoever has more takes these and imports again.
MOST_LISTED = 50_000
# A part of a page that travels; some CAs have pages of any length.
_LINES = 500
_FETCHED = 25
_AT_ONCE = 4


class Lists:
    """Runs where the CA is reached from."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    @activity.defn(name="imports.list_page")
    async def list_page(self, wanted: ListPage) -> ListedPage:
        """A part of the CA's list."""
        with as_failures():
            async with heartbeating(lambda: f"reading the list of {wanted.authority.name}"):
                return await self.page(wanted)

    @activity.defn(name="imports.fetch")
    async def fetch(self, wanted: FetchChosen) -> list[FetchedCertificate]:
        """The certificates; one that the CA does not give is told and stops no other."""
        with as_failures():
            async with heartbeating(lambda: f"fetching from {wanted.authority.name}"):
                return await self.certificates(wanted)

    async def page(self, wanted: ListPage) -> ListedPage:
        """The same, for a step that reads and keeps at once."""
        found = await self._listing(wanted.authority).certificates(wanted.page)
        part = found.certificates[wanted.offset : wanted.offset + _LINES]
        lines = [
            ListedLine(
                one.order_number,
                one.common_name,
                one.serial_number,
                list(one.names),
                one.status,
                one.profile,
                one.not_after,
            )
            for one in part
        ]
        if wanted.offset + _LINES < len(found.certificates):
            return ListedPage(lines, wanted.page, wanted.offset + _LINES, False, found.total)
        if found.next is not None and found.next == wanted.page:
            raise AuthorityFault(f"{wanted.authority.name} gives the same page of its list again and again.")
        return ListedPage(lines, found.next, 0, found.next is None, found.total)

    async def certificates(self, wanted: FetchChosen) -> list[FetchedCertificate]:
        """The same, for a step that fetches and keeps at once."""
        authority, turns = self._listing(wanted.authority), asyncio.Semaphore(_AT_ONCE)

        async def one(line: ChosenCertificate) -> FetchedCertificate:
            async with turns:
                try:
                    issued = await authority.certificate(line.order_number)
                except (Permanent, AuthorityFault) as error:
                    return FetchedCertificate(line.line_id, problem=error.message)
            return FetchedCertificate(line.line_id, issued.certificate_pem, list(issued.chain_pem))

        return list(await asyncio.gather(*(one(line) for line in wanted.lines)))

    def _listing(self, access: AuthorityAccess) -> ListsCertificates:
        authority = self._orders.authority(access)
        if not isinstance(authority, ListsCertificates):
            raise Permanent(f"CA {access.name} can't list its certificates: import them from files.")
        return authority


class Imports(Records):
    """Steps on the manager's records."""

    @activity.defn(name="records.admit_import")
    def admit_import(self, start: ImportStart) -> ImportAdmission:
        """What is to be done, judged again."""
        with self.reading() as session:
            row = session.get(CertificateImport, start.import_id)
            if row is None or row.state not in ("listing", "taking"):
                return ImportAdmission(f"There is nothing to do for import {start.import_id}.")
            refused = inventory.refusal(session, row)
            if refused is not None:
                return ImportAdmission(refused, row.state)
            authority = session.get_one(CertificateAuthority, row.authority_id)
            gateway = session.get_one(Gateway, row.gateway_id)
            far = authority.reached_from == "gateway"
            return ImportAdmission(
                refused=None,
                step=row.state,
                ca=authority.name,
                gateway=gateway.name,
                authority=authority_access(authority),
                queue=gateway_queue(row.gateway_id, gateway.channel) if far else None,
            )

    @activity.defn(name="records.keep_page")
    def keep_page(self, came: KeepPage) -> PageKept:
        """Keep a part of the list; what we have already is marked."""
        with self.writing() as session:
            row = session.get_one(CertificateImport, came.import_id)
            of = ListedCertificate.import_id == came.import_id
            there = session.exec(select(func.count()).select_from(ListedCertificate).where(of)).one()
            fresh = self._fresh(session, came)[: max(MOST_LISTED - there, 0)]
            known = _known(session, row.authority_id, fresh)
            for line in fresh:
                number = known.get(("serial", line.serial_number)) or known.get(("order", line.order_number))
                state, note = _judged(line, number, self._clock())
                session.add(
                    ListedCertificate(
                        import_id=came.import_id,
                        order_number=line.order_number,
                        serial_number=line.serial_number[:40],
                        common_name=line.common_name[:253],
                        names=line.names,
                        status=line.status[:64],
                        profile=line.profile[:256],
                        not_after=line.not_after,
                        state=state,
                        note=note,
                        certificate_id=number,
                    )
                )
            row.total, row.updated_at = came.page.total, self._clock()
            session.add(row)
            full = there + len(fresh) >= MOST_LISTED
            return PageKept(came.page.page, came.page.offset, came.page.over or full)

    def _fresh(self, session: Session, came: KeepPage) -> list[ListedLine]:
        """Lines that are not kept yet: a step may run twice, and a list may have a line twice."""
        numbers = [line.order_number[:128] for line in came.page.lines]
        statement = select(ListedCertificate.order_number, ListedCertificate.serial_number).where(
            ListedCertificate.import_id == came.import_id, col(ListedCertificate.order_number).in_(numbers)
        )
        there = set(session.exec(statement).all())
        fresh = []
        for line in came.page.lines:
            key = (line.order_number, line.serial_number[:40])
            if line.order_number and len(line.order_number) <= 128 and key not in there:
                there.add(key)
                fresh.append(line)
        return fresh

    @activity.defn(name="records.next_chosen")
    def next_chosen(self, start: ImportStart) -> Chosen:
        """The next lines that are to be taken."""
        with self.reading() as session:
            statement = (
                select(ListedCertificate)
                .where(ListedCertificate.import_id == start.import_id, ListedCertificate.state == "chosen")
                .order_by(col(ListedCertificate.id))
                .limit(_FETCHED)
            )
            rows = session.exec(statement).all()
            return Chosen([ChosenCertificate(row.id or 0, row.order_number) for row in rows])

    @activity.defn(name="records.keep_fetched")
    def keep_fetched(self, came: KeepFetched) -> Taken:
        """Check each certificate and take it into the inventory, once."""
        with self.writing() as session:
            row, now = session.get_one(CertificateImport, came.import_id), self._clock()
            watch, taken = [], 0
            for fetched in came.fetched:
                line = session.get_one(ListedCertificate, fetched.line_id)
                if line.state != "chosen":
                    continue
                verdict = inventory.Verdict("refused", fetched.problem)
                if fetched.problem is None:
                    given = inventory.Given(fetched.certificate_pem, fetched.chain_pem, line.order_number)
                    verdict = inventory.take(session, row, given, now)
                line.state, line.note, line.certificate_id = verdict.state, verdict.note, verdict.certificate_id
                session.add(line)
                if verdict.state == "imported" and verdict.certificate_id is not None:
                    taken += 1
                    watch += [verdict.certificate_id] if row.auto_renew else []
            row.updated_at = now
            session.add(row)
            return Taken(taken, watch)

    @activity.defn(name="records.end_import")
    def end_import(self, ended: EndImport) -> ImportResult:
        """Say how it ended, with its counts."""
        with self.writing() as session:
            row = session.get_one(CertificateImport, ended.import_id)
            counts = _counts(session, ended.import_id)
            if row.state != ended.step or self.told(session, "certificate.imported"):
                # This very step ran before, and an administrator may have said something new since.
                return ImportResult(ended.import_id, row.state, row.message or "")
            authority = session.get(CertificateAuthority, row.authority_id)
            ca = authority.name if authority else "(removed)"
            if ended.problem is not None:
                row.state, row.message = "failed", ended.problem
            elif ended.step == "listing":
                row.state = "listed"
                row.message = (
                    f"CA {ca} lists {sum(counts.values())} certificates, {counts.get('known', 0)} of them known."
                )
                if sum(counts.values()) >= MOST_LISTED:
                    row.message += f" More than {MOST_LISTED} are not listed: import these, and then again."
            else:
                row.state, row.message = "done", _summary(ca, counts)
            row.updated_at = self._clock()
            session.add(row)
            if row.state != "listed":
                administrator = session.get(Administrator, row.administrator_id)
                act = audit.Act(
                    actor=administrator.login if administrator else "certgate",
                    access_method=AccessMethod.WORKFLOW,
                    action="certificate.imported" if row.state == "done" else "certificate.import_failed",
                    object_type="import",
                    object_id=row.id,
                    gateway_id=row.gateway_id,
                    organization_id=row.organization_id,
                    department_id=row.department_id,
                    description=row.message or "",
                    outcome=Outcome.DONE if row.state == "done" else Outcome.FAILED,
                    once=step_key("certificate.imported"),
                )
                audit.append(session, act, self._clock())
            return ImportResult(ended.import_id, row.state, row.message or "")


class ImportsHere:
    """The steps of the manager that ask the CA and keep what it said, so that neither travels."""

    def __init__(self, database: Database, clock: Clock, lists: Lists) -> None:
        self._database, self._records, self._lists = database, Imports(database, clock), lists

    @activity.defn(name="imports.list_here")
    async def list_here(self, wanted: ListPageHere) -> PageKept:
        """Read a part of the list, and keep it."""
        with as_failures():
            async with heartbeating(lambda: f"reading the list for import {wanted.import_id}"):
                authority = await asyncio.to_thread(self._authority, wanted.import_id)
                page = await self._lists.page(ListPage(authority, wanted.page, wanted.offset))
                return await asyncio.to_thread(self._records.keep_page, KeepPage(wanted.import_id, page))

    @activity.defn(name="imports.take_here")
    async def take_here(self, wanted: FetchHere) -> Taken:
        """Fetch certificates, and take them."""
        with as_failures():
            async with heartbeating(lambda: f"fetching for import {wanted.import_id}"):
                authority = await asyncio.to_thread(self._authority, wanted.import_id)
                fetched = await self._lists.certificates(FetchChosen(authority, wanted.lines))
                return await asyncio.to_thread(self._records.keep_fetched, KeepFetched(wanted.import_id, fetched))

    def _authority(self, import_id: int) -> AuthorityAccess:
        with self._database.read() as session:
            row = session.get_one(CertificateImport, import_id)
            return authority_access(session.get_one(CertificateAuthority, row.authority_id))


def _known(session: Session, authority_id: int, lines: list[ListedLine]) -> dict[tuple[str, str], int]:
    """Certificates of this CA that we have: by serial number, and by order where the list tells no serial number."""
    serials = [line.serial_number for line in lines if line.serial_number]
    orders = [line.order_number for line in lines if not line.serial_number]
    joined = (
        select(Certificate.id, Certificate.serial_number, CertificateRequest.order_number)
        .join(CertificateRequest, col(CertificateRequest.id) == col(Certificate.request_id))
        .where(CertificateRequest.authority_id == authority_id)
    )
    found: dict[tuple[str, str], int] = {}
    for number, serial, _ in session.exec(joined.where(col(Certificate.serial_number).in_(serials))).all():
        found["serial", serial] = number or 0
    for number, _, order in session.exec(joined.where(col(CertificateRequest.order_number).in_(orders))).all():
        found["order", order or ""] = number or 0
    return found


def _judged(line: ListedLine, known: int | None, now: datetime) -> tuple[str, str | None]:
    """What becomes of a line by what the list alone says: what is over is not worth fetching."""
    if known is not None:
        return "known", f"It is certificate {known} already."
    if line.status.strip().lower() == "revoked":
        return "refused", "The CA has revoked it."
    if line.not_after is not None and line.not_after <= now:
        return "refused", f"It expired on {line.not_after:%Y-%m-%d %H:%M} UTC."
    return "new", None


def _counts(session: Session, import_id: int) -> dict[str, int]:
    statement = (
        select(ListedCertificate.state, func.count())
        .where(ListedCertificate.import_id == import_id)
        .group_by(ListedCertificate.state)
    )
    return dict(session.exec(statement).all())


def _summary(ca: str, counts: dict[str, int]) -> str:
    told = f"{counts.get('imported', 0)} certificates of CA {ca} were imported"
    told += f", {counts['refused']} were refused" if counts.get("refused") else ""
    return told + f", {counts.get('known', 0)} were known, {counts.get('new', 0)} were left."
