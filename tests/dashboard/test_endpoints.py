"""Endpoints by type, groups, the way back, and what a verification saw, on the pages."""

from __future__ import annotations

from datetime import timedelta

from sqlmodel import select

from model.states import InstallState, RequestOrigin
from model.tables import Certificate, CertificateRequest, Endpoint, EndpointGroup, EndpointGroupMember, Installation
from operations.lookup import identity
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene
from tests.dashboard.test_connected import cells, field, press

SHOP = "shop.example.com:443"
NAME = HOSTILE.replace("/", " ")[:60].strip()


def before(scene: Scene) -> int:
    """A certificate that the binding of the one in use had before; gives its id."""
    with scene.database.write() as session:
        current = session.get_one(Certificate, scene.certificates["served"])
        request = session.get_one(CertificateRequest, current.request_id)
        request.key_alias = "request-x"
        for other in session.exec(select(CertificateRequest).where(CertificateRequest.binding == SHOP)).all():
            other.closed = True
            session.add(other)
        older = CertificateRequest(
            **request.model_dump(exclude={"id", "issued_fingerprint", "created_at", "updated_at"}),
            issued_fingerprint="cd" * 32,
            created_at=scene.now,
            updated_at=scene.now,
        )
        session.add(older)
        session.flush()
        row = Certificate(
            **current.model_dump(exclude={"id", "fingerprint", "request_id", "active"}),
            fingerprint="cd" * 32,
            request_id=identity(older),
            active=False,
        )
        session.add(row)
        session.flush()
        for certificate, days in ((row, 30), (current, 1)):
            installation = session.exec(
                select(Installation).where(Installation.certificate_id == certificate.id)
            ).one_or_none() or Installation(
                certificate_id=identity(certificate),
                endpoint_id=scene.ids["web"],
                binding=SHOP,
                state=InstallState.COMPLETED,
                updated_at=scene.now,
            )
            installation.installed_at = scene.now - timedelta(days=days)
            session.add(installation)
        return identity(row)


def test_a_group_is_made_edited_and_removed(scene: Scene, visit: Visit) -> None:
    where = {"id": str(scene.ids["local"]), "gateway-part": "Groups"}
    app = visit("gateway", **where)
    assert "No groups" in texts(app)
    press(app, "Add group")
    press(app, "Add")
    assert "A group's name" in texts(app)
    field(app, "Name (needed)").set_value(NAME)
    field(app, "Bindings (needed)").set_value([f"web · {SHOP}", "web · intranet.example.com:443"])
    field(app, "Canaries are watched for").set_value(30)
    field(app, "Unit of: Canaries are watched for").set_value("minutes")
    press(app, "Add")
    assert "of 2 bindings was added" in texts(app)
    assert cells(app, "Canaries are watched") == ["30 minutes"]
    assert cells(app, "Turn") == ["canary", "then"]
    press(app, "Edit group")
    field(app, "Canaries").set_value(3)
    press(app, "Save")
    assert "A group of 2 has 0 to 2 canaries, not 3." in texts(app)
    field(app, "Canaries").set_value(2)
    press(app, "Save")
    with scene.database.read() as session:
        group = session.exec(select(EndpointGroup)).one()
        assert (group.canaries, group.soak_seconds, group.name) == (2, 1800, NAME)
        assert len(session.exec(select(EndpointGroupMember)).all()) == 2
    press(app, "Remove group")
    press(app, "Remove")
    assert "No groups" in texts(app)
    assert not {"Add group", "Edit group"} & labels(visit("gateway", login="rita", **where))


def test_a_device_is_reached_by_its_own_interface(scene: Scene, visit: Visit) -> None:
    app = visit("endpoints", gateway=str(scene.ids["local"]))
    press(app, "Add endpoint")
    field(app, "Type").set_value("f5-big-ip")
    app.run()
    assert field(app, "Connection").options == ["Its own interface"]
    field(app, "Name (needed)").set_value("big-ip")
    for label, value in (("Address (needed)", "192.0.2.5"), ("Username (needed)", "certgate")):
        field(app, label).set_value(value)
    field(app, "Password (needed)").set_value("file:/etc/certgate/f5")
    field(app, "Make keys at the endpoint").set_value(True)
    press(app, "Add")
    assert "Endpoint big-ip was added." in texts(app)
    with scene.database.read() as session:
        row = session.exec(select(Endpoint).where(Endpoint.name == "big-ip")).one()
    assert (row.connection, row.key_at_endpoint, row.verify_from_manager) == ("rest", True, False)


def test_the_way_back_is_shown_and_asked_for(scene: Scene, visit: Visit) -> None:
    gateway = str(scene.ids["local"])
    app = visit("endpoints", gateway=gateway)
    part = f"endpoints-{gateway}-bindings-{scene.ids['web']}"
    app.session_state[f"{part}-chosen"] = (1,)
    app.run()
    assert "is the first that certgate installed" in texts(app)
    assert "Roll back" not in labels(app)
    older = before(scene)
    app.run()
    assert f"certificate {older}" in texts(app)
    press(app, "Roll back")
    assert "Go back to the certificate before?" in texts(app)
    field(app, "Reason").set_value("old clients")
    press(app, "Roll back")
    # No engine runs here: the request is kept, and that is said.
    assert "is kept, but could not be started" in texts(app)
    with scene.database.read() as session:
        made = session.exec(select(CertificateRequest).where(CertificateRequest.origin == RequestOrigin.ROLLBACK)).one()
    assert (made.reinstalls_certificate_id, made.comments, made.key_alias) == (older, "old clients", "request-x")
    page = visit("request", id=str(made.id))
    assert "nothing: a certificate is put back" in texts(page)


def test_what_a_verification_saw_stands_on_the_certificate(scene: Scene, visit: Visit) -> None:
    with scene.database.write() as session:
        row = session.exec(
            select(Installation).where(Installation.certificate_id == scene.certificates["served"])
        ).one()
        row.verified_at, row.verification = scene.now, "OTHER_KNOWN_CERTIFICATE"
        row.sightings = [
            {"seen_from": "gateway", "verification": "MATCH", "message": f"127.0.0.1:443 {HOSTILE}"},
            {"seen_from": "manager", "verification": "OTHER_KNOWN_CERTIFICATE", "message": "serves another one."},
        ]
        session.add(row)
    app = visit("certificate", id=str(scene.certificates["served"]))
    assert f"Seen from the gateway: 127.0.0.1:443 {HOSTILE}" in texts(app)
    assert "Seen from the manager: serves another one." in texts(app)
    assert "other known certificate" in texts(app)
    press(app, "Verify")
    assert "Temporal" in texts(app)
    assert "Verify" not in labels(visit("certificate", login="rita", id=str(scene.certificates["served"])))
