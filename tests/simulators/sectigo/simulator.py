"""The simulator in this process. See the package's docstring."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.simulators.sectigo import tls
from tests.simulators.sectigo.accounts import Customer
from tests.simulators.sectigo.api import TOKEN_PATH, Api, Found, route
from tests.simulators.sectigo.authority import Authority, Revocation
from tests.simulators.sectigo.faults import AFTER_THE_WORK, Fate, Fault, Faults, Wrong
from tests.simulators.sectigo.ledger import Ledger
from tests.simulators.sectigo.orders import OrderView, Status
from tests.simulators.sectigo.problems import Problem, unknown_user
from tests.simulators.sectigo.remote import PATH, Call, control
from tests.simulators.sectigo.server import Outcome, Server
from tests.simulators.sectigo.tokens import Tokens
from tests.simulators.sectigo.wire import Reply, Request

_PAGE = b"<!DOCTYPE html>\n<html><head><title>%s</title></head><body><h1>%s</h1></body></html>\n"


def utc_now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


class Simulator:
    """One customer's corner of the CA, from `start` to `stop`; also a context manager. Thread-safe.

    `port` 0: a free one. `cross_signed`: chains lead to an older root. `exact_filters`: the list's filters want the
    whole text; otherwise a part of it is enough. `folder`: where the files for TLS are written; by default one that is
    gone after `stop`.
    """

    def __init__(
        self,
        *,
        faults: Faults | None = None,
        port: int = 0,
        customer: Customer | None = None,
        clock: Callable[[], datetime] = utc_now,
        cross_signed: bool = False,
        exact_filters: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.customer = customer or Customer()
        self.control_secret = secrets.token_urlsafe(24)
        self._lock = threading.RLock()
        self._clock = clock
        self._fate = Fate(Faults.usual(1) if faults is None else faults)
        self._own_folder = folder is None
        self._folder = Path(tempfile.mkdtemp(prefix="sectigo-simulator-")) if folder is None else folder
        self.files = tls.write(self._folder)
        self._server = Server(self.serve, port, tls.context(self.files))
        self._plain = Server(self._publish)
        self._authority = Authority(clock(), self.plain_url, cross_signed=cross_signed)
        self._ledger = Ledger(self.customer, self._authority, self._fate, clock)
        self._ledger.exact_filters = exact_filters
        self._tokens = Tokens(self.customer.credentials, clock)
        self._api = Api(self.customer.credentials, self._ledger, self._tokens, clock)
        self._calls: list[Call] = []
        self._crashes: list[str] = []
        self._crl_number = 0

    # --- start and stop -----------------------------------------------------------------------------------------------

    def start(self) -> Simulator:
        """It answers from now on."""
        self._server.start()
        self._plain.start()
        return self

    def stop(self) -> None:
        """It is gone. Raises `AssertionError` if the simulator itself failed at a request."""
        self._server.stop()
        self._plain.stop()
        if self._own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._crashes:
            raise AssertionError("the simulator failed at a request:\n" + "\n".join(self._crashes))

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- where it is --------------------------------------------------------------------------------------------------

    @property
    def host_url(self) -> str:
        """https, without a path."""
        return f"https://127.0.0.1:{self._server.port}"

    @property
    def base_url(self) -> str:
        """For login and password."""
        return f"{self.host_url}/api"

    @property
    def private_url(self) -> str:
        """For a client certificate."""
        return f"{self.host_url}/private/api"

    @property
    def admin_url(self) -> str:
        """For OAuth2."""
        return f"{self.host_url}/admin/api"

    @property
    def token_url(self) -> str:
        """The token endpoint of OAuth2."""
        return f"{self.host_url}{TOKEN_PATH}"

    @property
    def plain_url(self) -> str:
        """http: CRL, OCSP and issuers, as the certificates name them."""
        return f"http://127.0.0.1:{self._plain.port}"

    @property
    def ca_file(self) -> Path:
        """The root of the simulator's own TLS certificate; has nothing to do with what it issues."""
        return self.files.ca

    @property
    def login(self) -> str:
        """Of the account."""
        return self.customer.credentials.login

    @property
    def password(self) -> str:
        """Of the account."""
        return self.customer.credentials.password

    @property
    def customer_uri(self) -> str:
        """Of the customer."""
        return self.customer.credentials.customer_uri

    # --- what came and what was done ----------------------------------------------------------------------------------

    @property
    def orders(self) -> list[OrderView]:
        """All orders that were ever placed and not deleted, oldest first. Looking moves none of them on."""
        with self._lock:
            return [self._ledger.view(one) for one in self._ledger.orders.values()]

    def order(self, ssl_id: int) -> OrderView:
        """One order. Raises `KeyError`."""
        with self._lock:
            return self._ledger.view(self._ledger.orders[ssl_id])

    @property
    def calls(self) -> list[Call]:
        """Every request to the interface, in the order in which they were finished."""
        with self._lock:
            return list(self._calls)

    @property
    def requests(self) -> Counter[str]:
        """How often each route was asked, those that met a fault included."""
        return Counter(one.route for one in self.calls)

    @property
    def certificates(self) -> list[str]:
        """Every certificate that was issued, PEM, replaced and revoked ones included."""
        with self._lock:
            return [_pem(one.certificate) for one in self._ledger.standings]

    @property
    def trust_anchors(self) -> list[str]:
        """The roots that its certificates chain to, PEM."""
        roots = [self._authority.root.certificate, self._authority.old_root.certificate]
        return [_pem(one) for one in roots]

    def forget_calls(self) -> None:
        """Count anew."""
        with self._lock:
            self._calls.clear()

    # --- control ------------------------------------------------------------------------------------------------------

    @property
    def faults(self) -> Faults:
        """What goes wrong; can be set at any moment, and holds for requests and orders that come after."""
        return self._fate.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._fate.faults = faults

    def inject(self, fault: Fault, *, on: str = "*", times: int = 1, skip: int = 0) -> None:
        """The next `times` requests of route `on` (``*``: every route), after `skip` of them, meet this fault."""
        self._fate.inject(fault, on, times, skip)

    def issue_wrongly(self, wrong: Wrong, *, times: int = 1) -> None:
        """The next `times` orders or reissues get a certificate that is wrong in this way."""
        self._fate.issue_wrongly(wrong, times)

    def fair_weather(self) -> None:
        """Nothing goes wrong from now on, neither drawn nor ordered."""
        self._fate.forget()
        self.faults = Faults.off()

    def approve(self, ssl_id: int) -> None:
        """Somebody at the CA's side approves. Raises `Problem`."""
        with self._lock:
            self._ledger.approve(ssl_id)

    def decline(self, ssl_id: int) -> None:
        """Somebody at the CA's side declines. Raises `Problem`."""
        with self._lock:
            self._ledger.decline(ssl_id)

    def reject(self, ssl_id: int) -> None:
        """The CA will never issue it."""
        with self._lock:
            order = self._ledger.find(ssl_id)
            order.status, order.declined = Status.REJECTED, self._clock()

    def hang(self, ssl_id: int) -> None:
        """It stays in Applied until `release`."""
        with self._lock:
            order = self._ledger.find(ssl_id)
            order.plan = replace(order.plan, hangs=True)

    def release(self, ssl_id: int) -> None:
        """An order that hangs in Applied is worked on: the next poll finds it issued."""
        with self._lock:
            order = self._ledger.find(ssl_id)
            order.plan = replace(order.plan, hangs=False, issue_polls=0, issue_seconds=0.0)

    def revoke(self, ssl_id: int, reason_code: str = "4") -> None:
        """The CA revokes on its own account."""
        with self._lock:
            self._ledger.revoke(self._ledger.find(ssl_id), reason_code)

    def auto_install(self, ssl_id: int) -> None:
        """The certificate is installed by the vendor's own agent: it can't be replaced any more."""
        with self._lock:
            self._ledger.find(ssl_id).auto_installed = True

    def require_validation(self, name: str, *, rechecks: int | None = None) -> None:
        """Orders for this name need domain control validation: enroll without dcvMode is refused, with it the order
        stays in Applied until `rechecks` rechecks found nothing (None: until `validate`)."""
        with self._lock:
            self._ledger.undelegated[name] = rechecks

    def validate(self, name: str) -> None:
        """The name is validated, in open orders and those to come."""
        with self._lock:
            self._ledger.undelegated.pop(name, None)
            for order in self._ledger.orders.values():
                if name in order.validations:
                    order.validations[name].done = True

    def end_tokens(self) -> None:
        """Every OAuth2 token ends now."""
        with self._lock:
            self._tokens.end_all()

    # --- answering ----------------------------------------------------------------------------------------------------

    def serve(self, request: Request) -> Outcome:
        """What becomes of one request."""
        try:
            if request.path.startswith(PATH):
                return Outcome(control(self, request))
            found = route(request.method, request.path)
            if isinstance(found, Reply):
                return Outcome(found)
            fault = self._fate.of_request(found.name, _subject(found, request))
            outcome = self._outcome(found, request, fault)
        except Exception:
            with self._lock:
                self._crashes.append(traceback.format_exc())
            return Outcome(Reply.refusing(Problem(-2, "Internal error.", 500)))
        status = outcome.reply.status if outcome.reply else None
        with self._lock:
            self._calls.append(Call(request.method, request.path, found.name, fault.value if fault else None, status))
        return outcome

    def _outcome(self, found: Found, request: Request, fault: Fault | None) -> Outcome:
        if fault is not None and fault not in AFTER_THE_WORK:
            return Outcome(self._refusal(fault))
        with self._lock:
            reply = self._api.answer(found, request)
        match fault:
            case Fault.CUT_AFTER | Fault.STALLED:
                return Outcome(None, fault)
            case Fault.GATEWAY_TIMEOUT:
                return Outcome(_page(504, b"Gateway Time-out"))
            case Fault.EMPTY:
                return Outcome(Reply(200 if reply.status == 204 else reply.status, b""))
            case Fault.HTML:
                return Outcome(_page(200, b"Please sign in"))
            case Fault.HUGE:
                return Outcome(replace(reply, status=200), Fault.HUGE)
            case _:
                return Outcome(reply, fault)

    def _refusal(self, fault: Fault) -> Reply | None:
        match fault:
            case Fault.RATE_LIMITED:
                wait = {"Retry-After": str(self.faults.retry_after)}
                return Reply.of({"code": -1, "description": "Too many requests."}, 429, wait)
            case Fault.SERVER_ERROR:
                return Reply.refusing(Problem(-2, "Internal error. Please contact Support for details.", 500))
            case Fault.HTML_ERROR:
                return _page(502, b"Bad Gateway")
            case Fault.CA_UNAVAILABLE:
                return Reply.refusing(Problem(-195, "CA is not available now. Please try again later."))
            case Fault.UNAUTHORIZED:
                return Reply.refusing(unknown_user())
            case Fault.REDIRECT:
                return Reply(302, headers={"Location": "http://169.254.169.254/latest/meta-data/"})
            case _:
                return None

    def _publish(self, request: Request) -> Outcome:
        """CRL, OCSP and issuers over plain http."""
        now = self._clock()
        with self._lock:
            if request.path == "/ocsp" and request.method == "POST":
                body = self._authority.answer(request.body, self._ledger.standings, now)
                return Outcome(Reply(200, body, "application/ocsp-response"))
            if request.path in ("/crl/issuing.crl", "/crl/root.crl", "/crl/stranger.crl"):
                self._crl_number += 1
                revoked: list[Revocation] = [one.revoked for one in self._ledger.standings if one.revoked]
                place = request.path.removeprefix("/crl/").removesuffix(".crl")
                body = self._authority.revocation_list(place, revoked, self._crl_number, now)
                return Outcome(Reply(200, body, "application/pkix-crl"))
            place = request.path.removeprefix("/ca/").removesuffix(".crt")
            found = self._authority.published.get(place)
        if found is None:
            return Outcome(_page(404, b"Not Found"))
        return Outcome(Reply(200, found.public_bytes(serialization.Encoding.DER), "application/pkix-cert"))


def _subject(found: Found, request: Request) -> str:
    """What a request is about: its faults do not depend on requests about something else."""
    if found.parts:
        return "/".join(found.parts.values())
    if found.name != "enroll":
        return ""
    try:
        body = request.json()
        return f"{body.get('externalRequester')} {body.get('subjAltNames')}"
    except (Problem, AttributeError):
        return ""


def _page(status: int, title: bytes) -> Reply:
    return Reply(status, _PAGE % (title, title), "text/html")


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
