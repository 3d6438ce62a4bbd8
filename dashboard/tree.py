"""A tree of organizations and departments to pick from. A picked organization stands for all its departments."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import streamlit as st

from dashboard import components, words
from operations.organizations import OrganizationRow

# More would slow down every click; who has more searches.
_MOST_LINES = 60
# Streamlit reads labels as Markdown: what holds nothing but these has no meaning there.
_HARMLESS = re.compile(r"[^\W_](?:[^\W_]|[ ,'&-])*")


@dataclass(frozen=True)
class _Line:
    """A line of the tree: what it picks, its own name, and the organization above it, if any."""

    word: str
    name: str
    above: str | None = None
    branches: int = 0
    pickable: bool = True


def pick(
    key: str,
    organizations: Sequence[OrganizationRow],
    start: Collection[str] = (),
    whole: Callable[[OrganizationRow], bool] = lambda _: True,
) -> None:
    """Draw the tree. `start` are the words that are picked at first: organizations, and departments as
    ``ORGANIZATION/DEPARTMENT``; `whole` says whether an organization itself may be picked."""
    chosen: set[str] = st.session_state.setdefault(f"{key}-picked", set(start))
    opened: set[str] = st.session_state.setdefault(
        f"{key}-opened", {word.split("/")[0] for word in start if "/" in word}
    )
    text = st.text_input(
        "Search organizations and departments",
        key=f"{key}-search",
        placeholder="Search organizations and departments",
        icon=":material/search:",
        type="search",
        live="300ms",
        max_chars=128,
        label_visibility="collapsed",
    )
    lines = _lines(organizations, opened, (text or "").strip().casefold(), whole)
    with st.container(border=True, height=min(330, 60 + 34 * len(lines)), key=f"{key}-tree", gap=None):
        if not lines:
            st.caption("None matches." if organizations else "There is no organization that you may see.")
        for line in lines[:_MOST_LINES]:
            _draw(key, line, chosen, opened)
        if len(lines) > _MOST_LINES:
            components.quiet(f"{len(lines) - _MOST_LINES:,} more: search for them.")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        components.quiet(f"Chosen: {words.enumerated(sorted(chosen), 6)}" if chosen else "Nothing is chosen yet.")
        if chosen:
            st.button("Choose none", type="tertiary", key=f"{key}-none", on_click=_clear, args=(key,))


def picked(key: str) -> tuple[list[str], list[str]]:
    """What is picked in a tree: organizations, and departments as ``ORGANIZATION/DEPARTMENT``."""
    chosen = sorted(st.session_state.get(f"{key}-picked", ()))
    return [word for word in chosen if "/" not in word], [word for word in chosen if "/" in word]


def _lines(
    organizations: Sequence[OrganizationRow],
    opened: Collection[str],
    text: str,
    whole: Callable[[OrganizationRow], bool],
) -> list[_Line]:
    """The lines to draw: organizations that match, or of which a department does; departments of those that are open,
    or that are found."""
    lines = []
    for row in organizations:
        mine = text in row.name.casefold()
        found = [name for name in row.departments if text and text in name.casefold()]
        if not mine and not found:
            continue
        lines.append(_Line(row.name, row.name, branches=len(row.departments), pickable=whole(row)))
        if row.name in opened:
            found = list(row.departments)
        lines += [_Line(f"{row.name}/{name}", name, row.name) for name in found]
    return lines


def _draw(key: str, line: _Line, chosen: Collection[str], opened: Collection[str]) -> None:
    implied = line.above is not None and line.above in chosen
    ticked = line.word in chosen or implied
    harmless = _HARMLESS.fullmatch(line.name) is not None
    place = "leaf" if line.above else "branch"
    with st.container(
        horizontal=True, vertical_alignment="center", gap="small", wrap=False, key=f"{key}-{place}-{line.word}"
    ):
        # What is drawn is what is picked, whatever a widget remembers.
        tick = f"{key}-tick-{line.word}"
        st.session_state[tick] = ticked
        st.checkbox(
            line.name if harmless else re.sub(r"[\W_]+", " ", line.name),
            key=tick,
            on_change=_pick,
            args=(key, line.word, tick),
            disabled=implied or not line.pickable,
            label_visibility="visible" if harmless else "collapsed",
        )
        if not harmless:
            st.text(line.name, width="content")
        if line.branches:
            open_now = line.word in opened
            st.button(
                f"{line.branches} department{'s' if line.branches > 1 else ''}",
                icon=":material/expand_less:" if open_now else ":material/expand_more:",
                icon_position="right",
                type="tertiary",
                key=f"{key}-open-{line.word}",
                on_click=_open,
                args=(key, line.word),
            )


def _pick(key: str, word: str, tick: str) -> None:
    chosen: set[str] = set(st.session_state[f"{key}-picked"]) - {word}
    if st.session_state[tick]:
        # The whole organization stands for its departments.
        chosen = {one for one in chosen if not one.startswith(f"{word}/")} | {word}
    st.session_state[f"{key}-picked"] = chosen


def _open(key: str, word: str) -> None:
    st.session_state[f"{key}-opened"] = set(st.session_state[f"{key}-opened"]) ^ {word}


def _clear(key: str) -> None:
    st.session_state[f"{key}-picked"] = set()
