"""Every operation, asked by every kind of administrator. A public operation without a row here fails the test."""

from __future__ import annotations

import csv
import importlib
import inspect
import io
import json
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import select

import operations
from connectors.notices.settings import NotificationSettings, WebhookSettings
from model.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable
from model.states import DelegationMode, Role
from model.tables import AccessToken, Administrator
from operations import (
    account,
    administrators,
    audit_export,
    audit_trail,
    authorities,
    campaign_selection,
    campaign_words,
    campaigns,
    certificate_import,
    certificates,
    decisions,
    directory,
    downloads,
    endpoints,
    enrollment,
    exports,
    gateway_changes,
    gateway_delegation,
    gateways,
    groups,
    health,
    identity,
    imports,
    inventory,
    inventory_expiry,
    inventory_manage,
    inventory_scans,
    keystores,
    modules,
    notifications,
    orders,
    organizations,
    overview,
    policies,
    preferences,
    presence,
    profiles,
    replacement,
    requests,
    roles,
    rollback,
    sessions,
    single_sign_on,
    standing,
    submission,
    trust,
    trust_expiry,
    verification,
)
from operations.context import Context
from tests import pki
from tests.operations.conftest import NOW, Records

HOUR = timedelta(hours=1)
ROLES = ("mrao", "rao", "bare", "drao", "stranger")
OK, REFUSED, HIDDEN = "ok", "refused", "hidden"
# Operations on a context that others call inside theirs, after they have authorized.
HELPERS = {
    "asking.ask",
    "audit_search.question",
    "audit_search.reader_of",
    "gateways.require_custody",
    "gateways.served",
    "gateway_changes.put",
    "gateway_changes.require_adding",
    "endpoints.put",
    "gateways.seen",
    "gateways.tell",
    "campaign_selection.judge",
    "campaigns.seen",
    "campaigns.visible",
    "campaigns.words",
    "certificates.order_now",
    "certificates.visible",
    "decisions.visible",
    "decisions.words",
    "health.database_findings",
    "inventory.found_by",
    "inventory.sight",
    "notifications.late",
    "trust.keep",
    "roles.give",
    "submission.judge",
}

Call = Callable[[Context, Records], Any]


@dataclass(frozen=True)
class Row:
    """What one operation answers to whom: `OK`, `REFUSED` (and audited), `HIDDEN` (does not exist for him), or, for a
    list, what is in it."""

    call: Call
    mrao: Any = OK
    rao: Any = OK
    bare: Any = OK
    drao: Any = OK
    stranger: Any = OK


def owners(call: Call, hidden: bool = False) -> Row:
    """Only for MRAOs. With `hidden`, others don't even see the thing."""
    others = HIDDEN if hidden else REFUSED
    return Row(call, OK, others, others, others, others)


def names(rows: list[Any]) -> set[str]:
    return {row.name for row in rows}


NEW_ENDPOINT = endpoints.NewEndpoint(gateway="alpha", name="second", type="nginx")
NEW_GROUP = groups.NewGroup("alpha", "second", [("nginx", "a:443")])
NEW_KEYSTORE = keystores.NewKeystore("alpha", "java", "jks", {"file": "/srv/a.jks", "passphrase": "env:P"})
NEW_SCAN = inventory_scans.NewScan("alpha", ["192.0.2.0/24"], ["443"])
NEW_IMPORT = certificate_import.NewImport("private", "Alpha", "alpha")
NEW_GATEWAY = gateway_changes.NewGateway("new", delegation_mode=DelegationMode.CUSTOMIZED, organizations=["Alpha"])
NEW_REQUEST = submission.NewRequest(common_name="n.example", organization="Alpha", department="Web", gateway="general")
EVERYTHING, PLAN = campaign_selection.Selection(everything=True), campaign_selection.Plan()
# Nothing listens there.
WEBHOOK = NotificationSettings(webhook=WebhookSettings(url="http://127.0.0.1:9/"))
ROOT = pki.pem(pki.make_ca("A root").certificate)

TABLE: dict[str, Row] = {
    "organizations.listing": Row(
        lambda c, r: {(row.name, *row.departments) for row in organizations.listing(c)},
        mrao={("Alpha", "Web"), ("Beta",)},
        rao={("Alpha", "Web")},
        bare={("Alpha", "Web")},
        drao={("Alpha", "Web")},
        stranger={("Beta",)},
    ),
    "organizations.hanging": Row(
        lambda c, r: organizations.hanging(c, "Alpha"),
        "1 department, 1 request, 1 certificate, 2 delegations of a gateway, 4 roles of an administrator, "
        "1 approval policy",
        REFUSED,
        REFUSED,
        REFUSED,
        HIDDEN,
    ),
    "directory.organizations": Row(
        lambda c, r: [(row.name, row.departments, *astuple(row.counts)) for row in directory.organizations(c).rows],
        mrao=[("Alpha", 1, 2, 1, 1, 4), ("Beta", 0, 1, 0, 0, 1)],
        rao=[("Alpha", 1, 2, 1, 1, None)],
        bare=[("Alpha", 1, 2, 1, 1, None)],
        drao=[("Alpha", 1, 2, 1, 1, None)],
        stranger=[("Beta", 0, 1, 0, 0, None)],
    ),
    "directory.organization": Row(lambda c, r: directory.organization(c, "Alpha"), stranger=HIDDEN),
    "directory.departments": Row(
        lambda c, r: [(row.name, *astuple(row.counts)) for row in directory.departments(c, "Alpha").rows],
        mrao=[("Web", 1, 1, 1, 2)],
        rao=[("Web", 1, 1, 1, None)],
        bare=[("Web", 1, 1, 1, None)],
        drao=[("Web", 1, 1, 1, None)],
        stranger=HIDDEN,
    ),
    "overview.show": Row(
        lambda c, r: _overview(c),
        mrao=(1, 1, 1, {"request", "organization", "installation"}),
        rao=(1, 1, 1, {"request"}),
        bare=(1, 0, 1, None),
        drao=(1, 1, 1, {"request"}),
        stranger=(0, 0, 0, {"organization"}),
    ),
    "overview.gateways_now": Row(lambda c, r: overview.gateways_now(c)),
    "organizations.add": owners(lambda c, r: organizations.add(c, "Gamma")),
    "organizations.rename": Row(
        lambda c, r: organizations.rename(c, "Alpha", "Gamma"), OK, REFUSED, REFUSED, REFUSED, HIDDEN
    ),
    "organizations.remove": Row(lambda c, r: organizations.remove(c, "Alpha"), OK, REFUSED, REFUSED, REFUSED, HIDDEN),
    "organizations.add_department": Row(
        lambda c, r: organizations.add_department(c, "Alpha", "Mail"), OK, REFUSED, REFUSED, REFUSED, HIDDEN
    ),
    "organizations.rename_department": Row(
        lambda c, r: organizations.rename_department(c, "Alpha", "Web", "Mail"), OK, REFUSED, REFUSED, REFUSED, HIDDEN
    ),
    "organizations.remove_department": Row(
        lambda c, r: organizations.remove_department(c, "Alpha", "Web"), OK, REFUSED, REFUSED, REFUSED, HIDDEN
    ),
    "gateways.listing": Row(
        lambda c, r: names(gateways.listing(c).rows),
        mrao={"general", "alpha", "web", "beta"},
        rao={"general", "alpha", "web"},
        bare={"general", "alpha", "web"},
        drao={"general", "alpha", "web"},
        stranger={"general", "beta"},
    ),
    "gateways.show": Row(lambda c, r: gateways.show(c, "Alpha"), stranger=HIDDEN),
    "gateways.names": Row(
        lambda c, r: set(gateways.names(c).values()),
        mrao={"general", "alpha", "web", "beta"},
        rao={"general", "alpha", "web"},
        bare={"general", "alpha", "web"},
        drao={"general", "alpha", "web"},
        stranger={"general", "beta"},
    ),
    "gateways.groups": Row(
        lambda c, r: {group.key: group.count for group in gateways.groups(c, "organization")},
        mrao={None: 1, "Alpha": 2, "Beta": 1},
        rao={None: 1, "Alpha": 2},
        bare={None: 1, "Alpha": 2},
        drao={None: 1, "Alpha": 1},
        stranger={None: 1, "Beta": 1},
    ),
    "gateways.kinds": Row(
        lambda c, r: gateways.kinds(c)[0],
        ["1.0", "2.0"],
        ["1.0"],
        ["1.0"],
        ["1.0"],
        ["2.0"],
    ),
    "gateways.find": Row(lambda c, r: gateways.find(c, "ALPHA"), stranger=HIDDEN),
    "gateways.find by id": Row(lambda c, r: gateways.find(c, "2"), stranger=HIDDEN),
    "gateways.statuses": Row(lambda c, r: gateways.statuses(c)),
    "notifications.listing": Row(lambda c, r: notifications.listing(c).total, 3, 1, 1, 1, 1),
    "notifications.unseen": Row(lambda c, r: notifications.unseen(c), 3, 1, 1, 1, 1),
    "notifications.mark_seen": Row(lambda c, r: notifications.mark_seen(c, [1]), stranger=HIDDEN),
    "notifications.mark_seen all": Row(lambda c, r: notifications.mark_seen(c), 3, 1, 1, 1, 1),
    "notifications.by_email": Row(lambda c, r: notifications.by_email(c)),
    "notifications.choose_email": Row(lambda c, r: notifications.choose_email(c, False)),
    "notifications.test": owners(lambda c, r: notifications.test(c, WEBHOOK, r.surroundings)),
    "presence.statuses": Row(lambda c, r: presence.statuses(c)),
    "presence.statuses_of": Row(
        lambda c, r: set(presence.statuses_of(c, {})), {1, 2, 3, 4}, {1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {1, 4}
    ),
    "gateways.allowed": Row(
        lambda c, r: {number for number, acts in gateways.allowed(c, [1, 2, 3, 4]).items() if "edit" in acts},
        {1, 2, 3, 4},
        {2, 3},
        set(),
        {3},
        {4},
    ),
    "gateway_changes.add": Row(
        lambda c, r: gateway_changes.add(c, NEW_GATEWAY), bare=REFUSED, drao=REFUSED, stranger=HIDDEN
    ),
    "gateway_changes.edit": Row(
        lambda c, r: gateway_changes.edit(c, "alpha", comments="x"), bare=REFUSED, drao=REFUSED, stranger=HIDDEN
    ),
    "gateway_changes.edit a general one": Row(
        lambda c, r: gateway_changes.edit(c, "general", comments="x"), OK, REFUSED, REFUSED, REFUSED, REFUSED
    ),
    "gateway_changes.edit a department's": Row(
        lambda c, r: gateway_changes.edit(c, "web", comments="x"), OK, OK, REFUSED, OK, HIDDEN
    ),
    "gateway_delegation.delegate": Row(
        lambda c, r: gateway_delegation.delegate(c, "alpha", departments=["Alpha/Web"]), bare=REFUSED, stranger=HIDDEN
    ),
    "gateway_delegation.delegate to everybody": Row(
        lambda c, r: gateway_delegation.delegate(c, "alpha", general=True), OK, REFUSED, REFUSED, REFUSED, HIDDEN
    ),
    "gateway_changes.hanging": Row(lambda c, r: gateway_changes.hanging(c, "alpha"), stranger=HIDDEN),
    "gateway_changes.delete": Row(
        lambda c, r: gateway_changes.delete(c, "alpha", force=True), OK, OK, REFUSED, REFUSED, HIDDEN
    ),
    "downloads.of_gateway": Row(lambda c, r: downloads.of_gateway(c, "alpha", downloads.Kind.SYSTEMD), stranger=HIDDEN),
    "enrollment.host_of": Row(lambda c, r: enrollment.host_of(c, "alpha").joined, True, True, True, True, HIDDEN),
    "enrollment.new_token": Row(lambda c, r: enrollment.new_token(c, "alpha"), OK, OK, REFUSED, REFUSED, HIDDEN),
    "enrollment.restore": Row(lambda c, r: enrollment.restore(c, "alpha"), OK, OK, REFUSED, REFUSED, HIDDEN),
    "enrollment.restore a general one": Row(
        lambda c, r: enrollment.restore(c, "general"), OK, REFUSED, REFUSED, REFUSED, REFUSED
    ),
    "endpoints.listing": Row(
        lambda c, r: names(endpoints.listing(c)), {"nginx"}, {"nginx"}, {"nginx"}, {"nginx"}, set()
    ),
    "endpoints.show": Row(lambda c, r: endpoints.show(c, "alpha", "nginx"), stranger=HIDDEN),
    "endpoints.bindings": Row(lambda c, r: endpoints.bindings(c, "alpha", "nginx"), stranger=HIDDEN),
    "endpoints.add": Row(lambda c, r: endpoints.add(c, NEW_ENDPOINT), OK, OK, REFUSED, REFUSED, HIDDEN),
    "endpoints.edit": Row(
        lambda c, r: endpoints.edit(c, "alpha", "nginx", endpoints.EndpointChange(window_minutes=30)),
        OK,
        OK,
        REFUSED,
        REFUSED,
        HIDDEN,
    ),
    "endpoints.remove": Row(lambda c, r: endpoints.remove(c, "alpha", "nginx"), OK, OK, REFUSED, REFUSED, HIDDEN),
    "endpoints.discover": Row(lambda c, r: endpoints.discover(c, "alpha", "nginx"), OK, OK, REFUSED, REFUSED, HIDDEN),
    "endpoints.test": Row(lambda c, r: endpoints.test(c, "alpha", 1), OK, OK, REFUSED, REFUSED, HIDDEN),
    "groups.listing": Row(lambda c, r: names(groups.listing(c)), {"web"}, {"web"}, {"web"}, {"web"}, set()),
    "groups.show": Row(lambda c, r: groups.show(c, "alpha", "web"), stranger=HIDDEN),
    "groups.add": Row(lambda c, r: groups.add(c, NEW_GROUP), OK, OK, REFUSED, REFUSED, HIDDEN),
    "groups.edit": Row(
        lambda c, r: groups.edit(c, "alpha", "web", groups.GroupChange(at_once=2)), OK, OK, REFUSED, REFUSED, HIDDEN
    ),
    "groups.remove": Row(lambda c, r: groups.remove(c, "alpha", "web"), OK, OK, REFUSED, REFUSED, HIDDEN),
    "rollback.preview": Row(lambda c, r: rollback.preview(c, "alpha", "nginx", "a:443"), stranger=HIDDEN),
    "rollback.bindings_with_previous": Row(
        lambda c, r: len(rollback.bindings_with_previous(c, "alpha", "nginx")), 1, 1, 1, 1, HIDDEN
    ),
    "rollback.roll_back": Row(
        lambda c, r: rollback.roll_back(c, "alpha", "nginx", "a:443"), bare=REFUSED, stranger=HIDDEN
    ),
    "verification.certificate": Row(lambda c, r: verification.certificate(c, 1), bare=REFUSED, stranger=HIDDEN),
    "verification.everything": Row(lambda c, r: verification.everything(c, "alpha"), bare=REFUSED, stranger=HIDDEN),
    "verification.progress": Row(lambda c, r: verification.progress(c, f"verification-all-{c.actor.login}")),
    "inventory.listing": Row(lambda c, r: _seen(c), {1, 2, 3}, {1, 2}, {1, 2}, {1}, {3}),
    "inventory.counts": Row(
        lambda c, r: tuple(inventory.counts(c).values()), (2, 1, 0), (1, 1, 0), (1, 1, 0), (0, 1, 0), (1, 0, 0)
    ),
    "inventory.show": Row(lambda c, r: inventory.show(c, 1), stranger=HIDDEN),
    "inventory.show what is in the network": Row(lambda c, r: inventory.show(c, 2), drao=HIDDEN, stranger=HIDDEN),
    "inventory.ignore": Row(lambda c, r: inventory.ignore(c, 1, "why"), OK, OK, REFUSED, REFUSED, HIDDEN),
    "inventory.unignore": Row(lambda c, r: inventory.unignore(c, 2), OK, OK, REFUSED, HIDDEN, HIDDEN),
    "inventory.export_csv": Row(lambda c, r: len(list(inventory.export_csv(c))), 4, 3, 3, 2, 2),
    "inventory.export_jsonl": Row(lambda c, r: len(list(inventory.export_jsonl(c))), 3, 2, 2, 1, 1),
    "inventory_expiry.ending": Row(lambda c, r: inventory_expiry.ending(c).total, 2, 1, 1, 0, 1),
    "inventory_manage.preview": Row(lambda c, r: inventory_manage.preview(c, [1]), stranger=HIDDEN),
    "inventory_manage.manage": Row(lambda c, r: inventory_manage.manage(c, [1]), bare=REFUSED, stranger=HIDDEN),
    "inventory_scans.allowed": Row(lambda c, r: inventory_scans.allowed(c, "alpha"), stranger=HIDDEN),
    "inventory_scans.listing": Row(
        lambda c, r: {row.gateway for row in inventory_scans.listing(c)},
        {"alpha", "beta"},
        {"alpha"},
        {"alpha"},
        set(),
        {"beta"},
    ),
    "inventory_scans.show": Row(lambda c, r: inventory_scans.show(c, 1), drao=HIDDEN, stranger=HIDDEN),
    "inventory_scans.begin": Row(lambda c, r: inventory_scans.begin(c, NEW_SCAN), OK, OK, REFUSED, REFUSED, HIDDEN),
    "inventory_scans.again": Row(lambda c, r: inventory_scans.again(c, 1), OK, OK, REFUSED, HIDDEN, HIDDEN),
    "inventory_scans.cancel": Row(lambda c, r: inventory_scans.cancel(c, 1), OK, OK, REFUSED, HIDDEN, HIDDEN),
    "inventory_scans.remove": Row(lambda c, r: inventory_scans.remove(c, 1), OK, OK, REFUSED, HIDDEN, HIDDEN),
    "keystores.listing": Row(
        lambda c, r: {row.gateway for row in keystores.listing(c)},
        mrao={"general", "alpha", "web", "beta"},
        rao={"general", "alpha", "web"},
        bare={"general", "alpha", "web"},
        drao={"general", "alpha", "web"},
        stranger={"general", "beta"},
    ),
    "keystores.show": Row(lambda c, r: keystores.show(c, "alpha"), stranger=HIDDEN),
    "keystores.show what is in one": Row(
        lambda c, r: keystores.show(c, "general").keystore.withheld, False, True, True, True, True
    ),
    "keystores.add": Row(lambda c, r: keystores.add(c, NEW_KEYSTORE), OK, OK, REFUSED, REFUSED, HIDDEN),
    "keystores.check": Row(lambda c, r: keystores.check(c, "alpha"), OK, OK, REFUSED, REFUSED, HIDDEN),
    "keystores.remove": Row(lambda c, r: keystores.remove(c, "alpha", "default"), OK, OK, REFUSED, REFUSED, HIDDEN),
    "keystores.edit": Row(
        lambda c, r: keystores.edit(c, "alpha", {"passphrase": "env:PASS"}), OK, OK, REFUSED, REFUSED, HIDDEN
    ),
    "modules.show": Row(lambda c, r: modules.show(c, "alpha"), stranger=HIDDEN),
    "modules.progress": Row(
        lambda c, r: {row.gateway for row in modules.progress(c)},
        mrao={"general", "alpha", "web", "beta"},
        rao={"alpha", "web"},
        bare=set(),
        drao={"web"},
        stranger={"beta"},
    ),
    "modules.wait": Row(lambda c, r: modules.wait(c, "alpha"), stranger=HIDDEN),
    "modules.start": Row(lambda c, r: modules.start(c, "alpha", modules.Order()), OK, OK, REFUSED, REFUSED, HIDDEN),
    "modules.start_many": Row(
        lambda c, r: modules.start_many(c, ["alpha", "general"], modules.Order(apply=True)),
        OK,
        REFUSED,
        REFUSED,
        REFUSED,
        HIDDEN,
    ),
    "modules.cancel": Row(lambda c, r: modules.cancel(c, "alpha"), OK, OK, REFUSED, REFUSED, HIDDEN),
    "imports.import_gateways": Row(
        lambda c, r: imports.import_gateways(c, b"name,organizations\nnew,Alpha\n", dry_run=False).told,
        "1 were added, 0 are there already.",
        "1 were added, 0 are there already.",
        REFUSED,
        REFUSED,
        "1 of 1 rows are wrong, so nothing is imported; 0 are new, 0 the same.",
    ),
    "imports.import_endpoints": Row(
        lambda c, r: imports.import_endpoints(c, b"gateway,name,type\nalpha,new,nginx\n", dry_run=False).told,
        "1 were added, 0 are there already.",
        "1 were added, 0 are there already.",
        REFUSED,
        REFUSED,
        "1 of 1 rows are wrong, so nothing is imported; 0 are new, 0 the same.",
    ),
    "imports.import_gateways dry": Row(
        lambda c, r: imports.import_gateways(c, b"name,organizations\nnew,Alpha\n", dry_run=True).count(
            imports.Verdict.WRONG
        ),
        0,
        0,
        1,
        1,
        1,
    ),
    "exports.gateways_csv": Row(
        lambda c, r: {line.split(",")[0] for line in exports.gateways_csv(c).splitlines()[1:]},
        mrao={"general", "alpha", "web", "beta"},
        rao={"general", "alpha", "web"},
        bare={"general", "alpha", "web"},
        drao={"general", "alpha", "web"},
        stranger={"general", "beta"},
    ),
    "exports.endpoints_csv": Row(
        lambda c, r: len(exports.endpoints_csv(c).splitlines()), mrao=2, rao=2, bare=2, drao=2, stranger=1
    ),
    "certificates.listing": Row(lambda c, r: certificates.listing(c).total, 1, 1, 1, 1, 0),
    "certificates.show": Row(lambda c, r: certificates.show(c, 1), stranger=HIDDEN),
    "certificates.download": Row(lambda c, r: certificates.download(c, 1), stranger=HIDDEN),
    "certificates.renew": Row(lambda c, r: certificates.renew(c, 1), bare=REFUSED, stranger=HIDDEN),
    "certificates.revoke": Row(lambda c, r: certificates.revoke(c, 1, "superseded", ""), bare=REFUSED, stranger=HIDDEN),
    "certificate_import.begin": owners(lambda c, r: certificate_import.begin(c, NEW_IMPORT)),
    "certificate_import.take": owners(lambda c, r: _lacking(certificate_import.take(c, 1), NotFound)),
    "certificate_import.from_file": owners(
        lambda c, r: _lacking(certificate_import.from_file(c, NEW_IMPORT, b"no certificate"), InvalidInput)
    ),
    "certificate_import.show": owners(lambda c, r: _missing(lambda: certificate_import.show(c, 1))),
    "certificate_import.listing": owners(lambda c, r: certificate_import.listing(c)),
    "certificate_import.lines": owners(lambda c, r: _missing(lambda: certificate_import.lines(c, 1))),
    "standing.ask": Row(lambda c, r: standing.ask(c, 1), bare=REFUSED, stranger=HIDDEN),
    "replacement.replace": Row(lambda c, r: replacement.replace(c, 1), bare=REFUSED, stranger=HIDDEN),
    "certificates.set_auto_renew": Row(
        lambda c, r: certificates.set_auto_renew(c, 1, False), bare=REFUSED, stranger=HIDDEN
    ),
    "campaign_selection.preview": Row(
        lambda c, r: _previewed(c), mrao=(1, 1), rao=(1, 1), bare=(1, 0), drao=(1, 1), stranger=(0, 0)
    ),
    "campaigns.issuers": Row(lambda c, r: len(campaigns.issuers(c)), 1, 1, 1, 1, 0),
    "campaigns.create": Row(
        lambda c, r: campaigns.create(c, "all", EVERYTHING, campaign_selection.Plan()), bare=REFUSED
    ),
    "campaigns.listing": Row(lambda c, r: campaigns.listing(c).total, 1, 1, 1, 1, 0),
    "campaigns.show": Row(lambda c, r: campaigns.show(c, 1), stranger=HIDDEN),
    "campaigns.show what may be said": Row(
        lambda c, r: campaigns.show(c, 1).may,
        ["start", "cancel"],
        ["start", "cancel"],
        [],
        ["start", "cancel"],
        HIDDEN,
    ),
    "campaigns.items": Row(lambda c, r: campaigns.items(c, 1).total, 1, 1, 1, 1, HIDDEN),
    "campaign_words.start": Row(lambda c, r: campaign_words.start(c, 1), bare=REFUSED, stranger=HIDDEN),
    "campaign_words.say": Row(lambda c, r: campaign_words.say(c, 1, "cancel"), bare=REFUSED, stranger=HIDDEN),
    "campaign_words.say change_rate": Row(
        lambda c, r: campaign_words.say(c, 1, "change_rate", at_once=1), bare=REFUSED, stranger=HIDDEN
    ),
    "campaign_words.retry": Row(lambda c, r: campaign_words.retry(c, 1), bare=REFUSED, stranger=HIDDEN),
    "audit_trail.listing": Row(
        lambda c, r: {row.object_type for row in audit_trail.listing(c).rows},
        mrao={"request", "organization", "installation"},
        rao={"request"},
        bare=REFUSED,
        drao={"request"},
        stranger={"organization"},
    ),
    "audit_trail.show of a department's": Row(
        lambda c, r: audit_trail.show(c, 1).row.object_type, "request", "request", REFUSED, "request", HIDDEN
    ),
    "audit_trail.show of another organization's": Row(
        lambda c, r: audit_trail.show(c, 2).organization, "Beta", HIDDEN, REFUSED, HIDDEN, "Beta"
    ),
    "audit_trail.show": Row(lambda c, r: audit_trail.show(c, 3), OK, HIDDEN, REFUSED, HIDDEN, HIDDEN),
    "audit_trail.choices": Row(
        lambda c, r: set(audit_trail.choices(c).actions),
        mrao={"request.done", "organization.done", "installation.done"},
        rao={"request.done"},
        bare=REFUSED,
        drao={"request.done"},
        stranger={"organization.done"},
    ),
    "audit_export.export_csv": Row(
        lambda c, r: {row["object_type"] for row in csv.DictReader(io.StringIO("".join(audit_export.export_csv(c))))},
        mrao={"request", "organization", "installation"},
        rao={"request"},
        bare=REFUSED,
        drao={"request"},
        stranger={"organization"},
    ),
    "audit_export.export_jsonl": Row(
        lambda c, r: {json.loads(line)["object_type"] for line in "".join(audit_export.export_jsonl(c)).splitlines()},
        mrao={"request", "organization", "installation"},
        rao={"request"},
        bare=REFUSED,
        drao={"request"},
        stranger={"organization"},
    ),
    "audit_trail.for_request": Row(lambda c, r: audit_trail.for_request(c, 1), stranger=HIDDEN),
    "audit_trail.verify": owners(lambda c, r: audit_trail.verify(c)),
    "administrators.listing": Row(
        lambda c, r: {row.login for row in administrators.listing(c)},
        {*ROLES, "requester"},
        {"rao"},
        {"bare"},
        {"drao"},
        {"stranger"},
    ),
    "administrators.page": Row(
        lambda c, r: {row.login for row in administrators.page(c).rows},
        {*ROLES, "requester"},
        {"rao"},
        {"bare"},
        {"drao"},
        {"stranger"},
    ),
    "administrators.tokens": owners(lambda c, r: administrators.tokens(c, "requester"), hidden=True),
    "administrators.tokens of one's own": Row(lambda c, r: administrators.tokens(c, c.actor.login)),
    "administrators.revoke_token": owners(lambda c, r: _own_token(c, r, "requester"), hidden=True),
    "administrators.revoke_token of one's own": Row(lambda c, r: _own_token(c, r, c.actor.login)),
    "account.rename": Row(lambda c, r: account.rename(c, "A new name")),
    "account.change_password": Row(lambda c, r: account.change_password(c, "wrong", "long enough, I hope")),
    "roles.grant": owners(lambda c, r: roles.grant(c, "requester", roles.Assignment(Role.RAO, ["Alpha"])), hidden=True),
    "roles.grant to oneself": Row(
        lambda c, r: roles.grant(c, c.actor.login, roles.Assignment(Role.RAO, ["Alpha"])),
        OK,
        REFUSED,
        REFUSED,
        REFUSED,
        REFUSED,
    ),
    "roles.withdraw": owners(
        lambda c, r: roles.withdraw(c, "requester", roles.RoleRow(Role.DRAO), exact=False), hidden=True
    ),
    "administrators.show": owners(lambda c, r: administrators.show(c, "requester"), hidden=True),
    "administrators.show oneself": Row(lambda c, r: administrators.show(c, c.actor.login)),
    "administrators.add": owners(
        lambda c, r: administrators.add(c, administrators.NewAdministrator("new", Role.RAO, organizations=["Alpha"]))
    ),
    "administrators.edit": owners(
        lambda c, r: administrators.edit(c, "requester", administrators.AdministratorChange(email="a@b.example")),
        hidden=True,
    ),
    "administrators.edit oneself": Row(
        lambda c, r: administrators.edit(c, c.actor.login, administrators.AdministratorChange(role=Role.MRAO)),
        OK,
        REFUSED,
        REFUSED,
        REFUSED,
        REFUSED,
    ),
    "administrators.deactivate": owners(lambda c, r: administrators.deactivate(c, "requester"), hidden=True),
    "administrators.activate": owners(lambda c, r: administrators.activate(c, "requester"), hidden=True),
    "administrators.set_password": owners(
        lambda c, r: administrators.set_password(c, "requester", "long enough, I hope"), hidden=True
    ),
    "administrators.set_password of one's own": Row(
        lambda c, r: administrators.set_password(c, c.actor.login, "long enough, I hope")
    ),
    "administrators.token": owners(lambda c, r: administrators.token(c, "requester", timedelta(hours=1)), hidden=True),
    "administrators.token of one's own": Row(lambda c, r: administrators.token(c, c.actor.login, timedelta(hours=1))),
    "administrators.revoke_tokens": owners(lambda c, r: administrators.revoke_tokens(c, "requester"), hidden=True),
    "preferences.columns": Row(lambda c, r: preferences.columns(c, "gateways")),
    "preferences.choose_columns": Row(lambda c, r: preferences.choose_columns(c, "gateways", ["name"])),
    "preferences.forget_columns": Row(lambda c, r: preferences.forget_columns(c, "gateways")),
    "profiles.listing": Row(lambda c, r: profiles.listing(c)),
    "profiles.show": Row(lambda c, r: profiles.show(c, "server")),
    "profiles.add": owners(lambda c, r: profiles.add(c, "new", "private")),
    "profiles.edit": owners(lambda c, r: profiles.edit(c, "server", profiles.ProfileChange(reuse_key=True))),
    "profiles.remove": owners(lambda c, r: profiles.remove(c, "server")),
    "policies.listing": Row(
        lambda c, r: names(policies.listing(c)),
        {"default", "alpha"},
        {"default", "alpha"},
        {"default", "alpha"},
        {"default", "alpha"},
        {"default"},
    ),
    "policies.show": Row(lambda c, r: policies.show(c, "alpha"), stranger=HIDDEN),
    "policies.add": owners(lambda c, r: policies.add(c, "new", "Beta")),
    "policies.edit": Row(
        lambda c, r: policies.edit(c, "alpha", policies.PolicyChange(four_eyes=False)),
        OK,
        REFUSED,
        REFUSED,
        REFUSED,
        HIDDEN,
    ),
    "policies.remove": Row(lambda c, r: policies.remove(c, "alpha"), OK, REFUSED, REFUSED, REFUSED, HIDDEN),
    "authorities.listing": Row(
        lambda c, r: [bool(row.settings) for row in authorities.listing(c)], [True], [False], [False], [False], [False]
    ),
    "authorities.show": Row(lambda c, r: authorities.show(c, "private")),
    "authorities.add": owners(
        lambda c, r: authorities.add(
            c,
            authorities.NewAuthority("second", "private", {"folder": str(r.home / "second")}),
            r.surroundings,
        )
    ),
    "authorities.edit": owners(lambda c, r: authorities.edit(c, "private", active=False)),
    "authorities.remove": owners(lambda c, r: authorities.remove(c, "private")),
    "authorities.check": owners(lambda c, r: authorities.check(c, "private", r.surroundings)),
    "authorities.abilities": owners(lambda c, r: authorities.abilities(c, "private", r.surroundings)),
    "authorities.profiles": owners(lambda c, r: authorities.profiles(c, "private", r.surroundings)),
    "orders.listing": Row(lambda c, r: orders.listing(c).total, 0, 0, 0, 0, 0),
    "orders.counts": Row(lambda c, r: orders.counts(c)),
    "authorities.orders": owners(lambda c, r: authorities.orders(c, "private", r.surroundings)),
    "authorities.release": owners(lambda c, r: authorities.release(c, "private", "P-000001", r.surroundings)),
    "authorities.reject": owners(lambda c, r: authorities.reject(c, "private", "P-000001", "no", r.surroundings)),
    "trust.listing": Row(lambda c, r: trust.listing(c)),
    "trust.uses": Row(lambda c, r: trust.uses(c)),
    "trust.show": Row(lambda c, r: _missing(lambda: trust.show(c, "0" * 64))),
    "trust.inspect": Row(lambda c, r: trust.inspect(c, ROOT)),
    "trust.fetch": owners(lambda c, r: _lacking(trust.fetch(c, "http://[", ()), InvalidInput)),
    "trust.waiting": Row(lambda c, r: trust.waiting(c)),
    "trust_expiry.ending": Row(lambda c, r: trust_expiry.ending(c)),
    "trust.add": owners(lambda c, r: trust.add(c, ROOT)),
    "trust.remove": owners(lambda c, r: _missing(lambda: trust.remove(c, "0" * 64))),
    "health.doctor": owners(lambda c, r: health.doctor(c, r.surroundings)),
    "single_sign_on.link": owners(
        lambda c, r: single_sign_on.link(c, "requester", "https://id.example", "s-1"), hidden=True
    ),
    "single_sign_on.link oneself": Row(
        lambda c, r: single_sign_on.link(c, c.actor.login, "https://id.example", "s-1"),
        OK,
        REFUSED,
        REFUSED,
        REFUSED,
        REFUSED,
    ),
    "single_sign_on.unlink": owners(lambda c, r: single_sign_on.unlink(c, "requester"), hidden=True),
    "single_sign_on.remove_password": owners(lambda c, r: single_sign_on.remove_password(c, "requester"), hidden=True),
    "sessions.listing": Row(lambda c, r: _sessions(c, r), {"mrao", "rao"}, {"rao"}, set(), set(), set()),
    "sessions.listing of another": owners(lambda c, r: sessions.listing(c, HOUR, "requester"), hidden=True),
    "sessions.end": owners(lambda c, r: sessions.end(c, "requester"), hidden=True),
    "sessions.end one's own": Row(lambda c, r: sessions.end(c, c.actor.login)),
    "requests.listing": Row(lambda c, r: requests.listing(c).total, 1, 1, 1, 1, 0),
    "requests.counts": Row(
        lambda c, r: requests.counts(c, "status"),
        {"REQUESTED": 1},
        {"REQUESTED": 1},
        {"REQUESTED": 1},
        {"REQUESTED": 1},
        {},
    ),
    "requests.show": Row(lambda c, r: requests.show(c, 1), stranger=HIDDEN),
    "requests.waiting": Row(lambda c, r: requests.waiting(c, 1), stranger=HIDDEN),
    "requests.watch": Row(lambda c, r: anext(requests.watch(c, 1)), stranger=HIDDEN),
    "decisions.say": Row(lambda c, r: decisions.say(c, 1, "approve"), bare=REFUSED, stranger=HIDDEN),
    "decisions.say cancel": Row(lambda c, r: decisions.say(c, 1, "cancel"), bare=REFUSED, stranger=HIDDEN),
    "submission.submit": Row(lambda c, r: submission.submit(c, NEW_REQUEST), bare=REFUSED, stranger=HIDDEN),
}


def _overview(context: Context) -> Any:
    seen = overview.show(context)
    changes = None if seen.changes is None else {row.object_type for row in seen.changes}
    return sum(seen.open_requests.values()), seen.awaiting_me.total, seen.expiry.valid, changes


def _seen(context: Context) -> set[int]:
    return {row.id for row in inventory.listing(context).rows}


def _previewed(context: Context) -> tuple[int, int]:
    seen = campaign_selection.preview(context, EVERYTHING, PLAN)
    return seen.chosen, seen.replaceable


def _own_token(context: Context, records: Records, login: str) -> None:
    """Revoke a token of somebody that was just made for him."""
    with records.database.write() as session:
        owner = session.exec(select(Administrator).where(Administrator.login == login)).one()
        identity.mint_token(session, owner, timedelta(hours=1), context.clock())
        session.flush()
        number = session.exec(select(AccessToken.id)).one()
    assert number is not None
    administrators.revoke_token(context, login, number)


def _sessions(context: Context, records: Records) -> set[str]:
    for login in ("mrao", "rao"):
        beginning = sessions.Beginning(records.acting(login).actor.id, "password")
        sessions.begin(records.database, beginning, sessions.Lifetimes(HOUR, HOUR), NOW)
    return {row.login for row in sessions.listing(context, HOUR)}


def _missing(act: Callable[[], Any]) -> str:
    """An act on what nobody has: it was allowed when it says so."""
    with pytest.raises(NotFound):
        act()
    return OK


async def _lacking(act: Awaitable[Any], error: type[Exception]) -> str:
    """The same, of what is awaited."""
    with pytest.raises(error):
        await act
    return OK


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", TABLE)
async def test_who_may_do_what(records: Records, name: str, role: str) -> None:
    row = TABLE[name]
    expected = getattr(row, role)
    before = records.audited()
    context = records.acting(role)
    try:
        answer = row.call(context, records)
        if isinstance(answer, Awaitable):
            answer = await answer
        found = answer if expected not in (OK, REFUSED, HIDDEN) else OK
    except NotFound:
        found = HIDDEN
    except NotPermitted:
        found = REFUSED
    except (Conflict, Unavailable):
        # It was allowed, and the thing's state or the missing engine spoke against it.
        found = OK
    assert found == expected
    refused = [entry for entry in records.audited()[len(before) :] if entry[1] == "refused"]
    assert bool(refused) == (expected == REFUSED)


def test_every_operation_has_a_row() -> None:
    found = set()
    for module in pkgutil.iter_modules(operations.__path__):
        loaded = importlib.import_module(f"operations.{module.name}")
        for name, function in inspect.getmembers(loaded, inspect.isfunction):
            own = function.__module__ == loaded.__name__ and not name.startswith("_")
            if own and next(iter(inspect.signature(function).parameters), None) == "context":
                found.add(f"{module.name}.{name}")
    assert found - HELPERS == {name.split()[0] for name in TABLE}
