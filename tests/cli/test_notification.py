"""``certgate notification`` and what the doctor says of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from model.database import Database
from model.tables import Gateway, Notification
from tests.cli.conftest import Certgate
from tests.support.receivers import web_receiver


def test_list_mark_and_choose(certgate: Certgate, home: Path) -> None:
    assert certgate("notification", "list").err == "There are no notifications.\n"
    database = Database(f"sqlite:///{home}/certgate.db")
    with database.write() as session:
        for number in range(3):
            session.add(
                Notification(
                    kind="gateway.away",
                    once=str(number),
                    subject=f"Gateway {number} \x1b[31m",
                    text="It is away.",
                    created_at=datetime.now(UTC),
                )
            )
    database.close()
    said = certgate("notification", "list", "--limit", "2")
    assert "\x1b" not in said.out
    assert "2 of 3" in said.err
    assert certgate("notification", "seen", "1", "2").err == "2 marked as seen.\n"
    listed = certgate("notification", "list", "--unseen", "--json").value
    assert [(row["id"], row["seen"], row["sent"]) for row in listed["rows"]] == [(3, False, "nowhere")]
    assert listed["total"] == 1
    assert certgate("notification", "seen", "--all").err == "1 marked as seen.\n"
    assert certgate("notification", "list", "--unseen").err == "There is nothing new.\n"
    assert certgate("notification", "email", "--off").out == "off\n"
    assert certgate("notification", "email", "--json").value == {"email": False}


def test_a_way_is_tried_and_examined(certgate: Certgate, home: Path) -> None:
    receiver = web_receiver()
    (home / "certgate.toml").write_text(f'[notifications.webhook]\nurl = "{receiver.url}"\n')
    database = Database(f"sqlite:///{home}/certgate.db")
    with database.write() as session:
        now = datetime.now(UTC)
        session.add(Gateway(name="late", name_key="late", clock_offset=-600.0, created_at=now, joined_at=now))
    database.close()

    def doctor() -> dict[str, tuple[bool | None, str]]:
        return {one["name"]: (one["ok"], one["message"]) for one in certgate("doctor", "--json").value}

    said = certgate("notification", "test", "--json")
    assert (said.code, said.value[0]["ok"]) == (1, False)
    assert "secret-path" not in said.out + said.err
    ok, message = doctor()["notifications by webhook"]
    assert ok is False
    assert "secret-path" not in message
    with receiver.up():
        assert certgate("notification", "test").code == 0
        found = doctor()
    assert found["notifications by webhook"][0] is True
    assert found["clock of gateway late"] == (False, "The clock of its host is -600 s off: let it be set (NTP).")
    (home / "certgate.toml").write_text('[notifications.webhook]\nurl = "ftp://secret-path"\n')
    said = certgate("notification", "list")
    assert said.code == 2
    assert "notifications.webhook.url" in said.err
    assert "secret-path" not in said.err
