"""Certificates and signing requests, laid out for reading and comparing."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import components, words
from dashboard.components import zone
from operations.context import now
from operations.requests import CertificateView, SigningRequestView, describe_signing_request


def show(chain: Sequence[CertificateView]) -> None:
    """The leaf first, then what leads to the trust anchor."""
    for position, certificate in enumerate(chain):
        card(certificate, "Leaf" if position == 0 else f"Issuer {position}")


def card(certificate: CertificateView, caption: str) -> None:
    """One certificate. The caption is our own words."""
    with st.container(border=True):
        st.caption(caption)
        components.strong(certificate.subject)
        components.facts(
            [
                ("Issued by", certificate.issuer),
                *([("Names", ", ".join(certificate.names))] if certificate.names else []),
                ("Key", words.key(certificate.key)),
                ("Valid from", words.when(certificate.not_before, zone())),
                ("Valid until", validity(certificate)),
            ]
        )
        components.copyable("Serial number", words.grouped(certificate.serial_number))
        components.copyable("Fingerprint (SHA-256)", certificate.fingerprint)
        with st.expander("PEM"):
            st.code(certificate.pem.strip(), language=None)


def validity(certificate: CertificateView) -> str:
    """The end, and how far off it is; an expired certificate says so."""
    end = certificate.not_after
    word = "expired" if end <= now() else "expires"
    return f"{words.when(end, zone())} ({word} {words.ago(end, now())})"


def signing_request(pem: str) -> None:
    """What was signed by the new key. Raises `InvalidInput` when the text is no CSR."""
    view: SigningRequestView = describe_signing_request(pem)
    components.facts(
        [("Subject", view.subject), ("Names", ", ".join(view.names)), ("Key", words.key(view.key))],
    )
    components.copyable("Public key (SHA-256)", view.public_key_sha256)
    st.caption("PEM")
    st.code(pem.strip(), language=None)
