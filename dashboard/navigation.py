"""The pages, in sections: one line a page. What a page shows and does is decided in `operations/`; `whom` only spares
people a page on which there is nothing for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from dashboard import places, session
from dashboard.views import (
    account,
    administrator,
    administrators,
    audit,
    authorities,
    authority,
    campaign,
    campaigns,
    certificate,
    certificate_import,
    certificates,
    endpoints,
    gateway,
    gateways,
    imports,
    inventory,
    keystores,
    modules,
    network_scans,
    new_campaign,
    new_request,
    notifications,
    organization,
    organizations,
    overview,
    policies,
    profiles,
    request,
    requests,
    trust,
)
from model.states import Privilege
from operations.context import Context

Section = Literal["", "Certificates", "Integrations", "Settings", "Audit"]

# In this order in the side bar; the first has no title.
SECTIONS: tuple[Section, ...] = ("", "Certificates", "Integrations", "Settings", "Audit")


def everybody(_: Context) -> bool:
    """There is something on it for whoever is signed in."""
    return True


def owners(acting: Context) -> bool:
    """It is for administrators with the role MRAO."""
    return acting.actor.owns_everything


def holders(privilege: Privilege) -> Callable[[Context], bool]:
    """It is for those who hold a privilege anywhere."""
    return lambda acting: session.holds(acting, privilege)


def start() -> None:
    """The address without a path leads to the overview, which has a path of its own that can be shared."""
    places.go(places.OVERVIEW)


@dataclass(frozen=True)
class Entry:
    """A page: where it stands, what draws it, its title, address and Material icon. Without an icon it is not in the
    navigation: other pages lead to it."""

    section: Section
    show: Callable[[], None]
    title: str
    place: str
    icon: str | None = None
    whom: Callable[[Context], bool] = everybody


ENTRIES: tuple[Entry, ...] = (
    Entry("", start, "certgate", places.START),
    Entry("", overview.show, "Overview", places.OVERVIEW, "dashboard"),
    # The bell leads there.
    Entry("", notifications.show, "Notifications", places.NOTIFICATIONS),
    Entry("Certificates", requests.show, "Requests", places.REQUESTS, "inbox"),
    Entry("Certificates", request.show, "Request", places.REQUEST),
    Entry(
        "Certificates", new_request.show, "New request", places.NEW_REQUEST, "add_circle", holders(Privilege.REQUEST)
    ),
    Entry("Certificates", certificates.show, "Certificates", places.CERTIFICATES, "verified"),
    Entry("Certificates", certificate.show, "Certificate", places.CERTIFICATE),
    Entry("Certificates", inventory.show, "Inventory", places.INVENTORY, "travel_explore"),
    # The inventory leads there.
    Entry("Certificates", network_scans.show, "Network scans", places.NETWORK_SCANS),
    Entry("Certificates", campaigns.show, "Replacement campaigns", places.CAMPAIGNS, "published_with_changes"),
    Entry("Certificates", campaign.show, "Replacement campaign", places.CAMPAIGN),
    Entry("Certificates", new_campaign.show, "New campaign", places.NEW_CAMPAIGN, whom=holders(Privilege.REPLACE)),
    # The list of certificates leads there.
    Entry("Certificates", certificate_import.show, "Import certificates", places.IMPORT_CERTIFICATES, whom=owners),
    Entry("Integrations", endpoints.show, "Endpoints", places.ENDPOINTS),
    Entry("Integrations", keystores.show, "Keystores", places.KEYSTORES),
    Entry("Settings", organizations.show, "Organizations", places.ORGANIZATIONS, "corporate_fare"),
    Entry("Settings", organization.show, "Organization", places.ORGANIZATION),
    Entry("Settings", administrators.show, "Administrators", places.ADMINISTRATORS, "group", owners),
    Entry("Settings", administrator.show, "Administrator", places.ADMINISTRATOR, whom=owners),
    # The name in the side bar leads there.
    Entry("Settings", account.show, "My account", places.ACCOUNT),
    Entry("Integrations", gateways.show, "Orchestration gateways", places.GATEWAYS, "hub"),
    Entry("Integrations", gateway.show, "Orchestration gateway", places.GATEWAY),
    Entry("Integrations", modules.show, "Sync Modules", places.SYNC, "sync", holders(Privilege.MANAGE_GATEWAYS)),
    Entry("Integrations", imports.show, "Import", places.IMPORT, "upload_file", holders(Privilege.MANAGE_GATEWAYS)),
    Entry("Audit", audit.show, "Audit trail", places.AUDIT, "history", holders(Privilege.VIEW_AUDIT)),
    Entry("Settings", profiles.show, "Certificate profiles", places.PROFILES, "badge"),
    Entry("Settings", policies.show, "Approval policies", places.POLICIES, "gavel"),
    Entry("Settings", trust.show, "Trusted CA certificates", places.TRUST, "account_balance"),
    Entry("Settings", authorities.show, "Certificate authorities", places.AUTHORITIES, "domain_verification"),
    Entry("Settings", authority.show, "Certificate authority", places.AUTHORITY),
)


def pages(acting: Context | None) -> dict[str, list[StreamlitPage]]:
    """The pages for whoever acts, by section. All of them while nobody is signed in, so that a deep link outlives the
    sign-in; what is drawn then is the sign-in form."""
    found: dict[str, list[StreamlitPage]] = {section: [] for section in SECTIONS}
    for entry in ENTRIES:
        if acting is not None and not entry.whom(acting):
            continue
        page = st.Page(
            entry.show,
            title=entry.title,
            icon=f":material/{entry.icon}:" if entry.icon else None,
            url_path=entry.place or None,
            default=entry.place == places.START,
            visibility="visible" if entry.icon else "hidden",
        )
        found[entry.section].append(page)
    return {section: kept for section, kept in found.items() if kept}
