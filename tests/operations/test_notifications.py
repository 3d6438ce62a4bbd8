"""What people are told of gateways that are away: when, whom, by which way, and until it came."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlmodel import Session, col, select

from connectors.notices.settings import EmailSettings, NotificationSettings, WebhookSettings
from connectors.secrets import resolve
from model import access
from model.errors import InvalidInput, NotFound
from model.states import ConnectionStatus, Role
from model.tables import (
    Administrator,
    Certificate,
    CertificateRequest,
    Delegation,
    Gateway,
    Notification,
    NotificationDelivery,
    RoleAssignment,
)
from operations import absence, delivery, notifications
from operations.notifications import Filter, Sent
from tests import pki
from tests.operations.conftest import NOW, Records
from tests.support.receivers import MailReceiver, WebReceiver, mail_receiver, web_receiver

SECOND = timedelta(seconds=1)
AWAY_SINCE = NOW - timedelta(minutes=10)
DEFAULTS = NotificationSettings()
ALPHA, WEB, BETA, GENERAL = 2, 3, 4, 1


@pytest.fixture
def away(records: Records) -> Records:
    """Every gateway is away; alpha has an open request. Nobody was told of anything."""
    with records.database.write() as session:
        for row in session.exec(select(Notification)).all():
            session.delete(row)
        for gateway in session.exec(select(Gateway)).all():
            gateway.told_status, gateway.status_since = ConnectionStatus.DISCONNECTED, AWAY_SINCE
            gateway.last_activity = AWAY_SINCE - 15 * SECOND
            session.add(gateway)
        certificate = session.get_one(Certificate, 1)
        certificate.auto_renew = False
        session.add(certificate)
    return records


def told(records: Records) -> list[Notification]:
    with records.database.read() as session:
        return list(session.exec(select(Notification).order_by(col(Notification.id))).all())


def come_back(records: Records, gateway_id: int, settings: NotificationSettings = DEFAULTS) -> None:
    """As the watch does it."""
    with records.database.write() as session:
        row = session.get_one(Gateway, gateway_id)
        assert row.status_since is not None
        since, row.told_status, row.status_since = row.status_since, ConnectionStatus.CONNECTED, NOW
        scope = access.scope_of_gateway(session, row)
        absence.tell_back(session, settings, [absence.Return(gateway_id, row.name, scope, since)], NOW)


def test_an_absence_and_its_end_are_told_once_each(away: Records) -> None:
    assert absence.tell_away(away.database, DEFAULTS, NOW) == 1
    assert absence.tell_away(away.database, DEFAULTS, NOW + 60 * SECOND) == 0
    come_back(away, ALPHA)
    come_back(away, BETA)
    gone, back = told(away)
    assert (gone.subject, back.subject) == ("Gateway alpha is away", "Gateway alpha is back")
    assert "since 2026-11-23 11:49:45 UTC, and 1 open request waits for it" in gone.text
    assert "after 10 minutes" in back.text
    assert (gone.organization_id, gone.department_id, gone.gateway_id) == (1, None, ALPHA)
    # The next time is another event.
    with away.database.write() as session:
        row = session.get_one(Gateway, ALPHA)
        row.told_status, row.status_since = ConnectionStatus.DISCONNECTED, NOW
    assert absence.tell_away(away.database, DEFAULTS, NOW + 59 * SECOND) == 0
    assert absence.tell_away(away.database, DEFAULTS, NOW + 60 * SECOND) == 1


def test_a_renewal_that_comes_near_is_open_work(away: Records) -> None:
    with away.database.write() as session:
        session.get_one(CertificateRequest, 1).closed = True
        certificate = session.get_one(Certificate, 1)
        certificate.auto_renew, certificate.renew_at = True, NOW + timedelta(days=7)
    assert absence.tell_away(away.database, DEFAULTS, NOW - SECOND) == 0
    assert absence.tell_away(away.database, DEFAULTS, NOW) == 1
    assert "1 certificate to be renewed within 7 days waits for it" in told(away)[0].text


@pytest.mark.parametrize("change", ["inactive", "deleted", "no work", "connected"])
def test_nobody_is_told_of_a_gateway_that_matters_to_nobody(away: Records, change: str) -> None:
    with away.database.write() as session:
        row = session.get_one(Gateway, ALPHA)
        row.active = change != "inactive"
        row.name_key = "#2" if change == "deleted" else row.name_key
        row.told_status = ConnectionStatus.CONNECTED if change == "connected" else row.told_status
        session.get_one(CertificateRequest, 1).closed = change == "no work"
    assert absence.tell_away(away.database, DEFAULTS, NOW) == 0


@pytest.mark.parametrize(
    ("serves", "readers"),
    [
        ("alpha", {"mrao", "rao", "bare"}),
        ("web", {"mrao", "rao", "bare", "drao"}),
        ("both", {"mrao"}),
        ("general", {"mrao"}),
    ],
)
def test_who_reads_it_is_who_reads_it_in_the_audit(away: Records, serves: str, readers: set[str]) -> None:
    number = {"alpha": ALPHA, "web": WEB, "both": ALPHA, "general": GENERAL}[serves]
    with away.database.write() as session:
        session.get_one(CertificateRequest, 1).gateway_id = number
        if serves == "both":
            session.add(Delegation(gateway_id=ALPHA, organization_id=2))
    assert absence.tell_away(away.database, DEFAULTS, NOW) == 1
    everybody = {"mrao", "rao", "bare", "drao", "stranger"}
    assert {login for login in everybody if notifications.listing(away.acting(login)).total} == readers
    # Others' names stand nowhere in it.
    row = notifications.listing(away.acting("mrao")).rows[0]
    assert not {"Alpha", "Beta", "Web"} & set(row.text.replace(",", " ").split())


def test_seen_is_each_ones_own(records: Records) -> None:
    rao, mrao = records.acting("rao"), records.acting("mrao")
    assert (notifications.unseen(rao), notifications.unseen(mrao)) == (1, 3)
    with pytest.raises(NotFound, match="notification 2"):
        notifications.mark_seen(rao, [1, 2])
    assert notifications.unseen(rao) == 1
    assert notifications.mark_seen(rao, [1]) == 1
    assert notifications.mark_seen(rao, [1]) == 0
    assert (notifications.unseen(rao), notifications.unseen(mrao)) == (0, 3)
    assert notifications.listing(rao, Filter(unseen=True)).total == 0
    assert notifications.listing(rao).rows[0].seen
    assert notifications.mark_seen(mrao) == 3
    with pytest.raises(InvalidInput, match="500"):
        notifications.mark_seen(mrao, range(501))


def test_many_are_paged_searched_and_cleaned_up(records: Records) -> None:
    with records.database.write() as session:
        rows = [
            Notification(
                kind="gateway.away",
                once=f"many/{number}",
                subject=f"No. {number}%",
                text="x",
                created_at=NOW + timedelta(hours=number),
            )
            for number in range(2000)
        ]
        session.add_all(rows)
    mrao = records.acting("mrao")
    page = notifications.listing(mrao, offset=50, limit=50)
    assert (page.total, len(page.rows), page.rows[0].subject) == (2003, 50, "No. 1949%")
    assert notifications.listing(mrao, Filter(search="no. 77%")).total == 1
    assert notifications.unseen(mrao) == notifications.MOST_COUNTED
    assert notifications.mark_seen(mrao) == 2003
    assert delivery.forget_old(records.database, DEFAULTS, NOW + timedelta(days=90, seconds=1)) == 4
    assert notifications.listing(mrao).total == 1999


# --- by which way -----------------------------------------------------------------------------------------------------


@dataclass
class Post:
    """The ways out, with a clock of the test."""

    records: Records
    settings: NotificationSettings
    now: datetime = NOW

    async def deliver(self) -> int:
        """One turn of a manager."""
        ways = delivery.ways_of(self.settings, resolve, lambda: self.now)
        return await delivery.deliver_due(
            self.records.database, ways, lambda: self.now, dashboard="https://certgate.example/"
        )

    def rows(self) -> list[NotificationDelivery]:
        with self.records.database.read() as session:
            return list(session.exec(select(NotificationDelivery).order_by(col(NotificationDelivery.address))).all())

    def errors(self) -> str:
        return " ".join(row.last_error or "" for row in self.rows())

    def shown(self) -> tuple[Sent, int]:
        row = notifications.listing(self.records.acting("mrao")).rows[0]
        return row.sent, row.attempts


def secret_file(folder: Path, name: str, secret: str) -> str:
    path = folder / name
    path.write_text(secret)
    path.chmod(0o600)
    return f"file:{path}"


async def test_a_webhook_that_is_down_and_refuses_gets_it_at_last(away: Records, tmp_path: Path) -> None:
    key = b"0123456789abcdef0123456789abcdef"
    receiver: WebReceiver = web_receiver()
    url = secret_file(tmp_path, "url", receiver.url)
    secret = secret_file(tmp_path, "secret", "whsec_" + base64.b64encode(key).decode() + "\n")
    settings = NotificationSettings(webhook=WebhookSettings(url=url, secret=secret))
    post = Post(away, settings)
    absence.tell_away(away.database, settings, NOW)
    assert await post.deliver() == 1
    assert f"http://127.0.0.1:{receiver.port} can't be reached" in post.errors()
    assert await post.deliver() == 0
    with receiver.up():
        receiver.status = 500
        post.now += 12 * SECOND
        assert await post.deliver() == 1
        assert f"http://127.0.0.1:{receiver.port} answered with status 500" in post.errors()
        assert post.shown() == (Sent.WAITING, 2)
        # Twice as long now, and longer where the receiver says so.
        receiver.status, receiver.headers = 503, {"retry-after": "600"}
        post.now += 12 * SECOND
        assert await post.deliver() == 0
        post.now += 12 * SECOND
        assert await post.deliver() == 1
        post.now += 300 * SECOND
        assert await post.deliver() == 0
        receiver.status = 200
        post.now += 300 * SECOND
        # Two managers at once: one of them takes it.
        assert sorted(await asyncio.gather(post.deliver(), post.deliver())) == [0, 1]
        assert await post.deliver() == 0
    assert post.shown() == (Sent.DELIVERED, 4)
    assert len({request.headers["webhook-id"] for request in receiver.got}) == 1
    got = receiver.got[-1]
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    value = json.loads(got.body)
    assert (value["type"], value["timestamp"]) == ("gateway.away", "2026-11-23T12:00:00Z")
    assert value["data"]["gateway"] == "alpha"
    assert value["data"]["organization"] == "Alpha"
    assert value["data"]["link"] == "https://certgate.example/notifications"
    with away.database.read() as session:
        everything = str([row.model_dump() for row in (*post.rows(), *session.exec(select(Notification)).all())])
    assert "secret-path" not in everything + post.errors()


async def test_what_no_receiver_takes_is_given_up_after_a_day(away: Records) -> None:
    receiver = web_receiver()
    settings = NotificationSettings(webhook=WebhookSettings(url=receiver.url))
    post = Post(away, settings)
    absence.tell_away(away.database, settings, NOW)
    for hours in (0, 12, 23.999, 30):
        post.now = NOW + timedelta(hours=hours)
        await post.deliver()
    assert post.shown() == (Sent.FAILED, 3)
    (row,) = post.rows()
    assert row.last_error is not None
    assert "secret-path" not in row.last_error


async def test_a_manager_that_died_over_a_delivery_leaves_it_to_the_next(away: Records) -> None:
    receiver = web_receiver()
    settings = NotificationSettings(webhook=WebhookSettings(url=receiver.url))
    post = Post(away, settings)
    absence.tell_away(away.database, settings, NOW)
    assert len(delivery._take(away.database, None, NOW)) == 1
    with receiver.up():
        assert await post.deliver() == 0
        post.now += timedelta(minutes=4)
        assert await post.deliver() == 1
    assert post.shown() == (Sent.DELIVERED, 2)


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A mail server's TLS, and the CA that a client must trust for it."""
    hour = timedelta(hours=1)
    begin, end = datetime.now(UTC) - hour, datetime.now(UTC) + hour
    ca = pki.make_ca("Mail CA", not_before=begin, not_after=end)
    leaf_key = pki.new_key()
    leaf = pki.make_leaf(ca, leaf_key, ["localhost"], not_before=begin, not_after=end)
    chain, key, anchor = tmp_path / "mail.pem", tmp_path / "mail.key", tmp_path / "ca.pem"
    chain.write_bytes(leaf.public_bytes(Encoding.PEM))
    key.write_bytes(leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    anchor.write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    return context, anchor


def mail_settings(receiver: MailReceiver, anchor: Path | None, password: str | None) -> NotificationSettings:
    return NotificationSettings(
        ca_file=anchor,
        email=EmailSettings(
            server="localhost",
            port=receiver.port,
            user=None if password is None else receiver.user,
            password=password,
            sender="certgate@example.org",
            to=("ops@example.org", "Gone@example.org"),
        ),
    )


def addresses(session: Session, **by_login: str) -> None:
    for login, address in by_login.items():
        row = session.exec(select(Administrator).where(Administrator.login == login)).one()
        row.email = address
        session.add(row)


async def test_mail_goes_to_whom_it_concerns_by_starttls_and_login(
    away: Records, tmp_path: Path, tls: tuple[ssl.SSLContext, Path]
) -> None:
    receiver = mail_receiver(tls[0])
    receiver.refused = {"Gone@example.org": "550 no such mailbox"}
    settings = mail_settings(receiver, tls[1], secret_file(tmp_path, "password", receiver.password))
    with away.database.write() as session:
        addresses(
            session,
            mrao="mrao@example.org",
            rao="OPS@example.org",
            bare="bare@example.org",
            drao="drao@example.org",
            stranger="stranger@example.org",
        )
        silent = Administrator(login="silent", email="silent@example.org", created_at=NOW)
        odd = Administrator(login="odd", email="odd@example.org\nBcc: all@example.org", created_at=NOW)
        session.add_all([silent, odd])
        session.flush()
        for row in (silent, odd):
            session.add(RoleAssignment(administrator_id=row.id or 0, role=Role.MRAO))
    notifications.choose_email(away.acting("silent"), False)
    assert not notifications.by_email(away.acting("silent"))
    post = Post(away, settings)
    absence.tell_away(away.database, settings, NOW)
    assert [row.address.lower() for row in post.rows()] == ["gone@example.org", "ops@example.org", "mrao@example.org"]
    assert await post.deliver() == 3
    assert f"localhost:{receiver.port} can't be reached" in post.errors()
    with receiver.up():
        post.now += 15 * SECOND
        assert await post.deliver() == 3
        post.now += timedelta(hours=1)
        # The mailbox that there is not is not tried again.
        assert await post.deliver() == 0
    assert {address.lower() for address, _ in receiver.got} == {"ops@example.org", "mrao@example.org"}
    assert "refuses mail to Gone@example.org (550)" in post.errors()
    assert post.shown()[0] == Sent.FAILED
    message = receiver.got[0][1]
    assert message["Subject"] == "[certgate] Gateway alpha is away"
    assert message["Auto-Submitted"] == "auto-generated"
    assert "1 open request waits for it" in message.get_content()
    assert message["Message-ID"].endswith("@example.org>")


async def test_what_is_wrong_with_a_mail_server_is_a_sentence_without_a_secret(
    away: Records, tmp_path: Path, tls: tuple[ssl.SSLContext, Path]
) -> None:
    wrong = secret_file(tmp_path, "wrong", "not the password")
    plain, secured = mail_receiver(), mail_receiver(tls[0])
    found = []
    with plain.up(), secured.up():
        for receiver, anchor, password in (
            (plain, tls[1], None),
            (secured, None, wrong),
            (secured, tls[1], wrong),
            (secured, tls[1], "env:NOT_SET_ANYWHERE"),
            (secured, tmp_path / "nothing.pem", wrong),
        ):
            settings = mail_settings(receiver, anchor, password)
            tried = await notifications.test(away.acting("mrao"), settings, away.surroundings)
            assert not any(one.ok for one in tried)
            found.append(tried[0].message)
    for message, expected in zip(
        found,
        ("does not offer STARTTLS", "not trusted", "refuses the login (535)", "env:NOT_SET_ANYWHERE", "nothing.pem"),
        strict=True,
    ):
        assert expected in message
        assert "not the password" not in message
    assert not plain.got + secured.got
    assert ("notification.tested", "done") in away.audited()


async def test_a_test_message_comes_by_every_way(
    away: Records, tmp_path: Path, tls: tuple[ssl.SSLContext, Path]
) -> None:
    mail, web = mail_receiver(tls[0]), web_receiver()
    settings = mail_settings(mail, tls[1], secret_file(tmp_path, "password", mail.password))
    settings = settings.model_copy(update={"webhook": WebhookSettings(url=web.url)})
    with away.database.write() as session:
        addresses(session, mrao="mrao@example.org")
    with mail.up(), web.up():
        tried = await notifications.test(away.acting("mrao"), settings, away.surroundings)
        for way in delivery.ways_of(settings, resolve).values():
            assert "answers" in await way.check()
    assert [one.ok for one in tried] == [True] * 4
    assert len(mail.got) == 3
    assert json.loads(web.got[0].body)["type"] == "test"
    with pytest.raises(InvalidInput, match="No way is set up"):
        await notifications.test(away.acting("mrao"), DEFAULTS, away.surroundings)
