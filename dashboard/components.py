"""The parts that pages are made of. What people typed goes through `st.text` and table cells only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import words
from model.states import CertificateStatus, InstallState, Outcome

Kind = Literal["error", "warning", "success", "info"]

_FOLDER = Path(__file__).parent
# A Material icon would be fetched from another host.
MARK = _FOLDER / "mark.svg"
_ICONS: dict[Kind, str] = {"error": "error", "warning": "warning", "success": "check_circle", "info": "info"}
_SEATS = "seats"


def dress() -> None:
    """The looks that the theme has no words for; once a run, first."""
    st.session_state[_SEATS] = 0
    st.html(_FOLDER / "style.css")
    st.logo(_FOLDER / "logo.svg", size="large")


def seat() -> int:
    """A number that is new in this run, for the keys of containers."""
    number = int(st.session_state.get(_SEATS, 0)) + 1
    st.session_state[_SEATS] = number
    return number


def notice(kind: Kind, text: str) -> None:
    """A sentence that may hold what people typed."""
    box = st.container(key=f"notice-{kind}-{seat()}", horizontal=True, vertical_alignment="top", gap="small")
    box.markdown(f":material/{_ICONS[kind]}:", width="content")
    box.text(text, width="stretch")


def error(text: str) -> None:
    """What was refused or went wrong, as its sentence."""
    notice("error", text)


def warning(text: str) -> None:
    """What a person should know before going on."""
    notice("warning", text)


def heading(text: str) -> None:
    """A title that is somebody's words."""
    st.container(key=f"heading-{seat()}").text(text)


def strong(text: str) -> None:
    """Somebody's words, emphasized."""
    st.container(key=f"strong-{seat()}").text(text)


def quiet(text: str) -> None:
    """Somebody's words, small and pale."""
    st.container(key=f"quiet-{seat()}").text(text)


def badges(status: CertificateStatus, install: InstallState | None = None) -> None:
    """Both state axes, readable without knowing the terms."""
    looks = [words.STATUS[status]] + ([words.INSTALL[install]] if install else [])
    with st.container(horizontal=True, gap="small", width="content"):
        for look in looks:
            st.badge(look.words, icon=f":material/{look.icon}:", color=look.colour, help=look.meaning)


def facts(pairs: Sequence[tuple[str, str | None]]) -> None:
    """Labels and values in a grid; values may be what people typed. A missing one is a dash."""
    with st.container(key=f"facts-{seat()}"):
        for label, value in pairs:
            with st.container(key=f"fact-{seat()}", gap=None):
                st.caption(label)
                st.text(value or "–")


def tiles() -> DeltaGenerator:
    """A row of tiles, as many as fit."""
    return st.container(key=f"tiles-{seat()}")


def tile(count: int, colour: words.Colour) -> DeltaGenerator:
    """A count, to be followed by what it counts."""
    box = st.container(key=f"tile-{colour}-{seat()}", gap=None)
    box.container(key=f"figure-{seat()}").text(f"{count:,}")
    return box


def copyable(label: str, value: str) -> None:
    """A value with a button that copies it."""
    st.caption(label)
    st.code(value, language=None, wrap_lines=True)


def moment(outcome: Outcome, time: datetime, who: str, text: str) -> None:
    """One line of a timeline."""
    with st.container(key=f"moment-{outcome}-{seat()}", gap=None):
        st.text(text)
        quiet(f"{words.when(time, zone())} · {who}")


def steps(marks: Sequence[tuple[str, str, str]]) -> None:
    """A stepper of (words, state, note), all three our own words. States: done, current, attention, failed, todo."""
    signs = {"done": "✓", "failed": "!", "attention": "!"}
    items = "".join(
        f'<li class="{state}" data-mark="{signs.get(state, number)}">{name}<small>{note or "&nbsp;"}</small></li>'
        for number, (name, state, note) in enumerate(marks, start=1)
    )
    st.html(f'<ol class="certgate-steps">{items}</ol>')


def pager(total: int, page: int, size: int, key: str) -> int:
    """Where one is in a long list, with buttons; the page wanted next (from 1)."""
    pages = max(1, -(-total // size))
    page = min(max(1, page), pages)
    first = (page - 1) * size + 1 if total else 0
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(f"{first:,}–{min(page * size, total):,} of {total:,}")
        if pages > 1:
            with st.container(horizontal=True, vertical_alignment="center", width="content", gap="small"):
                back = st.button("Previous", icon=":material/chevron_left:", disabled=page == 1, key=f"{key}-back")
                st.caption(f"Page {page:,} of {pages:,}", width="content")
                on = st.button(
                    "Next",
                    icon=":material/chevron_right:",
                    icon_position="right",
                    disabled=page == pages,
                    key=f"{key}-on",
                )
                return page - 1 if back else page + 1 if on else page
    return page


def zone() -> tzinfo:
    """The browser's time zone, UTC where it names none that we know."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
