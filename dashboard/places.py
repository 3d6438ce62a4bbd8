"""Ways between the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import streamlit as st
from streamlit.navigation.page import StreamlitPage

_PAGES = "pages"

OVERVIEW = "overview"
REQUESTS = "requests"
REQUEST = "request"
NEW_REQUEST = "new-request"
CERTIFICATES = "certificates"
CERTIFICATE = "certificate"
CAMPAIGNS = "campaigns"
CAMPAIGN = "campaign"
NEW_CAMPAIGN = "new-campaign"
INVENTORY = "inventory"
NETWORK_SCANS = "network-scans"
IMPORT_CERTIFICATES = "import-certificates"
SYNC = "sync"
IMPORT = "import"
GATEWAYS = "gateways"
GATEWAY = "gateway"

KEYSTORES = "keystores"
ENDPOINTS = "endpoints"
ORGANIZATIONS = "organizations"
ORGANIZATION = "organization"
ADMINISTRATORS = "administrators"
ADMINISTRATOR = "administrator"
PROFILES = "profiles"
POLICIES = "policies"
TRUST = "trust"
AUTHORITIES = "authorities"
AUTHORITY = "authority"
AUDIT = "audit"
ACCOUNT = "account"
NOTIFICATIONS = "notifications"

# The address without a path; Streamlit gives the page there no other.
START = ""


def remember(pages: Sequence[StreamlitPage]) -> None:
    """The pages of this run, by their address."""
    st.session_state[_PAGES] = {page.url_path: page for page in pages}


def known(place: str) -> bool:
    """Whether the page is there for whoever is signed in."""
    return place in st.session_state[_PAGES]


def go(place: str, **query: str) -> NoReturn:
    """Open another page."""
    st.switch_page(st.session_state[_PAGES][place], query_params=query)


def link(place: str, label: str, icon: str, query: Mapping[str, str | Sequence[str]] | None = None) -> None:
    """A link to another page. The label is our own words."""
    st.page_link(
        st.session_state[_PAGES][place], label=label, icon=f":material/{icon}:", query_params=dict(query or {})
    )


def number(name: str) -> int | None:
    """A number out of the address; None for none and for what is no number."""
    given = st.query_params.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else None
