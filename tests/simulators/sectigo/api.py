"""The interface: from a request to a reply, over the ledger. Version 1 and version 2 of the paths behave alike.

``/api/…`` wants the headers login, password and customerUri; ``/private/api/…`` login, customerUri and a client
certificate; ``/admin/api/…`` a bearer token. Paths, fields and answers are those of ``openapi.json`` beside this file.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from tests.simulators.sectigo import formats
from tests.simulators.sectigo.accounts import Credentials
from tests.simulators.sectigo.descriptions import chosen_by, describe, describe_key, describe_type, describe_validation
from tests.simulators.sectigo.document import Document
from tests.simulators.sectigo.ledger import Ledger
from tests.simulators.sectigo.orders import Order, Status
from tests.simulators.sectigo.problems import Problem, missing, not_found, unknown_user, wrong_id
from tests.simulators.sectigo.tokens import Tokens, same
from tests.simulators.sectigo.wire import Reply, Request

TOKEN_PATH = "/auth/realms/apiclients/protocol/openid-connect/token"
DEFAULT_PAGE = 10


@dataclass(frozen=True)
class Called:
    """One call: the request, what stands in its path, and who calls."""

    request: Request
    parts: Mapping[str, str]
    login: str

    @property
    def id(self) -> int:
        """The order's id in the path."""
        return int(self.parts["id"])

    def body(self) -> dict[str, Any]:
        """The JSON object in the body, checked before."""
        # A renewal's body may be missing, or an empty text: see `openapi.json`.
        value: dict[str, Any] = (self.request.json() if self.request.body else None) or {}
        return value


@dataclass(frozen=True)
class Found:
    """Which route a request takes. `base` is ``api``, ``private/api`` or ``admin/api``."""

    name: str
    base: str
    parts: Mapping[str, str]

    @property
    def operation(self) -> str:
        """Its name in ``openapi.json``, where the two forms of collect are two operations."""
        return "collectAs" if self.name == "collect" and "format" in self.parts else self.name


_ROUTES = [
    ("GET", r"/ssl/v[12]", "list"),
    ("PUT", r"/ssl/v[12]", "update"),
    ("GET", r"/ssl/v[12]/types", "types"),
    ("GET", r"/ssl/v[12]/customFields", "customFields"),
    ("POST", r"/ssl/v[12]/enroll", "enroll"),
    ("POST", r"/ssl/v2/import", "import"),
    ("GET", r"/ssl/v[12]/collect/(?P<id>[^/]+)(/(?P<format>[^/]+))?", "collect"),
    ("POST", r"/ssl/v[12]/approve/(?P<id>[^/]+)", "approve"),
    ("POST", r"/ssl/v[12]/decline/(?P<id>[^/]+)", "decline"),
    ("POST", r"/ssl/v[12]/renewById/(?P<id>[^/]+)", "renewById"),
    ("POST", r"/ssl/v[12]/renew/(?P<renewId>[^/]+)", "renew"),
    ("POST", r"/ssl/v[12]/replace/(?P<id>[^/]+)", "replace"),
    ("POST", r"/ssl/v[12]/revoke/serial/(?P<serial>[^/]+)", "revokeSerial"),
    ("POST", r"/ssl/v[12]/revoke/manual", "revokeManual"),
    ("POST", r"/ssl/v[12]/revoke/(?P<id>[^/]+)", "revoke"),
    ("GET", r"/ssl/v[12]/(?P<id>[^/]+)/dcv", "dcv"),
    ("POST", r"/ssl/v[12]/(?P<id>[^/]+)/dcv/recheck", "recheck"),
    ("GET", r"/ssl/v[12]/(?P<id>[^/]+)", "details"),
    ("DELETE", r"/ssl/v[12]/(?P<id>[^/]+)", "delete"),
    ("GET", r"/organization/v1", "organizations"),
]
ROUTES = [(method, re.compile(pattern), name) for method, pattern, name in _ROUTES]
_BASES = ("private/api", "admin/api", "api")


def route(method: str, path: str) -> Found | Reply:
    """The route, or 404, or 405 with Allow."""
    if path == TOKEN_PATH:
        return Found("token", "auth", {}) if method == "POST" else _not_allowed(["POST"])
    base = next((one for one in _BASES if path.startswith(f"/{one}/")), None)
    if base is None:
        return Reply.of({"code": -1, "description": "No such resource."}, 404)
    rest = path.removeprefix(f"/{base}")
    matching = [one for one in ROUTES if one[1].fullmatch(rest)]
    if not matching:
        return Reply.of({"code": -1, "description": "No such resource."}, 404)
    # The routes stand in the order in which they win: a word in the path wins over an id in its place.
    winner = matching[0][1].pattern
    verbs = {verb: (pattern, name) for verb, pattern, name in matching if pattern.pattern == winner}
    wanted = "GET" if method == "HEAD" and "GET" in verbs else method
    if wanted not in verbs:
        return _not_allowed(list(verbs))
    pattern, name = verbs[wanted]
    match = pattern.fullmatch(rest)
    assert match is not None
    return Found(name, base, {key: unquote(value) for key, value in match.groupdict().items() if value is not None})


def _not_allowed(verbs: list[str]) -> Reply:
    return Reply.of({"code": -1, "description": "Method not allowed."}, 405, {"Allow": ", ".join(dict.fromkeys(verbs))})


class Api:
    """Does the work. Every method wants the simulator's lock held."""

    def __init__(self, credentials: Credentials, ledger: Ledger, tokens: Tokens, clock: Callable[[], datetime]) -> None:
        self._credentials = credentials
        self._ledger = ledger
        self._tokens = tokens
        self._now = clock
        self._document = Document()
        self._does: dict[str, Callable[[Called], Reply]] = {
            "list": self._list,
            "update": self._update,
            "types": self._types,
            "customFields": self._custom_fields,
            "enroll": self._enroll,
            "import": self._import,
            "collect": self._collect,
            "approve": self._approve,
            "decline": self._decline,
            "renewById": self._renew_by_id,
            "renew": self._renew,
            "replace": self._replace,
            "revokeSerial": self._revoke_serial,
            "revokeManual": self._revoke_manual,
            "revoke": self._revoke,
            "dcv": self._dcv,
            "recheck": self._recheck,
            "details": self._details,
            "delete": self._delete,
            "organizations": self._organizations,
        }

    def answer(self, found: Found, request: Request) -> Reply:
        """The reply, refusals included."""
        if found.name == "token":
            return self._tokens.give(request)
        try:
            login = self._authenticate(found.base, request)
            self._document.check(found.operation, found.parts, request)
            return self._does[found.name](Called(request, found.parts, login))
        except Problem as problem:
            return Reply.refusing(problem)

    def _authenticate(self, base: str, request: Request) -> str:
        right, headers = self._credentials, request.headers
        if base == "admin/api":
            if not self._tokens.knows(headers.get("authorization", "")):
                raise unknown_user()
            return right.client_id
        known = same(headers.get("login", ""), right.login) and same(headers.get("customeruri", ""), right.customer_uri)
        by_password = base == "api" and same(headers.get("password", ""), right.password)
        by_certificate = base == "private/api" and request.certified
        if not known or not (by_password or by_certificate):
            raise unknown_user()
        return right.login

    # --- what is offered ----------------------------------------------------------------------------------------------

    def _types(self, called: Called) -> Reply:
        org_id = called.request.query.get("organizationId")
        number = int(org_id) if org_id is not None else None
        return Reply.of([describe_type(one) for one in self._ledger.customer.types_of(number)])

    def _custom_fields(self, called: Called) -> Reply:
        fields = self._ledger.customer.custom_fields
        return Reply.of([{"id": one.id, "name": one.name, "mandatory": one.mandatory} for one in fields])

    def _organizations(self, called: Called) -> Reply:
        return Reply.of(
            [
                {
                    "id": one.id,
                    "name": one.name,
                    "departments": [
                        {"id": number, "name": name, "parentName": one.name} for number, name in one.departments
                    ],
                }
                for one in self._ledger.customer.organizations
            ]
        )

    # --- orders -------------------------------------------------------------------------------------------------------

    def _enroll(self, called: Called) -> Reply:
        order = self._ledger.enroll(called.body(), called.login)
        return Reply.of({"sslId": order.id, "renewId": order.renew_id})

    def _renew_by_id(self, called: Called) -> Reply:
        return Reply.of({"sslId": self._ledger.renew(called.id, called.body(), called.login).id})

    def _renew(self, called: Called) -> Reply:
        earlier = self._ledger.by_renew_id(called.parts["renewId"])
        self._ledger.renew(earlier.id, called.body(), called.login)
        return Reply.nothing()

    def _replace(self, called: Called) -> Reply:
        self._ledger.replace(called.id, called.body())
        return Reply.nothing()

    def _approve(self, called: Called) -> Reply:
        self._ledger.approve(called.id)
        return Reply.nothing()

    def _decline(self, called: Called) -> Reply:
        self._ledger.decline(called.id)
        return Reply.nothing()

    def _details(self, called: Called) -> Reply:
        order = self._known(called.id)
        self._ledger.poll(order)
        return Reply.of(self._described(order))

    def _delete(self, called: Called) -> Reply:
        self._ledger.delete(self._known(called.id))
        return Reply.nothing()

    def _collect(self, called: Called) -> Reply:
        kind = called.parts.get("format") or called.request.query.get("format") or "base64"
        order = self._known(called.id)
        formats.check(kind)
        self._ledger.poll(order)
        self._want_collectable(order)
        assert order.issued is not None
        name = f"{order.common_name.replace('*', 'star')}.{'p7b' if kind in ('base64', 'bin') else 'cer'}"
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Reply(200, formats.render(order.issued, kind), "application/octet-stream", disposition)

    def _want_collectable(self, order: Order) -> None:
        match order.status:
            case Status.ISSUED:
                return
            case Status.REQUESTED | Status.SA_APPROVED | Status.INIT:
                raise Problem(-183, "Certificate is not collectable.")
            case Status.APPROVED:
                raise Problem(-1400, "The request is being processed by Sectigo.")
            case Status.APPLIED if order.issued is not None and order.plan.shows_old:
                return
            case Status.APPLIED:
                raise Problem(0, "Being processed by Sectigo.")
            case Status.REVOKED:
                raise Problem(-110, "Certificate has been revoked and cannot be downloaded.")
            case _:
                raise Problem(-130, f"SSL state is not 'ISSUED': {order.status.value}")

    def _revoke(self, called: Called) -> Reply:
        self._ledger.revoke(self._ledger.find(called.id), _reason(called.body()))
        return Reply.nothing()

    def _revoke_serial(self, called: Called) -> Reply:
        self._ledger.revoke_serial(called.parts["serial"], _reason(called.body()))
        return Reply.nothing()

    def _revoke_manual(self, called: Called) -> Reply:
        body = called.body()
        order = self._ledger.orders.get(body.get("certId") or 0) or self._ledger.by_serial(
            str(body.get("serialNumber") or "")
        )
        if order is None:
            raise wrong_id(int(body.get("certId") or 0))
        self._ledger.revoke(order, _code(body))
        return Reply.nothing()

    def _known(self, ssl_id: int) -> Order:
        if ssl_id not in self._ledger.orders:
            raise not_found(ssl_id)
        return self._ledger.orders[ssl_id]

    # --- lists and details --------------------------------------------------------------------------------------------

    def _list(self, called: Called) -> Reply:
        query = called.request.query
        size, position = int(query.get("size", DEFAULT_PAGE)), int(query.get("position", 0))
        now, exact = self._now(), self._ledger.exact_filters
        chosen = [one for one in self._ledger.orders.values() if chosen_by(query, one, one.status_at(now), exact=exact)]
        page = [
            {
                "sslId": one.id,
                "commonName": one.common_name,
                "subjectAlternativeNames": one.names,
                "serialNumber": one.serial_number,
            }
            for one in chosen[position : position + size]
        ]
        return Reply.of(page, headers={"X-Total-Count": str(len(chosen))})

    def _update(self, called: Called) -> Reply:
        body = called.body()
        order = self._ledger.find(body["sslId"])
        self._ledger.update(order, body)
        return Reply.of(self._described(order))

    def _described(self, order: Order) -> dict[str, Any]:
        profile = next((one for one in self._ledger.customer.types if one.id == order.type_id), None)
        return describe(order, profile, self._now())

    # --- domain control validation ------------------------------------------------------------------------------------

    def _dcv(self, called: Called) -> Reply:
        return Reply.of([describe_validation(one) for one in self._known(called.id).validations.values()])

    def _recheck(self, called: Called) -> Reply:
        order, now = self._known(called.id), self._now()
        for one in order.validations.values():
            one.last_check = now
            if not one.done and one.rechecks_left is not None:
                one.rechecks_left -= 1
                one.done = one.rechecks_left < 0
        instructions = [part for one in order.validations.values() for part in describe_validation(one)["instructions"]]
        log = [part for one in order.validations.values() for part in describe_validation(one)["dcvLog"]["log"]]
        return Reply.of({"instructions": instructions, "dcvLog": {"log": log}}, 202)

    # --- import -------------------------------------------------------------------------------------------------------

    def _import(self, called: Called) -> Reply:
        return Reply.of([self._imported(one, called.login) for one in called.request.json()])

    def _imported(self, one: Mapping[str, Any], login: str) -> dict[str, Any]:
        if not self._ledger.customer.has_organization(one["orgID"]):
            return _not_imported(f"Organization '{one['orgID']}' not found.")
        try:
            leaf = x509.load_der_x509_certificate(base64.b64decode(one.get("cert") or "", validate=True))
            described = describe_key(leaf.public_key())
        except (ValueError, binascii.Error, UnsupportedAlgorithm):
            return _not_imported("The certificate can't be read.")
        if not described:
            return _not_imported("The key of the certificate is of an unknown kind.")
        order, created = self._ledger.take_over(leaf, one["orgID"], login)
        if one.get("comments"):
            order.comments = str(one["comments"])
        identity = {"id": order.id, "serialNumber": order.serial_number, "subject": leaf.subject.rfc4514_string()}
        number = str(order.order_number)
        return {"successful": True, "created": created, "backendCertId": number, "cert": identity}


def _not_imported(message: str) -> dict[str, Any]:
    return {"successful": False, "created": False, "errorMessage": message}


def _reason(body: Mapping[str, Any]) -> str:
    if not body.get("reason"):
        raise missing("reason")
    return _code(body)


def _code(body: Mapping[str, Any]) -> str:
    return str(body.get("reasonCode") or "0")
