"""A simulator of Sectigo's certificate manager (SCM): its REST interface for SSL certificates, on loopback, faulty.

For tests::

    from tests.simulators.sectigo import Fault, Faults, Simulator, Wrong

    with Simulator(faults=Faults.off()) as ca:      # default: Faults.usual(1), what a client has to survive
        ca.base_url, ca.ca_file                     # https://127.0.0.1:PORT/api, and the root for its TLS certificate
        ca.login, ca.password, ca.customer_uri      # headers login, password, customerUri
        ca.private_url, ca.files.client_certificate, ca.files.client_key     # with a client certificate
        ca.admin_url, ca.token_url, ca.customer.credentials.client_id, …     # with OAuth2 client credentials
        ca.inject(Fault.CUT_AFTER, on="enroll")     # the next enroll is done, and its reply is lost
        ca.issue_wrongly(Wrong.OTHER_KEY)           # the next order gets a certificate for another key
        ca.orders, ca.requests["enroll"], ca.calls, ca.certificates, ca.trust_anchors      # what came of it

The same in a process of its own: ``SimulatorProcess.start(faults="off")``, with the same properties and methods.

Routes, as `inject` and `requests` name them: list, update, types, customFields, enroll, import, collect, approve,
decline, renewById, renew, replace, revoke, revokeSerial, revokeManual, dcv, recheck, details, delete, organizations,
token. Version 1 and 2 of the paths behave alike; ``collect/{id}/{format}`` and ``collect/{id}?format=`` both work.

Certificate types 301 (multi-domain; 30, 90, 199 days), 302 (one name; 90, 199), 303 (6 days); organizations 7001 (with
department 7011) and 7002; 304 is for 7002 only. `accounts.Customer` takes others, mandatory custom fields too.

An order goes Requested > Approved > Applied > Issued, and moves only when it is polled (details, collect): no time
passes by itself. Collect answers 400 in the meantime: -183 in Requested, -1400 in Approved, 0 in Applied. How many
polls it takes, who approves and what hangs stands in `Faults`; `approve`, `decline`, `reject`, `hang`, `release`,
`revoke`, `require_validation`, `validate` and `end_tokens` are the CA's own hands. A list shows 10 orders unless
``size`` says more, and its filters for text let through whatever *contains* the text.

`simulator` the object above · `server` sockets and cuts · `api`, `descriptions` paths and answers, as `document` checks
them · `ledger`, `orders` state · `faults` what goes wrong · `authority` certificates, CRL, OCSP · `formats`
of collect · `accounts`, `tokens`, `tls` who may · `remote`, `command` a process of its own.
"""

from __future__ import annotations

from tests.simulators.sectigo.accounts import CertificateType, Credentials, Customer, CustomField, Organization
from tests.simulators.sectigo.faults import Approval, Fault, Faults, Wrong
from tests.simulators.sectigo.orders import OrderView, Status
from tests.simulators.sectigo.problems import Problem
from tests.simulators.sectigo.remote import Address, Call, RemoteSimulator, SimulatorProcess
from tests.simulators.sectigo.simulator import Simulator

__all__ = [
    "Address",
    "Approval",
    "Call",
    "CertificateType",
    "Credentials",
    "CustomField",
    "Customer",
    "Fault",
    "Faults",
    "OrderView",
    "Organization",
    "Problem",
    "RemoteSimulator",
    "Simulator",
    "SimulatorProcess",
    "Status",
    "Wrong",
]
