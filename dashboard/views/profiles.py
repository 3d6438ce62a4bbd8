"""Certificate profiles: what kinds of certificate there are to ask for."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import components, dialogs, durations, session, shelf, tables, words
from dashboard.dialogs import Dialog
from model.errors import InvalidInput
from model.keys import KeyAlgorithm
from model.rules import names
from operations import authorities, profiles
from operations.profiles import ProfileChange, ProfileRow

_TABLE = "profiles"
_NAME, _CA, _CA_PROFILE, _KEY = "profile-name", "profile-ca", "profile-ca-profile", "profile-key"
_OWN, _VALIDITY, _ALLOWED, _REUSE = "profile-own", "profile-validity", "profile-allowed", "profile-reuse"
_ROOT = "profile-root"


def show() -> None:
    """Draw the page."""
    context = session.context()
    owner = context.actor.owns_everything
    shelf.head("Certificate profiles", "Add profile" if owner else None, "profile-add")
    rows = profiles.listing(context)
    found = shelf.searched("p-q", "Search by name, CA or allowed name", rows, _text)
    if found:
        bar = shelf.bar()
        chosen = _table(found)
        hint = ":material/arrow_selector_tool: Select a profile to see what it allows."
        row = shelf.selection(bar, found, chosen, hint, lambda row: _selected(row, owner))
        shelf.facts_below(row, _facts)
    elif rows:
        shelf.empty("search_off", "No profile matches", "Type less, or something else.")
    else:
        shelf.empty("badge", "No certificate profiles", "A request needs one: it names CA, key and lifetime.")
    dialogs.show(
        {
            "profile-add": Dialog("Add a certificate profile", "Add", _form, _added, "add", "medium"),
            "profile-edit": Dialog("Edit this certificate profile", "Save", _form, _edited, "save", "medium"),
            "profile-remove": Dialog("Remove this certificate profile?", "Remove", _removal, _removed, "delete"),
        }
    )


def _text(row: ProfileRow) -> str:
    return "\n".join([row.name, row.ca, *row.allowed_names])


def _validity(row: ProfileRow) -> str:
    return durations.words(row.validity_seconds) if row.validity_seconds else "as the CA gives"


def _table(rows: Sequence[ProfileRow]) -> int | None:
    return tables.table(
        _TABLE,
        [row.id for row in rows],
        {
            "No.": [row.id for row in rows],
            "Name": [row.name for row in rows],
            "CA": [row.ca for row in rows],
            "Key": [words.KEYS[row.key_algorithm] for row in rows],
            "Valid for": [_validity(row) for row in rows],
            "Allowed names": [words.enumerated(row.allowed_names, 3) or "every full name" for row in rows],
            "Key at renewal": ["kept" if row.reuse_key else "new" for row in rows],
        },
        {
            "No.": st.column_config.NumberColumn(width=60, format="%d"),
            "Name": st.column_config.TextColumn(width=200),
            "CA": st.column_config.TextColumn(width=160),
            "Key": st.column_config.TextColumn(width=100),
            "Valid for": st.column_config.TextColumn(width=130),
            "Allowed names": st.column_config.TextColumn(width=300),
            "Key at renewal": st.column_config.TextColumn(width=120),
        },
        alt="Certificate profiles",
    )


def _selected(row: ProfileRow, owner: bool) -> None:
    components.strong(row.name)
    if owner:
        with st.container(horizontal=True, width="content", gap="small"):
            shelf.offer("Edit", "edit", "profile-edit", row)
            shelf.offer("Remove", "delete", "profile-remove", row)


def _facts(row: ProfileRow) -> list[tuple[str, str | None]]:
    return [
        ("Issued by", row.ca),
        ("The CA's own profile", row.authority_profile or "its default"),
        ("Key", words.KEYS[row.key_algorithm]),
        ("Valid for", _validity(row)),
        ("At renewal", "the same key" if row.reuse_key else "a new key"),
        ("Servers send", "the chain with its root" if row.include_root else "the chain without its root"),
        ("Allowed names", "\n".join(map(names.explain_pattern, row.allowed_names)) or "every full name and address"),
    ]


def _form(row: ProfileRow | None) -> None:
    st.text_input("Name", value=row.name if row else "", key=_NAME, max_chars=128, autocomplete="off")
    known = [one.name for one in authorities.listing(session.context())]
    left, right = st.columns(2)
    left.selectbox(
        "CA", known, index=known.index(row.ca) if row else (0 if len(known) == 1 else None), key=_CA,
        placeholder="Who issues",
    )  # fmt: skip
    right.text_input(
        "The CA's own profile", value=(row.authority_profile or "") if row else "", key=_CA_PROFILE, max_chars=128,
        placeholder="Its default", help="What the CA calls this kind of certificate.", autocomplete="off",
    )  # fmt: skip
    keys = list(words.KEYS.values())
    left.selectbox("Key", keys, index=keys.index(words.KEYS[row.key_algorithm]) if row else 0, key=_KEY)
    right.checkbox(
        "Keep the key at renewal", value=bool(row and row.reuse_key), key=_REUSE,
        help="Off: every renewal makes a new key, which is safer. On: for clients that pin the key.",
    )  # fmt: skip
    right.checkbox(
        "Send the root as well", value=bool(row and row.include_root), key=_ROOT,
        help="Off, as usual: clients have their own copy of the root. On: for the few that want it sent.",
    )  # fmt: skip
    st.checkbox("As long as the CA gives", value=bool(row and not row.validity_seconds), key=_OWN)
    if not st.session_state.get(_OWN):
        durations.draw("Valid for", _VALIDITY, (row.validity_seconds if row else None) or 47 * 86_400)
    st.text_area(
        "Allowed names, one a line", value="\n".join(row.allowed_names) if row else "", key=_ALLOWED, height=100,
        placeholder="*.example.com\nintranet\n10.0.0.0/8",
        help="Empty: every DNS name of two labels or more and every address.",
    )  # fmt: skip
    _explain(shelf.lines(_ALLOWED))
    if row:
        st.caption("It holds for new requests and renewals; requests that were admitted keep what they have.")


def _explain(patterns: Sequence[str]) -> None:
    """What the patterns mean, as they are typed."""
    for pattern in patterns[:20]:
        try:
            components.quiet(names.explain_pattern(pattern))
        except InvalidInput as error:
            components.error(error.message)


def _change() -> ProfileChange:
    own = bool(st.session_state.get(_OWN))
    seconds = 0 if own else durations.typed(_VALIDITY)
    if seconds is None:
        raise InvalidInput("How long a certificate is valid is missing.")
    return ProfileChange(
        name=dialogs.value(_NAME),
        ca=dialogs.value(_CA) or None,
        authority_profile=dialogs.value(_CA_PROFILE),
        key_algorithm=next(KeyAlgorithm(key) for key, shown in words.KEYS.items() if shown == st.session_state[_KEY]),
        validity_seconds=seconds,
        reuse_key=bool(st.session_state.get(_REUSE)),
        allowed_names=shelf.lines(_ALLOWED),
        include_root=bool(st.session_state.get(_ROOT)),
    )


def _added(_: object) -> str:
    change = _change()
    if change.ca is None:
        raise InvalidInput("Choose the CA that issues.")
    row = profiles.add(session.context(), change.name or "", change.ca, change)
    return f"Certificate profile {row.name} was added."


def _edited(row: ProfileRow) -> str:
    now = profiles.edit(session.context(), row.id, _change(), row)
    return f"Certificate profile {now.name} was saved."


def _removal(row: ProfileRow) -> None:
    components.strong(row.name)
    st.caption("Nobody can ask for such certificates any more. A profile that a request names stays.")


def _removed(row: ProfileRow) -> str:
    profiles.remove(session.context(), row.id)
    tables.unchoose(_TABLE)
    return f"Certificate profile {row.name} was removed."
