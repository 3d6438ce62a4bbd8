"""The dialogs of the gateways' page: add one, and say whom gateways serve."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import components, connections, dialogs, session, tree, words
from dashboard.bridge import bridge
from dashboard.dialogs import Dialog, Secret
from dashboard.views import audit, gateway_actions, keystores
from dashboard.views.gateway_actions import Seen, turn
from model.rules.permissions import Scope
from model.states import DelegationMode, Privilege
from operations import enrollment, gateway_changes, gateway_delegation, gateways, organizations
from operations.context import Context
from operations.gateway_changes import LONGEST_COMMENT, LONGEST_NAME, NewGateway
from operations.organizations import OrganizationRow
from operations.tokens import Enrollment

NAME_RULE = f"1 to {LONGEST_NAME} letters, digits, spaces, hyphens, dots or apostrophes; not the name of another one."
_EVERYBODY, _THESE = "General", "Customized"
_MEANINGS = ["Available to all existing organizations.", "Available to the organizations and departments you choose."]


# --- adding -----------------------------------------------------------------------------------------------------------


def _add_body(_: object) -> bool:
    key = f"gateway-add-{turn()}"
    st.text_input(
        "Name", key=f"{key}-name", max_chars=LONGEST_NAME, autocomplete="off", placeholder="frankfurt-1", help=NAME_RULE
    )
    st.text_area("Comments", key=f"{key}-comments", max_chars=LONGEST_COMMENT, height=90, placeholder="Optional")
    _delegation(session.context(), key, None, ())
    return True


def _add_perform(_: object) -> Secret:
    key = f"gateway-add-{turn()}"
    address, namespace = bridge().door.temporal_place()
    organizations_, departments = _chosen(key)
    new = NewGateway(
        name=dialogs.value(f"{key}-name"),
        comments=dialogs.value(f"{key}-comments"),
        delegation_mode=DelegationMode.GENERAL if _is_general(key) else DelegationMode.CUSTOMIZED,
        organizations=organizations_,
        departments=departments,
        address=address,
        namespace=namespace,
    )
    made = gateway_changes.add(session.context(), new)
    connections.ask_anew()
    return enrolled(f"Gateway {new.name} was added.", made)


def enrolled(told: str, made: Enrollment) -> Secret:
    """The enrollment token, to be shown once, with what to do with it."""
    return Secret(told, "Enrollment token", made.token, lambda: _what_next(made))


def _what_next(made: Enrollment) -> None:
    st.download_button(
        "Download the token",
        made.token + "\n",
        file_name=f"gateway-{made.gateway_id}.token",
        mime="text/plain",
        icon=":material/download:",
        on_click="ignore",
        key="gateway-token-file",
    )
    components.copyable(
        "On the gateway's host, with the token in gateway.token; then start it",
        "certgate gateway join --token-file gateway.token --gateway-home /var/lib/certgate-gateway\n"
        "certgate gateway run --gateway-home /var/lib/certgate-gateway",
    )
    components.quiet(
        f"The token can be used once, until {words.when(made.expires_at, components.zone())}. "
        "Its host needs to reach Temporal, and nothing needs to reach it."
    )


# --- delegating -------------------------------------------------------------------------------------------------------


def _delegate_body(seen: Sequence[Seen]) -> bool:
    context = session.context()
    key = f"gateway-delegate-{turn()}"
    if len(seen) == 1:
        with gateway_actions.told_if_gone(seen[0]):
            row = gateways.show(context, seen[0].id)
        components.strong(f"{row.id} · {row.name}")
        mode, start = row.delegation_mode, row.organizations
    else:
        components.strong(f"{len(seen)} gateways")
        components.quiet(words.enumerated([one.name for one in seen], 20))
        components.warning("Each of them will serve exactly whom you choose here.")
        mode, start = DelegationMode.CUSTOMIZED, []
    _delegation(context, key, mode, start)
    if not context.actor.owns_everything:
        st.caption("Organizations and departments that you don't see, and that they serve, stay as they are.")
    st.caption("Open requests of those whom a gateway no longer serves are looked at again at once.")
    return True


def _delegate_perform(seen: Sequence[Seen]) -> str:
    key = f"gateway-delegate-{turn()}"
    general = _is_general(key)
    chosen, departments = _chosen(key)
    context = session.context()

    def act(one: Seen) -> None:
        gateway_delegation.delegate(
            context, one.id, general=general, organizations=chosen, departments=departments, seen_revision=one.revision
        )

    return gateway_actions.each(seen, act, "delegated")


# --- a host comes, or comes again -------------------------------------------------------------------------------------


def _restore_body(seen: Sequence[Seen]) -> bool:
    """What a restore does; for a gateway whose host hasn't come yet, a new token."""
    context = session.context()
    (one,) = seen
    with gateway_actions.told_if_gone(one):
        host = enrollment.host_of(context, one.id)
    components.strong(f"{one.id} · {one.name}")
    if not host.joined:
        components.notice("info", "No host has joined yet: a new enrollment token is all that is needed.")
        if host.token_until is not None:
            waits = words.when(host.token_until, components.zone())
            components.quiet(f"A token is out, good until {waits}; a new one makes it void.")
        return True
    components.facts([("Host now", host.name), ("Joined", words.when(host.joined_at, components.zone()))])
    components.warning(
        "The host that is this gateway now is shut out at once, also if it comes back later. "
        "Endpoints, keystores and delegation stay; open requests go on as soon as the new host has joined."
    )
    st.caption("Keys that only the old host held are lost with it.")
    return True


def _restore_perform(seen: Sequence[Seen]) -> Secret:
    context = session.context()
    (one,) = seen
    address, namespace = bridge().door.temporal_place()
    with gateway_actions.told_if_gone(one):
        if enrollment.host_of(context, one.id).joined:
            made = enrollment.restore(context, one.id, address=address, namespace=namespace)
            told = f"Gateway {one.name} was restored: it waits for its new host."
        else:
            made = enrollment.new_token(context, one.id, address=address, namespace=namespace)
            told = f"Gateway {one.name} has a new token; the one before is void."
    connections.ask_anew()
    return enrolled(told, made)


# --- what stands in a dialog without being confirmed there ------------------------------------------------------------


def _keystores_body(seen: Sequence[Seen]) -> bool:
    (one,) = seen
    with gateway_actions.told_if_gone(one):
        components.strong(f"{one.id} · {one.name}")
        keystores.show_for_gateway(session.context(), one.id)
    return False


def _audit_body(seen: Sequence[Seen]) -> bool:
    (one,) = seen
    components.strong(f"{one.id} · {one.name}")
    audit.show_for_gateway(session.context(), one.id)
    return False


def _nothing(_: object) -> str:
    return ""


# --- the fields of both -----------------------------------------------------------------------------------------------


def _delegation(context: Context, key: str, mode: DelegationMode | None, start: Sequence[str]) -> None:
    """General or Customized, and to whom. `mode` None: a new gateway. Only an MRAO may change between the two."""
    everywhere = context.actor.may(Privilege.MANAGE_DELEGATION, Scope())
    if mode is None:
        mode = DelegationMode.GENERAL if everywhere else DelegationMode.CUSTOMIZED
    st.radio(
        "Delegation mode",
        [_EVERYBODY, _THESE],
        index=0 if mode == DelegationMode.GENERAL else 1,
        captions=_MEANINGS,
        key=f"{key}-mode",
        disabled=not everywhere,
    )
    if not _is_general(key):

        def whole(row: OrganizationRow) -> bool:
            return context.actor.may(Privilege.MANAGE_DELEGATION, Scope(row.id))

        tree.pick(f"{key}-tree", organizations.listing(context), start, whole)


def _is_general(key: str) -> bool:
    return st.session_state.get(f"{key}-mode") == _EVERYBODY


def _chosen(key: str) -> tuple[list[str], list[str]]:
    return ([], []) if _is_general(key) else tree.picked(f"{key}-tree")


DIALOGS: dict[str, Dialog] = {
    "gateway-add": Dialog("Add orchestration gateway", "Add", _add_body, _add_perform, "add", "medium"),
    "gateway-delegate": Dialog(
        "Delegate orchestration gateway", "Delegate", _delegate_body, _delegate_perform, "account_tree", "medium"
    ),
    "gateway-restore": Dialog(
        "Restore orchestration gateway",
        "Make a token",
        _restore_body,
        _restore_perform,
        "settings_backup_restore",
        "medium",
    ),
    "gateway-keystores": Dialog("Keystores", "", _keystores_body, _nothing, width="large"),
    "gateway-audit": Dialog("Orchestration gateways audit", "", _audit_body, _nothing, width="large"),
    "gateway-delete": Dialog(
        "Delete orchestration gateway", "Delete", gateway_actions.delete_body, gateway_actions.delete_perform, "delete"
    ),
}
