"""The form for a new request. What was typed stays until the request is kept."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import actions, components, filters, guard, places, session, words
from dashboard.bridge import bridge
from operations import endpoints, groups, keystores, organizations, profiles
from operations.context import Context
from operations.endpoints import BindingRow
from operations.submission import NewRequest, submit

_DRAFT = "draft"
_FILLED = "draft-filled"
_FROM_PROFILE = "As the profile says"
_FROM_ENDPOINT = "As the endpoint is set"
_NO_ENDPOINT = "None: issue it only"


def show() -> None:
    """Draw the form."""
    context = session.context()
    draft = int(st.session_state.setdefault(_DRAFT, 1))
    st.title("New request", anchor=False)
    owners = organizations.listing(context)
    gateways = filters.gateway_names(context)
    if not owners or not gateways:
        components.warning(
            "A request needs an organization and a gateway that serves it; "
            + ("there is no organization that you may see." if not owners else "there is no gateway that you may see.")
        )
        return
    form, help_ = st.columns([2, 1], gap="large")
    with help_:
        _guide()
    with form:
        new = _form(context, owners, gateways, draft)
        if st.button("Submit request", type="primary", icon=":material/send:", key=f"submit-{draft}"):
            _submit(context, new)


def _form(
    context: Context, owners: Sequence[organizations.OrganizationRow], gateways: list[str], draft: int
) -> NewRequest:
    with st.container(border=True):
        st.subheader("For whom", anchor=False)
        left, right = st.columns(2)
        names = [row.name for row in owners]
        organization = left.selectbox(
            "Organization",
            names,
            index=0 if len(names) == 1 else None,
            placeholder="Choose one",
            key=f"organization-{draft}",
        )
        departments = next((row.departments for row in owners if row.name == organization), [])
        department = right.selectbox(
            "Department",
            departments,
            index=None,
            placeholder="The whole organization" if departments or not organization else "It has no departments",
            disabled=not departments,
            # Another organization has other departments: the choice begins anew.
            key=f"department-{draft}-{organization}",
        )
    with st.container(border=True):
        st.subheader("Where it is installed", anchor=False)
        gateway = st.selectbox(
            "Gateway",
            gateways,
            index=0 if len(gateways) == 1 else None,
            placeholder="Choose one that serves the organization",
            key=f"gateway-{draft}",
        )
        group = _group(context, gateway, draft)
        endpoint, binding = _place(context, gateway, draft) if group is None else (None, None)
        keystore = _keystore(context, gateway, draft)
    with st.container(border=True):
        st.subheader("Names", anchor=False)
        common_name = st.text_input(
            "Common name", key=f"cn-{draft}", max_chars=253, placeholder="www.example.com", autocomplete="off"
        )
        sans = st.text_area(
            "Further names, one a line",
            key=f"sans-{draft}",
            height=110,
            placeholder="example.com\n192.0.2.10",
            help="DNS names and IP addresses, at most 100 in all. The common name is among them by itself.",
        )
    with st.container(border=True):
        st.subheader("Certificate", anchor=False)
        known = profiles.listing(context)
        left, middle, right = st.columns(3)
        profile = left.selectbox("Profile", [row.name for row in known], key=f"profile-{draft}")
        chosen = next((row for row in known if row.name == profile), None)
        keys = [_FROM_PROFILE, *words.KEYS.values()]
        key = middle.selectbox("Key", keys, key=f"key-{draft}")
        modes = [_FROM_ENDPOINT, *words.INSTALL_MODES.values()]
        mode = right.selectbox(
            "Installation", modes, key=f"install-{draft}", disabled=endpoint is None and group is None
        )
        if chosen is not None:
            length = words.lifetime(chosen.validity_seconds) if chosen.validity_seconds else "as long as the CA gives"
            components.quiet(f"Issued by {chosen.ca}, valid {length}, key {words.key(chosen.key_algorithm)}.")
        comments = st.text_area(
            "Comments", key=f"comments-{draft}", max_chars=actions.LONGEST_COMMENT, height=80,
            placeholder="Optional; approvers see them",
        )  # fmt: skip
    return NewRequest(
        common_name=common_name or "",
        organization=organization or "",
        gateway=gateway or "",
        names=[name for name in (sans or "").replace(",", "\n").split() if name],
        department=department,
        endpoint=endpoint,
        binding=binding,
        group=group,
        keystore=keystore,
        profile=profile,
        key_algorithm=next((word for word, shown in words.KEYS.items() if shown == key), None),
        install=next((word for word, shown in words.INSTALL_MODES.items() if shown == mode), None),
        comments=comments or "",
    )


def _group(context: Context, gateway: str | None, draft: int) -> int | None:
    """A group in place of one endpoint, to be chosen where the gateway has groups."""
    rows = {row.id: row for row in (groups.listing(context, gateway) if gateway else [])}
    if not rows:
        return None
    chosen = st.selectbox(
        "Group", list(rows), index=None, format_func=lambda number: rows[number].name, key=f"group-{draft}-{gateway}",
        placeholder="No group: one endpoint", help="One certificate for several bindings, canaries first.",
    )  # fmt: skip
    if chosen is not None:
        _, members = groups.show(context, rows[chosen].gateway_id, chosen)
        named = list(dict.fromkeys(name for member in members for name in member.names))
        canaries = sum(member.canary for member in members)
        told = f"{len(members)} bindings, {canaries} of them canaries"
        components.quiet(f"{told}; they answer to {words.enumerated(named, 5)}." if named else f"{told}.")
    return chosen


def _place(context: Context, gateway: str | None, draft: int) -> tuple[str | None, str | None]:
    """Endpoint and binding; picking a binding fills the names in."""
    rows = endpoints.listing(context, gateway) if gateway else []
    left, right = st.columns(2)
    options = [row.name for row in rows]
    endpoint = left.selectbox(
        "Endpoint",
        options,
        index=None,
        placeholder=_NO_ENDPOINT if options or not gateway else "This gateway has no endpoints",
        key=f"endpoint-{draft}-{gateway}",
    )
    found = endpoints.bindings(context, gateway, endpoint) if gateway and endpoint else []
    by_name = {row.binding: row for row in found}
    key = f"binding-{draft}-{gateway}-{endpoint}"

    def label(name: str) -> str:
        row = by_name[name]
        return f"{name}: {words.enumerated(row.names, 3)}" if row.names else name

    binding = right.selectbox(
        "Binding",
        list(by_name),
        index=None,
        format_func=label,
        placeholder="The one that fits the names" if found else "–",
        disabled=not found,
        key=key,
        on_change=_fill,
        args=(draft, key, by_name),
    )
    if endpoint and not found:
        with st.container(horizontal=True, vertical_alignment="center"):
            components.quiet(f"Nothing is known yet of what {endpoint} serves.")
            if gateway and st.button("Discover now", icon=":material/travel_explore:", key="discover"):
                _discover(context, gateway, endpoint)
    chosen = by_name.get(binding or "")
    if chosen is not None:
        told = [f"answers on {', '.join(chosen.listeners)}"] if chosen.listeners else []
        told += [f"shares its certificate with {', '.join(chosen.shared_with)}"] if chosen.shared_with else []
        if told:
            components.quiet(f"{chosen.binding} {' and '.join(told)}.")
        if chosen.obstacle:
            components.warning(chosen.obstacle)
    return endpoint, binding


def _keystore(context: Context, gateway: str | None, draft: int) -> str | None:
    """Where the key is made, to be chosen where a gateway has more than its default keystore."""
    rows = keystores.listing(context, gateway) if gateway else []
    if len(rows) < 2:
        return None
    titles = {row.name: f"{row.name} ({row.title})" for row in rows}
    names = sorted(titles, key=lambda name: (name != keystores.DEFAULT, name))
    return st.selectbox(
        "Keystore", names, format_func=titles.__getitem__, key=f"keystore-{draft}-{gateway}",
        help="Where the gateway makes the private key and keeps it.",
    )  # fmt: skip


def _fill(draft: int, key: str, by_name: dict[str, BindingRow]) -> None:
    """Put the binding's names into the form, unless somebody typed others."""
    row = by_name.get(str(st.session_state.get(key)))
    if row is None or not row.names:
        return
    first, *rest = row.names
    filled = ("", "")
    now = (str(st.session_state.get(f"cn-{draft}") or ""), str(st.session_state.get(f"sans-{draft}") or ""))
    if now not in (filled, st.session_state.get(_FILLED)):
        return
    st.session_state[f"cn-{draft}"], st.session_state[f"sans-{draft}"] = first, "\n".join(rest)
    st.session_state[_FILLED] = (first, "\n".join(rest))


def _discover(context: Context, gateway: str, endpoint: str) -> None:
    with guard.guarded(), st.spinner("The gateway looks at the endpoint …"):
        bridge().run(endpoints.discover(context, gateway, endpoint))
        st.rerun()


def _submit(context: Context, new: NewRequest) -> None:
    if not new.organization or not new.gateway:
        components.error(f"Choose {'an organization' if not new.organization else 'a gateway'} first.")
        return
    with guard.guarded(), st.spinner("Submitting …"):
        detail = bridge().run(submit(context, new))
        # A second press of the same button finds another draft, and does nothing.
        st.session_state[_DRAFT] += 1
        st.session_state.pop(_FILLED, None)
        places.go(places.REQUEST, id=str(detail.id))


def _guide() -> None:
    with st.container(border=True):
        st.subheader("What happens then", anchor=False)
        st.markdown(
            "1. The gateway makes the private key where it is used, and a CSR. The key never leaves the gateway.\n"
            "2. Somebody else than you approves the request, unless your policy says otherwise.\n"
            "3. The CA issues the certificate; it is checked before it is kept.\n"
            "4. The gateway installs it and looks at what is really served. If that is not the new "
            "certificate, it puts everything back."
        )
        st.caption("Pick a binding and its names are filled in. Without an endpoint the certificate is issued only.")
