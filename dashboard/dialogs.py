"""Dialogs that change something. What was typed stays until the change is kept or given up.

A page opens a dialog by `ask`, from a button's `on_click`, and draws the open one by `show`, at its end: there is one
at a time. What the dialog is about travels as it was seen, so that an operation can tell whether somebody else
changed it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import streamlit as st

from dashboard import actions, components, guard, session
from model.errors import CertgateError, NotFound, NotPermitted

_OPENED = "dialog"
_TURN = "dialog-turn"
_SECRET = "secret"  # noqa: S105  (the name of a dialog)


@dataclass(frozen=True)
class Secret:
    """What came of a change and can be shown only now; `more` draws what else is to be told about it."""

    told: str
    label: str
    value: str = field(repr=False)
    more: Callable[[], None] | None = None


@dataclass(frozen=True)
class Dialog:
    """A dialog: `body` draws what is asked about the thing, and says False when there is nothing to confirm; `perform`
    does it and gives the sentence to tell, or a secret to show once."""

    title: str
    confirm: str
    body: Callable[[Any], bool | None]
    perform: Callable[[Any], str | Secret]
    icon: str = "check"
    width: Literal["small", "medium", "large"] = "small"


@dataclass(frozen=True)
class _Opened:
    """Which dialog is open, about what, and what was refused about it."""

    name: str
    about: Any
    problem: str | None = None


def ask(name: str, about: Any = None) -> None:
    """Open a dialog, at the next run."""
    st.session_state[_OPENED] = _Opened(name, about)
    st.session_state[_TURN] = turn() + 1
    actions.forget_told()


def turn() -> int:
    """How many dialogs were opened, for the keys of what keeps more than its widgets do."""
    return int(st.session_state.get(_TURN, 0))


def is_open() -> bool:
    """Whether one is open: then a page does not rerun by itself."""
    return _OPENED in st.session_state


def value(key: str) -> str:
    """What was typed into a field, without white space around it."""
    return str(st.session_state.get(key) or "").strip()


def show(dialogs: Mapping[str, Dialog]) -> None:
    """Draw the open dialog of this page, if any."""
    opened = st.session_state.get(_OPENED)
    if not isinstance(opened, _Opened):
        return
    if opened.name == _SECRET:
        st.dialog("Shown only now", on_dismiss=_close, dismissible=False)(_secret)()
    elif opened.name in dialogs:
        dialog = dialogs[opened.name]
        st.dialog(dialog.title, on_dismiss=_close, width=dialog.width)(_draw)(opened.name, dialog)
    else:
        _close()


def _close() -> None:
    st.session_state.pop(_OPENED, None)


def _draw(name: str, dialog: Dialog) -> None:
    opened = st.session_state.get(_OPENED)
    if not isinstance(opened, _Opened) or opened.name != name:
        st.rerun()
    with guard.guarded():
        confirmed = dialog.body(opened.about) is not False
        if opened.problem:
            components.error(opened.problem)
        with st.container(horizontal=True, horizontal_alignment="right"):
            st.button("Back" if confirmed else "Close", key="dialog-back", on_click=_close)
            if confirmed:
                st.button(
                    dialog.confirm,
                    icon=f":material/{dialog.icon}:",
                    type="primary",
                    key="dialog-confirm",
                    on_click=_perform,
                    args=(opened, dialog),
                )


def _secret() -> None:
    opened = st.session_state.get(_OPENED)
    if not isinstance(opened, _Opened) or opened.name != _SECRET:
        st.rerun()
    secret: Secret = opened.about
    components.notice("success", secret.told)
    components.copyable(secret.label, secret.value)
    st.caption("Copy it: only a hash of it is kept, so nobody can show it again.")
    if secret.more is not None:
        secret.more()
    with st.container(horizontal=True, horizontal_alignment="right"):
        st.button("Done", type="primary", key="dialog-done", on_click=_close)


def _perform(opened: _Opened, dialog: Dialog) -> None:
    try:
        result = dialog.perform(opened.about)
    except session.SessionEnded as ended:
        session.end(ended.message)
    except (NotFound, NotPermitted) as error:
        _close()
        actions.tell("error", error.message)
    except CertgateError as error:
        st.session_state[_OPENED] = replace(opened, problem=error.message)
    except Exception as error:
        st.session_state[_OPENED] = replace(opened, problem=guard.sentence(error))
    else:
        if isinstance(result, Secret):
            st.session_state[_OPENED] = _Opened(_SECRET, result)
        else:
            _close()
            actions.tell("success", result)
