"""The bell, and the page behind it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlmodel import select

from model.tables import Gateway, Notification, Organization
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene


def tell(scene: Scene, count: int, organization: str | None = None, subject: str = "Gateway is away") -> None:
    """Make notifications, for one organization or for MRAOs."""
    with scene.database.write() as session:
        gateway = session.exec(select(Gateway.id)).first()
        owner = session.exec(select(Organization.id).where(Organization.name == organization)).first()
        rows = [
            Notification(
                kind="gateway.away",
                once=f"{subject}/{organization}/{number}",
                gateway_id=gateway,
                organization_id=owner,
                subject=f"{subject} {number}",
                text=f"It waits. {HOSTILE}",
                created_at=datetime.now(UTC) + timedelta(seconds=number),
            )
            for number in range(count)
        ]
        session.add_all(rows)


def bell(visit: Visit, **who: str) -> str:
    """What the bell says."""
    app = visit("requests", **who)
    links = [str(getattr(link, "label", "")) for link in app.sidebar.get("page_link")]
    return next(label for label in links if "Notifications" in label)


def test_nothing_yet_says_what_would_be_here(visit: Visit) -> None:
    app = visit("notifications")
    assert "No notifications yet" in texts(app)
    assert bell(visit) == "Notifications"


def test_the_bell_counts_and_reading_counts_as_seen(visit: Visit, scene: Scene) -> None:
    tell(scene, 3)
    tell(scene, 1, "Acme Ltd", subject="Acme's is away")
    assert "4 new" in bell(visit)
    assert "1 new" in bell(visit, login="rita")
    app = visit("notifications", login="rita")
    assert list(app.dataframe[0].value["Subject"]) == ["Acme's is away 0"]
    app.session_state["notifications-chosen"] = (int(app.dataframe[0].value["No."][0]),)
    app.run()
    # Everything that was typed is there as text.
    assert HOSTILE in texts(app)
    assert "Open the gateway" in labels(app)
    app = visit("notifications")
    app.button(key="all-seen").click().run()
    assert "4 marked as seen." in texts(app)
    assert bell(visit) == "Notifications"
    assert "1 new" in bell(visit, login="rita")
    assert "Nothing new" in texts(visit("notifications", new="true"))


def test_ten_thousand_are_paged_and_searched(visit: Visit, scene: Scene) -> None:
    tell(scene, 10_000)
    assert "99+ new" in bell(visit)
    app = visit("notifications", page="200")
    assert "Page 200 of 200" in texts(app)
    assert len(app.dataframe[0].value) == 50
    found = visit("notifications", **{"n-q": "away 9876"})
    assert list(found.dataframe[0].value["Subject"]) == ["Gateway is away 9876"]
    assert "No notification matches" in texts(visit("notifications", **{"n-q": "nothing like it"}))


def test_ones_own_mailbox_is_spared(visit: Visit, scene: Scene) -> None:
    app = visit("notifications")
    app.toggle(key="notifications-by-email").set_value(False).run()
    assert "Your mailbox is spared." in texts(app)
    assert not visit("notifications").toggle(key="notifications-by-email").value
