"""Keystores as records: what is refused, who sees what is in them, what keeps one from being removed."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from sqlmodel import select

from model.errors import Conflict, InvalidInput, NotFound
from model.messages import KeystoreEntry
from model.tables import AuditEntry, CertificateRequest, Gateway, Keystore, Organization
from operations import keystores, submission
from operations.keystores import NewKeystore
from operations.submission import NewRequest
from tests.operations.conftest import Records

JAVA = {"file": "/srv/java.jks", "passphrase": "env:PASS"}


def fill(records: Records, number: int, *, omitted: int = 0) -> None:
    """As if its gateway had looked."""
    entry = asdict(
        KeystoreEntry("request-1", "key pair", "ec-p256", names=["a.example"], not_after="2027-01-01T00:00:00+00:00")
    )
    with records.database.write() as session:
        row = session.get_one(Keystore, number)
        row.contents = [entry, *([{"omitted": omitted}] if omitted else [])]
        row.checked_at = datetime(2026, 11, 24, tzinfo=UTC)
        session.add(row)


def test_a_keystore_is_added_edited_listed_and_removed(records: Records) -> None:
    context = records.acting("rao")
    java = keystores.add(context, NewKeystore("alpha", "Java", "jks", JAVA))
    assert [(row.name, row.type) for row in keystores.listing(context, "alpha")] == [("Java", "jks")]
    fill(records, java.id, omitted=41)
    (row,) = keystores.listing(context, java.gateway_id)
    assert (row.entries, row.next_expiry, row.withheld) == (42, datetime(2027, 1, 1, tzinfo=UTC), False)
    detail = keystores.show(context, "alpha", "Java")
    assert ([entry.alias for entry in detail.entries], detail.omitted) == (["request-1"], 41)
    edited = keystores.edit(context, "alpha", {"key_passphrase": "env:KEY"}, java.id, new_name="Tomcat")
    assert (edited.name, edited.settings) == ("Tomcat", {**JAVA, "key_passphrase": "env:KEY"})
    assert keystores.edit(context, "alpha", {"key_passphrase": ""}, "Tomcat").settings == JAVA
    assert keystores.remove(context, "alpha", str(java.id)).name == "Tomcat"
    with pytest.raises(NotFound):
        keystores.show(context, "alpha", "Tomcat")
    with records.database.read() as session:
        told = session.exec(select(AuditEntry).where(AuditEntry.object_type == "keystore")).all()
        alpha = session.exec(select(Organization).where(Organization.name == "Alpha")).one()
    assert [entry.action.split(".")[1] for entry in told] == ["added", "edited", "edited", "removed"]
    # The gateway serves Alpha alone, so Alpha's administrators read of it.
    assert {entry.organization_id for entry in told} == {alpha.id}


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (NewKeystore("alpha", "", "jks", JAVA), "A keystore's name has 1 to 128"),
        (NewKeystore("alpha", "x" * 129, "jks", JAVA), "A keystore's name has 1 to 128"),
        (NewKeystore("alpha", "a\x1bb", "jks", JAVA), "A keystore's name has 1 to 128"),
        (NewKeystore("alpha", "new", "hsm", {}), "No connector named 'hsm'"),
        (NewKeystore("alpha", "new", "pkcs12", {"file": "a.p12"}), "setting passphrase: Field required"),
        (NewKeystore("alpha", "new", "pkcs12", {**JAVA, "passphrase": "hunter2"}), "must be a reference"),
        (NewKeystore("alpha", "new", "pkcs12", {**JAVA, "file": "../../etc/shadow"}), "setting file"),
        (NewKeystore("alpha", "new", "pkcs12", {**JAVA, "key_passphrase": "env:K"}), "setting key_passphrase"),
        (NewKeystore("alpha", "JAVA", "pkcs12", {**JAVA, "file": "/srv/new.p12"}), "has a keystore 'Java' already"),
        (
            NewKeystore("alpha", "new", "pkcs12", JAVA),
            "Keystore Java of gateway alpha is kept in /srv/java.jks already",
        ),
    ],
)
def test_what_can_not_be_a_keystore(records: Records, new: NewKeystore, why: str) -> None:
    context = records.acting("mrao")
    keystores.add(context, NewKeystore("alpha", "Java", "jks", JAVA))
    with pytest.raises((InvalidInput, Conflict), match=why) as caught:
        keystores.add(context, new)
    assert "hunter2" not in caught.value.message
    assert len(keystores.listing(context, "alpha")) == 1


def test_the_default_one_stays_and_keeps_its_name(records: Records) -> None:
    context = records.acting("mrao")
    # A gateway without a row of its own has the PEM directory all the same.
    assert keystores.show(context, "alpha").keystore.type == "pem"
    keystores.edit(context, "alpha", {"passphrase": "env:PASS"})
    with pytest.raises(Conflict, match="can't be removed"):
        keystores.remove(context, "alpha", "default")
    with pytest.raises(Conflict, match="keeps its name"):
        keystores.edit(context, "alpha", {}, new_name="other")


async def test_a_keystore_with_keys_in_use_stays(records: Records) -> None:
    context = records.acting("rao")
    java = keystores.add(context, NewKeystore("alpha", "Java", "jks", JAVA))
    keystores.add(context, NewKeystore("alpha", "unused", "jks", {**JAVA, "file": "/srv/unused.jks"}))
    with records.database.write() as session:
        request = session.get_one(CertificateRequest, 1)
        request.keystore_id = java.id
        session.add(request)
    with pytest.raises(Conflict, match=r"in use: open request 1 \(a.example\), certificate 1 \(a.example\)\."):
        keystores.remove(context, "alpha", "Java")
    keystores.remove(context, "alpha", "unused")
    # Whoever may manage the gateway without seeing whose keys there are is told how many.
    with records.database.write() as session:
        beta = session.exec(select(Organization.id).where(Organization.name == "Beta")).one()
        request = session.get_one(CertificateRequest, 1)
        request.organization_id, request.department_id = beta or 0, None
        session.add(request)
    with pytest.raises(Conflict, match="in use: 2 requests and certificates") as caught:
        keystores.remove(context, "alpha", "Java")
    assert "a.example" not in caught.value.message


def test_what_is_in_it_is_for_those_who_see_all_whom_the_gateway_serves(records: Records) -> None:
    owner = records.acting("mrao")
    java = keystores.add(owner, NewKeystore("general", "Java", "jks", JAVA))
    fill(records, java.id)
    for login in ("rao", "stranger"):
        detail = keystores.show(records.acting(login), "general", "Java")
        assert (detail.entries, detail.keystore.withheld, detail.keystore.entries) == ([], True, 0)
        assert detail.keystore.next_expiry is None
    assert len(keystores.show(owner, "general", "Java").entries) == 1


async def test_a_request_names_a_keystore_of_its_gateway(records: Records) -> None:
    context = records.acting("rao")
    keystores.add(context, NewKeystore("alpha", "Java", "jks", JAVA))
    new = NewRequest(common_name="n.example", organization="Alpha", gateway="web", department="Web", keystore="Java")
    with pytest.raises(NotFound, match="Gateway web has no keystore 'Java'"):
        await submission.submit(context, new)
    with records.database.read() as session:
        assert len(session.exec(select(CertificateRequest)).all()) == 1
        assert session.exec(select(Gateway).where(Gateway.name == "web")).one()
