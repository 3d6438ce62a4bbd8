"""CSV files: read as people make them, refused with the line that is wrong, all or nothing, and back again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import col, select

from model import audit
from model.errors import InvalidInput, NotPermitted
from model.states import DelegationMode, InstallMode
from model.tables import Delegation, Endpoint, Gateway, Organization
from operations import exports, gateways, imports, sheets
from operations.imports import Verdict
from operations.lookup import identity
from tests.operations.conftest import Records

GATEWAYS = '''\
Name;Delegation Mode;organizations;Departments;Comments;Active
Hamburg 1;customized;Alpha|Beta;;"two
lines; and a ""quote""";yes

Zürich;;;Alpha/Web;=cmd|' /C calc'!A0;no
Paris;general;;;;
'''


def verdicts(outcome: imports.Outcome) -> list[str]:
    return [str(row.verdict) for row in outcome.rows]


def everything(records: Records) -> dict[str, tuple[Any, ...]]:
    """What there is of gateways, by name."""
    with records.database.read() as session:
        found = {}
        for row in session.exec(select(Gateway).where(~col(Gateway.name_key).startswith("#"))).all():
            scopes = session.exec(select(Delegation).where(Delegation.gateway_id == row.id)).all()
            served = sorted((one.organization_id, one.department_id or 0) for one in scopes)
            found[row.name] = (row.delegation_mode, row.comments, row.active, served)
        return found


@pytest.mark.parametrize(
    "encode", [lambda text: text.encode(), lambda text: text.replace("\n", "\r\n").encode("utf-8-sig")]
)
def test_a_dry_run_writes_nothing_and_the_real_one_what_it_said(
    records: Records, encode: Callable[[str], bytes]
) -> None:
    context, content = records.acting("mrao"), encode(GATEWAYS)
    before, audited = everything(records), records.audited()
    dry = imports.import_gateways(context, content, dry_run=True)
    assert [(row.line, row.name, row.verdict) for row in dry.rows] == [
        (2, "Hamburg 1", Verdict.ADD),
        (5, "Zürich", Verdict.ADD),
        (6, "Paris", Verdict.ADD),
    ]
    assert (everything(records), records.audited()) == (before, audited)
    done = imports.import_gateways(context, content, dry_run=False)
    assert done.written
    after = everything(records)
    assert after["Hamburg 1"] == (DelegationMode.CUSTOMIZED, 'two\nlines; and a "quote"', True, [(1, 0), (2, 0)])
    assert after["Zürich"] == (DelegationMode.CUSTOMIZED, "=cmd|' /C calc'!A0", False, [(1, 1)])
    assert after["Paris"] == (DelegationMode.GENERAL, "", True, [])
    assert records.audited()[len(audited) :] == [("gateway.added", "done")] * 3
    tokens = {row.enrollment.token for row in done.rows if row.enrollment}
    assert len(tokens) == 3
    assert not any(token in repr(done) for token in tokens)
    with records.database.read() as session:
        assert audit.verify(session).finding is None
    # The same file once more: everything is there already.
    again = imports.import_gateways(context, content, dry_run=False)
    assert (verdicts(again), everything(records)) == (["same"] * 3, after)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a_b,,,", "Line 3: A gateway's name has 1 to 128"),
        ("ALPHA,,,", "Line 3: There is a gateway 'alpha' already, with another name, another delegation"),
        ("Good,,,", "Line 3: The gateway 'Good' stands in line 2 already"),
        ("good,,,", "Line 3: The gateway 'good' stands in line 2 already"),
        ("new,sometimes,,", "Line 3: The delegation mode is general or customized"),
        ("new,general,Alpha,", "Line 3: A General gateway serves everybody"),
        ("new,customized,,", "Line 3: A Customized gateway needs"),
        ("new,,Nowhere,", "Line 3: There is no organization 'Nowhere'"),
        ("new,,,Alpha", "Line 3: A department is named as ORGANIZATION/NAME"),
        ("new,,,,too,many", "Line 3: The row has more cells than there are columns"),
    ],
)
def test_one_wrong_row_imports_nothing_and_is_told(records: Records, row: str, told: str) -> None:
    context, before = records.acting("mrao"), everything(records)
    content = f"name,delegation_mode,organizations,departments\nGood,,,\n{row}\n".encode()
    for dry_run in (True, False):
        outcome = imports.import_gateways(context, content, dry_run=dry_run)
        assert not outcome.written
        assert verdicts(outcome) == ["add", "wrong"]
        assert str(outcome.rows[1].problem).startswith(told)
        assert everything(records) == before


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"name,colour\nx,red\n", "Line 1: there is no column 'colour'; known are name, comments"),
        (b"name,,comments\nx\n", "number 2 without a name"),
        (b"name,NAME\nx,y\n", "stands there twice"),
        (b"comments\nx\n", "the column name is missing"),
        (b"name\nx\n\xff\n", "Line 3: the file is not UTF-8"),
        (b"name\nx\x00\n", "Line 2: the file holds a NUL"),
        (b'name\n"x\n', "Line 2: this is not CSV"),
        (b'name\n"x"y\n', "Line 2: this is not CSV"),
        (b"name\n" + b"x" * 140_000, "Line 2: this is not CSV"),
        (b"name\n" + b"x\n" * (sheets.MOST_ROWS + 1), "10,001 rows; at most 10,000"),
        (b"name\n" + b"x" * sheets.LARGEST, "larger than 8 MiB"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_told(records: Records, content: bytes, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        imports.import_gateways(records.acting("mrao"), content, dry_run=True)


def test_who_may_not_add_is_refused_with_the_line_and_nothing_is_added(records: Records) -> None:
    content = b"name,organizations\nmine,Alpha\nbetas,Beta\neverybodys,\n"
    context, before = records.acting("rao"), everything(records)
    dry = imports.import_gateways(context, content, dry_run=True)
    assert verdicts(dry) == ["add", "wrong", "wrong"]
    assert "no organization 'Beta'" in str(dry.rows[1].problem)
    assert "manage_gateways" in str(dry.rows[2].problem)
    with pytest.raises(NotPermitted, match="Line 4: rao may not"):
        imports.import_gateways(context, content, dry_run=False)
    assert everything(records) == before
    assert records.audited()[-1] == ("gateway.added", "refused")
    # A gateway that is not his is there, but he hears no more of it than its name.
    (row,) = imports.import_gateways(context, b"name,organizations\nBETA,Alpha\n", dry_run=True).rows
    assert str(row.problem).endswith("There is a gateway 'BETA' already (names count the same in any case).")


def test_endpoints_with_settings_in_one_cell_or_in_columns(records: Records) -> None:
    context = records.acting("mrao")
    content = (
        b"gateway,name,type,install,settings,settings.address,settings.command,window_cron,window_minutes\n"
        b'alpha,"a, b",nginx,manual,"{""reload_timeout_seconds"": 30}",10.0.0.1,"[""sudo"", ""nginx""]",0 2 * * 6,90\n'
        b"ALPHA,nginx,nginx,,,,,,\n"
    )
    assert verdicts(imports.import_endpoints(context, content, dry_run=True)) == ["add", "same"]
    done = imports.import_endpoints(context, content, dry_run=False)
    with records.database.read() as session:
        row = session.exec(select(Endpoint).where(Endpoint.name == "a, b")).one()
    assert (row.id, row.install_mode) == (done.rows[0].id, InstallMode.MANUAL)
    assert row.settings == {"reload_timeout_seconds": 30.0, "address": "10.0.0.1", "command": ["sudo", "nginx"]}
    assert (row.window_cron, row.window_minutes) == ("0 2 * * 6", 90)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("nowhere,x,nginx,,,", "There is no gateway 'nowhere'"),
        ("alpha,,nginx,,,", "An endpoint's name has 1 to 512"),
        ("alpha,x,apach,,,", "No connector named 'apach'"),
        ("alpha,nginx,nginx,manual,,", "already, with another way to install"),
        ("alpha,x,nginx,never,,", "The column install holds auto or manual"),
        ("alpha,x,nginx,,12 o'clock,", "cron"),
        ("alpha,x,nginx,,,[1]", "The column settings holds a JSON object"),
        ('alpha,x,nginx,,,"{""colour"": 1}"', "setting colour"),
        ('alpha,x,nginx,,,"{""configuration"": ""relative""}"', "setting configuration"),
    ],
)
def test_a_wrong_endpoint_is_told_with_its_line(records: Records, row: str, told: str) -> None:
    content = f"gateway,name,type,install,window_cron,settings\n{row}\n".encode()
    (judged,) = imports.import_endpoints(records.acting("mrao"), content, dry_run=False).rows
    assert judged.verdict == Verdict.WRONG
    assert str(judged.problem).startswith("Line 2: ")
    assert told in str(judged.problem)


# --- out and in again -------------------------------------------------------------------------------------------------

cells = st.text(st.characters(blacklist_categories=("Cs", "Cc")) | st.sampled_from("=+-@'\"\n,;|\t"), max_size=12)


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"name": cells.filter(str.strip), "comments": cells}), max_size=5))
def test_whatever_is_written_is_read_as_it_was(rows: list[dict[str, str]]) -> None:
    columns = [sheets.Column("name", required=True), sheets.Column("comments")]
    text = sheets.write(["name", "comments"], rows)
    assert [dict(one.cells) for one in sheets.read(text.encode(), columns).records] == rows
    for line in csv.reader(io.StringIO(text, newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in line)


names = st.text("abcäß019 .'-", min_size=1, max_size=8).filter(str.strip)
comments = st.text("=+-@'\"\n,;|xß ", max_size=10).map(str.strip)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        names.map(lambda name: name.strip().casefold()),
        st.tuples(comments, st.booleans(), st.sampled_from([(), ("A|B",), ("Alpha", "=Beta"), ("A|B", "Alpha/Web")])),
        max_size=4,
    )
)
def test_an_export_is_imported_as_what_it_was(records: Records, wanted: dict[str, Any]) -> None:
    context = records.acting("mrao")
    with records.database.write() as session:
        for name in ("A|B", "=Beta"):
            if session.exec(select(Organization).where(Organization.name == name)).first() is None:
                session.add(Organization(name=name))
        _forget(session, wanted)
    rows = [
        {
            "name": name,
            "comments": text,
            "organizations": "".join(f"{one}\n" for one in served if "/" not in one),
            "departments": "\n".join(one for one in served if "/" in one),
            "active": "yes" if active else "no",
        }
        for name, (text, active, served) in wanted.items()
    ]
    columns = ["name", "comments", "organizations", "departments", "active"]
    done = imports.import_gateways(context, sheets.write(columns, rows).encode(), dry_run=False)
    assert done.written, done.rows
    exported = exports.gateways_csv(context)
    again = imports.import_gateways(context, exported.encode(), dry_run=True)
    assert set(verdicts(again)) == {"same"}, again.rows
    before = everything(records)
    with records.database.write() as session:
        _forget(session, wanted)
    assert imports.import_gateways(context, exported.encode(), dry_run=False).written
    assert everything(records) == before


def _forget(session: Any, wanted: dict[str, Any]) -> None:
    """Gateways of these names were never there; buried ones keep their rows."""
    for row in session.exec(select(Gateway).where(col(Gateway.name_key).in_(list(wanted)))).all():
        for one in session.exec(select(Delegation).where(Delegation.gateway_id == row.id)).all():
            session.delete(one)
        row.name_key, row.name = f"#{identity(row)}", "buried"
        session.add(row)


def test_endpoints_go_out_and_in(records: Records) -> None:
    context = records.acting("mrao")
    settings_given = json.dumps({"address": "10.0.0.1", "command": ["=nginx"]}).replace('"', '""')
    content = f'gateway,name,type,settings,window_cron\nalpha,@sum,nginx,"{settings_given}",0 2 * * 6\n'.encode()
    assert imports.import_endpoints(context, content, dry_run=False).written
    exported = exports.endpoints_csv(context)
    assert "'@sum" in exported
    assert verdicts(imports.import_endpoints(context, exported.encode(), dry_run=False)) == ["same", "same"]
    assert len(gateways.listing(context).rows) == 4
