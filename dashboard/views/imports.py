"""Gateways and endpoints from a CSV file: upload, see what becomes of every row, import all of them or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import streamlit as st

from dashboard import actions, components, dialogs, guard, places, session
from dashboard.bridge import bridge
from dashboard.dialogs import Dialog
from model.errors import Conflict
from operations import exports, imports, sheets
from operations.context import Context
from operations.imports import Judged, Outcome, Verdict

_TOKENS = "import-tokens"
_ASK = "import-rows"
_MOST_SHOWN = 500

_MEANING = {
    Verdict.ADD: "New",
    Verdict.SAME: "There already",
    Verdict.WRONG: "Wrong",
}


@dataclass(frozen=True)
class Kind:
    """What can be imported, and how."""

    one: str
    many: str
    columns: str
    run: Callable[[Context, bytes, bool], Outcome]
    export: Callable[[Context], str]


@dataclass(frozen=True)
class Asked:
    """A file that was checked and is about to be imported."""

    kind: str
    content: bytes = field(repr=False)
    new: int


def _gateways(context: Context, content: bytes, dry_run: bool) -> Outcome:
    address, namespace = bridge().door.temporal_place()
    return imports.import_gateways(context, content, dry_run=dry_run, address=address, namespace=namespace)


def _endpoints(context: Context, content: bytes, dry_run: bool) -> Outcome:
    return imports.import_endpoints(context, content, dry_run=dry_run)


KINDS = {
    "Gateways": Kind(
        "gateway",
        "gateways",
        "name (required), comments, delegation_mode (general or customized), organizations and departments (several "
        "between bars, as in Alpha|Beta; a department as Organization/Department), active (yes or no)",
        _gateways,
        exports.gateways_csv,
    ),
    "Endpoints": Kind(
        "endpoint",
        "endpoints",
        "gateway, name, type (required), connection, install (auto or manual), window_cron, window_zone, "
        "window_minutes, settings and connection_settings (JSON objects), and single settings in columns of their own "
        "such as settings.configuration",
        _endpoints,
        exports.endpoints_csv,
    ),
}


def show() -> None:
    """Draw the page."""
    context = session.context()
    places.link(places.GATEWAYS, "All gateways", "arrow_back")
    st.title("Import", anchor=False)
    st.caption("Gateways or endpoints out of a CSV file. Every row is checked first; one wrong row imports nothing.")
    actions.show_told()
    _tokens()
    chosen = st.segmented_control(
        "What is imported", list(KINDS), default="Gateways", key="kind", bind="query-params", required=True
    )
    name = chosen if chosen in KINDS else "Gateways"
    kind = KINDS[name]
    with st.expander("Columns"):
        st.text(kind.columns)
        st.caption("UTF-8, with commas or semicolons, the columns in any order. The export has the same columns.")
        st.download_button(
            "Export what there is",
            lambda: kind.export(session.context()).encode("utf-8-sig"),
            f"{kind.many}.csv",
            "text/csv",
            icon=":material/download:",
            key="import-export",
            on_click="ignore",
        )
    file = st.file_uploader("CSV file", type=["csv", "txt"], key=f"import-file-{name}", max_upload_size=1)
    if file is None:
        st.caption("Choose a file of at most 1 MiB: what becomes of each row is shown here before anything is written.")
    else:
        with guard.guarded():
            _preview(context, name, kind, file.getvalue())
    dialogs.show({_ASK: Dialog("Import this file?", "Import", _body, _perform, icon="upload")})


def _preview(context: Context, name: str, kind: Kind, content: bytes) -> None:
    outcome = kind.run(context, content, True)
    new, same, wrong = (outcome.count(verdict) for verdict in (Verdict.ADD, Verdict.SAME, Verdict.WRONG))
    if not outcome.rows:
        components.warning("The file has no row besides the names of its columns.")
        return
    components.notice("error" if wrong else "success" if new else "info", outcome.told[0].upper() + outcome.told[1:])
    _table(outcome, kind)
    label = f"Import {new} {kind.one if new == 1 else kind.many}"
    st.button(
        label,
        icon=":material/upload:",
        type="primary",
        key="import-start",
        disabled=bool(wrong) or not new,
        help="Mend the wrong rows and choose the file again." if wrong else None if new else "Nothing of it is new.",
        on_click=dialogs.ask,
        args=(_ASK, Asked(name, content, new)),
    )
    if same and not wrong:
        st.caption("What is there already just so is left as it is.")


def _table(outcome: Outcome, kind: Kind) -> None:
    # What has to be mended comes first.
    rows = sorted(outcome.rows, key=lambda row: (row.verdict != Verdict.WRONG, row.line))[:_MOST_SHOWN]
    columns: dict[str, list[object]] = {
        "Line": [row.line for row in rows],
        **({"Gateway": [row.gateway for row in rows]} if kind.one == "endpoint" else {}),
        "Name": [row.name for row in rows],
        "Result": [_MEANING[row.verdict] for row in rows],
        "Problem": [row.problem for row in rows],
    }
    st.dataframe(
        columns,
        key=f"import-rows-{hashlib.sha256(repr(outcome.rows).encode()).hexdigest()[:12]}",
        hide_index=True,
        column_config={
            "Line": st.column_config.NumberColumn(width=60, format="%d"),
            "Gateway": st.column_config.TextColumn(width=160),
            "Name": st.column_config.TextColumn(width=200),
            "Result": st.column_config.TextColumn(width=110),
            "Problem": st.column_config.TextColumn(width=600),
        },
        placeholder="–",
        alt="What becomes of each row",
    )
    if len(outcome.rows) > len(rows):
        st.caption("There are more rows than are shown; wrong ones come first.")


def _body(asked: Asked) -> bool:
    kind = KINDS[asked.kind]
    components.strong(f"{asked.new} {kind.one if asked.new == 1 else kind.many} will be added.")
    if kind.one == "gateway":
        st.caption("Each gets an enrollment token. The tokens can be downloaded once, when the import is done.")
    return True


def _perform(asked: Asked) -> str:
    kind = KINDS[asked.kind]
    outcome = kind.run(session.context(), asked.content, False)
    if not outcome.written:
        raise Conflict("Something was changed in the meantime, so that rows are wrong now: nothing was imported.")
    made = [row for row in outcome.rows if row.enrollment is not None]
    if made:
        st.session_state[_TOKENS] = _token_file(made)
    return outcome.told[0].upper() + outcome.told[1:]


def _token_file(rows: list[Judged]) -> str:
    values = [
        {"id": str(row.id), "name": row.name, "token": row.enrollment.token}
        for row in rows
        if row.enrollment is not None
    ]
    return sheets.write(["id", "name", "token"], values)


def _tokens() -> None:
    """The enrollment tokens of the last import, to be taken once."""
    text = st.session_state.get(_TOKENS)
    if not isinstance(text, str):
        return
    with st.container(border=True):
        st.caption("The enrollment tokens of the new gateways are shown only now. Each can be used once, for 24 hours.")
        with st.container(horizontal=True, gap="small"):
            st.download_button(
                "Download tokens",
                text,
                "enrollment-tokens.csv",
                "text/csv",
                icon=":material/download:",
                key="import-tokens-download",
                on_click="ignore",
            )
            st.button("Forget them", icon=":material/delete:", key="import-tokens-forget", on_click=_forget)


def _forget() -> None:
    st.session_state.pop(_TOKENS, None)
