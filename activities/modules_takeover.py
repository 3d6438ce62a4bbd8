"""The manager's records of a gateway as a document, and the gateway's word taken over into them.

What `operations/endpoints.py` and `operations/keystores.py` ask before they change a record holds here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, select

from model.rules import modules
from model.states import EndpointStatus, InstallMode
from model.tables import (
    Certificate,
    CertificateRequest,
    Endpoint,
    EndpointBinding,
    EndpointGroupMember,
    Gateway,
    Installation,
    Keystore,
)

_DEFAULT = "default"


def records_of(session: Session, gateways: Sequence[Gateway]) -> dict[int, dict[str, Any]]:
    """Comments, keystores and endpoints of each of these gateways, by key; not yet in normal form."""
    numbers = [_number(gateway) for gateway in gateways]
    made: dict[int, dict[str, Any]] = {}
    for gateway in gateways:
        # A gateway without a row of its own has the plain PEM directory in its home.
        own = made[_number(gateway)] = {modules.DEFAULT_KEYSTORE: {"type": "pem"}}
        if gateway.comments:
            own[modules.COMMENTS] = gateway.comments
    for keystore in session.exec(select(Keystore).where(col(Keystore.gateway_id).in_(numbers))).all():
        value = {"type": keystore.type, "settings": keystore.settings}
        made[keystore.gateway_id][f"{modules.KEYSTORE}:{keystore.name}"] = value
    for endpoint in session.exec(select(Endpoint).where(col(Endpoint.gateway_id).in_(numbers))).all():
        made[endpoint.gateway_id][f"{modules.ENDPOINT}:{endpoint.name}"] = _endpoint_value(endpoint)
    return made


def take_over(session: Session, gateway: Gateway, key: str, value: Any) -> str:
    """Make the records say `value` (None: take it out); the obstacles were asked before. Says what was done."""
    kind, name = modules.split(key)
    if kind == modules.PROPERTY:
        gateway.comments = value or ""
        gateway.revision += 1
        session.add(gateway)
        return "edited" if value else "removed"
    if kind == modules.KEYSTORE:
        return _take_keystore(session, gateway, name, value)
    return _take_endpoint(session, gateway, name, value)


class Uses:
    """What hangs on the endpoints and keystores of a gateway."""

    def __init__(self, session: Session, gateway: Gateway) -> None:
        self._endpoints: dict[str, list[str]] = {}
        self._keystores: dict[str, list[str]] = {}
        endpoints = {row.id: row.name for row in _endpoints(session, gateway)}
        keystores = {row.id: row.name for row in _keystores(session, gateway)}
        open_requests = select(CertificateRequest).where(
            CertificateRequest.gateway_id == gateway.id,
            CertificateRequest.closed == False,  # noqa: E712
        )
        for request in session.exec(open_requests).all():
            self._note(request, f"open request {request.id}", endpoints, keystores)
        held = (
            select(CertificateRequest, Certificate.id)
            .join(Certificate, col(Certificate.request_id) == col(CertificateRequest.id))
            .where(CertificateRequest.gateway_id == gateway.id, Certificate.active)
        )
        for request, number in session.exec(held).all():
            self._note(request, f"certificate {number}", {}, keystores)
        installed = (
            select(Installation.endpoint_id, Certificate.id)
            .join(Certificate, col(Certificate.id) == col(Installation.certificate_id))
            .where(col(Installation.endpoint_id).in_(list(endpoints)), Certificate.active)
        )
        for endpoint_id, number in session.exec(installed).all():
            self._endpoints.setdefault(endpoints[endpoint_id], []).append(f"certificate {number} is installed there")

    def obstacle(self, key: str, before: Any, after: Any) -> str | None:
        """Why a record can't become `after`; None where it can."""
        kind, name = modules.split(key)
        if kind == modules.PROPERTY or before is None:
            return None
        if key == modules.DEFAULT_KEYSTORE and after is None:
            return "Every gateway needs its keystore named default: put it back into the file."
        if after is not None and after["type"] == before["type"]:
            return None
        used = (self._endpoints if kind == modules.ENDPOINT else self._keystores).get(name, [])
        if not used:
            return None
        more = f" and {len(used) - 3} more" if len(used) > 3 else ""
        act = "be removed" if after is None else "change its type"
        return f"The {kind} can't {act} while it is in use: {', '.join(used[:3])}{more}."

    def _note(
        self, request: CertificateRequest, what: str, endpoints: dict[int | None, str], keystores: dict[int | None, str]
    ) -> None:
        if request.endpoint_id in endpoints:
            self._endpoints.setdefault(endpoints[request.endpoint_id], []).append(what)
        self._keystores.setdefault(keystores.get(request.keystore_id, _DEFAULT), []).append(what)


def _endpoint_value(row: Endpoint) -> dict[str, Any]:
    window = {"cron": row.window_cron, "zone": row.window_zone, "minutes": row.window_minutes}
    return {
        "type": row.type,
        "connection": row.connection,
        "settings": row.settings,
        "connection_settings": row.connection_settings,
        "install": str(row.install_mode),
        "credential": row.credential,
        "window": window if row.window_cron else None,
        "key_at_endpoint": row.key_at_endpoint,
        "verify_from_manager": row.verify_from_manager,
    }


def _take_keystore(session: Session, gateway: Gateway, name: str, value: Any) -> str:
    row = next((one for one in _keystores(session, gateway) if one.name == name), None)
    if value is None:
        if row is not None:
            session.delete(row)
        return "removed"
    what = "edited" if row is not None else "added"
    row = row or Keystore(gateway_id=_number(gateway), name=name, type=value["type"])
    row.type, row.settings = value["type"], value.get("settings", {})
    row.contents, row.last_error, row.checked_at = [], None, None
    session.add(row)
    session.flush()
    return what


def _take_endpoint(session: Session, gateway: Gateway, name: str, value: Any) -> str:
    row = next((one for one in _endpoints(session, gateway) if one.name == name), None)
    if value is None:
        if row is not None:
            _forget(session, row)
            session.delete(row)
        return "removed"
    what = "edited" if row is not None else "added"
    if row is None:
        row = Endpoint(gateway_id=_number(gateway), name=name, type=value["type"])
    elif row.type != value["type"]:
        _forget(session, row)
        row.type, row.status, row.discovered_at = value["type"], EndpointStatus.INIT, None
        row.last_error = row.last_cure = row.tested_at = None
    row.connection = value.get("connection", "local")
    row.settings, row.connection_settings = value.get("settings", {}), value.get("connection_settings", {})
    row.credential, row.install_mode = value.get("credential"), InstallMode(value.get("install", InstallMode.AUTO))
    window = value.get("window", {})
    row.window_cron, row.window_zone = window.get("cron"), window.get("zone", "UTC")
    row.window_minutes = window.get("minutes", 60)
    row.key_at_endpoint = value.get("key_at_endpoint", False)
    row.verify_from_manager = value.get("verify_from_manager", False)
    session.add(row)
    session.flush()
    return what


def _forget(session: Session, row: Endpoint) -> None:
    """Requests that have ended stay, without the endpoint; what was discovered and installed there goes."""
    for request in session.exec(select(CertificateRequest).where(CertificateRequest.endpoint_id == row.id)).all():
        request.endpoint_id = None
        session.add(request)
    for table in (Installation, EndpointBinding, EndpointGroupMember):
        for one in session.exec(select(table).where(table.endpoint_id == row.id)).all():
            session.delete(one)
    session.flush()


def _endpoints(session: Session, gateway: Gateway) -> list[Endpoint]:
    return list(session.exec(select(Endpoint).where(Endpoint.gateway_id == gateway.id)).all())


def _keystores(session: Session, gateway: Gateway) -> list[Keystore]:
    return list(session.exec(select(Keystore).where(Keystore.gateway_id == gateway.id)).all())


def _number(gateway: Gateway) -> int:
    assert gateway.id is not None
    return gateway.id
