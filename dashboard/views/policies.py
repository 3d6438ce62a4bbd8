"""Approval policies: who must say yes to a request, and how long that may take."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import components, dialogs, durations, filters, session, shelf, tables
from dashboard.dialogs import Dialog
from model.errors import InvalidInput
from operations import policies
from operations.policies import PolicyChange, PolicyRow

_TABLE = "policies"
_NAME, _ORGANIZATION, _APPROVALS = "policy-name", "policy-organization", "policy-approvals"
_FOUR_EYES, _REMINDER, _EXPIRY = "policy-four-eyes", "policy-reminder", "policy-expiry"
_RENEWALS, _PRIVILEGED = "policy-renewals", "policy-privileged"
_EVERYBODY = "All that have none of their own"
_DEFAULT = PolicyRow(0, "", None, 1, True, 86_400, 30 * 86_400, True, False)


def show() -> None:
    """Draw the page."""
    context = session.context()
    owner = context.actor.owns_everything
    shelf.head("Approval policies", "Add policy" if owner else None, "policy-add")
    rows = policies.listing(context)
    if not any(row.organization is None for row in rows):
        components.notice(
            "info",
            "There is no general policy: for organizations without their own, one other person has to approve within "
            "30 days.",
        )
    found = shelf.searched("y-q", "Search by name or organization", rows, lambda row: f"{row.name}\n{_for(row)}")
    if found:
        bar = shelf.bar()
        chosen = _table(found)
        hint = ":material/arrow_selector_tool: Select a policy to read it in words."
        row = shelf.selection(bar, found, chosen, hint, lambda row: _selected(row, owner))
        if row is not None:
            with st.container(border=True, key="details"):
                for sentence in _sentences(row):
                    st.text(sentence)
    elif rows:
        shelf.empty("search_off", "No policy matches", "Type less, or something else.")
    else:
        shelf.empty("gavel", "No approval policies", "The strict default holds for everybody.")
    dialogs.show(
        {
            "policy-add": Dialog("Add an approval policy", "Add", _form, _added, "add", "medium"),
            "policy-edit": Dialog("Edit this approval policy", "Save", _form, _edited, "save", "medium"),
            "policy-remove": Dialog("Remove this approval policy?", "Remove", _removal, _removed, "delete"),
        }
    )


def _for(row: PolicyRow) -> str:
    return row.organization or _EVERYBODY


def _table(rows: Sequence[PolicyRow]) -> int | None:
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "No.": [row.id for row in rows],
            "Name": [row.name for row in rows],
            "Holds for": [_for(row) for row in rows],
            "Organizations": [row.holds_for for row in rows],
            "Approvals": [row.approvals_required for row in rows],
            "Four eyes": [row.four_eyes for row in rows],
            "Reminder after": [durations.words(row.reminder_seconds) for row in rows],
            "Expires after": [durations.words(row.expiry_seconds) for row in rows],
            "Renewals": ["by themselves" if row.auto_approve_renewals else "need approval" for row in rows],
        },
        {
            "No.": st.column_config.NumberColumn(width=60, format="%d"),
            "Name": st.column_config.TextColumn(width=180),
            "Holds for": st.column_config.TextColumn(width=230),
            "Organizations": st.column_config.NumberColumn(width=110, format="localized"),
            "Approvals": st.column_config.NumberColumn(width=90),
            "Four eyes": st.column_config.CheckboxColumn(width=90),
            "Reminder after": st.column_config.TextColumn(width=120),
            "Expires after": st.column_config.TextColumn(width=120),
            "Renewals": st.column_config.TextColumn(width=130),
        },
        alt="Approval policies",
    )


def _selected(row: PolicyRow, owner: bool) -> None:
    components.strong(row.name)
    if owner:
        with st.container(horizontal=True, width="content", gap="small"):
            shelf.offer("Edit", "edit", "policy-edit", row)
            shelf.offer("Remove", "delete", "policy-remove", row)


def _sentences(row: PolicyRow) -> list[str]:
    """A policy as one would say it."""
    count = row.approvals_required
    who = "one person has" if count == 1 else f"{count} different people have"
    whom = (
        f"For {row.organization}" if row.organization else f"For all without their own policy ({row.holds_for:,} now)"
    )
    found = [f"{whom}, {who} to approve a request."]
    found.append(
        "Whoever asked for the certificate can't be among them."
        if row.four_eyes
        else "Whoever asked for the certificate may be among them, if he holds the privilege."
    )
    found.append(
        f"After {durations.words(row.reminder_seconds)} without a decision it is told again; after "
        f"{durations.words(row.expiry_seconds)} the request ends by itself."
    )
    found.append(
        "Renewals of what was approved once need nobody."
        if row.auto_approve_renewals
        else "Renewals need approval too."
    )
    if row.auto_approve_privileged:
        found.append("Requests of those who hold the privilege auto_approve need nobody.")
    return found


def _form(row: PolicyRow | None) -> None:
    now = row or _DEFAULT
    st.text_input("Name", value=now.name, key=_NAME, max_chars=128, autocomplete="off")
    if row is None:
        st.selectbox(
            "Holds for",
            ["", *filters.organization_names(session.context())],
            index=None,
            format_func=lambda name: name or _EVERYBODY,
            key=_ORGANIZATION,
            placeholder="An organization, or all that have none of their own",
        )
    else:
        components.quiet(f"Holds for: {_for(row)}")
    left, right = st.columns(2, vertical_alignment="bottom")
    left.number_input("Approvals", value=now.approvals_required, min_value=1, max_value=10, step=1, key=_APPROVALS)
    right.checkbox(
        "Four eyes: not by whoever asked", value=now.four_eyes, key=_FOUR_EYES,
        help="Off: whoever may approve can approve his own requests.",
    )  # fmt: skip
    durations.draw("Tell again after", _REMINDER, now.reminder_seconds)
    durations.draw("The request ends after", _EXPIRY, now.expiry_seconds)
    st.checkbox("Renewals of what was approved once need nobody", value=now.auto_approve_renewals, key=_RENEWALS)
    st.checkbox(
        "Requests of holders of the privilege auto_approve need nobody", value=now.auto_approve_privileged,
        key=_PRIVILEGED,
    )  # fmt: skip
    if row is not None:
        st.caption("It holds at once, also for requests that wait for approval now.")


def _change() -> PolicyChange:
    reminder, expiry = durations.typed(_REMINDER), durations.typed(_EXPIRY)
    if reminder is None or expiry is None:
        raise InvalidInput("When it is told again and when the request ends are missing.")
    return PolicyChange(
        approvals_required=int(st.session_state.get(_APPROVALS) or 0),
        four_eyes=bool(st.session_state.get(_FOUR_EYES)),
        reminder_seconds=reminder,
        expiry_seconds=expiry,
        auto_approve_renewals=bool(st.session_state.get(_RENEWALS)),
        auto_approve_privileged=bool(st.session_state.get(_PRIVILEGED)),
        name=dialogs.value(_NAME),
    )


def _added(_: object) -> str:
    wanted = st.session_state.get(_ORGANIZATION)
    if wanted is None:
        raise InvalidInput("Choose for whom it holds.")
    row = policies.add(session.context(), dialogs.value(_NAME), wanted or None, _change())
    return f"Approval policy {row.name} was added."


def _edited(row: PolicyRow) -> str:
    now = policies.edit(session.context(), row.id, _change(), row)
    return f"Approval policy {now.name} was saved."


def _removal(row: PolicyRow) -> None:
    components.strong(row.name)
    components.warning(
        f"For {row.organization} the general policy holds then."
        if row.organization
        else "For all without their own policy the strict default holds then: one other person approves within 30 days."
    )


def _removed(row: PolicyRow) -> str:
    policies.remove(session.context(), row.id)
    tables.unchoose(_TABLE)
    return f"Approval policy {row.name} was removed."
