"""Forms and confirmations in the page itself, for parts that are shown on a page, in a tab or in a dialog alike: one
dialog cannot open another.

Each part has a name. At most one form of a part is open; what was refused about it is told in it, and what was done is
told above the part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import streamlit as st

from dashboard import components, guard, session
from model.errors import CertgateError


@dataclass(frozen=True)
class Form:
    """The open form: what it does, about which id. `key` begins the keys of its widgets and is new each time, so that a
    form opens with what is kept and not with what was typed before."""

    act: str
    about: int | None
    key: str
    problem: str | None = None


def opened(part: str) -> Form | None:
    """The open form of a part."""
    form = st.session_state.get(f"{part}-form")
    return form if isinstance(form, Form) else None


def ask(part: str, act: str, about: int | None = None) -> None:
    """Open a form, at the next run."""
    turn = int(st.session_state.get(f"{part}-turn", 0)) + 1
    st.session_state[f"{part}-turn"] = turn
    st.session_state[f"{part}-form"] = Form(act, about, f"{part}-{act}-{turn}")
    st.session_state.pop(f"{part}-told", None)


def close(part: str) -> None:
    """Give the open form up."""
    st.session_state.pop(f"{part}-form", None)


def tell(part: str, kind: components.Kind, text: str) -> None:
    """Keep a sentence about what was done, until the next form is opened."""
    st.session_state[f"{part}-told"] = (kind, text)


def show_told(part: str) -> None:
    """What came of the last act."""
    told = st.session_state.get(f"{part}-told")
    if told:
        components.notice(*told)


def value(form: Form, name: str) -> str:
    """What was typed into a field of a form, without white space around it."""
    return str(st.session_state.get(f"{form.key}-{name}") or "").strip()


def confirm(part: str, form: Form, label: str, icon: str, perform: Callable[[Form], str]) -> None:
    """The end of a form: what was refused, and its buttons. `perform` does it and gives the sentence to tell."""
    if form.problem:
        components.error(form.problem)
    with st.container(horizontal=True, horizontal_alignment="right"):
        st.button("Back", key=f"{form.key}-back", on_click=close, args=(part,))
        st.button(
            label,
            icon=f":material/{icon}:",
            type="primary",
            key=f"{form.key}-confirm",
            on_click=_perform,
            args=(part, form, perform),
        )


def _perform(part: str, form: Form, perform: Callable[[Form], str]) -> None:
    try:
        told = perform(form)
    except session.SessionEnded as ended:
        session.end(ended.message)
    except CertgateError as error:
        st.session_state[f"{part}-form"] = replace(form, problem=error.message)
    except Exception as error:
        st.session_state[f"{part}-form"] = replace(form, problem=guard.sentence(error))
    else:
        close(part)
        tell(part, "success", told)
