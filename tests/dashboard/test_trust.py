"""The page of trusted CA certificates: what is shown before it is trusted, fetched or pasted, and who waits for one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import streamlit as st
from cryptography.hazmat.primitives.serialization import Encoding
from sqlmodel import select

from model import x509
from model.states import InstallState
from model.tables import CertificateRequest, TrustedCertificate
from operations.bootstrap import trusted
from tests import pki
from tests.dashboard.conftest import Visit, labels, texts
from tests.dashboard.scene import Scene
from tests.dashboard.test_places import confirm
from tests.dashboard.test_settings_pages import told


@contextmanager
def issuer_at(certificate: bytes) -> Iterator[str]:
    """An address that gives a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(certificate)))
            self.end_headers()
            self.wfile.write(certificate)

        def log_message(self, *_: object) -> None:
            """Nothing is told."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/issuer.cer"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def root(scene: Scene) -> pki.Issuer:
    day = timedelta(days=1)
    return pki.make_ca("A root elsewhere", not_before=scene.now - day, not_after=scene.now + 900 * day)


def subjects(scene: Scene) -> list[str]:
    with scene.database.read() as session:
        return [row.subject for row in session.exec(select(TrustedCertificate)).all()]


def test_what_an_address_gives_is_shown_before_it_is_trusted(visit: Visit, scene: Scene, root: pki.Issuer) -> None:
    (scene.home / "certgate.toml").write_text('[trust]\nfetch_networks = ["127.0.0.0/8"]\n')
    st.cache_resource.clear()
    with issuer_at(root.certificate.public_bytes(Encoding.DER)) as url:
        app = visit("trust")
        app.button(key="add").click().run()
        app.text_input(key="trust-url").input(url)
        app.button(key="trust-fetch").click().run()
    shown = x509.fingerprint(root.certificate).upper()
    assert shown[:4] in texts(app).replace(":", "").upper()
    assert "whatever it signs is accepted" in texts(app)
    assert "CN=A root elsewhere" not in subjects(scene)
    confirm(app)
    assert "Trusted now: CN=A root elsewhere." in told(app)
    assert "CN=A root elsewhere" in subjects(scene)


def test_a_private_address_is_not_asked(visit: Visit, scene: Scene, root: pki.Issuer) -> None:
    with issuer_at(root.certificate.public_bytes(Encoding.DER)) as url:
        app = visit("trust")
        app.button(key="add").click().run()
        app.text_input(key="trust-url").input(url)
        app.button(key="trust-fetch").click().run()
    assert "private address 127.0.0.1" in told(app)
    confirm(app)
    assert "Choose a file, paste a certificate, or fetch one." in told(app)
    assert "CN=A root elsewhere" not in subjects(scene)


def test_what_is_left_out_is_not_trusted(visit: Visit, scene: Scene, root: pki.Issuer) -> None:
    day = timedelta(days=1)
    other = pki.make_ca("Left out", not_before=scene.now - day, not_after=scene.now + 900 * day)
    app = visit("trust")
    app.button(key="add").click().run()
    app.text_area(key="trust-pem").input(pki.pem(root.certificate) + pki.pem(other.certificate)).run()
    app.checkbox(key=f"trust-pick-{x509.fingerprint(other.certificate)[:24]}").uncheck().run()
    confirm(app)
    assert "CN=A root elsewhere" in subjects(scene)
    assert "CN=Left out" not in subjects(scene)


def test_who_waits_for_an_issuer_is_told_there(visit: Visit, scene: Scene) -> None:
    with scene.database.write() as session:
        row = session.get_one(CertificateRequest, scene.requests["waiting"])
        row.install_state, row.missing_issuer = InstallState.ACTION_REQUIRED, "CN=Missing Issuing CA"
        session.add(row)
    app = visit("trust")
    assert "1 request waits for the certificate of CN=Missing Issuing CA" in told(app)
    assert "the requests go on by themselves" in texts(app)
    app = visit("trust", login="rita")
    assert "Add certificates" not in labels(app)


def test_what_ends_soon_is_told_first(visit: Visit, scene: Scene) -> None:
    day = timedelta(days=1)
    ends = pki.make_ca("Ends soon", not_before=scene.now - 3000 * day, not_after=scene.now + 5 * day)
    with scene.database.write() as session:
        session.add(trusted(pki.pem(ends.certificate), is_root=True))
    assert "CN=Ends soon" in told(visit("trust"))
