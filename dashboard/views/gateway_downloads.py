"""What a gateway's host needs: an enrollment token until it has joined, and the files that it is set up with."""

from __future__ import annotations

import streamlit as st

from dashboard import components, words
from dashboard.bridge import bridge
from dashboard.components import zone
from dashboard.views import gateway_actions
from operations import downloads, enrollment
from operations.context import Context
from operations.downloads import Download, Kind
from operations.gateways import GatewayRow

_FILES: dict[Kind, tuple[str, str]] = {
    Kind.SYSTEMD: ("systemd service", "ini"),
    Kind.CONTAINER: ("Compose file for a container", "yaml"),
    Kind.GATEWAY_TOML: ("Sample of the file that a join writes", "toml"),
}


def show(context: Context, row: GatewayRow, may_enroll: bool) -> None:
    """Draw the downloads of a gateway. Raises `NotFound`."""
    host = enrollment.host_of(context, row.id)
    with st.container(border=True):
        st.subheader("Enrollment", anchor=False)
        if host.joined:
            components.facts([("Host", host.name), ("Joined", words.when(host.joined_at, zone()))])
            st.caption("Another host becomes this gateway only by a restore, which shuts this one out.")
        else:
            _token(row, may_enroll, words.when(host.token_until, zone()) if host.token_until else None)
    address, namespace = bridge().door.temporal_place()
    for kind, (meaning, language) in _FILES.items():
        _file(downloads.of_gateway(context, row.id, kind, address=address, namespace=namespace), meaning, language)


def _token(row: GatewayRow, may_enroll: bool, until: str | None) -> None:
    if until is not None:
        components.quiet(f"An enrollment token is out, good until {until}. It was shown once and can't be shown again.")
    else:
        components.quiet("No enrollment token is good any more.")
    if may_enroll:
        st.button(
            "New enrollment token",
            icon=":material/key:",
            key="gateway-new-token",
            type="primary",
            help="Makes the one before void.",
            on_click=gateway_actions.ask,
            args=("restore", [row]),
        )
    components.copyable(
        "On its host", "certgate gateway join --token-file gateway.token --gateway-home /var/lib/certgate-gateway"
    )


def _file(file: Download, meaning: str, language: str) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            with st.container(gap=None, width="content"):
                components.strong(file.file_name)
                components.quiet(meaning)
            st.download_button(
                "Download",
                file.text,
                file_name=file.file_name,
                mime="text/plain",
                icon=":material/download:",
                on_click="ignore",
                key=f"gateway-file-{language}",
            )
        with st.expander("Look at it"):
            st.code(file.text, language=language)
