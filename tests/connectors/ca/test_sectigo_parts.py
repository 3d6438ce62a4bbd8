"""The parts of the Sectigo connector that need no server: settings, marks, refusals, answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.ca.sectigo import CONNECTOR, Settings, answers, marks, refusals
from connectors.ca.sectigo.answers import Profile, Status
from connectors.ca.sectigo.marks import Kind, Mark
from connectors.ca.sectigo.placing import choose_profile, choose_term, order_id
from connectors.ca.sectigo.refusals import BEING_PROCESSED, MEANINGS, Refused, outcome, printable
from connectors.errors import AuthorityFault, Pending, Permanent, Rejected, Retryable
from connectors.web import Answer

WHERE = "Sectigo (https://cert-manager.com)"
PASSWORD = {"login": "api", "password": "env:SCM", "customer_uri": "acme", "organization_id": 7}


def answer(value: Any, **headers: str) -> Answer:
    return Answer(200, headers, json.dumps(value).encode(), WHERE)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"login": "api", "organization_id": 7}, "sign_in password needs password, customer_uri"),
        ({**PASSWORD, "sign_in": "certificate"}, "needs certificate_file, key_file"),
        ({**PASSWORD, "sign_in": "oauth2"}, "needs client_id, client_secret"),
        ({**PASSWORD, "password": "hunter2"}, "not the secret itself"),
        ({**PASSWORD, "address": "http://cert-manager.com"}, "must begin with https://"),
        ({**PASSWORD, "address": "https://api:pw@cert-manager.com"}, "holds a credential"),
        ({**PASSWORD, "address": "https://cert-manager.com/?a=b"}, "more in it"),
        ({**PASSWORD, "organization_id": 0}, "organization_id"),
        ({**PASSWORD, "page_size": 201}, "page_size"),
        ({**PASSWORD, "dcv_mode": "EMAIL"}, "needs dcv_email"),
        ({**PASSWORD, "external_requester": "the web team"}, "must be e-mail addresses"),
        ({**PASSWORD, "reference_domain": "a b"}, "must be a domain name"),
        ({**PASSWORD, "order": "gold"}, "known settings"),
    ],
)
def test_wrong_settings_get_one_sentence(given: Mapping[str, Any], message: str) -> None:
    with pytest.raises(Permanent, match=r"^Sectigo Certificate Manager: ") as refused:
        CONNECTOR.configure(given)
    assert message in refused.value.message
    assert "hunter2" not in refused.value.message


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize(
    ("address", "sign_in", "base"),
    [
        ("https://cert-manager.com", "password", "https://cert-manager.com/api"),
        ("https://cert-manager.com/api/", "password", "https://cert-manager.com/api"),
        ("https://cert-manager.com/private/api", "certificate", "https://cert-manager.com/private/api"),
        ("https://cert-manager.com", "certificate", "https://cert-manager.com/private/api"),
        ("https://admin.enterprise.sectigo.com", "oauth2", "https://admin.enterprise.sectigo.com/api"),
    ],
)
def test_the_address_may_be_given_with_and_without_its_path(address: str, sign_in: str, base: str) -> None:
    ways = {"client_id": "c", "client_secret": "env:C", "certificate_file": "/c.pem", "key_file": "/c.key"}
    assert CONNECTOR.configure({**PASSWORD, **ways, "address": address, "sign_in": sign_in}).base_url == base


# --- marks ------------------------------------------------------------------------------------------------------------

REFERENCE = st.from_regex(r"certgate-[a-z0-9]{1,12}-[0-9]{1,8}", fullmatch=True)
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=marks.LONGEST_COMMENTS)


@given(WORDS, REFERENCE, st.from_regex(r"[0-9a-f]{0,40}", fullmatch=True), st.sampled_from(Kind))
def test_a_mark_is_read_as_it_was_written_whatever_people_wrote(
    words: str, reference: str, serial: str, kind: Kind
) -> None:
    text = marks.marked(words, Mark(kind, serial), reference)
    assert len(text) <= marks.LONGEST_COMMENTS
    assert marks.asked(text, reference) == Mark(kind, serial)
    assert marks.asked(text, f"{reference}0") is None
    assert marks.marked(text, Mark(kind, serial), reference) == text


def test_marks_of_earlier_years_make_room_and_words_and_owner_stay() -> None:
    settings = CONNECTOR.configure({**PASSWORD, "comments": "For the shop"})
    text = marks.comments(settings, "certgate-a-1")
    for number in range(2, 60):
        text = marks.marked(text, Mark(Kind.REPLACEMENT, "ab" * 16), f"certgate-a-{number}")
    assert len(text) <= marks.LONGEST_COMMENTS
    assert marks.asked(text, "certgate-a-59")
    assert marks.asked(text, "certgate-a-2") is None
    assert marks.belongs_to(text) == "certgate-a-1"
    assert marks.reason(text) == "For the shop"


def test_a_reference_is_an_address_among_addresses() -> None:
    settings = CONNECTOR.configure({**PASSWORD, "external_requester": "a@example.com, b@example.com"})
    field = marks.external_requester(settings, "certgate-a-1")
    assert field == "certgate-a-1@certgate.invalid,a@example.com,b@example.com"
    assert marks.searches(settings, "certgate-a-1") == ["certgate-a-1@certgate.invalid", field]
    assert marks.is_tagged(settings, field.upper().replace(",", "; "), "certgate-a-1")
    assert not marks.is_tagged(settings, field, "certgate-a-11")
    assert not marks.is_tagged(settings, "xcertgate-a-1@certgate.invalid", "certgate-a-1")


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(MEANINGS))
def test_every_code_is_told_with_its_number_what_it_means_and_what_to_do(code: int) -> None:
    error = outcome(Refused(400, code, "The CA's own words", WHERE), "place the order")
    assert error.message == (
        f"{WHERE} refused to place the order, because {MEANINGS[code].means} (code {code}: The CA's own words): "
        f"{MEANINGS[code].cure}."
    )
    assert not isinstance(error, Pending | AuthorityFault)


def test_only_three_codes_and_one_that_came_too_early_are_patience() -> None:
    kinds = {code: type(outcome(Refused(400, code, "", WHERE), "collect", collecting=True)) for code in MEANINGS}
    assert {code for code, kind in kinds.items() if kind is Pending} == BEING_PROCESSED | {-103}
    assert kinds[-195] is Retryable
    assert kinds[-36] is kinds[-16] is kinds[-111] is Permanent
    assert kinds[-10] is kinds[-110] is Rejected


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (400, -4242, "(code -4242: New rules), which certgate has no advice for: ask Sectigo's support"),
        (400, None, "(status 400: New rules), which certgate has no advice for"),
        (401, None, "because the credentials are not accepted (status 401: New rules)"),
        (403, -4242, "because who signs in may not do this (code -4242: New rules)"),
        (404, None, "because there is no order of that number (status 404: New rules)"),
    ],
)
def test_a_code_that_is_not_known_is_told_as_it_is(status: int, code: int | None, told: str) -> None:
    error = outcome(Refused(status, code, "New rules", WHERE), "place the order")
    assert type(error) is Permanent
    assert told in error.message


def test_what_the_ca_wrote_is_one_bounded_line_without_our_credentials() -> None:
    assert printable("a\r\n b\x00\x1b[31m\u202e c. ") == "a b[31m c"
    assert printable("the password hunter2 is wrong", ["hunter2", ""]) == "the password … is wrong"
    assert len(printable("x" * 5000)) == refusals.LONGEST_DESCRIPTION


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [[], "x", None, 3, {"sslId": None}, {"sslId": "5"}, {"sslId": True}, {"sslId": 0}, {}]
)
def test_an_order_without_a_number_is_the_cas_fault(value: Any) -> None:
    with pytest.raises(AuthorityFault):
        answers.order_id(answer(value))


@pytest.mark.parametrize("value", [{}, [3], ["x"], [None], [{}], [{"sslId": "x"}], "x"])
def test_a_list_of_something_else_is_the_cas_fault(value: Any) -> None:
    with pytest.raises(AuthorityFault):
        answers.page(answer(value))


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "id",
                "sslId",
                "status",
                "serialNumber",
                "requested",
                "certType",
                "comments",
                "subjectAlternativeNames",
                "orderNumber",
                "reasonCode",
                "backendCertId",
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_details_of_any_shape_are_read_or_the_cas_fault(value: dict[str, Any]) -> None:
    try:
        found = answers.details(answer(value))
    except AuthorityFault:
        return
    assert found.word
    assert set(found.serial_number) <= set("0123456789abcdef")


def test_details_are_read_in_the_forms_that_are_known() -> None:
    found = answers.details(
        answer(
            {
                "sslId": 55,
                "status": "SA APPROVED",
                "serialNumber": "00:0A:1B",
                "orderNumber": 9182,
                "requested": "2026-11-20T09:00:00.000+0200",
                "approved": "2026-11-21",
                "issued": "next week",
                "reasonCode": "1",
            }
        )
    )
    assert (found.id, found.status, found.serial_number, found.order_number) == (55, Status.SA_APPROVED, "a1b", "9182")
    assert found.times == {
        "requested": datetime(2026, 11, 20, 7, tzinfo=UTC),
        "approved": datetime(2026, 11, 21, tzinfo=UTC),
    }
    assert answers.details(answer({"id": 5, "status": "Brand New"})).status is Status.UNKNOWN


def test_a_department_is_called_by_its_own_name_and_its_organizations() -> None:
    told = answer(
        [{"id": 1, "name": "Example", "departments": [{"id": 12, "name": "Web"}]}, {"id": 2, "name": "Other"}]
    )
    assert answers.organization(told, 2) == "Other"
    assert answers.organization(told, 12) == "Web of Example"
    assert answers.organization(told, 3) is None


def test_a_failed_validation_has_the_cas_reason_and_the_time_of_its_next_look() -> None:
    [state] = answers.validations(
        answer(
            [
                {
                    "dcvLog": {
                        "error": {"code": -1, "description": "CAA forbids it."},
                        "log": [
                            {"domainName": "A.Example", "dcvStatus": "FAILED", "nextCheck": "2026-11-25T10:00:00Z"}
                        ],
                    },
                    "instructions": [{"domainName": "a.example", "dcvMode": "TXT", "host": "_x", "point": "word"}],
                }
            ]
        )
    )
    assert (state.name, state.state, state.method, state.error) == ("a.example", "failed", "TXT", "CAA forbids it")
    assert state.missing == "a TXT record _x with word (looked for again 2026-11-25 10:00 UTC)"


# --- profiles and terms -----------------------------------------------------------------------------------------------

DAYS = timedelta(days=1).total_seconds()
GOLD = Profile(3, "Gold", "", (30, 90))
TWIN = Profile(4, "gold", "", ())


def test_a_profile_is_chosen_by_number_or_by_a_name_that_is_its_own() -> None:
    assert choose_profile([GOLD], None) is GOLD
    assert choose_profile([GOLD, TWIN], None) is None
    assert choose_profile([GOLD, TWIN], "4") is TWIN
    assert choose_profile([GOLD, TWIN], "Gold") is None
    assert choose_profile([GOLD], " GOLD ") is GOLD
    assert choose_profile([], "Gold") is None


def test_a_profile_without_terms_leaves_them_to_who_asks_or_to_the_ca() -> None:
    assert choose_term(TWIN, None, None) is None
    assert choose_term(TWIN, None, 42) == 42
    assert choose_term(TWIN, int(47.5 * DAYS), 42) == 47
    with pytest.raises(Permanent):
        choose_term(TWIN, 3600, None)
    assert choose_term(GOLD, int(400 * DAYS), 30) == 90


@pytest.mark.parametrize("number", ["", "0", "-5", "P-1", "5.0", " 5", "٥", "99999999999999999999999", "2147483648"])
def test_what_is_no_number_of_an_order(number: str) -> None:
    assert order_id(number) is None


def test_nothing_of_this_needs_the_vendors_document() -> None:
    folder = Path(refusals.__file__).parent
    assert not [one for one in folder.rglob("*") if one.suffix not in (".py", ".pyc", "")]
