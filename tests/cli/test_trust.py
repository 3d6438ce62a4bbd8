"""Trusted CA certificates on the command line: looked at first, then trusted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model import x509
from tests.cli.conftest import Certgate
from tests.pki import make_ca, pem

DAY = timedelta(days=1)
NOW = datetime.now(UTC)
ROOT = make_ca("Root elsewhere", not_before=NOW - DAY, not_after=NOW + 900 * DAY)
INTER = make_ca("Inter elsewhere", ROOT, not_before=NOW - DAY, not_after=NOW + 900 * DAY)
BOTH = pem(INTER.certificate) + pem(ROOT.certificate)
PRINT = x509.fingerprint(ROOT.certificate)


@contextmanager
def served(body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is told."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/ca.pem"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def url(home: Path) -> Iterator[str]:
    """An address that gives both certificates, and that may be asked."""
    (home / "certgate.toml").write_text('[trust]\nfetch_networks = ["127.0.0.0/8"]\n')
    with served(BOTH.encode()) as address:
        yield address


def subjects(certgate: Certgate) -> set[str]:
    return {row["subject"] for row in certgate("trust", "list", "--json").value}


def test_a_file_is_looked_at_and_added(certgate: Certgate, tmp_path: Path) -> None:
    file = tmp_path / "both.pem"
    file.write_text(BOTH)
    before = subjects(certgate)
    shown = certgate("trust", "inspect", str(file), "--json")
    assert [one["subject"] for one in shown.value] == ["CN=Inter elsewhere", "CN=Root elsewhere"]
    assert PRINT in certgate("trust", "inspect", str(file)).out
    assert subjects(certgate) == before
    added = certgate("trust", "add", str(file), "--fingerprint", PRINT, "--json")
    assert [(row["subject"], row["is_root"]) for row in added.value] == [("CN=Root elsewhere", True)]
    assert subjects(certgate) - before == {"CN=Root elsewhere"}
    wrong = certgate("trust", "add", str(file), "--fingerprint", "00" * 32)
    assert wrong.code != 0
    assert "nothing was added" in wrong.err


def test_what_an_address_gives_is_trusted_once_confirmed(certgate: Certgate, url: str) -> None:
    before = subjects(certgate)
    assert len(certgate("trust", "inspect", "--url", url, "--json").value) == 2
    asked = certgate("trust", "add", "--url", url)
    assert asked.code == 2
    assert "Trust these 2 certificates?" in asked.err
    assert PRINT in asked.err
    assert subjects(certgate) == before
    assert certgate("trust", "add", "--url", url, "--fingerprint", PRINT).code == 0
    assert subjects(certgate) - before == {"CN=Root elsewhere"}
    assert certgate("trust", "add", "--url", url, "--yes").code == 0
    assert subjects(certgate) - before == {"CN=Root elsewhere", "CN=Inter elsewhere"}


def test_a_private_address_is_refused(certgate: Certgate) -> None:
    with served(BOTH.encode()) as address:
        said = certgate("trust", "add", "--url", address, "--yes")
    assert said.code != 0
    assert "private address 127.0.0.1" in said.err


def test_a_file_or_an_address_is_needed(certgate: Certgate) -> None:
    for words in (("inspect",), ("add",), ("add", "file.pem", "--url", "http://ca.example/")):
        said = certgate("trust", *words)
        assert (said.code, "one of the two" in said.err) == (2, True), words


def test_the_list_tells_what_ends_and_nobody_waits(certgate: Certgate, tmp_path: Path) -> None:
    ends = make_ca("Ends soon", not_before=NOW - 3000 * DAY, not_after=NOW + 5 * DAY)
    (tmp_path / "ends.pem").write_text(pem(ends.certificate))
    assert certgate("trust", "add", str(tmp_path / "ends.pem")).code == 0
    listed = certgate("trust", "list")
    assert "CN=Ends soon" in listed.out
    assert "The root CN=Ends soon" in listed.err
    assert certgate("trust", "waiting", "--json").value == []
    assert "No request waits" in certgate("trust", "waiting").err
