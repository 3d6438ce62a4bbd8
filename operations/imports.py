"""Gateways and endpoints from CSV files, and back into them.

Every row is checked by the rules of a single add. Then all of them are added in one transaction, or none is: of a file
that was half imported nobody knows which half. What is there already and is the same is left alone: a file may be given
twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sqlmodel import Session, col, select

from model.errors import CertgateError, InvalidInput, NotPermitted
from model.rules.permissions import Scope
from model.states import DelegationMode, InstallMode
from model.tables import Endpoint, Gateway
from operations import endpoints, gateway_changes, gateway_delegation, gateways, lookup, sheets
from operations.context import Context
from operations.endpoints import NewEndpoint
from operations.lookup import identity
from operations.sheets import Column, Record
from operations.tokens import Enrollment

GATEWAY_COLUMNS = (
    Column("name", required=True),
    Column("comments"),
    Column("delegation_mode"),
    Column("organizations"),
    Column("departments"),
    Column("active"),
)
ENDPOINT_COLUMNS = (
    Column("gateway", required=True),
    Column("name", required=True),
    Column("type", required=True),
    Column("connection"),
    Column("install"),
    Column("window_cron"),
    Column("window_zone"),
    Column("window_minutes"),
    Column("key_at_endpoint"),
    Column("verify_from_manager"),
    Column("settings"),
    Column("connection_settings"),
    Column("settings.", prefix=True),
    Column("connection_settings.", prefix=True),
)
_YES, _NO = ("yes", "true", "1", "active"), ("no", "false", "0", "inactive")


class Verdict(StrEnum):
    """What becomes of a row: it is new, it is there already just so, or it is wrong."""

    ADD = "add"
    SAME = "same"
    WRONG = "wrong"


@dataclass(frozen=True)
class Judged:
    """A row of the file. `line` is where it begins; `problem` says what is wrong; `id` and `enrollment` are those of
    what was added."""

    line: int
    name: str
    verdict: Verdict
    problem: str | None = None
    gateway: str | None = None
    id: int | None = None
    enrollment: Enrollment | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Outcome:
    """What an import did, or would do: nothing was written by a dry run, nor where a row is wrong."""

    rows: list[Judged]
    written: bool

    def count(self, verdict: Verdict) -> int:
        """How many rows have that verdict."""
        return sum(row.verdict == verdict for row in self.rows)

    @property
    def told(self) -> str:
        """In one sentence."""
        new, same, wrong = (self.count(verdict) for verdict in Verdict)
        if wrong and not self.written:
            return (
                f"{wrong} of {len(self.rows)} rows are wrong, so nothing is imported; {new} are new, {same} the same."
            )
        added = "were added" if self.written else "would be added"
        return f"{new} {added}, {same} {'are' if same != 1 else 'is'} there already."


def import_gateways(
    context: Context, content: bytes, *, dry_run: bool, address: str = "", namespace: str = "default"
) -> Outcome:
    """Add the gateways of a CSV file, each with an enrollment token; `address` and `namespace` go into the tokens.

    Raises `InvalidInput` where the file as a whole is wrong, `NotPermitted` (not in a dry run, where the row says so).
    """
    sheet = sheets.read(content, GATEWAY_COLUMNS)

    def judge(session: Session) -> list[_Ready]:
        return _judge_gateways(context, session, sheet.records)

    def put(session: Session, new: list[_Ready]) -> list[Judged]:
        added = [(one.row, one.scopes) for one in new]
        made = gateway_changes.put(context, session, added, address=address, namespace=namespace)
        return [
            replace(one.judged, id=identity(one.row), enrollment=enrollment)
            for one, enrollment in zip(new, made, strict=True)
        ]

    return _import(context, "gateway.added", "gateway", judge, put, dry_run=dry_run)


def import_endpoints(context: Context, content: bytes, *, dry_run: bool) -> Outcome:
    """Add the endpoints of a CSV file; nothing is looked at yet. Raises as `import_gateways`."""
    sheet = sheets.read(content, ENDPOINT_COLUMNS)

    def judge(session: Session) -> list[_Ready]:
        return _judge_endpoints(context, session, sheet.records)

    def put(session: Session, new: list[_Ready]) -> list[Judged]:
        endpoints.put(context, session, [(one.owner, one.row) for one in new])
        return [replace(one.judged, id=identity(one.row)) for one in new]

    return _import(context, "endpoint.added", "endpoint", judge, put, dry_run=dry_run)


# --- all or nothing ---------------------------------------------------------------------------------------------------


@dataclass
class _Ready:
    """A row with what would be kept of it."""

    judged: Judged
    row: Any = None
    owner: Any = None
    scopes: Sequence[Scope] = ()
    refusal: NotPermitted | None = None


def _import(
    context: Context,
    action: str,
    what: str,
    judge: Callable[[Session], list[_Ready]],
    put: Callable[[Session, list[_Ready]], list[Judged]],
    *,
    dry_run: bool,
) -> Outcome:
    # Checked without the write lock first: of a long file with a mistake, nobody else has to wait.
    with context.database.read() as session:
        ready = judge(session)
    outcome = Outcome([one.judged for one in ready], written=False)
    refusal = next((one.refusal for one in ready if one.refusal is not None), None)
    if dry_run or (refusal is None and outcome.count(Verdict.WRONG)):
        return outcome
    with context.acting(action, what) as session:
        if refusal is not None:
            raise refusal
        ready = judge(session)
        outcome = Outcome([one.judged for one in ready], written=False)
        if outcome.count(Verdict.WRONG):
            return outcome
        new = [one for one in ready if one.judged.verdict == Verdict.ADD]
        added = {one.line: one for one in put(session, new)} if new else {}
        return Outcome([added.get(one.judged.line, one.judged) for one in ready], written=True)


def _wrong(line: int, name: str, problem: CertgateError | str, gateway: str | None = None) -> _Ready:
    told = problem if isinstance(problem, str) else problem.message
    refusal = None
    if isinstance(problem, NotPermitted):
        refusal = NotPermitted(f"Line {line}: {told}")
    return _Ready(Judged(line, name, Verdict.WRONG, f"Line {line}: {told}", gateway), refusal=refusal)


# --- gateways ---------------------------------------------------------------------------------------------------------


def _judge_gateways(context: Context, session: Session, records: Sequence[Record]) -> list[_Ready]:
    known = {row.name_key: row for row in session.exec(select(Gateway).where(_living())).all()}
    custody = gateways.custodies(session, known.values())
    visible = set(session.exec(select(Gateway.id).where(lookup.gateways_seen_by(context.actor))).all())
    served = _Remembered(lambda given: gateway_delegation.wanted(session, context, *given))
    lines: dict[str, int] = {}
    found = []
    for record in records:
        try:
            found.append(_gateway(context, record, lines, known, custody, visible, served))
        except CertgateError as error:
            found.append(_wrong(record.line, record.cells["name"].strip(), error))
    return found


def _gateway(
    context: Context,
    record: Record,
    lines: dict[str, int],
    known: Mapping[str, Gateway],
    custody: Mapping[int, Sequence[Scope]],
    visible: set[int | None],
    served: _Remembered,
) -> _Ready:
    cells = record.cells
    if record.problem:
        raise InvalidInput(record.problem)
    name = gateway_changes.checked_name(cells["name"])
    comments = gateway_changes.checked_comments(cells.get("comments", ""))
    organizations, departments = _split(cells.get("organizations", "")), _split(cells.get("departments", ""))
    mode = _mode(cells.get("delegation_mode", ""), bool(organizations or departments))
    active = _yes("active", cells.get("active", ""), True)
    first = lines.setdefault(name.casefold(), record.line)
    if first != record.line:
        raise InvalidInput(f"The gateway {name!r} stands in line {first} already (names count the same in any case).")
    scopes = served.of((mode, organizations, departments))
    there = known.get(name.casefold())
    if there is None:
        gateway_changes.require_adding(context, name, mode, scopes)
        row = Gateway(
            name=name,
            name_key=name.casefold(),
            delegation_mode=mode,
            comments=comments,
            active=active,
            created_at=context.clock(),
        )
        return _Ready(Judged(record.line, name, Verdict.ADD), row, scopes=scopes)
    if there.id not in visible:
        raise InvalidInput(f"There is a gateway {name!r} already (names count the same in any case).")
    others = {
        "name": there.name == name,
        "comments": there.comments == comments,
        "delegation": there.delegation_mode == mode and _serves_just(context, custody[identity(there)], scopes),
        "state (active or not)": there.active == active,
    }
    return _same(record.line, there.name, identity(there), f"gateway {there.name!r}", others)


def _serves_just(context: Context, now: Sequence[Scope], wanted: Sequence[Scope]) -> bool:
    """Whether the delegation is the one that is wanted, as far as the actor may see it."""
    return {scope for scope in now if scope == Scope() or context.actor.sees(scope)} == set(wanted)


def _mode(word: str, customized: bool) -> DelegationMode:
    if not word.strip():
        return DelegationMode.CUSTOMIZED if customized else DelegationMode.GENERAL
    try:
        return DelegationMode(word.strip().upper())
    except ValueError:
        raise InvalidInput(f"The delegation mode is general or customized, not {word.strip()[:40]!r}.") from None


# --- endpoints --------------------------------------------------------------------------------------------------------


def _judge_endpoints(context: Context, session: Session, records: Sequence[Record]) -> list[_Ready]:
    owners = _Remembered(lambda name: _owner(context, session, name))
    known = _Remembered(lambda number: _endpoints(session, number))
    lines: dict[tuple[int, str], int] = {}
    found = []
    for record in records:
        gateway, name = record.cells["gateway"].strip(), record.cells["name"].strip()
        try:
            found.append(_endpoint(record, lines, known, owners))
        except CertgateError as error:
            found.append(_wrong(record.line, name, error, gateway))
    return found


def _endpoints(session: Session, gateway_id: int) -> dict[str, Endpoint]:
    return {row.name: row for row in session.exec(select(Endpoint).where(Endpoint.gateway_id == gateway_id)).all()}


def _owner(context: Context, session: Session, name: str) -> Gateway:
    owner = lookup.gateway(session, context.actor, name)
    gateways.require_custody(context, session, owner, f"add endpoints to gateway {owner.name}")
    return owner


def _endpoint(record: Record, lines: dict[tuple[int, str], int], known: _Remembered, owners: _Remembered) -> _Ready:
    cells = record.cells
    if record.problem:
        raise InvalidInput(record.problem)
    owner = owners.of(cells["gateway"].strip())
    new = NewEndpoint(
        gateway=owner.name,
        name=cells["name"],
        type=_word(cells, "type"),
        connection=_word(cells, "connection") or None,
        settings=_settings(cells, "settings"),
        connection_settings=_settings(cells, "connection_settings"),
        install=_install(_word(cells, "install", "auto")),
        window_cron=_word(cells, "window_cron") or None,
        window_zone=_word(cells, "window_zone", "UTC"),
        window_minutes=_minutes(_word(cells, "window_minutes", "60")),
        key_at_endpoint=_flag(cells, "key_at_endpoint"),
        verify_from_manager=_flag(cells, "verify_from_manager"),
    )
    row = endpoints.checked(owner, new)
    key = (identity(owner), row.name)
    first = lines.setdefault(key, record.line)
    if first != record.line:
        raise InvalidInput(f"The endpoint {row.name!r} of gateway {owner.name} stands in line {first} already.")
    there: Endpoint | None = known.of(key[0]).get(row.name)
    if there is None:
        return _Ready(Judged(record.line, row.name, Verdict.ADD, gateway=owner.name), row, owner)
    others = {
        "type": there.type == row.type,
        "connection": there.connection == row.connection,
        "settings": there.settings == row.settings,
        "settings of the connection": there.connection_settings == row.connection_settings,
        "place of its keys": there.key_at_endpoint == row.key_at_endpoint,
        "verification by the manager": there.verify_from_manager == row.verify_from_manager,
        "way to install": there.install_mode == row.install_mode,
        "maintenance window": there.window_cron == row.window_cron
        and (not row.window_cron or (there.window_zone, there.window_minutes) == (row.window_zone, row.window_minutes)),
    }
    what = f"endpoint {row.name!r} of gateway {owner.name}"
    return _same(record.line, row.name, identity(there), what, others, owner.name)


def _flag(cells: Mapping[str, str], column: str) -> bool:
    word = _word(cells, column, "no").casefold()
    if word not in ("yes", "no", "true", "false"):
        raise InvalidInput(f"The column {column} holds yes or no, not {word[:40]!r}.")
    return word in ("yes", "true")


def _settings(cells: Mapping[str, str], column: str) -> dict[str, str]:
    """Settings as words: out of a JSON object in one cell, and out of columns of their own (``settings.port``)."""
    words: dict[str, str] = {}
    text = cells.get(column, "").strip()
    if text:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise InvalidInput(f'The column {column} holds a JSON object such as {{"address": "10.0.0.1"}}.')
        words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    for name, cell in cells.items():
        head, dot, key = name.partition(".")
        if dot and head == column and cell.strip():
            if key in words:
                raise InvalidInput(f"The setting {key} stands in the column {column} and in {name}.")
            words[key] = cell.strip()
    return words


def _install(word: str) -> InstallMode:
    try:
        return InstallMode(word.lower())
    except ValueError:
        raise InvalidInput(f"The column install holds {' or '.join(InstallMode)}, not {word[:40]!r}.") from None


def _minutes(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 7):
        raise InvalidInput(f"The column window_minutes holds a whole number, not {word[:40]!r}.")
    return int(word)


# --- words ------------------------------------------------------------------------------------------------------------


class _Remembered:
    """The answers of a question that many rows ask alike, refusals too."""

    def __init__(self, ask: Callable[[Any], Any]) -> None:
        self._ask = ask
        self._answers: dict[Any, Any] = {}

    def of(self, given: Any) -> Any:
        """The answer; raises what it was refused with."""
        if given not in self._answers:
            try:
                self._answers[given] = self._ask(given)
            except CertgateError as error:
                self._answers[given] = error
        answer = self._answers[given]
        if isinstance(answer, CertgateError):
            raise type(answer)(answer.message)
        return answer


def _same(
    line: int, name: str, number: int, what: str, others: Mapping[str, bool], gateway: str | None = None
) -> _Ready:
    different = [word for word, alike in others.items() if not alike]
    if different:
        told = f"There is a {what} already, with another {', another '.join(different)}: an import only adds."
        return _wrong(line, name, told, gateway)
    return _Ready(Judged(line, name, Verdict.SAME, gateway=gateway, id=number))


def _word(cells: Mapping[str, str], column: str, default: str = "") -> str:
    return cells.get(column, "").strip() or default


def _yes(column: str, word: str, default: bool) -> bool:
    word = word.strip().casefold()
    if not word:
        return default
    if word not in (*_YES, *_NO):
        raise InvalidInput(f"The column {column} holds yes or no, not {word[:40]!r}.")
    return word in _YES


def _split(cell: str) -> tuple[str, ...]:
    """Names out of one cell: a line each, else between bars."""
    return tuple(part.strip() for part in cell.split("\n" if "\n" in cell else "|") if part.strip())


def _living() -> Any:
    return ~col(Gateway.name_key).startswith(lookup.GONE)


__all__ = [
    "ENDPOINT_COLUMNS",
    "GATEWAY_COLUMNS",
    "Judged",
    "Outcome",
    "Verdict",
    "import_endpoints",
    "import_gateways",
]
