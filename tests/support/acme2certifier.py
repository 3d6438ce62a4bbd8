"""acme2certifier, an ACME server of another maker than Pebble, with renewal information (RFC 9773), for tests.

It is the real program, served here over TLS on a free loopback port in a process of its own (``-m`` this module), with
its own openssl CA handler, External Account Binding, and dns-01. Three things are put around it, because it lacks them:

- it asks DNS servers on port 53 only: the process gives its resolver another port;
- it ignores ``replaces`` in new orders: what the orders named is written into a file, and a certificate that was named
  before is refused as RFC 9773 section 5 says (409 ``alreadyReplaced``);
- renewal information comes with a window of its own choosing: a file may hold another body to answer with.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from cryptography.hazmat.primitives import serialization

from tests.pki import Issuer, make_ca, make_leaf, new_key, pem
from worker import tether
from worker.processes import free_port

ROOT = Path(__file__).parents[2]
RETRY_AFTER = 7200
KEY_ID = "kid-of-a-customer"


@dataclass(frozen=True)
class SecondServer:
    """The server while it runs. `root` is the root of what it issues."""

    directory_url: str
    folder: Path
    root: Issuer

    @property
    def ca_file(self) -> Path:
        """What its address is trusted by."""
        return self.folder / "tls-root.pem"

    @property
    def hmac_file(self) -> Path:
        """The key of External Account Binding whose identifier is `KEY_ID`, base64url."""
        return self.folder / "hmac"

    @property
    def settings(self) -> dict[str, Any]:
        """What every connector needs to reach it and to have an account."""
        return {
            "directory_url": self.directory_url,
            "ca_file": str(self.ca_file),
            "terms_agreed": True,
            "contact": ["ops@example.com"],
            "eab_key_id": KEY_ID,
            "eab_hmac_key": f"file:{self.hmac_file}",
        }

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text()

    def replaced(self) -> list[str]:
        """The certificates that orders named as replaced, in the order they came."""
        file = self.folder / "replaced"
        return file.read_text().split() if file.exists() else []

    def answer_renewal_information(self, body: str | None) -> None:
        """Let it answer with this body from now on, its member ``retryAfter`` as the header; None: with its own."""
        file = self.folder / "renewal.json"
        if body is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(body)


@contextmanager
def second_server(folder: Path, dns_port: int) -> Iterator[SecondServer]:
    """The server, running; it asks the DNS at 127.0.0.1, port `dns_port`."""
    start = datetime.now(UTC) - timedelta(days=1)
    tls = make_ca("TLS root", not_before=start)
    root = make_ca("Second root", not_before=start)
    issuing = make_ca("Second issuing", root, path_length=0, not_before=start)
    key = new_key()
    leaf = make_leaf(tls, key, ["127.0.0.1"], not_before=start)
    for name, content in {
        "tls-root.pem": pem(tls.certificate),
        "tls.pem": pem(leaf) + _key(key),
        "root.pem": pem(root.certificate),
        "issuing.pem": pem(issuing.certificate),
        "issuing.key": _key(issuing.key),
        "hmac": base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode(),
    }.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    (folder / "eab.json").write_text(json.dumps({KEY_ID: (folder / "hmac").read_text()}))
    (folder / "issued").mkdir()
    (folder / "acme_srv.cfg").write_text(f"""
[DEFAULT]
debug: False
[CAhandler]
handler_module: acme2certifier.cahandlers.openssl_ca_handler
issuing_ca_key: {folder}/issuing.key
issuing_ca_cert: {folder}/issuing.pem
issuing_ca_crl: {folder}/crl.pem
cert_validity_days: 30
cert_save_path: {folder}/issued
ca_cert_chain_list: ["{folder}/root.pem"]
[DBhandler]
handler: wsgi
dbfile: {folder}/acme.db
[EABhandler]
eab_handler_module: acme2certifier.eabhandlers.json_handler
key_file: {folder}/eab.json
[Challenge]
dns_server_list: ["127.0.0.1"]
dns_validation_pause_timer: 0.1
http_01_support: False
tls_alpn_01_support: False
[Directory]
tos_url: https://ca.example/terms
[Renewalinfo]
retry_after_timeout: {RETRY_AFTER}
""")
    for attempt in range(5):
        port = free_port()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *[sys.executable, tether.__file__, str(os.getpid()), "--"],
                    *[sys.executable, "-m", "tests.support.acme2certifier", str(folder), str(port), str(dns_port)],
                ],
                cwd=ROOT,
                env={**os.environ, "ACME_SRV_CONFIGFILE": str(folder / "acme_srv.cfg")},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                assert attempt < 4, (folder / "log").read_text()[-3000:]
                continue
            yield SecondServer(f"https://127.0.0.1:{port}/directory", folder, root)
            return
        finally:
            process.terminate()
            process.wait(15)
            process.stdout.close()


def _key(key: Any) -> str:
    plain = serialization.NoEncryption()
    made: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return made.decode()


# --- the process itself -----------------------------------------------------------------------------------------------

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def _around(application: Application, folder: Path) -> Application:
    named = folder / "replaced"
    prepared = folder / "renewal.json"

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/acme/renewal-info/") and prepared.exists():
            body = prepared.read_bytes()
            headers = [("Content-Type", "application/json")]
            with suppress(ValueError, TypeError, KeyError):
                headers.append(("Retry-After", json.loads(body)["retryAfter"]))
            start("200 OK", headers)
            return [body]
        if path == "/acme/neworders":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = BytesIO(body)
            payload = json.loads(body)["payload"]
            wanted = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).get("replaces")
            if wanted is not None:
                with named.open("a+") as file:
                    file.seek(0)
                    known = file.read().split()
                    file.write(f"{wanted}\n")
                if wanted in known:
                    start("409 Conflict", [("Content-Type", "application/problem+json")])
                    problem = {"type": "urn:ietf:params:acme:error:alreadyReplaced", "detail": "an order replaces it"}
                    return [json.dumps(problem).encode()]
        return application(environ, start)

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    tls: ssl.SSLContext

    def get_request(self) -> Any:
        connection, address = super().get_request()
        # The handshake is left to the thread: a client that stalls holds up nobody else.
        return self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


class _Handler(WSGIRequestHandler):
    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), "wsgi.url_scheme": "https", "HTTPS": "on"}

    def address_string(self) -> str:
        return str(self.client_address[0])


def _serve(folder: Path, port: int, dns_port: int) -> None:
    import dns.resolver
    from acme2certifier.share.acme2certifier_wsgi import application  # type: ignore[import-untyped]

    reset = dns.resolver.BaseResolver.reset

    def with_port(resolver: dns.resolver.BaseResolver) -> None:
        reset(resolver)
        resolver.port = dns_port

    dns.resolver.BaseResolver.reset = with_port  # type: ignore[method-assign,assignment]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "tls.pem")
    server = make_server("127.0.0.1", port, _around(application, folder), _Server, _Handler)
    server.tls = tls
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
