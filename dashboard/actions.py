"""What an administrator can say to a request, each in a dialog that names what will be changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import streamlit as st

from dashboard import components, guard, session
from dashboard.bridge import bridge
from model.errors import InvalidInput, NotFound
from operations import requests
from operations.decisions import Word, say
from operations.requests import RequestDetail

_ASKED = "asked"
_TOLD = "told"
LONGEST_COMMENT = 1024


@dataclass(frozen=True)
class Act:
    """A word to a request, as buttons and dialogs show it."""

    button: str
    icon: str
    title: str
    consequence: str
    comment: str
    type: Literal["primary", "secondary"] = "secondary"


ACTS: dict[Word, Act] = {
    "approve": Act(
        "Approve", "thumb_up", "Approve this request?", "The order goes to the CA.", "Comment (optional)", "primary"
    ),
    "decline": Act("Decline", "thumb_down", "Decline this request?", "The request ends here.", "Reason"),
    "install": Act(
        "Install now",
        "download",
        "Install this certificate now?",
        "The gateway installs it at once, also outside a maintenance window.",
        "Comment (optional)",
        "primary",
    ),
    "retry": Act(
        "Retry",
        "refresh",
        "Try the failed step again?",
        "The failed step runs again; what was made or ordered already is used.",
        "Comment (optional)",
        "primary",
    ),
    "cancel": Act(
        "Cancel request",
        "cancel",
        "Cancel this request?",
        "What was made for it is cleaned up. A certificate that was issued already stays issued.",
        "Comment (optional)",
    ),
}


@dataclass(frozen=True)
class Asked:
    """The dialog that is open: which word to which request, and what was refused about it."""

    word: Word
    request_id: int
    problem: str | None = None


def offer(detail: RequestDetail, place: str) -> None:
    """Buttons for what the actor may say to the request now, and no others."""
    for word in detail.may:
        act = ACTS[word]
        st.button(
            act.button,
            icon=f":material/{act.icon}:",
            type=act.type,
            key=f"{place}-{word}",
            on_click=ask,
            args=(word, detail.id),
        )


def ask(word: Word, request_id: int) -> None:
    """Open the dialog for a word, at the next run."""
    st.session_state[_ASKED] = Asked(word, request_id)
    st.session_state.pop(_TOLD, None)


def dialog_is_open() -> bool:
    """Whether an act is being confirmed: then a page does not rerun by itself."""
    return _ASKED in st.session_state


def tell(kind: components.Kind, text: str) -> None:
    """Keep a sentence about an act for the page's next runs."""
    st.session_state[_TOLD] = (kind, text)


def show_told() -> None:
    """What came of the last act."""
    if _TOLD in st.session_state:
        kind, text = st.session_state[_TOLD]
        components.notice(kind, text)


def forget_told() -> None:
    """The sentence about the last act has been read."""
    st.session_state.pop(_TOLD, None)


def show_asked() -> None:
    """The open dialog, if any; at the end of a page."""
    asked = st.session_state.get(_ASKED)
    if isinstance(asked, Asked):
        st.dialog(ACTS[asked.word].title, on_dismiss=_close)(_dialog)()


def _close() -> None:
    st.session_state.pop(_ASKED, None)


def _dialog() -> None:
    asked = st.session_state.get(_ASKED)
    if not isinstance(asked, Asked):
        st.rerun()
    with guard.guarded():
        detail = requests.show(session.context(), asked.request_id)
        act = ACTS[asked.word]
        components.strong(f"Request {detail.id}: {detail.common_name}")
        components.facts(
            [
                (
                    "Organization",
                    f"{detail.organization} / {detail.department}" if detail.department else detail.organization,
                ),
                ("Requested by", detail.requester),
                ("Gateway", detail.gateway),
                ("Installed on", f"{detail.endpoint}, {detail.binding}" if detail.endpoint else "nothing"),
            ]
        )
        st.caption(act.consequence)
        st.text_area(act.comment, max_chars=LONGEST_COMMENT, key=_comment_key(asked), height=90)
        if asked.problem:
            components.error(asked.problem)
        with st.container(horizontal=True, horizontal_alignment="right"):
            st.button("Back", key="dialog-back", on_click=_close)
            st.button(
                act.button,
                icon=f":material/{act.icon}:",
                type="primary",
                key="dialog-confirm",
                on_click=_perform,
                args=(asked,),
            )


def _perform(asked: Asked) -> None:
    comment = str(st.session_state.get(_comment_key(asked)) or "")
    try:
        receipt = bridge().run(say(session.context(), asked.request_id, asked.word, comment.strip()))
    except session.SessionEnded as ended:
        session.end(ended.message)
    except InvalidInput as error:
        if isinstance(error, NotFound):
            _close()
            tell("error", error.message)
        else:
            st.session_state[_ASKED] = replace(asked, problem=error.message)
    except Exception as error:
        _close()
        tell("error", guard.sentence(error))
    else:
        _close()
        tell("success", receipt.message)


def _comment_key(asked: Asked) -> str:
    return f"comment-{asked.word}-{asked.request_id}"
