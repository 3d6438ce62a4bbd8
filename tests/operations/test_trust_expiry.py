"""CA certificates that end: told once at each step, whether trusted or only in the chains of certificates in use."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509 as crypto
from sqlmodel import col, select

from connectors.notices.settings import NotificationSettings
from model import x509
from model.states import CertificateStatus
from model.tables import Certificate, Notification
from operations import notifications, trust_expiry
from operations.bootstrap import trusted
from operations.notifications import Filter
from tests.operations.conftest import NOW, Records
from tests.pki import Issuer, make_ca, pem

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
SETTINGS = NotificationSettings()


def ca(name: str, *, ends: timedelta, life: timedelta = 3000 * DAY, parent: Issuer | None = None) -> Issuer:
    return make_ca(name, parent, not_before=NOW + ends - life, not_after=NOW + ends)


def trust(records: Records, *issuers: Issuer) -> None:
    with records.database.write() as session:
        for issuer in issuers:
            one = issuer.certificate
            session.add(trusted(pem(one), is_root=x509.is_self_signed(one)))


def use(records: Records, *chain: crypto.Certificate) -> None:
    """The certificate in use has this chain."""
    with records.database.write() as session:
        session.get_one(Certificate, 1).chain_pem = [pem(one) for one in chain]


def told(records: Records) -> list[Notification]:
    with records.database.read() as session:
        statement = select(Notification).where(Notification.kind == trust_expiry.ENDING).order_by(col(Notification.id))
        return list(session.exec(statement).all())


def test_each_step_is_told_once(records: Records) -> None:
    trust(records, ca("Ends", ends=100 * DAY))
    moments = {
        10 * DAY - SECOND: 0,
        10 * DAY: 1,
        11 * DAY: 0,
        70 * DAY: 1,
        92 * DAY: 0,
        93 * DAY: 1,
        100 * DAY: 0,
        100 * DAY + SECOND: 1,
        400 * DAY: 0,
    }
    for later, expected in moments.items():
        assert trust_expiry.tell_ending(records.database, SETTINGS, NOW + later) == expected, later
    assert [row.subject for row in told(records)] == [
        "The CA certificate CN=Ends ends soon",
        "The CA certificate CN=Ends ends soon",
        "The CA certificate CN=Ends ends soon",
        "The CA certificate CN=Ends has ended",
    ]
    assert [row.once.rsplit("/", 1)[1] for row in told(records)] == ["90", "30", "7", "0"]


def test_a_watch_that_comes_late_tells_only_the_last_step(records: Records) -> None:
    trust(records, ca("Ends", ends=5 * DAY), ca("Has ended", ends=-DAY))
    assert trust_expiry.tell_ending(records.database, SETTINGS, NOW) == 2
    assert sorted(row.once.rsplit("/", 1)[1] for row in told(records)) == ["0", "7"]
    assert trust_expiry.tell_ending(records.database, SETTINGS, NOW) == 0


def test_a_short_life_is_told_at_its_share(records: Records) -> None:
    trust(records, ca("Short", ends=73 * DAY, life=73 * DAY))  # A fifth of a year: 18, 6, and 1.4 days.
    for left, expected in ((19, 0), (18, 1), (7, 0), (6, 1), (2, 0), (1, 1)):
        now = NOW + (73 - left) * DAY
        assert trust_expiry.tell_ending(records.database, SETTINGS, now) == expected, left


def test_the_chains_of_certificates_in_use_are_watched(records: Records) -> None:
    root = ca("Root", ends=2000 * DAY)
    middle = ca("Middle", ends=20 * DAY, parent=root)
    trust(records, root)
    use(records, middle.certificate)
    [one] = trust_expiry.ending(records.acting("mrao"))
    assert one == trust_expiry.Ending(
        "CN=Middle", x509.fingerprint(middle.certificate), NOW + 20 * DAY, 30, False, False, 1
    )
    assert trust_expiry.tell_ending(records.database, SETTINGS, NOW) == 1
    # To trust it changes nothing of what was told.
    trust(records, middle)
    [again] = trust_expiry.ending(records.acting("mrao"))
    assert (again.is_trusted, again.in_use, again.step) == (True, 1, 30)
    assert trust_expiry.tell_ending(records.database, SETTINGS, NOW) == 0


def test_a_root_counts_the_certificates_that_end_at_it(records: Records) -> None:
    root = ca("Root", ends=20 * DAY)
    use(records, ca("Middle", ends=2000 * DAY, parent=root).certificate)
    stranger = ca("Stranger", ends=25 * DAY)
    trust(records, root, stranger)
    found = trust_expiry.ending(records.acting("mrao"))
    assert [(one.subject, one.in_use, one.is_root) for one in found] == [
        ("CN=Root", 1, True),
        ("CN=Stranger", 0, True),
    ]


@pytest.mark.parametrize("change", ["not active", "revoked", "ended"])
def test_chains_of_what_is_no_longer_used_are_not_watched(records: Records, change: str) -> None:
    use(records, ca("Middle", ends=5 * DAY, parent=ca("Root", ends=2000 * DAY)).certificate)
    assert len(trust_expiry.ending(records.acting("mrao"))) == 1
    with records.database.write() as session:
        row = session.get_one(Certificate, 1)
        if change == "not active":
            row.active = False
        elif change == "revoked":
            row.status = CertificateStatus.REVOKED
        else:
            row.not_after = NOW
    assert trust_expiry.ending(records.acting("mrao")) == []
    assert trust_expiry.tell_ending(records.database, SETTINGS, NOW) == 0


def test_only_those_who_own_the_installation_are_told(records: Records) -> None:
    trust(records, ca("Ends", ends=5 * DAY))
    assert trust_expiry.tell_ending(records.database, SETTINGS, NOW) == 1
    for login, sees in (("mrao", True), ("rao", False), ("drao", False), ("stranger", False)):
        rows = notifications.listing(records.acting(login), Filter()).rows
        assert any(row.kind == trust_expiry.ENDING for row in rows) is sees, login


def test_what_is_told_says_what_to_do(records: Records) -> None:
    root = ca("Root", ends=2000 * DAY)
    use(records, ca("Middle", ends=20 * DAY, parent=root).certificate)
    trust(records, ca("Unused", ends=DAY), ca("Gone", ends=-DAY))
    gone, unused, middle = (trust_expiry.told_of(one, NOW) for one in trust_expiry.ending(records.acting("mrao")))
    assert gone.startswith("The root CN=Gone (")
    assert "ended on 2026-11-22 12:00 UTC: remove it once nothing needs it" in gone
    assert "ends on 2026-11-24 12:00 UTC, in 1 day: " in unused
    assert middle.startswith("The intermediate CN=Middle (")
    assert "in 20 days, and 1 certificate in use hangs on it: ask its CA for the one that follows it" in middle
