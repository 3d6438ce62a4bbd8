"""The inventory in the records: what is kept of strangers' certificates, filters, exports, who is told of ends."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509 as crypto
from cryptography.hazmat.primitives.serialization import Encoding
from sqlmodel import col, select

from connectors.notices.settings import NotificationSettings
from model import seen, x509
from model.errors import InvalidInput, NotFound
from model.keys import KeyAlgorithm
from model.states import DelegationMode, SightingWay
from model.tables import Certificate, CertificateRequest, Gateway, Notification, SeenCertificate, Sighting
from operations import endpoints, groups, inventory, inventory_expiry, inventory_manage
from operations.inventory import Filter
from operations.inventory_manage import Wish
from tests import pki
from tests.operations.conftest import NOW, Records
from worker import gateway_home

DAY = timedelta(days=1)
SETTINGS = NotificationSettings()
ISSUER = pki.make_ca("Elsewhere", not_before=NOW - 1000 * DAY, not_after=NOW + 3000 * DAY)


def leaf(name: str, ends: timedelta, life: timedelta = 400 * DAY) -> crypto.Certificate:
    key = pki.shared_key(KeyAlgorithm.EC_P256)
    return pki.make_leaf(ISSUER, key, [name], not_before=NOW + ends - life, not_after=NOW + ends)


def at(number: int, gateway: int = 2) -> seen.Spot:
    return seen.Spot(gateway, SightingWay.NETWORK, address=f"192.0.2.{number}", port=8443)


def keep(records: Records, found: dict[seen.Spot, crypto.Certificate], later: timedelta = timedelta()) -> None:
    with records.database.write() as session:
        pems = [one.public_bytes(Encoding.PEM).decode() for one in found.values()]
        seen.keep(session, {spot: x509.fingerprint(one) for spot, one in found.items()}, pems, NOW + later)


def names(records: Records, wanted: Filter, login: str = "mrao") -> list[str]:
    return [row.common_name for row in inventory.listing(records.acting(login), wanted).rows]


def test_what_was_at_a_place_before_is_gone_and_comes_back(records: Records) -> None:
    old, new = leaf("old.example", 50 * DAY), leaf("new.example", 300 * DAY)
    keep(records, {at(1): old})
    keep(records, {at(1): new}, DAY)
    assert names(records, Filter(search="old.example")) == []
    assert names(records, Filter(search="old.example", gone=True)) == ["old.example"]
    (place,) = inventory.show(records.acting("mrao"), x509.fingerprint(old)).places
    assert (place.first_seen, place.last_seen, place.gone_at) == (NOW, NOW, NOW + DAY)
    keep(records, {at(1): old}, 2 * DAY)
    assert names(records, Filter(search="old.example")) == ["old.example"]
    assert names(records, Filter(search="new.example", gone=True)) == ["new.example"]


def test_filters_keep_what_they_say(records: Records) -> None:
    keep(records, {at(1): leaf("soon.example", 5 * DAY), at(2): leaf("over.example", -DAY), at(3): ISSUER.certificate})
    assert names(records, Filter(expired=True)) == ["over.example"]
    assert names(records, Filter(expiring_within_days=7, search="soon")) == ["soon.example"]
    assert "Elsewhere" in names(records, Filter())
    assert "Elsewhere" not in names(records, Filter(authorities=False))
    assert names(records, Filter(ways=[SightingWay.ENDPOINT])) == ["a.example"]
    assert "soon.example" in names(records, Filter(gateway="alpha"))
    assert names(records, Filter(gateway="beta")) == ["beta-printer.example"]
    assert names(records, Filter(states=["managed"])) == ["a.example"]
    assert names(records, Filter(search="%")) == []
    with pytest.raises(NotFound):
        names(records, Filter(gateway="alpha"), "stranger")
    with pytest.raises(InvalidInput, match="8 of its digits"):
        inventory.show(records.acting("mrao"), "abc")


def test_what_is_ignored_is_neither_unmanaged_nor_told(records: Records) -> None:
    keep(records, {at(1): leaf("soon.example", 5 * DAY)})
    context = records.acting("rao")
    with pytest.raises(InvalidInput, match="Say why"):
        inventory.ignore(context, 1, "  ")
    (number,) = [row.id for row in inventory.listing(context, Filter(search="soon.example")).rows]
    before = inventory_expiry.ending(context).total
    row = inventory.ignore(context, number, "an appliance's own")
    assert (row.state, row.ignored_by, row.ignored_at) == ("ignored", "rao", NOW)
    assert inventory_expiry.ending(context).total == before - 1
    assert inventory.counts(context)["ignored"] == 1
    assert inventory.unignore(context, number).state == "unmanaged"


def test_exports_hold_a_line_a_place_and_no_formula(records: Records) -> None:
    keep(records, {at(1): leaf("=cmd.example", DAY), at(2): leaf("=cmd.example", 2 * DAY)})
    keep(records, {at(3): leaf("twice.example", 3 * DAY)})
    keep(records, {at(4): leaf("twice.example", 3 * DAY)})
    context = records.acting("mrao")
    lines = list(csv.DictReader(io.StringIO("".join(inventory.export_csv(context, Filter(gateway="alpha"))))))
    assert {line["common_name"] for line in lines if "cmd" in line["common_name"]} == {"'=cmd.example"}
    assert [line["address"] for line in lines if line["common_name"] == "twice.example"] != []
    objects = [json.loads(line) for line in "".join(inventory.export_jsonl(context)).splitlines()]
    assert {"a:443", ""} >= {one["binding"] or "" for one in objects}
    assert {one["state"] for one in objects} == {"managed", "unmanaged"}
    assert all(one["pem"] for one in objects if "pem" in one)


def told(records: Records) -> list[Notification]:
    with records.database.read() as session:
        kind = Notification.kind == inventory_expiry.ENDING
        return list(session.exec(select(Notification).where(kind).order_by(col(Notification.id))).all())


def test_each_step_is_told_once_and_all_that_is_new_together(records: Records) -> None:
    with records.database.write() as session:
        for row in session.exec(select(Sighting)).all():
            row.gone_at = NOW
    keep(records, {at(1): leaf("one.example", 20 * DAY), at(2): leaf("two.example", 25 * DAY)})
    keep(records, {at(3): leaf("later.example", 85 * DAY), at(4): ISSUER.certificate})

    def tell(after: timedelta = timedelta()) -> int:
        return inventory_expiry.tell_ending(records.database, SETTINGS, NOW + after)

    assert [tell(), tell(), tell(DAY)] == [1, 0, 0]
    (first,) = told(records)
    assert first.subject == "3 certificates that are not managed end at gateway alpha"
    assert "one.example" in first.text
    assert first.organization_id == 1
    # Two come to the step of seven days, the third one to that of thirty.
    assert [tell(18 * DAY), tell(18 * DAY), tell(60 * DAY)] == [1, 0, 1]
    assert "two.example" in told(records)[1].text
    assert "later.example" not in told(records)[1].text


def test_an_endpoint_that_is_removed_takes_its_sightings_along(records: Records) -> None:
    context = records.acting("mrao")
    with records.database.write() as session:
        session.get_one(CertificateRequest, 1).closed = True
        session.get_one(Certificate, 1).active = False
    groups.remove(context, "alpha", "web")
    endpoints.remove(context, "alpha", "nginx")
    with pytest.raises(NotFound):
        inventory.show(context, 1)
    with records.database.read() as session:
        assert session.get(SeenCertificate, 1) is not None


def test_managing_says_what_has_to_be_named(records: Records) -> None:
    context = records.acting("mrao")
    with records.database.write() as session:
        session.get_one(CertificateRequest, 1).closed = True
        session.get_one(Gateway, 2).delegation_mode = DelegationMode.GENERAL
    other = leaf("a.example", 30 * DAY)
    spot = seen.Spot(2, SightingWay.ENDPOINT, endpoint_id=1, binding="a:443")
    keep(records, {spot: other})
    (planned,) = inventory_manage.preview(context, [x509.fingerprint(other)])
    assert planned.problem == "Say whose it is to be: Alpha, Beta."
    (planned,) = inventory_manage.preview(context, [x509.fingerprint(other)], Wish(organization="Alpha"))
    assert (planned.problem, planned.organization, planned.profile) == (None, "Alpha", "server")
    (planned,) = inventory_manage.preview(context, [x509.fingerprint(other)], Wish(department="Web"))
    assert "without its organization" in str(planned.problem)
    (planned,) = inventory_manage.preview(context, [x509.fingerprint(other)], Wish("Alpha", profile="nothing"))
    assert "no certificate profile 'nothing'" in str(planned.problem)
    # For the only department of which one may request, nothing has to be named.
    (planned,) = inventory_manage.preview(records.acting("rao"), [x509.fingerprint(other)])
    assert (planned.problem, planned.organization) == (None, "Alpha")


@pytest.mark.parametrize("pem", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_not_kept(pem: str) -> None:
    assert seen.described(pem) is None


def test_words_of_strangers_are_bounded_and_printable() -> None:
    kept = seen.described(pki.pem(leaf("bell\x07-and-a-long-name" + "x" * 20, DAY)))
    assert kept is not None
    assert kept.common_name.isprintable()


def test_a_gateways_own_file_says_what_it_may_look_through(tmp_path: Path) -> None:
    home = gateway_home.write(tmp_path, 1, "local")
    assert home.discovery.rules().networks == ()
    with (tmp_path / "gateway.toml").open("a") as file:
        file.write('[discovery]\nnetworks = ["192.0.2.0/24"]\nports = [443, "8000-8009"]\nrate = 5\n')
    home = gateway_home.write(tmp_path, 1, "local", temporal={"namespace": "other"})
    rules = home.discovery.rules()
    assert rules.told() == {"networks": ["192.0.2.0/24"], "ports": ["443", "8000-8009"], "rate": 5, "at_once": 32}


@pytest.mark.parametrize(
    ("line", "word"),
    [('networks = ["10.0.0.1/24"]', "host bits"), ('ports = ["https"]', "no port"), ("rate = 0", "rate")],
)
def test_a_gateways_own_file_that_is_wrong_is_told(tmp_path: Path, line: str, word: str) -> None:
    gateway_home.write(tmp_path, 1, "local")
    with (tmp_path / "gateway.toml").open("a") as file:
        file.write(f"[discovery]\n{line}\n")
    with pytest.raises(InvalidInput, match=word):
        gateway_home.read(tmp_path)
