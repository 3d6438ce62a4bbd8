"""Keystores and endpoints of a gateway: what is shown, added, changed and removed; forms of connectors' settings."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field
from sqlmodel import select
from streamlit.testing.v1 import AppTest

from connectors.endpoints.nginx.settings import NginxSettings
from connectors.keystores.jks import Settings as JksSettings
from connectors.secrets import Reference
from dashboard import forms
from dashboard.forms import Kind
from model.messages import EndpointReport, KeystoreEntry, TestStep
from model.states import EndpointStatus
from model.tables import AuditEntry, CertificateRequest, Endpoint, Keystore
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import HOSTILE, Scene


def keystore(scene: Scene, name: str = "java", **fields: Any) -> int:
    """A keystore that its gateway has looked into."""
    settings = {"file": "/srv/java.jks", "passphrase": "env:PASS"}
    with scene.database.write() as session:
        row = Keystore(gateway_id=scene.ids["local"], name=name, type="jks", settings=settings, **fields)
        session.add(row)
        session.flush()
        assert row.id is not None
        return row.id


def rows(scene: Scene, table: type[Any]) -> list[Any]:
    """Every row of a table."""
    with scene.database.read() as session:
        return list(session.exec(select(table)).all())


def press(app: AppTest, label: str) -> AppTest:
    """Press the button with this label."""
    next(button for button in app.button if button.label == label).click()
    app.run()
    assert not app.exception
    return app


def field(app: AppTest, label: str) -> Any:
    """The field with this label."""
    kinds = (app.text_input, app.text_area, app.selectbox, app.number_input, app.multiselect, app.toggle)
    return next(one for kind in kinds for one in kind if one.label == label)


def cells(app: AppTest, column: str) -> list[Any]:
    """A column of whichever table has it."""
    return next(list(one.value[column]) for one in app.dataframe if column in one.value.columns)


def test_what_is_in_a_keystore(scene: Scene, visit: Visit) -> None:
    def entry(alias: str, days: int | None, **fields: Any) -> dict[str, Any]:
        end = (scene.now + timedelta(days=days)).isoformat() if days is not None else None
        return asdict(KeystoreEntry(alias, fields.pop("kind", "key pair"), "ec-p256", not_after=end, **fields))

    contents = [
        entry("good", 100, names=["good.example"]),
        entry("near", 5, subject="CN=near"),
        entry("over", -1, subject=HOSTILE),
        entry("waiting", None),
        entry("anchor", 900, kind="trusted certificate", subject="CN=A root"),
        {"omitted": 1234},
    ]
    keystore(scene, contents=contents, checked_at=scene.now)
    app = visit("keystores", gateway=str(scene.ids["local"]))
    assert "Keystores of local" in texts(app)
    assert cells(app, "Alias") == ["good", "near", "over", "waiting", "anchor"]
    assert [cell[0] for cell in cells(app, "Validity")] == ["Valid", "Ends soon", "Expired", "No certificate", "Valid"]
    assert cells(app, "Certificate")[:3] == ["good.example", "CN=near", HOSTILE]
    assert "1,234 more entries are in it; the first 5 are shown." in texts(app)
    assert cells(app, "Entries") == [1239]


def test_a_keystore_that_does_not_open_says_why_and_what_to_do(scene: Scene, visit: Visit) -> None:
    error = "The keystore /srv/java.jks can't be read: the passphrase is wrong or the file is damaged."
    keystore(scene, last_error=error, checked_at=scene.now)
    app = visit("keystores", gateway=str(scene.ids["local"]))
    assert error in texts(app)
    assert "Look whether the passphrase reference names the right passphrase" in texts(app)
    # Nobody answers here: the check says so in place.
    press(app, "Check now")
    assert "Temporal" in texts(app)


def test_a_keystore_is_added_edited_and_removed(scene: Scene, visit: Visit) -> None:
    app = visit("keystores", gateway=str(scene.ids["local"]))
    press(app, "Add keystore")
    field(app, "Type").set_value("pkcs12")
    app.run()
    field(app, "Name (needed)").set_value("java")
    press(app, "Add")
    assert "PKCS#12 file: setting" in texts(app)
    field(app, "File (needed)").set_value("java.p12")
    field(app, "Passphrase (needed)").set_value("hunter2")
    press(app, "Add")
    assert "must be a reference (file:/absolute/path, env:NAME or vault:PATH#FIELD)" in texts(app)
    assert "hunter2" not in texts(app)
    field(app, "Passphrase (needed)").set_value("env:PASS")
    press(app, "Add")
    assert "Keystore java was added." in texts(app)
    (row,) = rows(scene, Keystore)
    assert (row.name, row.type, row.settings) == ("java", "pkcs12", {"file": "java.p12", "passphrase": "env:PASS"})
    press(app, "Edit keystore")
    assert field(app, "File (needed)").value == "java.p12"
    field(app, "Name").set_value("tomcat")
    field(app, "File (needed)").set_value("tomcat.p12")
    press(app, "Save")
    assert [(row.name, row.settings["file"]) for row in rows(scene, Keystore)] == [("tomcat", "tomcat.p12")]
    press(app, "Remove keystore")
    assert "tomcat on local" in texts(app)
    press(app, "Remove")
    assert "Its keys stay on the gateway's host." in texts(app)
    assert rows(scene, Keystore) == []
    told = [row.action for row in rows(scene, AuditEntry) if row.object_type == "keystore"]
    assert told == ["keystore.added", "keystore.edited", "keystore.removed"]


def test_a_keystore_in_use_says_by_what(scene: Scene, visit: Visit) -> None:
    number = keystore(scene)
    with scene.database.write() as session:
        request = session.get_one(CertificateRequest, scene.requests["waiting"])
        request.keystore_id = number
        session.add(request)
    app = visit("keystores", gateway=str(scene.ids["local"]))
    press(press(app, "Remove keystore"), "Remove")
    assert "keys in it are in use: open request" in texts(app)
    assert "intranet.example.com" in texts(app)
    assert rows(scene, Keystore)


def test_who_does_not_manage_a_gateway_looks_only(scene: Scene, visit: Visit) -> None:
    keystore(scene, contents=[asdict(KeystoreEntry("secret.acme", "key pair"))], checked_at=scene.now)
    for path in ("keystores", "endpoints"):
        app = visit(path, login="walter", gateway=str(scene.ids["local"]))
        assert (
            labels(app) & {"Add keystore", "Add endpoint", "Check now", "Test connection", "Remove endpoint"} == set()
        )
        assert "secret.acme" not in texts(app)
        app = visit(path, gateway="4711")
        assert "There is no gateway 4711" in texts(app)
        assert "names no gateway" in texts(visit(path, gateway="x"))


def test_a_request_chooses_its_keystore_where_there_are_several(scene: Scene, visit: Visit) -> None:
    keystore(scene)
    keystore(scene, "default")
    app = visit("new-request")
    assert not [one for one in app.selectbox if one.label == "Keystore"]
    field(app, "Organization").set_value("Default")
    field(app, "Gateway").set_value("local")
    app.run()
    choice = field(app, "Keystore")
    assert (choice.value, choice.options) == (
        "default",
        ["default (Java keystore (JKS))", "java (Java keystore (JKS))"],
    )
    choice.set_value("java")
    field(app, "Common name").set_value("chosen.example.com")
    app.run()
    next(button for button in app.button if button.label == "Submit request").click()
    app.run()
    kept = [row for row in rows(scene, CertificateRequest) if row.common_name == "chosen.example.com"]
    assert [row.keystore_id for row in kept] == [1]


def test_an_endpoint_with_its_error_cure_and_bindings(scene: Scene, visit: Visit) -> None:
    with scene.database.write() as session:
        row = session.get_one(Endpoint, scene.ids["web"])
        row.status, row.last_error = EndpointStatus.INACTIVE, f"nginx is not running. {HOSTILE}"
        row.last_cure, row.tested_at = "Start the product on its host, then ask again.", scene.now
        session.add(row)
    app = visit("endpoints", gateway=str(scene.ids["local"]))
    assert "Endpoints of local" in texts(app)
    assert [cell[0] for cell in cells(app, "Status")] == ["Inactive"]
    assert HOSTILE in "\n".join(str(one.value) for one in app.text)
    assert "Start the product on its host, then ask again." in texts(app)
    assert cells(app, "Binding") == ["intranet.example.com:443", "shop.example.com:443"]
    for button in ("Test connection", "Discover bindings"):
        press(app, button)
        assert "Temporal" in texts(app)
    steps = [TestStep("Host", True, "127.0.0.1 answers."), TestStep("Product", False, "nginx is not running.")]
    app.session_state[f"endpoints-{scene.ids['local']}-report-{scene.ids['web']}"] = EndpointReport(steps, [], "x", "y")
    app.run()
    assert "127.0.0.1 answers." in texts(app)
    app = visit("endpoints", gateway=str(scene.ids["frankfurt-1"]))
    assert "No endpoints" in texts(app)


def test_an_endpoint_is_added_edited_and_removed(scene: Scene, visit: Visit) -> None:
    app = visit("endpoints", gateway=str(scene.ids["frankfurt-1"]))
    press(app, "Add endpoint")
    field(app, "Name (needed)").set_value("edge")
    field(app, "Configuration").set_value("nginx.conf")
    field(app, "Command").set_value("sudo\n-n\nnginx")
    field(app, "Reload timeout (seconds)").set_value(30.0)
    field(app, "Maintenance window").set_value("0 2 * *")
    app.run()
    assert "is no cron expression" in texts(app)
    press(app, "Add")
    assert "setting configuration" in texts(app)
    field(app, "Configuration").set_value("/etc/nginx/edge.conf")
    field(app, "Maintenance window").set_value("0 2 * * 6")
    app.run()
    assert "An install may start at" in texts(app)
    press(app, "Add")
    assert "Endpoint edge was added." in texts(app)
    made = next(row for row in rows(scene, Endpoint) if row.name == "edge")
    assert made.settings == {
        "configuration": "/etc/nginx/edge.conf",
        "command": ["sudo", "-n", "nginx"],
        "reload_timeout_seconds": 30.0,
    }
    assert (made.window_cron, made.window_zone, made.window_minutes) == ("0 2 * * 6", "UTC", 60)
    press(app, "Edit endpoint")
    assert field(app, "Command").value == "sudo\n-n\nnginx"
    field(app, "Command").set_value("")
    field(app, "Maintenance window").set_value("")
    field(app, "Address").set_value("192.0.2.7")
    press(app, "Save")
    made = next(row for row in rows(scene, Endpoint) if row.name == "edge")
    assert made.settings == {
        "configuration": "/etc/nginx/edge.conf",
        "reload_timeout_seconds": 30.0,
        "address": "192.0.2.7",
    }
    assert made.window_cron is None
    press(press(app, "Remove endpoint"), "Remove")
    assert "Endpoint edge was removed." in texts(app)
    app = visit("endpoints", gateway=str(scene.ids["local"]))
    press(press(app, "Remove endpoint"), "Remove")
    assert "can't be removed, because this hangs on it" in texts(app)
    press(app, "Back")
    assert "Endpoints of local" in texts(app)


class Way(StrEnum):
    """A choice."""

    ONE = "one"
    TWO = "two"


class Everything(BaseModel):
    """Every kind of field."""

    maybe: bool = Field(default=True, description="Whether.")
    password: Reference
    secret: Reference | None = None
    names: list[str] = Field(default=["a"])
    count: int | None = None
    retry_after_seconds: float = 1.5
    way: Way = Way.ONE
    other: Literal["x", "y"] = "x"
    file: Path | None = None
    mapped: dict[str, int] = Field(default_factory=dict)


def test_a_form_knows_every_kind_of_setting() -> None:
    found = {field.name: field for field in forms.fields(Everything)}
    assert next(iter(found)) == "password"
    assert {name: field.kind for name, field in found.items()} == {
        "password": Kind.REFERENCE,
        "maybe": Kind.FLAG,
        "secret": Kind.REFERENCE,
        "names": Kind.LIST,
        "count": Kind.WHOLE,
        "retry_after_seconds": Kind.NUMBER,
        "way": Kind.CHOICE,
        "other": Kind.CHOICE,
        "file": Kind.TEXT,
        "mapped": Kind.JSON,
    }
    assert found["way"].options == ("one", "two")
    assert (found["retry_after_seconds"].label, found["names"].default) == ("Retry after (seconds)", '["a"]')
    assert "Never the secret itself" in found["password"].help


@pytest.mark.parametrize("model", [NginxSettings, JksSettings])
def test_every_setting_of_a_connector_has_a_description(model: type[BaseModel]) -> None:
    assert all(field.help for field in forms.fields(model))
