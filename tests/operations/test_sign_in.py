"""Signing in, what slows guessing, sessions, and people of a provider."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from sqlmodel import select

from model.errors import Conflict, InvalidInput, NotFound, NotPermitted
from model.states import Role
from model.tables import AuditEntry, DashboardSession, KnownBrowser
from operations import administrators, doorkeeper, identity, sessions, single_sign_on
from operations.administrators import NewAdministrator
from operations.context import Context
from operations.doorkeeper import Attempt, Doorkeeper, TooManyAttempts
from operations.identity import SignInRefused
from operations.sessions import Beginning, Ended, Lifetimes, SessionOver
from operations.single_sign_on import Person, Rules, Unlinked
from tests.operations.conftest import NOW, Records

IDLE, WHOLE = timedelta(hours=2), timedelta(hours=12)
MINUTE = timedelta(minutes=1)
PASSWORD = "correct horse battery"
ISSUER = "https://id.example"


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Argon2id with the least parameters: here passwords are compared by the hundred."""
    monkeypatch.setattr(identity, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    identity._nobody.cache_clear()
    yield
    identity._nobody.cache_clear()


@pytest.fixture
def owner(records: Records) -> Context:
    """An MRAO; beside him there is `ann`, who has a password and an e-mail address."""
    context = records.acting("mrao")
    administrators.add(context, NewAdministrator("ann", Role.MRAO, email="ann@example.com", password=PASSWORD))
    return context


def begin(records: Records, login: str = "ann") -> str:
    actor = records.acting(login).actor
    beginning = Beginning(actor.id, "password", "192.0.2.7", "Browser\x1b[31m/1")
    return sessions.begin(records.database, beginning, Lifetimes(IDLE, WHOLE), NOW)


def over(records: Records, token: str, moment: timedelta = MINUTE) -> Ended | None:
    """Why a session holds no longer; None if it does."""
    try:
        sessions.recognize(records.database, token, IDLE, NOW + moment)
    except SessionOver as ended:
        return ended.why
    return None


def told(records: Records, action: str = "administrator.sign_in") -> list[str]:
    with records.database.read() as session:
        rows = session.exec(select(AuditEntry).where(AuditEntry.action == action)).all()
        return [row.description for row in rows]


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_token_is_random_and_only_its_hash_is_kept(records: Records, owner: Context) -> None:
    first, second = begin(records), begin(records)
    assert len({first, second}) == 2
    assert min(len(first), len(second)) >= 43  # 256 bits in base64
    with records.database.read() as session:
        rows = session.exec(select(DashboardSession)).all()
        assert {row.digest for row in rows} == {hashlib.sha256(one.encode()).hexdigest() for one in (first, second)}
        assert first not in repr(rows)
        # Nothing that a browser says of itself commands a terminal.
        assert rows[0].agent == "Browser[31m/1"
    assert over(records, "x" + first[1:]) == Ended.UNKNOWN


def test_a_session_ends_unused_and_in_any_case(records: Records, owner: Context) -> None:
    token = begin(records)
    assert over(records, token, IDLE - MINUTE) is None
    assert over(records, token, IDLE) == Ended.IDLE
    for hours in range(1, 12):
        moment = NOW + timedelta(hours=hours)
        sessions.touch(records.database, sessions.recognize(records.database, token, IDLE, moment), moment)
    assert over(records, token, WHOLE - MINUTE) is None
    assert over(records, token, WHOLE) == Ended.EXPIRED
    # What is over for good is cleared away by the next one.
    sessions.begin(records.database, Beginning(owner.actor.id, "oidc"), Lifetimes(IDLE, WHOLE), NOW + WHOLE)
    assert over(records, token, WHOLE) == Ended.UNKNOWN


def test_what_ends_all_sessions_of_an_administrator(records: Records, owner: Context) -> None:
    mine = begin(records, "mrao")
    token = begin(records)
    administrators.set_password(owner, "ann", PASSWORD + "!")
    assert over(records, token) == Ended.PASSWORD
    token = begin(records)
    single_sign_on.link(owner, "ann", ISSUER, "s-1")
    assert over(records, token) == Ended.ENDED
    token = begin(records)
    administrators.deactivate(owner, "ann")
    assert over(records, token) == Ended.DEACTIVATED
    too_late = Beginning(administrators.show(owner, "ann").id, "password")
    with pytest.raises(SessionOver, match="deactivated"):
        sessions.begin(records.database, too_late, Lifetimes(IDLE, WHOLE), NOW)
    assert over(records, mine) is None


def test_sessions_are_listed_and_ended_one_by_one(records: Records, owner: Context) -> None:
    first, second = begin(records), begin(records)
    begin(records, "mrao")
    rows = sessions.listing(owner, IDLE, "ann")
    assert [(row.login, row.way, row.address) for row in rows] == [("ann", "password", "192.0.2.7")] * 2
    assert {row.login for row in sessions.listing(owner, IDLE)} == {"ann", "mrao"}
    assert {row.login for row in sessions.listing(records.acting("ann"), IDLE)} == {"ann", "mrao"}
    assert sessions.end(owner, "ann", rows[-1].id) == 1
    assert (over(records, first), over(records, second)) == (Ended.ENDED, None)
    with pytest.raises(NotFound, match="no session"):
        sessions.end(owner, "ann", rows[-1].id)
    # A number of somebody else's is none of his.
    with pytest.raises(NotFound, match="no session"):
        sessions.end(owner, "ann", sessions.listing(owner, IDLE, "mrao")[0].id)
    assert sessions.end(owner, "ann") == 1
    assert sessions.listing(owner, IDLE, "ann") == []
    assert told(records, "administrator.session_ended") == ["Sessions of ann were ended (1)."] * 2


def test_signing_out_ends_the_session_once(records: Records, owner: Context) -> None:
    token = begin(records)
    sessions.sign_out(records.database, token, NOW)
    sessions.sign_out(records.database, token, NOW)
    assert over(records, token) == Ended.SIGNED_OUT
    assert told(records, "administrator.sign_out") == ["ann signed out."]


# --- guessing ---------------------------------------------------------------------------------------------------------


def guess(records: Records, keeper: Doorkeeper, attempt: Attempt, moment: timedelta = timedelta(0)) -> str:
    """What the one who guesses is told."""
    with pytest.raises(NotPermitted) as refused:
        keeper.sign_in(records.database, attempt, NOW + moment)
    return refused.value.message


def test_a_known_browser_gets_in_while_strangers_lock_the_account(records: Records, owner: Context) -> None:
    keeper = Doorkeeper()
    right = Attempt("ann", PASSWORD, "192.0.2.7")
    actor = keeper.sign_in(records.database, right, NOW)
    browser = identity.remember_browser(records.database, actor.id, None, NOW)
    assert identity.remember_browser(records.database, actor.id, browser, NOW) == browser
    for _ in range(5):
        assert guess(records, keeper, Attempt("ann", "wrong", "198.51.100.1")) == identity.WRONG
    assert "ann is locked until 12:15 UTC" in guess(records, keeper, right)
    known = Attempt("ann", PASSWORD, "192.0.2.7", browser)
    assert keeper.sign_in(records.database, known, NOW).login == "ann"
    # Getting in that way does not open the account to the strangers.
    assert "is locked" in guess(records, keeper, right)
    # The browser itself has five guesses too, and each other's counts are their own.
    for _ in range(5):
        guess(records, keeper, Attempt("ann", "wrong", "192.0.2.7", browser))
    assert "is locked" in guess(records, keeper, known)
    later = NOW + timedelta(minutes=16)
    assert keeper.sign_in(records.database, right, later).login == "ann"
    # Another administrator's browser is a stranger's here.
    assert not identity.knows_browser(records.database, "mrao", browser, NOW)
    administrators.set_password(owner, "ann", PASSWORD + "!")
    assert not identity.knows_browser(records.database, "ann", browser, NOW)


def test_few_browsers_are_remembered_and_not_for_ever(records: Records, owner: Context) -> None:
    number = records.acting("ann").actor.id
    made = [
        identity.remember_browser(records.database, number, None, NOW + timedelta(minutes=minute))
        for minute in range(identity.MOST_BROWSERS + 2)
    ]
    with records.database.read() as session:
        assert len(session.exec(select(KnownBrowser)).all()) == identity.MOST_BROWSERS
    assert [identity.knows_browser(records.database, "ann", one, NOW) for one in (made[1], made[2])] == [False, True]
    assert not identity.knows_browser(records.database, "ann", made[-1], NOW + timedelta(days=91))


def test_nobody_learns_which_logins_there_are(records: Records, owner: Context) -> None:
    administrators.add(owner, NewAdministrator("gone", Role.MRAO, password=PASSWORD))
    administrators.deactivate(owner, "gone")
    heard = []
    for login in ("ann", "nobody", "gone", "mrao"):  # mrao has no password
        keeper = Doorkeeper()
        heard.append([guess(records, keeper, Attempt(login, "wrong")).replace(login, "X") for _ in range(7)])
    assert all(one == heard[0] for one in heard)
    assert heard[0][4:6] == [identity.WRONG, "Too many failed sign-ins: X is locked until 12:15 UTC."]


def test_an_address_waits_and_the_others_do_not(records: Records, owner: Context) -> None:
    keeper = Doorkeeper()
    browser = identity.remember_browser(records.database, records.acting("ann").actor.id, None, NOW)
    for number in range(doorkeeper.ADDRESS_FAILURES):
        guess(records, keeper, Attempt(f"login-{number}", "wrong", f"2001:db8::{number + 1:x}"))
    with pytest.raises(TooManyAttempts) as many:
        keeper.sign_in(records.database, Attempt("ann", PASSWORD, "2001:db8::ffff"), NOW)
    assert many.value.seconds == doorkeeper.ADDRESS_REFILL.total_seconds()
    # Who signed in there before is let past, and so is every other address, after a while also this one.
    for attempt, moment in (
        (Attempt("ann", PASSWORD, "2001:db8::ffff", browser), NOW),
        (Attempt("ann", PASSWORD, "2001:db8:0:1::1"), NOW),
        (Attempt("ann", PASSWORD, "2001:db8::ffff"), NOW + doorkeeper.ADDRESS_REFILL),
    ):
        assert keeper.sign_in(records.database, attempt, moment).login == "ann"


def test_a_flood_is_told_in_bounded_volume(records: Records, owner: Context) -> None:
    keeper = Doorkeeper()
    for number in range(doorkeeper.TOLD + 40):
        guess(records, keeper, Attempt("nobody", "wrong", f"192.0.2.{number}"))
    assert len(told(records)) == doorkeeper.TOLD
    assert told(records)[0] == "Sign-in as 'nobody' from 192.0.2.0 was refused."
    guess(records, keeper, Attempt("nobody", "wrong", "192.0.2.250"), 3 * doorkeeper.TOLD_REFILL)
    assert told(records)[doorkeeper.TOLD].startswith("40 further sign-ins were refused")
    # Who gets in is always told.
    assert keeper.sign_in(records.database, Attempt("ann", PASSWORD, "198.51.100.1"), NOW).login == "ann"
    assert told(records)[-1] == "ann signed in from 198.51.100.1."


# --- people of a provider ---------------------------------------------------------------------------------------------


def test_a_subject_that_was_entered_signs_in_whatever_his_address(records: Records, owner: Context) -> None:
    single_sign_on.link(owner, "ann", ISSUER, "s-1")
    person = Person(ISSUER, "s-1", "somebody@else.example")
    assert single_sign_on.sign_in(records.database, person, Rules(), NOW).login == "ann"
    assert told(records)[-1] == f"ann signed in through {ISSUER}."
    for stranger in (Person(ISSUER, "s-2"), Person("https://other.example", "s-1"), Person(ISSUER, "S-1")):
        with pytest.raises(Unlinked, match="no administrator here belongs"):
            single_sign_on.sign_in(records.database, stranger, Rules(), NOW)
    single_sign_on.unlink(owner, "ann")
    with pytest.raises(Unlinked):
        single_sign_on.sign_in(records.database, person, Rules(), NOW)


def test_an_address_binds_only_if_it_is_verified_alone_and_wanted(records: Records, owner: Context) -> None:
    verified = Person(ISSUER, "s-1", "Ann@Example.com", True)
    for person, rules in (
        (verified, Rules()),
        (Person(ISSUER, "s-1", "ann@example.com", False), Rules(by_email=True)),
        (Person(ISSUER, "s-1", "", True), Rules(by_email=True)),
        (verified, Rules(by_email=True, domains=["else.example"])),
    ):
        with pytest.raises(Unlinked):
            single_sign_on.sign_in(records.database, person, rules, NOW)
    twin = NewAdministrator("ann2", Role.MRAO, email="ANN@example.com", without_password=True)
    assert administrators.add(owner, twin).password is None
    with pytest.raises(Unlinked):
        single_sign_on.sign_in(records.database, verified, Rules(by_email=True), NOW)
    administrators.deactivate(owner, "ann2")
    rules = Rules(by_email=True, domains=["EXAMPLE.com"])
    assert single_sign_on.sign_in(records.database, verified, rules, NOW).login == "ann"
    assert "linked by the verified e-mail address" in told(records, "administrator.linked")[0]
    # From now on the subject counts: the address may change, and nobody else gets in by it.
    again = Person(ISSUER, "s-1", "new@example.com", True)
    assert single_sign_on.sign_in(records.database, again, rules, NOW).login == "ann"
    with pytest.raises(Unlinked):
        single_sign_on.sign_in(records.database, Person(ISSUER, "s-9", "ann@example.com", True), rules, NOW)


def test_who_was_deactivated_stays_out_and_a_lock_does_not_count(records: Records, owner: Context) -> None:
    single_sign_on.link(owner, "ann", ISSUER, "s-1")
    keeper = Doorkeeper()
    for _ in range(5):
        guess(records, keeper, Attempt("ann", "wrong"))
    assert single_sign_on.sign_in(records.database, Person(ISSUER, "s-1"), Rules(), NOW).login == "ann"
    administrators.deactivate(owner, "ann")
    with pytest.raises(NotPermitted, match="The account ann is deactivated"):
        single_sign_on.sign_in(records.database, Person(ISSUER, "s-1"), Rules(), NOW)


def test_an_account_of_the_provider_belongs_to_one_administrator(records: Records, owner: Context) -> None:
    new = NewAdministrator("new", Role.MRAO, oidc_issuer=ISSUER, oidc_subject="s-1")
    assert administrators.add(owner, new).password is None
    assert not administrators.show(owner, "new").has_password
    with pytest.raises(Conflict, match="is administrator new already"):
        single_sign_on.link(owner, "ann", ISSUER, "s-1")
    for issuer, subject in (("id.example", "s-2"), (ISSUER, ""), (ISSUER, "x" * 256), (ISSUER, "a\nb")):
        with pytest.raises(InvalidInput):
            single_sign_on.link(owner, "ann", issuer, subject)
    single_sign_on.remove_password(owner, "ann")
    with pytest.raises(SignInRefused):
        identity.sign_in(records.database, "ann", PASSWORD, NOW)
