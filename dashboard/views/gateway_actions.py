"""What an administrator can do with the gateways that are selected, each in a dialog that names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import streamlit as st

from dashboard import components, dialogs, places, session, tables, words
from model.errors import CertgateError, Conflict, InvalidInput, NotFound
from model.states import ConnectionStatus, DelegationMode
from operations import gateway_changes, gateways
from operations.context import Context, now
from operations.gateways import Act, GatewayRow

TABLE = "gateways"


@dataclass(frozen=True)
class Button:
    """How an act is offered. `many`: it can be done with several gateways at once."""

    words: str
    icon: str
    many: bool = False


# Named and ordered as the vendor's console has them.
BUTTONS: dict[Act, Button] = {
    "edit": Button("Edit", "edit"),
    "delegate": Button("Delegate", "account_tree", many=True),
    "sync": Button("Sync Modules", "sync", many=True),
    "restore": Button("Restore", "settings_backup_restore"),
    "keystores": Button("Keystores", "key"),
    "audit": Button("View Audit", "history"),
    "delete": Button("Delete", "delete", many=True),
}


@dataclass(frozen=True)
class Seen:
    """A gateway as it was when its dialog was opened."""

    id: int
    name: str
    revision: int


def ask(act: str, rows: Sequence[GatewayRow] = ()) -> None:
    """Open the dialog of an act on these gateways, at the next run."""
    # Every dialog has fields of its own: what was typed into the one before is not in the next.
    st.session_state["gateway-turn"] = turn() + 1
    dialogs.ask(f"gateway-{act}", tuple(Seen(row.id, row.name, row.revision) for row in rows))


def turn() -> int:
    """The number of the dialog that is open, for the keys of its fields."""
    return int(st.session_state.get("gateway-turn", 0))


def selection(context: Context, rows: Sequence[GatewayRow]) -> None:
    """The bar above the table: what is selected and what the actor may do with it."""
    if not rows:
        st.caption(":material/arrow_selector_tool: Select a gateway to edit, delegate, synchronize or restore it.")
        return
    allowed = gateways.allowed(context, [row.id for row in rows])
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(gap=None):
            if len(rows) == 1:
                components.strong(f"{rows[0].id} · {rows[0].name}")
                components.quiet(described(rows[0], now()))
            else:
                components.strong(f"{len(rows)} gateways")
                components.quiet(words.enumerated([row.name for row in rows], 8))
        with st.container(horizontal=True, width="content", gap="small"):
            for act, button in BUTTONS.items():
                if (button.many or len(rows) == 1) and all(act in allowed.get(row.id, ()) for row in rows):
                    offer(act, button, rows)


def described(row: GatewayRow, moment: datetime) -> str:
    """A gateway in one line."""
    told = ["status unknown" if row.status is None else row.status.value.lower()]
    if row.since is not None:
        how = "added" if row.status == ConnectionStatus.PENDING else "last heard of"
        told[0] += f", {how} {words.ago(row.since, moment)}"
    if not row.active:
        told.append("switched off")
    general = row.delegation_mode == DelegationMode.GENERAL
    told.append("serves every organization" if general else f"serves {words.enumerated(row.organizations)}")
    if row.open_requests:
        told.append(f"{row.open_requests} open request{'s' if row.open_requests > 1 else ''}")
    return " · ".join(told)


def served(row: GatewayRow) -> str:
    """Whom a gateway serves, as far as the administrator may see."""
    if row.delegation_mode == DelegationMode.GENERAL:
        return "Every organization"
    return ", ".join(row.organizations)


def offer(act: Act, button: Button, rows: Sequence[GatewayRow]) -> None:
    """A button for an act on these gateways."""
    icon, key = f":material/{button.icon}:", f"gateway-{act}"
    if act == "edit":
        if st.button(button.words, icon=icon, key=key):
            places.go(places.GATEWAY, id=str(rows[0].id))
    elif act == "sync":
        if st.button(button.words, icon=icon, key=key):
            numbers = ",".join(str(row.id) for row in rows)
            places.go(places.SYNC, **({"gateways": numbers} if len(rows) > 1 else {"gateway": numbers}))
    else:
        st.button(button.words, icon=icon, key=key, on_click=ask, args=(act, list(rows)))


# --- deleting ---------------------------------------------------------------------------------------------------------


def delete_body(seen: Sequence[Seen]) -> bool:
    """What hangs on the gateways, and the question for their name."""
    context = session.context()
    heavy = False
    for one in seen:
        components.strong(f"{one.id} · {one.name}")
        try:
            hangs = gateway_changes.hanging(context, one.id)
        except NotFound:
            components.warning("It is gone already: somebody else deleted it.")
            continue
        heavy = heavy or hangs.heavy
        components.quiet(f"On it hangs: {hangs}." if str(hangs) else "Nothing hangs on it.")
    st.caption(
        "A deleted gateway is refused at its next word; what its host holds stays there. Its name is free again, its "
        "ID is never given to another gateway."
    )
    if heavy:
        st.checkbox(
            "Delete it all the same: open requests fail, and installed certificates are no longer renewed",
            key=f"gateway-delete-force-{turn()}",
        )
    st.text_input(
        "Type the name of the gateway to delete it" if len(seen) == 1 else "Type how many gateways are to be deleted",
        key=f"gateway-delete-name-{turn()}",
        autocomplete="off",
    )
    return True


def delete_perform(seen: Sequence[Seen]) -> str:
    """Delete them, one after the other."""
    typed = dialogs.value(f"gateway-delete-name-{turn()}")
    expected = seen[0].name if len(seen) == 1 else str(len(seen))
    if typed != expected:
        raise InvalidInput(
            "That is not the name of this gateway: nothing was deleted."
            if len(seen) == 1
            else f"These are {len(seen)} gateways: type {len(seen)} to delete them all; nothing was deleted."
        )
    force = bool(st.session_state.get(f"gateway-delete-force-{turn()}"))
    context = session.context()
    told = each(seen, lambda one: _delete(context, one, force), "deleted")
    tables.unchoose(TABLE)
    return told


def _delete(context: Context, one: Seen, force: bool) -> None:
    gateway_changes.delete(context, one.id, force=force, seen_name=one.name)


# --- for all ----------------------------------------------------------------------------------------------------------


def each(seen: Sequence[Seen], act: Callable[[Seen], object], done: str) -> str:
    """Do something to each gateway; the sentence about it. With one, its error is raised; with several, the others are
    done all the same and `Conflict` tells of those that were not."""
    if len(seen) == 1:
        with told_if_gone(seen[0]):
            act(seen[0])
        return f"Gateway {seen[0].name} was {done}."
    failed = []
    for one in seen:
        try:
            with told_if_gone(one):
                act(one)
        except CertgateError as error:
            failed.append(f"{one.name}: {error.message}")
    count = len(seen) - len(failed)
    told = f"{count} of {len(seen)} gateways were {done}."
    if failed:
        raise Conflict(" ".join([told, *failed]))
    return told


@contextmanager
def told_if_gone(one: Seen) -> Iterator[None]:
    """A gateway that was deleted while its dialog was open is told of by its name."""
    try:
        yield
    except NotFound:
        raise NotFound(
            f"Gateway {one.name} is gone: somebody else deleted it, or it serves nobody any more whom you may see."
        ) from None
